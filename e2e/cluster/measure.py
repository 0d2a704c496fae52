"""What a cluster costs, and how quickly an edge is there.

    measure.py [--only start,connections,cpu,segments] [--keep]

start        30 streams that an edge did not have: time to the first bytes of media, on the edge and on the origin
connections  100 viewers of one stream on one edge: relay connections to the origin
cpu          CPU of an edge that relays 20 streams to one RTMP player each, a Mbit/s; and of an nginx-rtmp edge that pulls
             them from nginx-rtmp, same run
segments     CPU of the edges a segment request, with 1, 2 and 3 edges and as many requests for each
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urljoin

import checks as checking
from cluster import LOCAL, Cluster
from procs import Failed, binary, within

TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    """Seconds of CPU that a process and its children have used."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(words[11]) + int(words[12])) / TICKS
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu(child) for child in children)


def load(command, url, *more, seconds=10, clients=1, wait=True):
    """Runs sluice-load; its report, or the running process."""
    words = [str(w) for w in (binary("sluice-load"), command, "--url", url, "-n", clients, "--duration", f"{seconds}s", "--json", *more)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return finish(process) if wait else process


def finish(process):
    out, problem = process.communicate(timeout=180)
    if not out.startswith("{"):
        raise Failed(f"sluice-load: {problem.strip()[:300]}")
    return json.loads(out)


def first_media(node, stream):
    """Seconds from the first request until the first bytes of the newest media listed have come."""
    viewer = node.viewer(stream)
    begin = time.monotonic()
    listed = viewer.look()
    names = [line.split('URI="')[1].split('"')[0] for line in listed.text.splitlines() if line.startswith("#EXT-X-PART:")]
    name = names[-1] if names else listed.segments[-1]
    status, _, body = viewer.http.request(urljoin(viewer.path, name))
    if status != 200 or not body:
        raise Failed(f"{name} was answered with {status}")
    return time.monotonic() - begin


def start(cluster, checks):
    origin, edge = cluster.origins[0], cluster.edges[0]
    publishers = cluster.publish(origin.rtmp_url("start{n}"), 60)
    within(30, "60 streams are live", lambda: len(origin.broadcasting()) >= 60, every=0.5)
    time.sleep(12)
    times = {"origin": [], "edge": []}
    for i in range(30):
        # Each stream is asked for first here, then there, in turn: neither profits from the other.
        pair = [("origin", origin), ("edge", edge)]
        for name, node in pair if i % 2 else reversed(pair):
            times[name].append(first_media(node, f"start{i}"))
            time.sleep(0.05)
    medians = {name: statistics.median(t) * 1e3 for name, t in times.items()}
    more = medians["edge"] - medians["origin"]
    checks.check("HLS: the first media from an edge comes less than 150 ms later than from the origin", more < 150,
                 f"edge {medians['edge']:.0f} ms, origin {medians['origin']:.0f} ms (medians of 30)")
    players = {}
    for name, node, first in (("origin", origin, 30), ("edge", edge, 30)):
        # One after the other, each stream once.
        players[name] = load("play-rtmp", node.rtmp_url("start{n}"), "--rate", 10, clients=60, seconds=1)["start_ms"]["p50"]
    more = players["edge"] - players["origin"]
    checks.check("RTMP: the same", more < 150, f"edge {players['edge']:.0f} ms, origin {players['origin']:.0f} ms (medians of 60)")
    publishers.end()


def connections(cluster, checks):
    origin, edge = cluster.origins[0], cluster.edges[0]
    publishers = cluster.publish(origin.rtmp_url("crowd"))
    within(20, "it plays", lambda: origin.viewer("crowd").look(), every=0.3)

    def relays():
        out = subprocess.run(["ss", "-Htnp", "state", "established", "dst", f"{origin.host}:{origin.port}"],
                             capture_output=True, text=True, check=True)
        return sum(f"pid={edge.process.pid}," in line for line in out.stdout.splitlines())

    # What an earlier measurement had fetched is let go some seconds after its viewers; the links of the mesh stay.
    within(60, "the edge fetches nothing", lambda: not any(
        c["node"] == edge.name for p in edge.api().json("/rest/v2/cluster/streams") for c in p["carriers"]), every=0.5)
    time.sleep(1)
    before = relays()
    viewers = load("play-hls", f"{edge.url}/LiveApp/streams/crowd.m3u8", clients=100, seconds=8, wait=False)
    time.sleep(8)
    during = relays()
    report = finish(viewers)
    checks.check("100 viewers on an edge are served", report["live"] == 100 and report["failed"] == 0, report.get("first_error") or "")
    checks.check("and cost the origin one relay connection", during - before == 1, f"{before} connections before, {during} during")
    publishers.end()


RTMP_EDGE = """
daemon off; worker_processes 1; pid {dir}/{name}.pid; error_log {dir}/{name}.err;
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
events {{ worker_connections 1024; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; access_log off; application LiveApp {{ live on; {pull} }} }} }}
"""


# A node keeps this many seconds of a stream.
WINDOW = 42


def relay_cpu(cluster, checks, streams=20, kbps=2000, seconds=20):
    origin, edge = cluster.origins[0], cluster.edges[0]
    work = cluster.work
    found = {}

    def measure(name, publish, play, pid):
        publishers = cluster.publish(publish, streams, kbps=kbps, name=f"publishers-{name}")
        time.sleep(4)
        players = load("play-rtmp", play, clients=streams, seconds=WINDOW + seconds + 4, wait=False)
        # Until the edge has all that it keeps: memory that is new costs more than memory that is used again.
        time.sleep(WINDOW)
        before, begin = cpu(pid), time.monotonic()
        time.sleep(seconds)
        spent, took = cpu(pid) - before, time.monotonic() - begin
        report = finish(players)
        publishers.end()
        if report["live"] != streams or report["mbit_s"] < streams * kbps / 1000 * 0.9:
            raise Failed(f"{name}: {report['live']} players, {report['mbit_s']:.1f} Mbit/s: {report.get('first_error')}")
        found[name] = spent / took * 100 / report["mbit_s"]
        checks.note(f"{name}: {spent / took * 100:.2f} % of a core for {report['mbit_s']:.1f} Mbit/s: {found[name]:.4f} % a Mbit/s")

    measure("sluice edge", origin.rtmp_url("cpu{n}"), edge.rtmp_url("cpu{n}"), edge.process.pid)
    ports = cluster.base + 80, cluster.base + 81
    servers = []
    for name, port, pull in (("rtmp-origin", ports[0], ""), ("rtmp-edge", ports[1], f"pull rtmp://{LOCAL}:{ports[0]}/LiveApp;")):
        config = work.dir / f"{name}.conf"
        config.write_text(RTMP_EDGE.format(dir=work.dir, name=name, port=port, pull=pull))
        servers.append(work.start(name, ["/usr/sbin/nginx", "-e", work.dir / f"{name}.err", "-c", config]))
    time.sleep(1)
    measure("nginx-rtmp edge", f"rtmp://{LOCAL}:{ports[0]}/LiveApp/cpu{{n}}", f"rtmp://{LOCAL}:{ports[1]}/LiveApp/cpu{{n}}", servers[1].pid)
    for server in servers:
        server.end()
    checks.check("relaying costs less than nginx-rtmp's pull", found["sluice edge"] < found["nginx-rtmp edge"],
                 f"{found['sluice edge'] / found['nginx-rtmp edge']:.2f} of it")


def segments(cluster, checks, rate=300, seconds=10):
    origin = cluster.origins[0]
    publishers = cluster.publish(origin.rtmp_url("seg"), kbps=1000)
    for edge in cluster.edges:
        within(20, "it plays", lambda v=edge.viewer("seg"): len(v.look().segments) >= 6, every=0.5)
    # Not counted: the first requests make what the later ones only fetch.
    for edge in cluster.edges:
        load("segments", f"{edge.url}/LiveApp/streams/seg.m3u8", "--requests-per-second", rate, clients=4, seconds=3)
    costs = []
    for count in range(1, len(cluster.edges) + 1):
        edges = cluster.edges[:count]
        runs = [load("segments", f"{e.url}/LiveApp/streams/seg.m3u8", "--requests-per-second", rate, "--pid", e.process.pid,
                     clients=4, seconds=seconds, wait=False) for e in edges]
        reports = [finish(r) for r in runs]
        spent = sum(r["server"]["cpu_s"] for r in reports)
        requests = sum(r["requests"] for r in reports)
        if any(r["failed"] for r in reports):
            raise Failed(f"segments: {reports[0].get('first_error')}")
        costs.append(spent / requests * 1e6)
        checks.note(f"{count} edges: {requests / seconds:.0f} requests/s in all, {costs[-1]:.0f} µs of CPU a request")
    worst = max(abs(c / costs[0] - 1) for c in costs)
    checks.check("CPU a request is the same with more edges, within 10 %", worst < 0.1, f"{worst * 100:.1f} %")
    publishers.end()


PARTS = {"start": start, "connections": connections, "cpu": relay_cpu, "segments": segments}


def body(work, checks, given):
    cluster = Cluster(work, "static", origins=1, edges=3)
    cluster.start()
    for name in given.only:
        try:
            PARTS[name](cluster, checks)
        except Failed as error:
            checks.check(name, False, error)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help="which, with commas")
    options.add_argument("--keep", action="store_true", help="keep logs and data")
    given = options.parse_args()
    if unknown := set(given.only) - set(PARTS):
        options.error(f"there is no {', '.join(unknown)}")
    return checking.run("cluster in numbers", lambda work, checks: body(work, checks, given), given.keep)


if __name__ == "__main__":
    sys.exit(main())
