#!/bin/bash
# A node, a publisher and a real browser: does a stream play on the watch page and in the dashboard?
# e2e.sh [play|latency|soak] [arguments of that script in e2e/browser]
. "$(dirname "$0")/lib.sh"

KIND=${1:-play}
[ $# -gt 0 ] && shift
WORK=$(mktemp -d)
PIDS=()
finish() {
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$WORK"
}
trap finish EXIT

NODE=${SLUICE_NODE_BINARY:-target/ci/sluice-node}
[ -x "$NODE" ] || cargo build --quiet --profile ci -p sluice-node
HTTP=$(free_port)
RTMP=$(free_port)
"$NODE" run --data-dir "$WORK/data" --http-addr "127.0.0.1:$HTTP" --rtmp-addr "127.0.0.1:$RTMP" --rtc-addr 127.0.0.1:0 2>"$WORK/node.log" &
PIDS+=($!)
within 20 curl -fs -m 1 "http://127.0.0.1:$HTTP/readyz" || { cat "$WORK/node.log" >&2; die "the node does not start"; }

ADDRESS=(--base "http://127.0.0.1:$HTTP" --rtmp "rtmp://127.0.0.1:$RTMP")
case $KIND in
  play)
    ffmpeg -v error -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 \
      -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 30 -c:a aac \
      -f flv "rtmp://127.0.0.1:$RTMP/LiveApp/cam1" 2>"$WORK/ffmpeg.log" &
    PIDS+=($!)
    within 20 curl -fs -m 5 "http://127.0.0.1:$HTTP/LiveApp/streams/cam1.m3u8" ||
      { cat "$WORK/ffmpeg.log" "$WORK/node.log" >&2; die "the stream does not start"; }
    STATUS=0
    node e2e/browser/play.mjs "${ADDRESS[@]}" "$@" || STATUS=1
    # The page of the cluster: this node's pages over made-up nodes, so that it is checked at any size.
    node e2e/browser/cluster.mjs --fake "http://127.0.0.1:$HTTP" || STATUS=1
    # The pages of WebRTC, with Chromium itself as the node: refusals and breaks that a node does not make when asked.
    node e2e/browser/publish.mjs --fake "http://127.0.0.1:$HTTP" --seconds 1 || STATUS=1
    exit $STATUS
    ;;
  latency) node e2e/browser/latency.mjs "${ADDRESS[@]}" "$@" ;;
  soak) node e2e/browser/soak.mjs "${ADDRESS[@]}" --publish yes "$@" ;;
  *) die "usage: e2e.sh play|latency|soak" ;;
esac
