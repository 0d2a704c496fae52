#!/bin/sh
# Runs a command in a folder that has a package-lock.json, with its npm packages at hand:
#
#   node/api/dashboard/with-packages.sh node/api/dashboard npm test
#   node/api/dashboard/with-packages.sh e2e/browser node play.mjs --stream cam1
#
# The packages are kept under ~/.cache/sluice/npm, one folder for each content of the lock file, and linked as
# node_modules; only the first run loads them. Where the installed Node.js is too old, the one that the build of the
# pages has loaded is used (see ../build.rs).
set -eu

cd "$1"
shift
cache="${XDG_CACHE_HOME:-$HOME/.cache}/sluice"

if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'; then
    for bin in "$cache"/dashboard/node-*/node_modules/*/bin; do
        [ -x "$bin/node" ] && PATH="$bin:$PATH"
    done
fi

packages="$cache/npm/$(cat package.json package-lock.json | sha256sum | cut -c1-16)"
mkdir -p "$cache/npm"
(
    flock 9
    if [ ! -f "$packages/complete" ]; then
        rm -rf "$packages"
        mkdir "$packages"
        cp package.json package-lock.json "$packages"
        (cd "$packages" && npm ci --no-audit --no-fund --loglevel=error)
        touch "$packages/complete"
    fi
) 9>"$packages.lock" >&2

if [ "$(readlink node_modules || true)" != "$packages/node_modules" ]; then
    rm -rf node_modules
    ln -s "$packages/node_modules" node_modules
fi
exec "$@"
