# Sourced by the other scripts: where things are, and what to do when something is missing.
# Downloads and built tools go to ~/.cache/sluice, in folders that carry their version.

set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
CARGO_DENY=0.20.2
NODE_MAJOR=22
RUST=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
cd "$ROOT"

# Tools of ours go first, then what rustup installed.
for dir in "$CACHE/tools/node-$NODE_MAJOR/node_modules/node/bin" "$CACHE/tools/cargo-deny-$CARGO_DENY/bin" "$HOME/.cargo/bin"; do
  if [ -d "$dir" ]; then PATH=$dir:$PATH; fi
done
export PATH

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# at_least WANTED HAVE: compares versions
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

cargo_version() { cargo --version 2>/dev/null | cut -d ' ' -f 2; }

# An older default toolchain stays what it is; here a newer one is used.
if command -v rustup >/dev/null && ! at_least "$RUST" "$(cargo_version)"; then export RUSTUP_TOOLCHAIN=$RUST; fi

# packages NAME...: installs the Debian packages that are missing
packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || die "please install: ${missing[*]}"
  local sudo=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "please install as root: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  say "installing ${missing[*]}"
  # Debian starts the services that packages bring; the policy says that here it does not.
  local policy=/usr/sbin/policy-rc.d ours='' status=0
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
    "${sudo[@]}" chmod +x $policy
    ours=1
  fi
  { "${sudo[@]}" apt-get update -qq &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } || status=$?
  [ -z "$ours" ] || "${sudo[@]}" rm -f $policy
  ((status == 0)) || die "could not install ${missing[*]}"
}

# free_port: a TCP port that nobody uses now
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# within SECONDS COMMAND...: waits until the command succeeds
within() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}
