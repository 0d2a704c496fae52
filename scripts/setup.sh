#!/bin/bash
# Installs what is needed to build (`setup.sh build`), to run a cluster on this machine (`setup.sh cluster`) or to test
# (`setup.sh test`); `setup.sh kubernetes` what a real Kubernetes on this machine needs (scripts/kubernetes.sh).
# Does nothing, quickly, when all is there.
. "$(dirname "$0")/lib.sh"

setup_build() {
  # The node decodes and encodes with FFmpeg (libav*); its bindings are made by libclang.
  packages build-essential ca-certificates curl pkg-config libclang-dev \
    libavcodec-dev libavformat-dev libavutil-dev libswresample-dev
  setup_rust
  setup_node
}

# Rust itself comes with the machine; rustup, where it is there, brings a version that is new enough.
setup_rust() {
  at_least "$RUST" "$(cargo_version)" && return 0
  command -v rustup >/dev/null || die "Rust $RUST or newer is needed: install it (rustup.rs shows how), then try again"
  say "installing Rust $RUST"
  rustup toolchain install "$RUST" --profile minimal -c clippy -c rustfmt
}

# The web pages are built with Vite, which needs a newer Node.js than Debian 12 has.
setup_node() {
  local have
  have=$(node --version 2>/dev/null | tr -d v) || have=0
  at_least 20.19.0 "${have:-0}" && command -v npm >/dev/null && return 0
  packages nodejs npm
  have=$(node --version | tr -d v)
  at_least 20.19.0 "$have" && return 0
  say "installing Node.js $NODE_MAJOR"
  local dir=$CACHE/tools/node-$NODE_MAJOR
  mkdir -p "$dir"
  npm install --silent --no-audit --no-fund --prefix "$dir" "node@$NODE_MAJOR"
}

setup_cluster() {
  setup_build
  packages ffmpeg curl python3 python3-venv openssl iproute2 nginx-light libnginx-mod-stream
}

setup_test() {
  setup_cluster
  packages chromium haproxy \
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-nice \
    python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gir1.2-gst-plugins-bad-1.0
  if [ ! -x "$CACHE/tools/cargo-deny-$CARGO_DENY/bin/cargo-deny" ]; then
    say "building cargo-deny $CARGO_DENY (once)"
    # Not optimised: it runs for two seconds, and so it builds in one minute of CPU time.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 \
      CARGO_PROFILE_RELEASE_STRIP=true CARGO_TARGET_DIR=$(mktemp -d) \
      cargo install --quiet --locked cargo-deny --version "$CARGO_DENY" --root "$CACHE/tools/cargo-deny-$CARGO_DENY"
  fi
  scripts/mongo.sh --install
  modules node/api/dashboard
  modules e2e/browser
}

# Kubernetes itself is built by e2e/kubernetes, with Go.
setup_kubernetes() {
  packages build-essential ca-certificates curl python3 python3-yaml openssl iproute2 util-linux etcd-server containerd runc \
    containernetworking-plugins iptables conntrack nftables ethtool socat buildah debootstrap
  [ -x "$CACHE/cluster/bin/kubelet" ] || command -v go >/dev/null || die "Go 1.26 is needed to build Kubernetes: go.dev/doc/install"
}

# modules FOLDER: installs the npm packages of a folder when they are not those of its lock file
modules() {
  local stamp=$1/node_modules/.package-lock.json
  [ "$stamp" -nt "$1/package-lock.json" ] && return 0
  say "installing the npm packages of $1"
  npm ci --silent --no-audit --no-fund --prefix "$1"
  touch "$stamp"
}

case ${1:-build} in
  build) setup_build ;;
  cluster) setup_cluster ;;
  test) setup_test ;;
  kubernetes) setup_kubernetes ;;
  *) die "usage: setup.sh build|cluster|test|kubernetes" ;;
esac
