"""What a user does to a whole cluster: replace its pods, pause it, stop it."""

import json
import time

from .. import demo
from ..procs import Failed, within


def _annotate(sample, kind, name, value):
    sample.kubectl("annotate", kind, name, "--overwrite", f"{demo.RESTARTED}={value}")


def _patch(sample, spec):
    sample.kubectl("patch", "mcl", "demo", "--type=merge", "-p", json.dumps({"spec": spec}))


def rollout(checks, sample):
    """New pods first, and no pod with a stream goes before the stream has ended."""
    sample.ready()
    publisher = sample.publish("rollout")
    origin = sample.pods("demo-origin")[0]["metadata"]
    before = sample.uids("demo-edge")
    fewest = [99]

    def edges_replaced():
        uids = sample.uids("demo-edge")
        status = sample.pool("demo-edge")["status"]
        fewest[0] = min(fewest[0], status["readyReplicas"])
        if set(uids.values()) & set(before.values()) or status["readyReplicas"] != len(before) or status["draining"]:
            raise Failed(f"{uids}, {status['readyReplicas']} ready, {status['draining']} draining")
        return True

    _annotate(sample, "epool", "demo-edge", time.time_ns())
    checks.holds("every edge is replaced", lambda: within(120, "new edges", edges_replaced, every=0.2))
    checks.check("there were never fewer ready edges than wanted", fewest[0] >= len(before), fewest[0])
    checks.check("the publisher was not cut", publisher.running())

    _annotate(sample, "opool", "demo-origin", time.time_ns())

    def beside():
        status = sample.pool("demo-origin")["status"]
        if status["draining"] != 1 or status["readyReplicas"] != 1:
            raise Failed(f"{status['readyReplicas']} ready, {status['draining']} draining")
        return True
    checks.holds("a new origin stands beside the one with the stream", lambda: within(60, "new origin", beside, every=0.3))
    time.sleep(5)
    checks.check("that one is still there", sample.uids().get(origin["name"]) == origin["uid"])
    checks.check("the publisher was not cut by that either", publisher.running())
    publisher.stop()
    checks.holds("without its stream it goes", lambda: within(60, "gone", lambda: sample.uids().get(origin["name"]) != origin["uid"], every=0.3))
    checks.holds("the cluster is Ready", sample.ready)


def pauses(checks, sample):
    """Paused, nothing is put right; not any more, all of it."""
    sample.ready()
    _patch(sample, {"paused": True})
    try:
        def phase():
            found = sample.json("get", "mcl", "demo")["status"]
            if found["phase"] != "Paused":
                raise Failed(f"the phase is {found['phase']}")
            return True
        checks.holds("the phase says Paused", lambda: within(20, "Paused", phase, every=0.3))
        time.sleep(1)
        sample.kubectl("delete", "service", "demo-edge-media")
        time.sleep(8)
        checks.check("what is deleted stays away", ("services", "demo-edge-media") not in sample.owned())
    finally:
        _patch(sample, {"paused": None})
    checks.holds("then it is made again", lambda: within(20, "Service", lambda: ("services", "demo-edge-media") in sample.owned(), every=0.3))
    checks.holds("the cluster is Ready", sample.ready)


def stops(checks, sample):
    """Stopped, no pod is left, but all that keeps its place."""
    sample.ready()
    kept = sample.owned()
    _patch(sample, {"stopped": True})
    try:
        checks.holds("all pods go", lambda: within(90, "no pod", lambda: not sample.pods(), every=0.5))

        def phase():
            found = sample.json("get", "mcl", "demo")["status"]
            if found["phase"] != "Stopped":
                raise Failed(f"the phase is {found['phase']}")
            return True
        checks.holds("the phase says Stopped", lambda: within(20, "Stopped", phase, every=0.3))
        checks.check("Services, Secrets and the rest stay as they are", sample.owned() == kept)
    finally:
        _patch(sample, {"stopped": None})
    checks.holds("then the cluster is Ready again", sample.ready)
