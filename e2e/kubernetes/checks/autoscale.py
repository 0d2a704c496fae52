"""Load brings pods, and its end takes them away, by the real HorizontalPodAutoscaler and the operator's metrics; whoever watches or
publishes all the time never notices."""

import contextlib
import datetime
import json
import time

from .. import demo
from ..procs import Failed, within
from . import clients

# From crossing the target until the pods that it asks for take sessions.
PATIENCE = 60
# The only thing that is faster than by default.
BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": 15, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 10}]}}
# Viewers that stay. A player asks for sound and pictures over a connection each; two edges that get one each count it both.
STAY = 5
# Segments have 2 s and are asked for every 2 s; a player has three of them.
HLS_GAP = 6.0
RTMP_GAP = 3.0


@contextlib.contextmanager
def metrics_api(sample):
    """The operator serves the metrics API."""
    demo.install(sample.kubernetes, "--set", "metricsApi.enabled=true")
    try:
        sample.operator_ready()
        within(60, "the metrics API is available", lambda: sample.kubernetes.available("v1beta2.custom.metrics.k8s.io"), every=0.5)
        yield
    finally:
        demo.install(sample.kubernetes)


@contextlib.contextmanager
def changed(sample, pool, spec):
    """The pool has these fields meanwhile. Begins and ends with a cluster at rest."""
    def patch(fields):
        sample.kubectl("patch", demo.POOLS[pool], pool, "--type=merge", "-p", json.dumps({"spec": fields}))
    patch(spec)
    try:
        sample.settled()
        yield
    finally:
        patch({field: None for field in spec if field != "replicas"})
        demo.sample(sample.kubernetes)
        sample.settled()


def scaled(most, **target):
    """Fields of a pool that follows its load, from one pod on."""
    return {"replicas": 1, "autoscaling": {"min": 1, "max": most, "behavior": BEHAVIOR, **target}}


def status(sample, pool):
    return sample.pool(pool)["status"]


def accepting(sample, pool, count, seconds):
    """Waits until so many pods take sessions."""
    def there():
        found = status(sample, pool)
        if found["readyReplicas"] != count:
            raise Failed(f"{found['readyReplicas']} of {found['desiredReplicas']} wanted, {found.get('metrics', 'no metrics')}")
        return True
    return within(seconds, f"{count} pods of {pool} take sessions", there, every=0.3)


def left(sample, pool, count, seconds):
    """Waits until there are so many pods, and none that drains."""
    def there():
        found, pods = status(sample, pool), [p["metadata"]["name"] for p in sample.pods(pool)]
        if len(pods) != count or found["draining"] or found["readyReplicas"] != count:
            raise Failed(f"{', '.join(pods)}; {found['draining']} draining; {found.get('metrics', 'no metrics')}; {found.get('message', '')}")
        return True
    return within(seconds, f"{count} pods of {pool} are left", there, every=0.5)


def counted(sample, pool, field, count, seconds=30):
    def there():
        found = status(sample, pool).get(field, 0)
        if found < count:
            raise Failed(f"{field} is {found}")
        return True
    within(seconds, f"{pool} counts {count} {field}", there, every=0.3)


def edges(checks, sample):
    with metrics_api(sample), changed(sample, "demo-edge", scaled(4, viewersPerPod=10)):
        left(sample, "demo-edge", 1, 90)
        publisher = sample.load_publishers("live", 1)
        sample.plays("live0")
        early = sample.load_players("early", 2, "live0")
        counted(sample, "demo-edge", "viewers", 2)
        begin = time.monotonic()
        crowd = sample.load_players("crowd", 40, "live0")
        if checks.holds("40 viewers more than 10 a pod: four edges", lambda: accepting(sample, "demo-edge", 4, 2 * PATIENCE)):
            took = time.monotonic() - begin
            checks.check(f"that took less than {PATIENCE} s from the first of them", took < PATIENCE, f"{took:.1f} s")
        # These are spread over the edges, and so most of them have to move when edges go.
        late = sample.load_players("late", STAY - 2, "live0")
        counted(sample, "demo-edge", "viewers", 40 + STAY)
        time.sleep(5)
        clients.uncut(checks, "the crowd saw all of it", crowd.done(), HLS_GAP)
        begin = time.monotonic()
        if checks.holds("the crowd has gone: one edge", lambda: left(sample, "demo-edge", 1, 150)):
            checks.note(f"after {time.monotonic() - begin:.0f} s")
        time.sleep(5)
        clients.uncut(checks, "who watched from the beginning never noticed", early.done(), HLS_GAP)
        clients.uncut(checks, "nor who came when there were four", late.done(), HLS_GAP)
        clients.uncut(checks, "the publisher never noticed", publisher.done(), RTMP_GAP)


def _said(pod, annotation):
    """A time that the operator wrote on a pod."""
    text = pod["metadata"].get("annotations", {}).get(f"sluice.dev/{annotation}")
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None


def origins(checks, sample):
    deadline = 60
    spec = {**scaled(3, streamsPerPod=2), "drain": {"deadline": f"{deadline}s"}}
    with metrics_api(sample), changed(sample, "demo-origin", spec):
        left(sample, "demo-origin", 1, 90)
        before = sample.uids("demo-origin")
        stay = sample.load_publishers("stay", 1)
        sample.plays("stay0")
        viewers = sample.load_players("viewers", 2, "stay0")

        begin = time.monotonic()
        crowd = sample.load_publishers("crowd", 5)
        if checks.holds("6 streams, 2 a pod: three origins", lambda: accepting(sample, "demo-origin", 3, 2 * PATIENCE)):
            took = time.monotonic() - begin
            checks.check(f"that took less than {PATIENCE} s from the first of them", took < PATIENCE, f"{took:.1f} s")
        added = [pod for pod in sample.pods("demo-origin") if pod["metadata"]["name"] not in before]
        if len(added) != 2:
            raise Failed(f"{len(added)} new origins")
        busy, empty = added
        late = clients.Clients("late", "ingest", f"rtmp://{busy['status']['podIP']}/LiveApp/late{{n}}", 1, "--kbps", 60)
        sample.clients.append(late)
        counted(sample, "demo-origin", "streams", 7)
        clients.uncut(checks, "who published meanwhile did so without a break", crowd.done(), RTMP_GAP)

        name, uid = busy["metadata"]["name"], busy["metadata"]["uid"]

        def one_less():
            uids = sample.uids("demo-origin")
            if empty["metadata"]["name"] in uids:
                raise Failed(f"{', '.join(uids)}")
            return uids
        uids = checks.holds("the crowd has gone: the empty origin goes first", lambda: within(90, "it is gone", one_less, every=0.3))
        checks.check("those with a stream are there", uids is not None and uids.get(name) == uid and before.items() <= uids.items(), uids)

        def draining():
            found = status(sample, "demo-origin")
            text = found.get("waitingFor", "")
            if found["draining"] != 1 or name not in text:
                raise Failed(f"{found['draining']} draining, waiting for {text!r}")
            return text
        said = checks.holds("then the emptier one of both drains", lambda: within(60, "draining", draining, every=0.3))
        shown = sample.kubectl("get", "opool", "demo-origin")
        for line in shown.splitlines():
            checks.note(line)
        seen = said is not None and "publisher" in said and "until" in said and name in shown
        checks.check("kubectl get shows what it waits for, and until when", seen, said)

        spike = sample.load_publishers("spike", 5)

        def taken_back():
            pod = sample.json("get", "pod", name)
            labels = pod["metadata"]["labels"]
            if pod["metadata"]["uid"] != uid:
                raise Failed("it was replaced")
            if labels.get("sluice.dev/accepting") != "true" or labels.get("sluice.dev/state") != "active":
                raise Failed(f"{labels}")
            return True
        checks.holds("a spike takes it back", lambda: within(45, "taken back", taken_back, every=0.3))
        clients.uncut(checks, "the spike was served", spike.done(), RTMP_GAP)

        def ends():
            return _said(sample.json("get", "pod", name), "drain-deadline")
        until = checks.holds("the spike has gone: it drains again", lambda: within(90, "draining", ends, every=0.3))
        if until:
            time.sleep(max(0.0, until - 3 - time.time()))
            checks.check("it is there up to the deadline", sample.uids("demo-origin").get(name) == uid)
            checks.holds("then it goes", lambda: within(40, "gone", lambda: sample.uids("demo-origin").get(name) != uid, every=0.3))
            checks.note(f"{time.time() - until:.1f} s after the deadline")

            def ended():
                items = sample.json("get", "pods", "-l", "sluice.dev/pool=demo-origin")["items"]
                return all(item["metadata"]["uid"] != uid for item in items)
            checks.holds("its node ends within its grace", lambda: within(40, "its pod is no more", ended, every=0.3))
        report = late.done()
        whole = report["continuity"]["all"]
        checks.check("its publisher was told that its stream ends", (whole["told"], whole["broken"]) == (1, 0), clients.told(report))
        checks.holds("one origin is left", lambda: left(sample, "demo-origin", 1, 60))
        clients.uncut(checks, "who published from the beginning never noticed", stay.done(), RTMP_GAP)
        clients.uncut(checks, "nor did those who watched", viewers.done(), HLS_GAP)
