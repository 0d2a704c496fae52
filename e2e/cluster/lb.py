"""nginx and haproxy, with the files of config/, in front of two origins and two edges.

    lb.py [--mode mongodb|static] [--keep]
"""

import argparse
import subprocess
import sys
import time

import checks as checking
from cluster import Cluster
from play import Http, probe, rtmp_packets
from procs import Failed, within
from rtc import Session, upgrades


def plays(balancer, stream, seconds=15):
    viewer = balancer.viewer(stream)
    return viewer, within(seconds, f"{stream} plays through {balancer.name}", lambda: (at := viewer.look()).parts > 10 and at, every=0.3)


def newer(viewer, than, seconds=8):
    """Waits until the list has media from a second later."""
    return within(seconds, "newer media is listed", lambda: (at := viewer.look()).newest > than.newest + 1 and at)


def blocks(viewer):
    """How long blocking reloads take, and that each brings a part: the median, in seconds."""
    times = []
    for _ in range(6):
        before = viewer.look()
        begin = time.monotonic()
        after = viewer.look(block=True)
        times.append(time.monotonic() - begin)
        if after.newest <= before.newest:
            raise Failed("a blocking reload came back without a new part")
    return sorted(times)[len(times) // 2]


def http2(balancer, path):
    out = subprocess.run(["curl", "-sk", "-m", "5", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}",
                          f"https://127.0.0.1:{balancer.https}{path}"], capture_output=True, text=True, check=False)
    return out.stdout


def forged(balancer):
    """What a node answers this machine, which may manage it, when the request claims to be from elsewhere: what a client
    says about addresses must not get through."""
    request = balancer.viewer("x").http.request
    return [request("/rest/v2/applications", headers={name: value})[0]
            for name, value in (("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9"), ("X-Real-IP", "203.0.113.9"))]


def body(work, checks, mode):
    cluster = Cluster(work, mode, origins=2, edges=2)
    cluster.start()
    nginx, haproxy = cluster.nginx(), cluster.haproxy()
    balancers = (nginx, haproxy)
    for balancer in balancers:
        balancer.start()
        cluster.ffmpeg(balancer.publish_url(f"by-{balancer.name}"), f"ffmpeg-{balancer.name}")

    viewers = {}
    for balancer in balancers:
        # Published through one, watched through the other as well: any edge has every stream.
        for stream in ("by-nginx", "by-haproxy"):
            found = checks.holds(f"{balancer.name}: {stream} plays over HLS", lambda b=balancer, s=stream: plays(b, s))
            if found:
                viewers[balancer.name] = found[0]
    if len(viewers) < 2:
        raise Failed("without a stream there is nothing to see")
    time.sleep(2)

    for balancer in balancers:
        name, viewer = balancer.name, viewers[balancer.name]
        codecs = probe(f"{balancer.url}/LiveApp/streams/by-nginx.m3u8")
        checks.check(f"{name}: ffprobe finds sound and picture", codecs == ["aac", "h264"], codecs)
        took = checks.holds(f"{name}: LL-HLS reloads block until the next part", lambda v=viewer: blocks(v))
        checks.check(f"{name}: and come with it", took is not None and took < 0.35, took)
        packets = rtmp_packets(balancer.play_url("by-haproxy"))
        checks.check(f"{name}: plays over RTMP", packets >= 30, f"{packets} packets")
        checks.check(f"{name}: HTTP/2 over TLS", http2(balancer, "/LiveApp/streams/by-nginx.m3u8") == "2 200")
        listed = {b["streamId"] for b in balancer.api().json("/LiveApp/rest/v2/broadcasts/list/0/10") if b["status"] == "broadcasting"}
        checks.check(f"{name}: REST lists both streams", listed == {"by-nginx", "by-haproxy"}, listed)
        checks.check(f"{name}: what a client claims about its address is dropped", forged(balancer) == [200] * 3, forged(balancer))
        closed = [balancer.api().request(path)[0] for path in ("/metrics", "/healthz", "/readyz", "/acceptz")]
        checks.check(f"{name}: what is about one node stays inside", closed == [404] * 4, closed)

        secure = cluster.ffmpeg(f"rtmps://127.0.0.1:{balancer.rtmps}/LiveApp/tls-{name}", f"ffmpeg-tls-{name}")
        checks.holds(f"{name}: takes publishers over RTMPS", lambda n=name: within(
            10, "the stream is live", lambda: f"tls-{n}" in cluster.edges[0].broadcasting(), every=0.3))
        secure.end()

    at = viewers["nginx"].look()
    first = viewers["nginx"].segment(at, 0)
    again = [viewers["nginx"].segment(at, 0) for _ in range(3)]
    checks.check("nginx: segments are cached", first[0] == 200 and all(a[1]["x-cache"] == "HIT" and a[2] == first[2] for a in again),
                 [a[1]["x-cache"] for a in again])
    at = viewers["haproxy"].look()
    first = viewers["haproxy"].segment(at, 0)
    aged = [viewers["haproxy"].segment(at, 0) for _ in range(3)]
    checks.check("haproxy: segments are cached", first[0] == 200 and all(a[1]["age"] is not None and a[2] == first[2] for a in aged),
                 [a[1]["age"] for a in aged])
    other = viewers["nginx"].segment(viewers["nginx"].look(), -1)[2]
    # The same segment from the other edge, past all caches.
    direct = [e.viewer("by-haproxy") for e in cluster.edges]
    lists = [v.look() for v in direct]
    name = next((s for s in reversed(lists[0].segments) if s in lists[1].segments), None)
    same = name and len({v.segment(at, at.segments.index(name))[2] for v, at in zip(direct, lists)}) == 1
    checks.check("edges have the same bytes in the same segments", bool(same) and len(other) > 0, name)

    for balancer in balancers:
        stream = f"by-{balancer.name}"
        many = [balancer.viewer(stream) for _ in range(12)]
        for _ in range(4):
            for viewer in many:
                viewer.look()

        def counts(stream=stream):
            places = [p for p in cluster.origins[0].api().json("/rest/v2/cluster/streams") if p["streamId"] == stream]
            return sorted(c["viewers"]["hls"] for p in places for c in p["carriers"])

        checks.holds(f"{balancer.name}: 12 viewers are spread over the edges",
                     lambda: within(
                         5, "both edges have some", lambda: len(counts()) == 2 and counts()[0] >= 2 and sum(counts()) >= 12))
        checks.note(f"counted: {counts()}")

    # --- WebRTC: sessions are negotiated through the balancer, and media goes past it
    for balancer in balancers:
        name = balancer.name
        sockets = [upgrades(balancer.url, f"/LiveApp/websocket{query}") for query in ("", "?target=origin", "?target=edge")]
        checks.check(f"{name}: WebSockets are let through", sockets == [101] * 3, sockets)
        for kind, streams in (("whip", [f"rtc{n}-{name}" for n in range(6)]), ("whep", ["by-nginx"] * 12)):
            sessions = checks.holds(f"{name}: {kind} takes sessions", lambda b=balancer, k=kind, s=streams: [Session(b.url, k, one) for one in s])
            said = [(one.trickle(), one.end()) for one in sessions or []]
            checks.check(f"{name}: a {kind} session is changed and ended at its node", bool(said) and set(said) == {(204, 200)}, said)
    found = []
    for edge in cluster.edges:
        # Begun before its address was hashed elsewhere.
        session = Session(edge.url, "whep", "by-nginx")
        session.http = Http(nginx.url)
        found.append((session.trickle(), session.end()))
    checks.check("nginx: a session is found at whichever edge it is", found == [(204, 200)] * 2, found)
    staying = [Session(haproxy.url, "whep", "by-haproxy") for _ in range(6)]

    # --- an edge is drained: haproxy sends what is new elsewhere, and those who are there stay
    e1, e2 = cluster.edges
    status, _, answer = e1.api().request(f"/rest/v2/cluster/node/{e1.name}/drain", "POST")
    checks.check("an edge is told to drain", status == 200 and b'"success":true' in answer.replace(b" ", b""), answer.decode()[:120])
    checks.holds("haproxy: sees that it drains", lambda: within(
        5, "down", lambda: all(haproxy.states()[pool, "e1"].startswith("DOWN") for pool in ("edges", "viewers", "play"))))
    checks.holds("haproxy: its streams go on", lambda: newer(viewers["haproxy"], viewers["haproxy"].look()))
    ended = [one.end() for one in staying]
    checks.check("haproxy: WHEP sessions are ended at their nodes, the one that drains among them", ended == [200] * 6, ended)
    packets = rtmp_packets(haproxy.play_url("by-nginx"))
    checks.check("haproxy: new RTMP players are let in elsewhere", packets >= 30, f"{packets} packets")
    e1.api().request(f"/rest/v2/cluster/node/{e1.name}/drain", "DELETE")
    checks.holds("haproxy: sees that it takes sessions again", lambda: within(
        5, "up", lambda: all(haproxy.states()[pool, "e1"].startswith("UP") for pool in ("edges", "viewers", "play"))))

    # --- an edge is killed: the next request is answered by the other one
    before = {name: viewer.look() for name, viewer in viewers.items()}
    e1.kill()
    for name, viewer in viewers.items():
        begin = time.monotonic()
        answers = []
        for _ in range(6):
            at = viewer.look()
            answers.append(at.sequence)
        checks.check(f"{name}: after an edge was killed, the next requests are answered", min(answers) >= before[name].sequence,
                     f"6 in {time.monotonic() - begin:.2f} s")
        checks.holds(f"{name}: and the stream goes on", lambda v=viewer, b=before[name]: newer(v, b))
    for balancer in balancers:
        packets = rtmp_packets(balancer.play_url("by-nginx"))
        checks.check(f"{balancer.name}: RTMP players are let in elsewhere", packets >= 30, f"{packets} packets")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mode", choices=("mongodb", "static"), default="static")
    options.add_argument("--keep", action="store_true", help="keep logs and data")
    given = options.parse_args()
    return checking.run("load balancers", lambda work, checks: body(work, checks, given.mode), given.keep)


if __name__ == "__main__":
    sys.exit(main())
