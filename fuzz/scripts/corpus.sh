#!/bin/sh
# Makes the corpus anew: records real clients, encodes a frame with each codec, and derives the inputs from that.
# Needs ffmpeg and GStreamer (gstreamer1.0-tools, -plugins-good, -plugins-bad, -plugins-ugly).
# Usage: fuzz/scripts/corpus.sh
set -eu
cd "$(dirname "$0")/.."
cargo build --profile ci --target-dir ../target
bin=../target/ci
dir=$(mktemp -d)
port=24935
"$bin/record" 127.0.0.1:$port "$dir" &
recorder=$!
trap 'kill $recorder 2>/dev/null; rm -rf "$dir"' EXIT
sleep 1

url=rtmp://127.0.0.1:$port/LiveApp
video="-f lavfi -i testsrc2=size=64x64:rate=10"
audio="-f lavfi -i sine=sample_rate=44100"
run() { timeout 30 "$@" || echo "ended with $?: $*"; }

run ffmpeg -v error -t 2 $video -t 2 $audio -c:v libx264 -preset ultrafast -crf 45 -g 10 -bf 0 -c:a aac -b:a 24k -f flv $url/ffmpeg_h264_aac
run ffmpeg -v error -t 2 $video -c:v libx264 -preset veryfast -crf 50 -g 10 -bf 2 -f flv "$url/ffmpeg_bframes?token=abc"
run ffmpeg -v error -t 2 $audio -c:a libmp3lame -b:a 32k -f flv $url/ffmpeg_mp3
run ffmpeg -v error -t 3 -i $url/ffmpeg_play -c copy -f null -
run gst-launch-1.0 -q videotestsrc num-buffers=20 ! video/x-raw,width=64,height=64,framerate=10/1 ! \
    x264enc bitrate=40 key-int-max=10 tune=zerolatency ! h264parse ! flvmux name=m streamable=true ! \
    rtmp2sink location=$url/gst_rtmp2 audiotestsrc num-buffers=30 ! voaacenc bitrate=32000 ! aacparse ! m.
run gst-launch-1.0 -q videotestsrc num-buffers=20 ! video/x-raw,width=64,height=64,framerate=10/1 ! \
    x264enc bitrate=40 key-int-max=10 ! h264parse ! flvmux streamable=true ! rtmpsink location="$url/gst_librtmp live=1"
run gst-launch-1.0 -q rtmp2src location=$url/gst_play ! fakesink

for codec in libx264 libx265 libaom-av1 libvpx-vp9; do
    run ffmpeg -v error $video -frames:v 1 -c:v $codec -crf 50 -b:v 0 -f mp4 "$dir/$codec.mp4"
done
run ffmpeg -v error $video -frames:v 1 -c:v libx264 -profile:v high422 -pix_fmt yuv422p10 -crf 50 -f mp4 "$dir/high422.mp4"
run ffmpeg -v error $audio -ar 48000 -frames:a 1 -c:a libopus -b:a 32k -strict -2 -f mp4 "$dir/opus.mp4"

"$bin/seeds" "$dir"
du -sh corpus
