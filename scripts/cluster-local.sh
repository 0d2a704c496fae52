#!/bin/bash
# A whole cluster on this machine: two origins, three edges, the database's stand-in and nginx. Ctrl-C ends it.
#   cluster-local.sh [--mode mongodb|static|multicast] [--edges 3] [--demo] [--check] [--keep]   (--help: all options)
# --check publishes and plays through nginx, says what it found, and ends.
case " $* " in
  # The dashboard is looked at in a browser.
  *" --check "*) "$(dirname "$0")/setup.sh" test ;;
  *) "$(dirname "$0")/setup.sh" cluster ;;
esac
. "$(dirname "$0")/lib.sh"

say "building (the first time takes some minutes)"
cargo build --quiet --release -p sluice-node -p sluice-load
export PYTHONDONTWRITEBYTECODE=1 SLUICE_NODE_BINARY=target/release/sluice-node SLUICE_LOAD_BINARY=target/release/sluice-load
exec python3 e2e/cluster/local.py "$@"
