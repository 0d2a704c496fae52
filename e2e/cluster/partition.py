"""Two origins that do not see each other, each with a publisher of the same stream; then the network heals.

    partition.py [--mode mongodb|static|multicast] [--seconds 25] [--keep]

Each node, the database and the publishers are machines of their own (network namespaces; needs root). o1 is unplugged,
with a publisher beside it that goes on; others go to o2.
"""

import argparse
import sys
import time

import checks as checking
from chaos import agreed, differences
from cluster import MODES, Cluster
from network import Lan
from procs import within
from watch import Watchers


def body(work, checks, given):
    lan = Lan(work)
    cluster = Cluster(work, given.mode, origins=2, edges=2, lan=lan)
    lan.machine("studio")
    cluster.start()
    o1, o2 = cluster.origins

    def from_studio(command):
        return lan.inside("studio", command)

    # "both": a publisher on o1's machine; "moves": one in the studio that will move; "calm": nobody touches it.
    beside = cluster.publish(o1.rtmp_url("both"), name="beside-o1", inside=o1.inside)
    moving = cluster.publish(o1.rtmp_url("moves"), name="moving", inside=from_studio)
    cluster.publish(o2.rtmp_url("calm"), name="calm", inside=from_studio)
    streams = ["both", "moves", "calm"]
    edge = cluster.edges[0]
    viewers = {s: edge.viewer(s) for s in streams}
    for stream, viewer in viewers.items():
        within(30, f"{stream} plays", lambda v=viewer: v.look(), every=0.3)
    watchers = Watchers(viewers).start()
    time.sleep(5)
    owners = within(10, "all agree", lambda: agreed(cluster, streams))
    checks.check("before: one owner for each, the same everywhere", owners == {"both": "o1", "moves": "o1", "calm": "o2"}, owners)

    lan.cut("o1")
    cut, clock = time.monotonic(), time.time()
    for seen in watchers.seen.values():
        seen.aim(clock + 4.0)
    moving.kill()
    cluster.publish(o2.rtmp_url("moves"), name="moved", inside=from_studio)
    cluster.publish(o2.rtmp_url("both"), name="second", inside=from_studio)
    checks.holds("o1 is unplugged: its streams go on from o2, on the edge", lambda: within(
        20, "newer media", lambda: all(s.reached() for s in watchers.seen.values())))
    time.sleep(max(0.0, given.seconds - (time.monotonic() - cut)))
    checks.check("the publisher beside o1 goes on meanwhile", beside.running())
    rest = [n for n in cluster.nodes.values() if n is not o1]
    owners = [n.owners() for n in rest]
    checks.check("the others say that o2 has all streams", all(o.get(s) == "o2" for o in owners for s in streams), owners)

    lan.heal("o1")
    healed = time.monotonic()
    found = None
    try:
        found = within(30, "all agree", lambda: agreed(cluster, streams), every=0.3)
    except Exception as error:
        checks.note(f"{error}: {differences(cluster, streams)}")
    checks.check("the network heals: one owner for each stream, the same everywhere", found is not None,
                 f"{found} after {time.monotonic() - healed:.1f} s")
    time.sleep(10)
    again = agreed(cluster, streams)
    checks.check("and it stays so", again is not None and again == found, again or differences(cluster, streams))
    before = {s: w.newest for s, w in watchers.seen.items()}
    time.sleep(2)
    still = [s for s, w in watchers.seen.items() if w.newest <= before[s]]
    checks.check("all streams play on", not still, still)
    watchers.stop()
    falls = {s.stream: s.falls for s in watchers.seen.values() if s.falls}
    earlier = sum(s.earlier for s in watchers.seen.values())
    checks.check("no media sequence ever fell on an edge", earlier == 0, earlier)
    checks.check("segment numbers never began again", not falls, falls or "")
    calm = watchers.seen["calm"].longest_gap
    checks.check("a stream that had no part in it did not notice", calm < 3.0, f"longest time without newer media {calm:.2f} s")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mode", choices=MODES, default="mongodb")
    options.add_argument("--seconds", type=int, default=25, help="how long the network is broken")
    options.add_argument("--keep", action="store_true", help="keep logs and data")
    given = options.parse_args()
    return checking.run(f"partition ({given.mode})", lambda work, checks: body(work, checks, given), given.keep)


if __name__ == "__main__":
    sys.exit(main())
