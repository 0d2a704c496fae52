"""WebRTC across a cluster of real nodes, with a real browser: two origins and two edges on this machine.

    run.py [adaptor|pages|gstreamer|latency|impaired|crowd ...] [--shots DIR] [--seconds 60] [--base 23900] [--only PART,…] [--keep]

All when none is named:
    adaptor    Ant Media's client from npm, unmodified: publish, play on an edge, quality, data, refusals, rooms, peers, drain
    pages      publish.html to play.html by WebRTC, and hls.js beside it
    gstreamer  GStreamer publishes by WHIP to an origin and plays by WHEP from an edge
    latency    glass to glass, WHIP to WHEP through origin and edge
    impaired   a viewer, then a publisher behind a bad link (relay.py)
    crowd      300 viewers within 10 s beside 10,000 hostile datagrams a second
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "e2e/cluster"))

import checks as checking
from cluster import LOCAL, Cluster

PARTS = ("adaptor", "pages", "gstreamer", "latency", "impaired", "crowd")
PATIENCE = 600


def start(work, base):
    """The cluster; the first origin and the second edge are reached by a relay, too. Answers it and the relays' addresses."""
    cluster = Cluster(work, "static", origins=2, edges=2, base=base)
    relays = {"o1": f"{LOCAL}:{base + 8}", "e2": f"{LOCAL}:{base + 9}"}
    for node in cluster.nodes.values():
        # Each has ten ports, of which HTTP, RTMP and the cluster take three.
        node.media = f"{LOCAL}:{node.http + 3}"
        node.env = {"SLUICE_RTC_ADDR": node.media, "SLUICE_RTC_CANDIDATES": node.media}
    for name, relay in relays.items():
        cluster[name].env["SLUICE_RTC_CANDIDATES"] = f"{relay},{cluster[name].media}"
    cluster.start()
    return cluster, relays


def commands(cluster, relays, given):
    """What to run, by name."""
    o1, o2, e1, e2 = (cluster[name] for name in ("o1", "o2", "e1", "e2"))
    rtmp = f"rtmp://{LOCAL}:{o1.rtmp}"
    browser = ROOT / "e2e/browser"
    return {
        "adaptor": [browser / "webrtc.mjs", "--base", o1.url, "--edge", e1.url, "--other", o2.url, "--node", o1.name, "--token",
                    cluster.token, "--pid", o1.process.pid, "--rtmp", rtmp, "--edge-rtmp", f"rtmp://{LOCAL}:{e1.rtmp}",
                    "--only", given.only],
        "pages": [browser / "publish.mjs", "--base", o1.url, "--watch", e1.url],
        "gstreamer": [ROOT / "e2e/webrtc/gst.py", "--base", o1.url, "--watch", e1.url],
        "latency": [browser / "latency.mjs", "--mode", "webrtc", "--publish", o1.url, "--base", e1.url, "--seconds", given.seconds],
        "impaired": [ROOT / "e2e/webrtc/impaired.mjs", "--base", o1.url, "--edge", e2.url, "--media", e2.media, "--relay", relays["e2"],
                     "--origin-media", o1.media, "--uplink", relays["o1"], "--seconds", given.seconds, "--parts", given.impaired],
        "crowd": [sys.executable, ROOT / "e2e/webrtc/crowd.py", "--base", o2.url, "--media", o2.media],
    }


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    options.add_argument("--shots", help="save pictures of the pages here")
    options.add_argument("--seconds", type=int, default=60, help="how long latency and impaired measure")
    options.add_argument("--impaired", default="loss,rate,address,uplink", help="parts of impaired")
    options.add_argument("--base", type=int, default=23900, help="the nodes' ports begin here")
    options.add_argument("--only", default="", help="these parts of adaptor, with commas between them")
    options.add_argument("--keep", action="store_true", help="keep logs and data")
    given = options.parse_args()
    for part in given.parts:
        if part not in PARTS:
            options.error(f"there is no {part}: {', '.join(PARTS)}")

    def body(work, checks):
        cluster, relays = start(work, given.base)
        ended = None
        for part in given.parts or PARTS:
            if ended:
                # It ends by the signal that it got already.
                ended.process.end(0, patience=20)
                ended.start()
                ended.wait()
            ended = cluster["o1"] if part == "adaptor" else None
            command = [str(word) for word in commands(cluster, relays, given)[part]]
            if command[0].endswith(".mjs"):
                command.insert(0, "node")
            if given.shots and part not in ("latency", "gstreamer", "crowd"):
                command += ["--shots", given.shots]
            try:
                done = subprocess.run(command, timeout=PATIENCE, check=False).returncode
            except subprocess.TimeoutExpired:
                done = f"not done within {PATIENCE} s"
            checks.check(part, done == 0, "" if done == 0 else done)

    return checking.run("webrtc", body, given.keep)


if __name__ == "__main__":
    sys.exit(main())
