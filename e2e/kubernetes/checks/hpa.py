"""A pool that follows its load: the autoscaler is the operator's, limits and floors hold, and it goes with the spec."""

import json
import time

from ..procs import Failed, within

POOL = "demo-edge"
# Quick, so that nobody waits: docs/autoscaling.md says how. The CPU target is one that nothing here reaches.
AUTOSCALING = {"min": 2, "max": 3, "cpuPercent": 1000, "behavior": {"scaleDown": {
    "stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}]}}}
# It began this minute, and does not end before New Year.
ALWAYS = {"start": "* * * * *", "end": "0 0 1 1 *", "timeZone": "Europe/Berlin", "min": 3}


def condition(thing, kind):
    found = [c for c in (thing.get("status") or {}).get("conditions", []) if c["type"] == kind]
    return found[0] if found else {}


def body(checks, sample):
    sample.ready()
    publisher = sample.publish("hpa")

    def write(spec):
        sample.kubectl("patch", "epool", POOL, "--type=merge", "-p", json.dumps({"spec": spec}))

    def autoscalers():
        return {h["metadata"]["name"]: h for h in sample.json("get", "hpa", "-l", f"sluice.dev/pool={POOL}")["items"]}

    def limited(reason, words=""):
        def there():
            said = condition(sample.pool(POOL), "ScalingLimited")
            if said.get("reason") != reason or words not in said.get("message", ""):
                raise Failed(f"ScalingLimited: {said}")
            return said
        return there

    def edges(count, seconds=90):
        def there():
            pods, status = sample.pods(POOL), sample.pool(POOL)["status"]
            if len(pods) != count or status.get("readyReplicas") != count:
                raise Failed(f"{len(pods)} pods, status {status}")
            return status
        return lambda: within(seconds, f"{count} edges", there, every=0.5)

    def known():
        hpa, pool = autoscalers()[POOL], sample.pool(POOL)
        active, available = condition(hpa, "ScalingActive"), condition(pool, "MetricsAvailable")
        if active.get("status") != "True" or available.get("status") != "True":
            raise Failed(f"{active} {available}")
        return pool["status"].get("metrics", "")

    try:
        write({"autoscaling": AUTOSCALING})
        found = checks.holds("the pool has an autoscaler", lambda: within(30, "it is there", lambda: autoscalers()[POOL], every=0.3))
        target = (found or {}).get("spec", {}).get("scaleTargetRef")
        checks.check("it scales the pool", target == {"apiVersion": "sluice.dev/v1alpha1", "kind": "EdgePool", "name": POOL}, target)
        metrics = checks.holds("it knows the CPU of the pods, and the pool says so", lambda: within(120, "known", known, every=1))
        checks.check("the value stands beside its target", (metrics or "").startswith("cpu ") and metrics.endswith("%/1000%"), metrics)

        most = 0

        def too_many():
            # Kubernetes takes it back within seconds: it is written until it was seen.
            write({"replicas": 900})
            return within(1, "AtMaximum", limited("AtMaximum", "900 pods are asked for"), every=0.05)
        checks.holds("900 is too many, and the pool says so", lambda: within(30, "AtMaximum", too_many, every=0.1))
        until = time.monotonic() + 10
        while time.monotonic() < until:
            most = max(most, len(sample.pods(POOL)))
        checks.check("there were never more than autoscaling.max", most <= 3, most)
        checks.holds("Kubernetes brings it back, and without load down to autoscaling.min",
                     lambda: within(90, "2", lambda: sample.pool(POOL)["spec"]["replicas"] == 2, every=0.5))
        checks.holds("two edges are left", edges(2))

        write({"autoscaling": {"schedules": [ALWAYS]}})
        checks.holds("a schedule has three", edges(3))
        checks.holds("and the pool says why", lambda: within(20, "Schedule", limited("Schedule", "schedules[0]"), every=0.5))
        time.sleep(12)
        pool = sample.pool(POOL)
        seen = (pool["spec"]["replicas"], pool["status"]["replicas"], pool["status"]["desiredReplicas"])
        checks.check("the autoscaler does not take the floor for its own wish", seen == (2, 2, 3), seen)
        write({"autoscaling": {"schedules": None}})
        checks.holds("without the schedule there are two", edges(2))

        write({"autoscaling": None, "replicas": 3})
        checks.holds("without autoscaling there is no autoscaler", lambda: within(30, "it is gone", lambda: not autoscalers(), every=0.3))
        checks.holds("and replicas are what is written", edges(3))
        kinds = [c["type"] for c in sample.pool(POOL)["status"]["conditions"]]
        checks.check("nothing of it is left in the status", not {"ScalingLimited", "MetricsAvailable"} & set(kinds), kinds)
        checks.check("the publisher was never cut", publisher.running())
        said = [e["message"] for e in sample.json("get", "events", "--field-selector", f"involvedObject.name={POOL}")["items"]
                if e.get("reason") in ("ScaledOut", "ScaledIn")]
        checks.check("each decision is an event", any("2 to 3 pods" in text for text in said) and any("3 to 2 pods" in text for text in said), said)
    finally:
        write({"autoscaling": None, "replicas": 2})
        checks.holds("two edges again", edges(2))
