"""Every pod of a cluster under load is replaced: 20 publishers, 200 viewers, two origins, two edges."""

import time

from .. import demo
from ..procs import Failed, within
from . import autoscale, clients

PUBLISHERS, VIEWERS = 20, 200


def body(checks, sample):
    # Publishers are let be for so long; then they are told to come back elsewhere.
    fields = {"replicas": 2, "drain": {"deadline": "20s"}}
    with autoscale.changed(sample, "demo-origin", fields):
        publishers = sample.load_publishers("up", PUBLISHERS)
        autoscale.counted(sample, "demo-origin", "streams", PUBLISHERS)
        for number in range(PUBLISHERS):
            sample.plays(f"up{number}")
        viewers = sample.load_players("up", VIEWERS, "up{n}", "--streams", PUBLISHERS)
        autoscale.counted(sample, "demo-edge", "viewers", VIEWERS, 60)
        # Those who were only asked whether streams play are counted for a while, too.
        time.sleep(8)
        before = sample.uids()
        if len(before) != 4:
            raise Failed(f"two origins and two edges are needed: {', '.join(before)}")
        begin = time.monotonic()
        for pool, kind in demo.POOLS.items():
            sample.kubectl("annotate", kind, pool, "--overwrite", f"{demo.RESTARTED}={time.time_ns()}")
        fewest = {pool: 99 for pool in demo.POOLS}

        def replaced():
            uids = sample.uids()
            said = []
            for pool in demo.POOLS:
                found = autoscale.status(sample, pool)
                fewest[pool] = min(fewest[pool], found["readyReplicas"])
                if found["draining"] or found["readyReplicas"] != 2 or found["updatedReplicas"] != 2:
                    said.append(f"{pool}: {found.get('message', '')} {found.get('waitingFor', '')}")
            if said or set(uids.values()) & set(before.values()):
                raise Failed("; ".join(said) or f"old pods: {', '.join(uids)}")
            return True

        if checks.holds("every pod is replaced", lambda: within(240, "all new", replaced, every=0.3)):
            checks.note(f"in {time.monotonic() - begin:.0f} s")
        checks.check("there were never fewer pods for new sessions than wanted", all(count >= 2 for count in fewest.values()), fewest)
        # What happens to the last of them is to be seen, too.
        time.sleep(8)
        clients.uncut(checks, "no viewer noticed: a player with a normal buffer never stood still", viewers.done(), autoscale.HLS_GAP)
        report = publishers.done()
        whole = report["continuity"]["all"]
        good = report["live"] == PUBLISHERS and not report["failed"] and not whole["broken"] and not whole["errors"]
        checks.check("no publisher lost its connection without having been told before", good, clients.told(report))
        for problem in report["continuity"]["problems"]:
            checks.note(problem)
