#!/bin/bash
# Sets up, builds and starts a node on its defaults; says where to publish and where to watch.
# Arguments go to `sluice-node run`; SLUICE_... variables count, too.
"$(dirname "$0")/setup.sh" build
. "$(dirname "$0")/lib.sh"

say "building (the first time takes some minutes)"
cargo build --release -p sluice-node
NODE=target/release/sluice-node

# value KEY: a setting as the node reads it; port KEY: its first port
value() { "$NODE" config print "${ARGS[@]}" | sed -n "s/^$1 = \"\([^\"]*\)\".*/\1/p"; }
port() { value "$1" | cut -d , -f 1 | sed 's/.*://'; }
ARGS=("$@")
HTTP=$(port http_addr)
RTMP=$(port rtmp_addr)
HOST=$(hostname -I 2>/dev/null | cut -d ' ' -f 1)
HOST=${HOST:-127.0.0.1}

announce() {
  within 30 curl -fs -m 1 "http://127.0.0.1:$HTTP/healthz" || return 0
  cat <<END

  Publish to  rtmp://$HOST/LiveApp/cam1$([ "$RTMP" = 1935 ] || echo "   (port $RTMP: rtmp://$HOST:$RTMP/LiveApp/cam1)")
              in OBS: service Custom, server rtmp://$HOST$([ "$RTMP" = 1935 ] || echo ":$RTMP")/LiveApp, stream key cam1
  Try it with ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine -c:v libx264 \\
                -preset veryfast -tune zerolatency -g 30 -c:a aac -f flv rtmp://127.0.0.1:$RTMP/LiveApp/cam1
  Watch at    http://127.0.0.1:$HTTP/LiveApp/play.html?id=cam1
  Dashboard   http://127.0.0.1:$HTTP/#/

  Ctrl-C stops the node.

END
}
announce &
exec "$NODE" run "$@"
