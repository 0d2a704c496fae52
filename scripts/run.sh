#!/bin/bash
# Sets up, builds and starts a node on its defaults, which says where to publish and where to watch.
# Arguments go to `sluice-node run`; SLUICE_... variables count, too.
"$(dirname "$0")/setup.sh" build
. "$(dirname "$0")/lib.sh"

say "building (the first time takes some minutes)"
cargo build --release -p sluice-node
say "starting; Ctrl-C stops it. A test stream: ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine \
-c:v libx264 -preset veryfast -tune zerolatency -g 30 -c:a aac -f flv rtmp://127.0.0.1/LiveApp/cam1"
exec target/release/sluice-node run "$@"
