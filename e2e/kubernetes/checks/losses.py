"""What the number of pods follows is lost, and pods are taken away by others: nobody is cut, and nothing is removed unseen."""

import time

from ..procs import Failed, within
from . import autoscale, clients

# How long the operator, and with it the metrics, are away.
AWAY = 120


def body(checks, sample):
    with autoscale.metrics_api(sample), autoscale.changed(sample, "demo-edge", autoscale.scaled(4, viewersPerPod=10)):
        replicas = sample.operator()["spec"]["replicas"]
        publisher = sample.load_publishers("loss", 1)
        sample.plays("loss0")
        crowd = sample.load_players("crowd", 20, "loss0")
        autoscale.accepting(sample, "demo-edge", 2, 2 * autoscale.PATIENCE)
        stay = sample.load_players("stay", autoscale.STAY, "loss0")
        autoscale.counted(sample, "demo-edge", "viewers", 20 + autoscale.STAY)
        autoscale.accepting(sample, "demo-edge", 3, 2 * autoscale.PATIENCE)
        before = sample.uids()

        sample.scale_operator(0)
        try:
            clients.uncut(checks, "those who leave saw all of it", crowd.done(), autoscale.HLS_GAP)
            end = time.monotonic() + AWAY
            changes = []
            while time.monotonic() < end:
                if sample.uids() != before:
                    changes.append(sorted(sample.uids()))
                time.sleep(2)
            checks.check(f"operator and metrics away for {AWAY} s, most viewers gone: no pod was removed or added", not changes, changes[:3])
            hpa = sample.json("get", "hpa", "demo-edge")
            active = next((c for c in hpa["status"]["conditions"] if c["type"] == "ScalingActive"), {})
            checks.check("the autoscaler says that it knows nothing", active.get("status") == "False", active.get("message", "")[:160])
        finally:
            sample.scale_operator(replicas)

        def gone():
            left = sample.uids("demo-edge")
            if len(left) != 1:
                raise Failed(f"{', '.join(left)}: {autoscale.status(sample, 'demo-edge').get('metrics')}")
            return True
        checks.holds("they are back: now the pods go", lambda: within(120, "one edge", gone, every=0.5))

        only = sample.pods("demo-edge")[0]["metadata"]
        refused = sample.kubernetes.request("POST", f"/api/v1/namespaces/{sample.namespace}/pods/{only['name']}/eviction", {
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": only["name"], "namespace": sample.namespace}})
        checks.check("the eviction of a busy pod is refused", refused[0] == 429, refused[0])

        sample.kubectl("delete", "pod", only["name"], "--wait=false")
        def replaced():
            uids = sample.uids("demo-edge")
            ready = autoscale.status(sample, "demo-edge")["readyReplicas"]
            if only["uid"] in uids.values() or ready != 1:
                raise Failed(f"{', '.join(uids)}, {ready} ready")
            return True
        checks.holds("a pod that is deleted by hand is replaced", lambda: within(60, "replaced", replaced, every=0.3))

        def ended():
            items = sample.json("get", "pods", "-l", "sluice.dev/pool=demo-edge")["items"]
            return only["uid"] not in [item["metadata"]["uid"] for item in items]
        checks.holds("it ends when its viewers have moved", lambda: within(90, "it is gone", ended, every=0.5))
        time.sleep(5)
        clients.uncut(checks, "who watched all the time never noticed", stay.done(), autoscale.HLS_GAP)
        clients.uncut(checks, "nor did the publisher", publisher.done(), autoscale.RTMP_GAP)
