#!/bin/bash
# WebRTC across a cluster of real nodes, in a real browser: webrtc.sh [adaptor|pages|gstreamer|latency|impaired|crowd ...] [--shots DIR] [--seconds 60]
# All when none is named. Uses target/ci, or what SLUICE_NODE_BINARY names.
. "$(dirname "$0")/lib.sh"

if [ -z "${SLUICE_NODE_BINARY:-}" ]; then
  say "building"
  cargo build --quiet --profile ci -p sluice-node
  export SLUICE_NODE_BINARY=target/ci/sluice-node
fi
export PYTHONDONTWRITEBYTECODE=1
python3 e2e/webrtc/relay_test.py
exec python3 e2e/webrtc/run.py "$@"
