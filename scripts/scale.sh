#!/bin/bash
# What takes longer than `make test` may: 500 publishers of 100 kbit/s for 60 s against a node of its own (says CPU and
# memory, fails when a stream is lost); then a minute of garbage on every port beside a live stream, and a minute of
# LL-HLS checked against the specification; then clusters whose nodes and database are killed, cut off and taken away, and WebRTC
# measured across one; then all checks on Kubernetes.
# Arguments go to `sluice-load ingest` (-n 1000, --duration 10s, --kbps 200, ...).
. "$(dirname "$0")/lib.sh"

cargo build --quiet --release -p sluice-node -p sluice-load
ulimit -n "$(ulimit -Hn)"
WORK=$(mktemp -d)
HTTP=$(free_port)
RTMP=$(free_port)
target/release/sluice-node run --data-dir "$WORK" --http-addr "127.0.0.1:$HTTP" --rtmp-addr "127.0.0.1:$RTMP" --rtc-addr 127.0.0.1:0 \
  >"$WORK/node.log" 2>&1 &
NODE=$!
trap 'kill $NODE 2>/dev/null; wait $NODE 2>/dev/null; rm -rf "$WORK"' EXIT
within 20 curl -fs -m 1 "http://127.0.0.1:$HTTP/readyz" || { cat "$WORK/node.log" >&2; die "the node does not start"; }

target/release/sluice-load ingest --url "rtmp://127.0.0.1:$RTMP/LiveApp/load{n}" --pid $NODE "$@"

say "a minute of garbage, a minute of LL-HLS"
export SLUICE_TEST_GARBAGE_SECONDS=60 SLUICE_TEST_LLHLS_SECONDS=60
cargo test --quiet --profile ci -p sluice-node --test failure -- garbage --nocapture
cargo test --quiet --profile ci -p sluice-node --test llhls -- --nocapture

say "clusters: a minute of chaos, an origin killed under 50 streams, the database away, a partition"
kill $NODE
wait $NODE || true
export SLUICE_NODE_BINARY=target/release/sluice-node SLUICE_LOAD_BINARY=target/release/sluice-load
scripts/cluster.sh chaos --seconds 60
scripts/cluster.sh failover --rounds 1
scripts/cluster.sh database
# Network namespaces need root.
if [ "$(id -u)" = 0 ]; then
  for mode in mongodb static multicast; do scripts/cluster.sh partition --mode $mode; done
fi

say "WebRTC: glass to glass across a cluster, a viewer behind a bad link, 300 viewers at once beside garbage"
scripts/webrtc.sh latency impaired crowd

say "the operator: what 2,000 nodes at rest cost it"
cargo test --quiet --profile ci -p sluice-operator --lib -- nodes::tests::cost --ignored --nocapture

say "Kubernetes: everything that is tried out on a sample cluster, then 500 clusters"
if [ "$(id -u)" = 0 ]; then
  trap 'scripts/kubernetes.sh down; rm -rf "$WORK"' EXIT
  scripts/kubernetes.sh demo
  scripts/kubernetes.sh run cargo test --quiet --profile ci -p sluice-operator --test kubernetes -- --ignored
  scripts/kubernetes.sh check
  scripts/kubernetes.sh down
  scripts/kubernetes.sh scale
fi
