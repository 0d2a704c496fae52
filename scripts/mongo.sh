#!/bin/bash
# Runs the stand-in for MongoDB that tests use, on 127.0.0.1, in the foreground:
#   mongo.sh PORT [STORAGE_PATH] [OPTION...]   without a path (or with :memory:) it keeps nothing
#   mongo.sh --install                         only makes sure that it is there
# It is SecantusDB, GPL and a beta: a process of its own for tests, never linked, never shipped.
. "$(dirname "$0")/lib.sh"

SECANTUSDB=0.7.0b3
HOME_OF_IT=$CACHE/tools/secantusdb-$SECANTUSDB

install() {
  [ -e "$HOME_OF_IT/installed" ] && return 0
  mkdir -p "$CACHE/tools"
  # Two tests that start at once install it once.
  exec 9>"$CACHE/tools/secantusdb.lock"
  flock 9
  if [ ! -e "$HOME_OF_IT/installed" ]; then
    packages python3-venv
    say "installing SecantusDB $SECANTUSDB"
    rm -rf "$HOME_OF_IT"
    python3 -m venv "$HOME_OF_IT"
    "$HOME_OF_IT/bin/pip" install --quiet --disable-pip-version-check "secantusdb==$SECANTUSDB"
    touch "$HOME_OF_IT/empty.toml" "$HOME_OF_IT/installed"
  fi
  exec 9>&-
}

case ${1:-} in
  --install) install ;;
  *[!0-9]* | '') die "usage: mongo.sh PORT [STORAGE_PATH] [OPTION...] | mongo.sh --install" ;;
  *)
    install
    # What it has acknowledged is there after a kill -9, as with a server that one would run.
    durable=()
    if [ "${2:-:memory:}" != :memory: ]; then durable=(--sync-on-commit); fi
    # --config: a file that lies about somewhere is not looked at.
    exec "$HOME_OF_IT/bin/secantusd-py" --config "$HOME_OF_IT/empty.toml" --host 127.0.0.1 --port "$1" \
      --storage-path "${2:-:memory:}" --log-level WARNING "${durable[@]}" "${@:3}"
    ;;
esac
