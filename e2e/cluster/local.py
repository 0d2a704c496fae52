"""A cluster on this machine: two origins, edges, the database (or none) and nginx. `make cluster-local` builds and runs it.

    local.py [--mode mongodb|static|multicast] [--edges 3] [--http 18080] [--https 18443] [--rtmp 11935] [--demo] [--check] [--keep]

Runs until Ctrl-C, and ends everything it started. --demo publishes a test picture. --check publishes and plays through
nginx, says what it found, and ends. Mode multicast makes a network of namespaces (10.177.0.0/24) and needs root.
"""

import argparse
import subprocess
import sys
import time

import checks as checking
from cluster import MODES, Cluster
from network import Lan
from play import probe, rtmp_packets
from procs import ROOT, Failed, within
from watch import Watchers


def start(work, given, say):
    lan = Lan(work) if given.mode == "multicast" else None
    cluster = Cluster(work, given.mode, origins=2, edges=given.edges, base=given.base, lan=lan)
    say(f"starting {'MongoDB stand-in, ' if given.mode == 'mongodb' else ''}2 origins, {given.edges} edges, nginx")
    cluster.start()
    nginx = cluster.nginx(given.http, given.https, given.rtmp, given.rtmp + 1, given.rtmp + 2)
    nginx.start()
    return cluster, nginx


def describe(cluster, nginx):
    nodes = "\n".join(f"    {n.name}  {n.role:6}  {n.url}  {n.rtmp_url('')}" for n in cluster.nodes.values())
    return f"""
A cluster of {len(cluster.nodes)} nodes (mode {cluster.mode}) runs.

  Publish    {nginx.publish_url('cam1')}      (RTMPS: rtmps://127.0.0.1:{nginx.rtmps}/LiveApp/cam1)
             ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine -c:v libx264 -preset veryfast \\
               -tune zerolatency -g 30 -c:a aac -f flv {nginx.publish_url('cam1')}
  Watch      {nginx.url}/LiveApp/play.html?id=cam1
             {nginx.url}/LiveApp/streams/cam1.m3u8      (HTTPS, HTTP/2: https://127.0.0.1:{nginx.https})
             {nginx.play_url('cam1')}
  Dashboard  {cluster.edges[0].url}/#/cluster    or through nginx, with the token: {nginx.url}/#/cluster
  REST       curl -H 'Authorization: Bearer {cluster.token}' {nginx.url}/rest/v2/cluster/nodes/0/50
  Logs       {cluster.work.dir}

  Nodes
{nodes}

Ctrl-C ends it.
"""


def check(cluster, nginx, checks):
    """Publishes and plays through nginx, and asks every node."""
    cluster.ffmpeg(nginx.publish_url("cam1"))
    viewer = nginx.viewer("cam1")
    if not checks.holds("published through nginx, a stream plays through nginx over HLS",
                        lambda: within(20, "the stream plays", lambda: len(viewer.look().segments) >= 2, every=0.3)):
        raise Failed("without a stream there is nothing to see")
    codecs = probe(f"{nginx.url}/LiveApp/streams/cam1.m3u8")
    checks.check("HLS: ffprobe finds sound and picture", codecs == ["aac", "h264"], codecs)

    def low_latency():
        waits = []
        for _ in range(8):
            before, begin = viewer.look(), time.monotonic()
            after = viewer.look(block=True)
            waits.append(time.monotonic() - begin)
            if after.newest <= before.newest:
                raise Failed("a blocking reload came back without a new part")
        age = time.time() - after.newest
        if age > 2 or sorted(waits)[4] > 0.5:
            raise Failed(f"the newest part is {age:.2f} s old, reloads take {sorted(waits)[4]:.2f} s")

    checks.holds("LL-HLS: blocking reloads bring each part as it is made", low_latency)
    packets = rtmp_packets(nginx.play_url("cam1"))
    checks.check("RTMP: plays through nginx", packets >= 30, f"{packets} video packets")
    for edge in cluster.edges:
        at = edge.viewer("cam1")
        checks.holds(f"{edge.name} plays it", lambda v=at: within(15, "it plays", lambda: len(v.look().segments) >= 2, every=0.3))

    api = nginx.api()
    broadcast = api.json("/LiveApp/rest/v2/broadcasts/cam1")
    checks.check("REST through nginx says that it is live", broadcast["status"] == "broadcasting", broadcast["status"])
    for node in cluster.nodes.values():
        members = node.members()
        checks.check(f"{node.name} lists all nodes as alive", members == set(cluster.nodes), sorted(members))
    owners = [n.owners().get("cam1") for n in cluster.nodes.values()]
    checks.check("all nodes name the same owner, an origin", len(set(owners)) == 1 and owners[0] in [o.name for o in cluster.origins], owners)
    places = [p for p in cluster.edges[0].api().json("/rest/v2/cluster/streams") if p["streamId"] == "cam1"]
    carriers = sorted(c["node"] for p in places for c in p["carriers"])
    checks.check("and the edges as those who carry it", set(carriers) >= {e.name for e in cluster.edges}, carriers)

    page = ROOT / "e2e/browser/cluster.mjs"
    if cluster.lan:
        checks.note("dashboard: not looked at, its requests would not come from this machine's loopback")
    else:
        # Edges fetch a stream for as long as somebody watches.
        watchers = Watchers({e.name: e.viewer("cam1") for e in cluster.edges}, every=1.0).start()
        done = subprocess.run(["node", str(page), "--base", cluster.edges[0].url, "--nodes", str(len(cluster.nodes)), "--links",
                               str(len(cluster.edges))], capture_output=True, text=True, timeout=120, check=False)
        watchers.stop()
        for line in done.stdout.splitlines():
            checks.note(line)
        checks.check("the dashboard shows it in Chromium", done.returncode == 0, done.stderr.strip()[-300:])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mode", choices=MODES, default="mongodb")
    options.add_argument("--edges", type=int, default=3, choices=range(1, 11), metavar="1..10")
    options.add_argument("--http", type=int, default=18080, help="nginx's port for viewers, REST, dashboard")
    options.add_argument("--https", type=int, default=18443, help="the same with TLS")
    options.add_argument("--rtmp", type=int, default=11935, help="nginx's port for publishers; players: one more; RTMPS: two more")
    options.add_argument("--base", type=int, default=23100, help="the nodes' ports begin here")
    options.add_argument("--demo", action="store_true", help="publish a test picture as LiveApp/demo")
    options.add_argument("--check", action="store_true", help="publish, play, look, and end")
    options.add_argument("--keep", action="store_true", help="keep logs and data")
    given = options.parse_args()

    def body(work, checks):
        cluster, nginx = start(work, given, lambda text: print(f"== {text}", file=sys.stderr, flush=True))
        if given.check:
            check(cluster, nginx, checks)
            return
        print(describe(cluster, nginx), flush=True)
        if given.demo:
            cluster.ffmpeg(nginx.publish_url("demo"), "demo")
            print(f"  A test picture: {nginx.url}/LiveApp/play.html?id=demo\n", flush=True)
        while True:
            time.sleep(1)
            for process in work.processes():
                if not process.running():
                    raise Failed(f"{process.name} has ended: {process.tail()}")

    if given.check:
        return checking.run(f"cluster ({given.mode})", body, given.keep)
    return checking.serve(body, given.keep)


if __name__ == "__main__":
    sys.exit(main())
