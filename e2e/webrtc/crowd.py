"""A crowd that comes at once: 300 viewers within 10 s while hostile datagrams come to the same port, and everybody gets everything.

    crowd.py --base http://127.0.0.1:5080 --media 127.0.0.1:5004 [--viewers 300] [--seconds 10] [--garbage 10000]

--media is the node's WebRTC port. Publishes by WHIP, plays by WHEP from the same node, with sluice-load.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cluster"))
from checks import Checks  # noqa: E402
from procs import binary, within  # noqa: E402

OPENING = 10
WARMUP = 2


def film(folder):
    """A few seconds of 1.5 Mbit/s, as FLV."""
    file = Path(folder) / "film.flv"
    picture = "testsrc2=s=1280x720:r=30:d=6,noise=alls=8:allf=t,format=yuv420p"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=f=440:r=48000:d=6",
                    "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-profile:v", "baseline", "-g", "30",
                    "-b:v", "1500k", "-maxrate", "1500k", "-bufsize", "750k", "-c:a", "aac", file], check=True)
    return file


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", default="http://127.0.0.1:5080")
    options.add_argument("--media", default="127.0.0.1:5004")
    options.add_argument("--viewers", type=int, default=300)
    options.add_argument("--seconds", type=int, default=10)
    options.add_argument("--garbage", type=int, default=10_000, help="hostile datagrams a second")
    given = options.parse_args()
    checks = Checks("webrtc crowd")
    load = str(binary("sluice-load"))
    # Until the viewers are there and have been measured, and some seconds more for a slow machine.
    whole = f"{OPENING + WARMUP + given.seconds + 10}s"

    def start(*arguments):
        return subprocess.Popen([load, *arguments, "--json"], stdout=subprocess.PIPE, text=True)

    with tempfile.TemporaryDirectory() as folder:
        publisher = start("publish-whip", "--url", f"{given.base}/LiveApp/whip/crowd", "--file", str(film(folder)), "--duration", whole)
        garbage = start("garbage-udp", "--url", f"udp://{given.media}", "-n", "20", "--packets-per-second", str(given.garbage),
                        "--duration", whole)
        # Viewers of a stream that is not there yet are refused.
        within(15, "the stream to be listed", lambda: urlopen(f"{given.base}/LiveApp/streams/crowd.m3u8", timeout=2))
        viewers = start("play-whep", "--url", f"{given.base}/LiveApp/whep/crowd", "-n", str(given.viewers),
                        "--rate", str(given.viewers / OPENING), "--warmup", f"{WARMUP}s", "--duration", f"{given.seconds}s")
        seen, sent, _ = (json.loads(process.communicate()[0]) for process in (viewers, garbage, publisher))
    checks.check(f"{given.viewers} viewers within {OPENING} s are live", seen["live"] == given.viewers and seen["failed"] == 0,
                 f"{seen['live']} live, {seen['failed']} failed {seen['first_error'] or ''}")
    checks.check("and lose nothing", seen["lost_packets"] == 0, f"{seen['packets_s']:.0f} packets/s, {seen['lost_packets']} lost")
    checks.check("beside hostile datagrams", sent["packets_s"] > 0.8 * given.garbage, f"{sent['packets_s']:.0f} a second")
    checks.note(f"request to first media, in ms: {seen['start_ms']}")
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
