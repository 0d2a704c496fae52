"""How long viewers wait when a node is killed: 50 publishers that come back through nginx, two origins, two edges.

    failover.py [--streams 50] [--rounds 3] [--mode mongodb|static] [--keep]

A round: kill -9 of the origin that has all streams, and the time, for each stream, from the kill until an edge lists
media from more than a second after it (what the dead origin sent cannot be that). The origin is started again, and the
next round kills the other one. At the end an edge is killed.
"""

import argparse
import statistics
import sys
import time

import checks as checking
from cluster import Cluster
from procs import Failed, within
from watch import Watchers

LIMIT_MEDIAN, LIMIT_WORST = 3.0, 6.0


def owner_of_all(node, streams):
    owners = {owner for stream, owner in node.owners().items() if stream in streams}
    return owners.pop() if len(owners) == 1 else None


def last(listed):
    """The number of the newest segment."""
    return listed.sequence + len(listed.segments) - 1


def body(work, checks, given):
    cluster = Cluster(work, given.mode, origins=2, edges=2)
    cluster.start()
    nginx = cluster.nginx()
    nginx.start()
    streams = [f"load{i}" for i in range(given.streams)]
    # All from one address: nginx sends them to one origin.
    cluster.publish(nginx.publish_url("load{n}"), given.streams, kbps=given.kbps)
    edge, other = cluster.edges
    viewers = {s: edge.viewer(s) for s in streams}
    for stream, viewer in viewers.items():
        within(30, f"{stream} plays", lambda v=viewer: len(v.look().segments) >= 2, every=0.3)
    checks.note(f"{len(streams)} streams of {given.kbps} kbit/s play on {edge.name}")
    watchers = Watchers(viewers).start()
    time.sleep(2)

    took = []
    for turn in range(given.rounds):
        name = within(20, "one origin has all streams", lambda: owner_of_all(edge, set(streams)), every=0.5)
        victim = cluster[name]
        time.sleep(2)
        killed = time.time()
        for seen in watchers.seen.values():
            seen.aim(killed + 1.0)
        victim.kill()
        try:
            within(40, "each stream plays again", lambda: all(s.reached() for s in watchers.seen.values()), every=0.05)
        except Failed:
            lost = sorted(s.stream for s in watchers.seen.values() if not s.reached())
            checks.check(f"round {turn + 1}: each stream plays again", False, f"not within 40 s: {', '.join(lost)}")
            checks.note(f"the first of them: {watchers.seen[lost[0]].last_problem}")
            return
        times = sorted(s.reached() - killed for s in watchers.seen.values())
        took += times
        checks.note(f"round {turn + 1}, {name} killed: median {statistics.median(times):.2f} s, worst {times[-1]:.2f} s")
        victim.start()
        victim.wait()
        cluster.complete()
        time.sleep(3)

    median, worst = statistics.median(took), max(took)
    checks.check(f"an origin is killed: each stream plays again, median under {LIMIT_MEDIAN:.0f} s", median < LIMIT_MEDIAN, f"{median:.2f} s")
    checks.check(f"and the worst under {LIMIT_WORST:.0f} s", worst < LIMIT_WORST, f"{worst:.2f} s of {len(took)}")

    # --- an edge
    through = [nginx.viewer(s) for s in streams[:10]]
    for viewer in through:
        viewer.look()
    before = [viewer.look() for viewer in through]
    other.kill()
    begin = time.monotonic()
    after = []
    for viewer in through:
        after += [viewer.look() for _ in range(2)]
    checks.check("an edge is killed: the next requests through nginx are answered", len(after) == 20, f"20 in {time.monotonic() - begin:.2f} s")
    checks.check("and go on at the same numbers", all(last(b) <= last(a) <= last(b) + 2 for b, a in zip(before, after[1::2])),
                 [(last(b), last(a)) for b, a in zip(before, after[1::2])])
    earlier = sum(a.sequence < b.sequence for b, a in zip(before, after[1::2]))
    checks.note(f"of {len(through)} lists {earlier} begin earlier on the other edge, which has had the stream for longer")

    watchers.stop()
    falls = {s.stream: s.falls for s in watchers.seen.values() if s.falls}
    earlier = sum(s.earlier for s in watchers.seen.values())
    checks.check("no media sequence ever fell on an edge", earlier == 0, earlier)
    checks.check("segment numbers never began again", not falls, falls or f"{sum(s.looks for s in watchers.seen.values())} playlists")
    failures = sum(s.failures for s in watchers.seen.values())
    checks.note(f"requests to the edge that failed: {failures}" + (f", the last: {next(s.last_problem for s in watchers.seen.values() if s.failures)}" if failures else ""))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=50)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--kbps", type=int, default=200, help="of each stream")
    options.add_argument("--mode", choices=("mongodb", "static"), default="mongodb")
    options.add_argument("--keep", action="store_true", help="keep logs and data")
    given = options.parse_args()
    return checking.run("failover", lambda work, checks: body(work, checks, given), given.keep)


if __name__ == "__main__":
    sys.exit(main())
