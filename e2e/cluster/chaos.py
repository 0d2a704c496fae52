"""Kills processes of a cluster under load, each in turn and then at random, and looks at what is left of it.

    chaos.py [--seconds 300] [--streams 20] [--seed N] [--mode mongodb|static] [--keep]

Two origins, three edges, the database (on disk), nginx. At most two processes are down at a time, and never both
origins or all edges. At the end every stream that has a publisher plays on every edge, all nodes agree on one owner
for each, and nothing else is listed as live.
"""

import argparse
import random
import sys
import time

import checks as checking
from cluster import Cluster
from procs import within
from watch import Watchers


class Victims:
    """Who may be killed, who is down, and when they come back."""

    def __init__(self, cluster, rng, checks):
        self.cluster, self.rng, self.checks = cluster, rng, checks
        self.down = {}
        self.kills = {}
        names = list(cluster.nodes) + (["database"] if cluster.store else [])
        self.turn = rng.sample(names, len(names))
        self.names = names

    def _allowed(self, name):
        if name in self.down or len(self.down) >= 2:
            return False
        group = [n.name for n in (self.cluster.origins if name.startswith("o") else self.cluster.edges)]
        return name == "database" or sum(n in self.down for n in group) < len(group) - 1

    def kill(self):
        """The next one: all in turn first."""
        name = self.turn[0] if self.turn else self.rng.choice(self.names)
        if not self._allowed(name):
            return
        if self.turn:
            self.turn.pop(0)
        process = self.cluster.store if name == "database" else self.cluster[name].process
        process.kill()
        pause = self.rng.uniform(0.5, 8.0)
        self.down[name] = time.monotonic() + pause
        self.kills[name] = self.kills.get(name, 0) + 1
        self.checks.note(f"{name} killed for {pause:.1f} s")

    def revive(self, everybody=False):
        for name, due in list(self.down.items()):
            if everybody or time.monotonic() >= due:
                del self.down[name]
                if name == "database":
                    self.cluster.start_store()
                else:
                    self.cluster[name].start()


def agreed(cluster, streams):
    """All nodes list the same streams as live, each with one owner that is an origin; the owners."""
    views = [node.owners() for node in cluster.nodes.values()]
    owned = {s: o for s, o in views[0].items() if o}
    if any({s: o for s, o in v.items() if o} != owned for v in views) or set(owned) != set(streams):
        return None
    lists = [node.broadcasting() for node in cluster.nodes.values()]
    return owned if all(found == set(streams) for found in lists) else None


def differences(cluster, streams):
    """What stands in the way of `agreed`, as text."""
    out = []
    for node in cluster.nodes.values():
        listed = node.broadcasting()
        owned = {s for s, o in node.owners().items() if o}
        for what, found in (("lists", listed), ("knows owners of", owned)):
            if found != set(streams):
                out.append(f"{node.name} {what} {len(found)}: missing {sorted(set(streams) - found)}, too many {sorted(found - set(streams))}")
    return "; ".join(out) or "they differ about owners"


def settle(cluster, streams, checks, what, seconds=40):
    try:
        within(seconds, what, lambda: agreed(cluster, streams) is not None, every=0.5)
        checks.check(what, True)
    except Exception as error:
        checks.check(what, False, f"{error}: {differences(cluster, streams)}")


def plays_everywhere(cluster, streams):
    """The streams that do not get newer on some edge."""
    bad = []
    viewers = [(edge.name, s, edge.viewer(s)) for edge in cluster.edges for s in streams]
    before = {}
    for edge, stream, viewer in viewers:
        try:
            before[edge, stream] = within(15, "plays", lambda v=viewer: v.look(), every=0.3).newest
        except Exception as error:
            bad.append(f"{stream} on {edge}: {error}")
    time.sleep(2)
    for edge, stream, viewer in viewers:
        if (edge, stream) in before:
            newest = viewer.look().newest
            if newest <= before[edge, stream] or newest < time.time() - 10:
                bad.append(f"{stream} on {edge} stands still")
    return bad


def body(work, checks, given):
    rng = random.Random(given.seed)
    checks.note(f"seed {given.seed}")
    cluster = Cluster(work, given.mode, origins=2, edges=3, disk=True)
    cluster.start()
    nginx = cluster.nginx()
    nginx.start()
    half = given.streams // 2
    first = cluster.publish(nginx.publish_url("a{n}"), half, places=half, name="publishers-a")
    second = cluster.publish(nginx.publish_url("b{n}"), given.streams - half, places=given.streams - half, name="publishers-b")
    a = [f"a{i}" for i in range(half)]
    streams = a + [f"b{i}" for i in range(given.streams - half)]
    viewers = {s: nginx.viewer(s) for s in streams}
    for stream, viewer in viewers.items():
        within(30, f"{stream} plays", lambda v=viewer: v.look(), every=0.3)
    watchers = Watchers(viewers, every=0.5, segments=True).start()

    victims = Victims(cluster, rng, checks)
    end = time.monotonic() + given.seconds
    due = time.monotonic() + 2
    while time.monotonic() < end:
        victims.revive()
        if time.monotonic() >= due:
            victims.kill()
            due = time.monotonic() + rng.uniform(2.0, 8.0)
        time.sleep(0.1)
    victims.revive(everybody=True)
    for node in cluster.nodes.values():
        node.wait()
    checks.note("kills: " + ", ".join(f"{name} {count}" for name, count in sorted(victims.kills.items())))
    checks.check("each process was killed at least once", set(victims.kills) == set(victims.names))
    checks.holds("all nodes see each other again", lambda: cluster.complete(30) or True)

    settle(cluster, streams, checks, "each stream with a publisher is live, with one owner, on every node")
    bad = plays_everywhere(cluster, streams)
    checks.check("each stream with a publisher plays on every edge", not bad, "; ".join(bad[:5]))
    watchers.stop()
    falls = {s.stream: s.falls for s in watchers.seen.values() if s.falls}
    earlier = sum(s.earlier for s in watchers.seen.values())
    checks.note(f"lists that began earlier than the one before, after a viewer had to move to another edge: {earlier}")
    checks.check("segment numbers never began again", not falls, falls or f"{sum(s.looks for s in watchers.seen.values())} playlists")
    gaps = sorted(s.longest_gap for s in watchers.seen.values())
    checks.note(f"longest time without newer media: median {gaps[len(gaps) // 2]:.1f} s, worst {gaps[-1]:.1f} s; "
                f"requests that failed: {sum(s.failures for s in watchers.seen.values())}")

    second.kill()
    settle(cluster, a, checks, "streams whose publishers are gone are not listed", 40)
    # The publishers and the origin of their streams at the same moment: nobody is left to say that they ended.
    owner = next(iter(cluster.edges[0].owners().values()), None)
    first.kill()
    if owner:
        cluster[owner].kill()
        del cluster.nodes[owner]
    settle(cluster, [], checks, "nor those whose origin died with them", 60)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=300)
    options.add_argument("--streams", type=int, default=20)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options.add_argument("--mode", choices=("mongodb", "static"), default="mongodb")
    options.add_argument("--keep", action="store_true", help="keep logs and data")
    given = options.parse_args()
    return checking.run("chaos", lambda work, checks: body(work, checks, given), given.keep)


if __name__ == "__main__":
    sys.exit(main())
