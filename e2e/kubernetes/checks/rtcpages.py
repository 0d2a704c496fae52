"""WebRTC in Chromium, outside of the cluster: the pages of nodes and Ant Media's client, over UDP, and over TCP where that is all there is."""

import shutil

from ..paths import LOGS, ROOT
from .site import PUBLISH, WATCH

# Pictures of the pages, for the one who looks.
SHOTS = LOGS / "pages"


def pages(checks, site):
    shutil.rmtree(SHOTS, ignore_errors=True)
    browse(checks, site, "publish.html publishes through the Ingress, play.html plays it from an edge", "publish.mjs",
           "--watch", f"http://{WATCH}", "--seconds", 2, "--shots", SHOTS)
    browse(checks, site, "so does Ant Media's client, by its WebSocket: two host names, as it is", "webrtc.mjs",
           "--edge", f"http://{WATCH}", "--only", "publishAndPlay", "--seconds", 2, "--shots", SHOTS)
    site.outside.run("nft", "add", "table", "inet", "walled", "{ chain out { type filter hook output priority 0; meta l4proto udp drop; }; }")
    try:
        browse(checks, site, "where no UDP gets out, the pages publish and play over TCP", "publish.mjs",
               "--watch", f"http://{WATCH}", "--seconds", 2, "--stream", "walled", "--shots", SHOTS / "tcp")
    finally:
        site.outside.run("nft", "delete", "table", "inet", "walled")


def browse(checks, site, what, script, *more):
    """A script of e2e/browser, with its own checks."""
    words = ["node", ROOT / "e2e/browser" / script, "--base", f"http://{PUBLISH}", *more]
    done = site.outside.run(*words, check=False, timeout=180)
    said = (done.stdout + done.stderr).strip().splitlines()
    if checks.check(what, done.returncode == 0 and " 0 failed" in said[-1], said[-1] if said else "it says nothing"):
        said = [line for line in said if line.startswith("ok")]
    for line in said:
        checks.note(line)
