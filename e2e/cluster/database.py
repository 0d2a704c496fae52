"""The database goes away under live streams, comes back, goes away again and comes back empty.

    database.py [--seconds 60] [--streams 4] [--keep]

Nothing that is live may notice; a publisher that comes meanwhile is let in; in the end all nodes and streams are
registered again.
"""

import argparse
import json
import shutil
import sys
import time

import checks as checking
from chaos import plays_everywhere, settle
from cluster import Cluster
from procs import within
from watch import Watchers


def body(work, checks, given):
    cluster = Cluster(work, "mongodb", origins=2, edges=2, disk=True)
    cluster.start()
    nginx = cluster.nginx()
    nginx.start()
    cluster.publish(nginx.publish_url("load{n}"), given.streams, places=given.streams)
    streams = [f"load{i}" for i in range(given.streams)]
    viewers = {s: nginx.viewer(s) for s in streams}
    for stream, viewer in viewers.items():
        within(30, f"{stream} plays", lambda v=viewer: v.look(), every=0.3)
    settle(cluster, streams, checks, "before: each stream has one owner, the same everywhere")
    watchers = Watchers(viewers).start()

    for turn, empty in enumerate((False, True)):
        what = "the database, emptied" if empty else "the database"
        cluster.store.kill()
        gone = time.monotonic()
        time.sleep(5)
        late = f"late{turn}"
        cluster.publish(cluster.origins[turn].rtmp_url(late), name=late)
        streams.append(late)
        for edge in cluster.edges:
            viewer = edge.viewer(late)
            checks.holds(f"{what} is away: a publisher that comes then plays on {edge.name}",
                         lambda v=viewer: within(20, "it plays", lambda: v.look(), every=0.3))
        checks.check("every node says that it is alive", all(n.live() for n in cluster.nodes.values()))
        health = {n.name: json.loads(n.api().request("/acceptz")[2]) for n in cluster.nodes.values()}
        told = [name for name, says in health.items() if not says["store"]["answers"]]
        checks.check("and that its store is away", len(told) == len(cluster.nodes), told)
        checks.check("and takes new sessions", all(says["accepting"] for says in health.values()), health)
        time.sleep(max(0.0, (given.seconds if not empty else min(given.seconds, 20)) - (time.monotonic() - gone)))
        stalled = [s.stream for s in watchers.seen.values() if time.monotonic() - s.moved > 3]
        checks.check(f"{what} is away for {time.monotonic() - gone:.0f} s: all streams go on", not stalled, stalled)
        if empty:
            shutil.rmtree(work.dir / "store.data")
        cluster.start_store()
        settle(cluster, streams, checks, f"{what} is back: every stream is registered, with one owner", 60)
        checks.holds("and every node", lambda: cluster.complete(40) or True)

    bad = plays_everywhere(cluster, streams)
    checks.check("all play on every edge", not bad, "; ".join(bad[:5]))
    watchers.stop()
    falls = {s.stream: s.falls for s in watchers.seen.values() if s.falls}
    earlier = sum(s.earlier for s in watchers.seen.values())
    checks.note(f"lists that began earlier than the one before, after a viewer had to move to another edge: {earlier}")
    checks.check("segment numbers never began again", not falls, falls or "")
    gap = max(s.longest_gap for s in watchers.seen.values())
    checks.check("no viewer waited", gap < 3.0, f"longest time without newer media {gap:.2f} s")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=60, help="how long the database is away")
    options.add_argument("--streams", type=int, default=4)
    options.add_argument("--keep", action="store_true", help="keep logs and data")
    given = options.parse_args()
    return checking.run("database away", lambda work, checks: body(work, checks, given), given.keep)


if __name__ == "__main__":
    sys.exit(main())
