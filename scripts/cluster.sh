#!/bin/bash
# One of the tests that run a cluster of real processes: cluster.sh local|lb|failover|chaos|partition|database|measure
# and its arguments.
# They use target/release, or what SLUICE_NODE_BINARY and SLUICE_LOAD_BINARY name.
. "$(dirname "$0")/lib.sh"

KIND=${1:?usage: cluster.sh local|lb|failover|chaos|partition|database|measure [arguments]}
shift
[ -f "e2e/cluster/$KIND.py" ] || die "there is no e2e/cluster/$KIND.py"
if [ -z "${SLUICE_NODE_BINARY:-}" ]; then
  say "building"
  cargo build --quiet --release -p sluice-node -p sluice-load
  export SLUICE_NODE_BINARY=target/release/sluice-node SLUICE_LOAD_BINARY=target/release/sluice-load
fi
export PYTHONDONTWRITEBYTECODE=1
ulimit -n "$(ulimit -Hn)"
exec python3 "e2e/cluster/$KIND.py" "$@"
