#!/usr/bin/python3
"""GStreamer's own WebRTC as a WHIP publisher and a WHEP player: an implementation that shares no code with ours, nor with a browser.

    gst.py [--base http://127.0.0.1:5080] [--watch ANOTHER NODE] [--app LiveApp] [--stream gst1] [--seconds 6]

Debian has webrtcbin, but not the whipclientsink and whepsrc of gst-plugins-rs; what they do over HTTP is done here. Needs python3-gi,
gir1.2-gst-plugins-bad-1.0 and gstreamer1.0-nice.
"""

import argparse
import http.client
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cluster"))
from checks import Checks  # noqa: E402
from procs import Failed  # noqa: E402

VIDEO = "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=96"
AUDIO = "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=97,encoding-params=(string)2"
SOURCE = f"""
    webrtcbin name=rtc bundle-policy=max-bundle
    videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=25/1 ! x264enc tune=zerolatency bitrate=600
        key-int-max=25 ! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 aggregate-mode=zero-latency ! {VIDEO} ! rtc.
    audiotestsrc is-live=true wave=ticks ! audioconvert ! opusenc ! rtpopuspay ! {AUDIO} ! rtc.
"""
PATIENCE = 10.0


class Session:
    """A pipeline with a webrtcbin, and the WHIP or WHEP session that it has."""

    def __init__(self, pipeline, url):
        self.url, self.resource = url, None
        self.pipeline = pipeline
        self.rtc = pipeline.get_by_name("rtc")
        self.gathered, self.offered = threading.Event(), threading.Event()
        self.rtc.connect("notify::ice-gathering-state", self._gathering)

    def _gathering(self, rtc, _):
        if rtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            self.gathered.set()

    def start(self):
        """Offers with all candidates, and takes the answer."""
        self.pipeline.set_state(Gst.State.PLAYING)
        time.sleep(0.5)  # Until the sources have their formats.
        promise = Gst.Promise.new()
        self.rtc.emit("create-offer", None, promise)
        promise.wait()
        # The offer lives in the reply: without it, the bindings read freed memory.
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        local = Gst.Promise.new()
        self.rtc.emit("set-local-description", offer, local)
        local.wait()
        if not self.gathered.wait(PATIENCE):
            raise Failed("webrtcbin does not end gathering candidates")
        text = self.rtc.get_property("local-description").sdp.as_text()
        status, headers, body = request("POST", self.url, text)
        if status != 201:
            raise Failed(f"POST {self.url} is answered {status}: {body}")
        self.resource = urljoin(self.url, headers["Location"])
        _, sdp = GstSdp.SDPMessage.new_from_text(body)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        done = Gst.Promise.new()
        self.rtc.emit("set-remote-description", answer, done)
        done.wait()

    def connected(self):
        return self.rtc.get_property("connection-state") == GstWebRTC.WebRTCPeerConnectionState.CONNECTED

    def end(self):
        """DELETE; answers its status."""
        status = request("DELETE", self.resource)[0] if self.resource else None
        self.pipeline.set_state(Gst.State.NULL)
        return status


def request(method, url, body=None):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    connection.request(method, parts.path, body, {"Content-Type": "application/sdp"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode()


def publisher(url):
    return Session(Gst.parse_launch(SOURCE), url)


def player(url, mode=",packetization-mode=(string)1"):
    """A session that decodes what it gets, and counts it. `mode` is how H.264 is wanted: webrtcbin's own offers name none."""
    pipeline = Gst.Pipeline.new()
    rtc = Gst.ElementFactory.make("webrtcbin", "rtc")
    rtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
    pipeline.add(rtc)
    for caps in (f"{VIDEO}{mode},profile-level-id=(string)42e01f", AUDIO):
        rtc.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, Gst.Caps.from_string(caps))
    counts = {"video": 0, "audio": 0}

    def decode(_, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        chain = "rtph264depay ! h264parse ! avdec_h264" if kind == "video" else "rtpopusdepay ! opusdec"
        branch = Gst.parse_bin_from_description(f"queue ! {chain} ! fakesink name=end sync=false", True)

        def count(_pad, _info):
            counts[kind] += 1
            return Gst.PadProbeReturn.OK

        branch.get_by_name("end").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, count)
        pipeline.add(branch)
        branch.sync_state_with_parent()
        pad.link(branch.get_static_pad("sink"))

    rtc.connect("pad-added", decode)
    return Session(pipeline, url), counts


def within(seconds, what):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.1)
    return False


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", default="http://127.0.0.1:5080")
    options.add_argument("--watch")
    options.add_argument("--app", default="LiveApp")
    options.add_argument("--stream", default="gst1")
    options.add_argument("--seconds", type=float, default=6)
    given = options.parse_args()
    Gst.init(None)
    threading.Thread(target=GLib.MainLoop().run, daemon=True).start()
    checks = Checks("gstreamer")
    source = publisher(f"{given.base}/{given.app}/whip/{given.stream}")
    whep = f"{given.watch or given.base}/{given.app}/whep/{given.stream}"
    viewers = [player(whep), player(whep, mode="")]

    def publish():
        source.start()
        if not within(PATIENCE, source.connected):
            raise Failed("it does not connect")

    def play(viewer, counts):
        time.sleep(1)
        viewer.start()
        if not within(PATIENCE, lambda: counts["video"] > 0 and counts["audio"] > 0):
            raise Failed(f"nothing to decode: {counts}")
        before = dict(counts)
        time.sleep(given.seconds)
        pictures, sounds = counts["video"] - before["video"], counts["audio"] - before["audio"]
        checks.note(f"{pictures} pictures and {sounds} packets of sound in {given.seconds:.0f} s")
        if pictures < 20 * given.seconds or sounds < 40 * given.seconds:
            raise Failed("too few: 25 pictures and 50 packets of sound a second are sent")

    def end():
        ended = [session.end() for session in (*(viewer for viewer, _ in viewers), source)]
        if ended != [200, 200, 200]:
            raise Failed(f"DELETE is answered with {ended}")

    checks.holds("GStreamer publishes by WHIP", publish)
    checks.holds("GStreamer plays by WHEP", lambda: play(*viewers[0]))
    checks.holds("so it does when its offer names no packetization mode", lambda: play(*viewers[1]))
    checks.holds("all sessions end", end)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
