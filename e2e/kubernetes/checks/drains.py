"""Draining a pod with a stream: it is replaced for new sessions, keeps what it has, and goes when that has ended."""

import time

from ..procs import Failed, within
from . import sample as sampling

DRAIN = "sluice.dev/drain"


def body(checks, sample):
    sample.ready()
    publisher = sample.publish("drains")
    watched = sample.watch("drains")
    origin = next(p for p in sample.pods("demo-origin"))
    name = origin["metadata"]["name"]
    others = {pod: uid for pod, uid in sample.uids().items() if pod != name}
    sample.kubectl("annotate", "pod", name, f"{DRAIN}=")

    def draining():
        status = sample.pool("demo-origin")["status"]
        if status["draining"] != 1 or status["readyReplicas"] != 1:
            raise Failed(f"status: {status}")
        return status
    status = checks.holds("the pool has one pod draining and another one for new sessions", lambda: within(60, "draining", draining, every=0.5))
    said = [c["message"] for c in (status or {}).get("conditions", []) if name in c.get("message", "")]
    checks.check("the status names the pod it waits for", bool(said), said)
    labels = sample.json("get", "pod", name)["metadata"]["labels"]
    checks.check("it takes nothing new", labels.get("sluice.dev/accepting") == "false" and labels.get("sluice.dev/state") == "draining", labels)
    time.sleep(10)
    pod = sample.json("get", "pod", name)
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
    checks.check("it is there, and Ready, while its stream is", ready and "deletionTimestamp" not in pod["metadata"])
    checks.check("the publisher was not cut", publisher.running())
    refused = sample.kubernetes.request("POST", f"/api/v1/namespaces/{sample.namespace}/pods/{name}/eviction", {
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": sample.namespace}})
    checks.check("an eviction is refused while it has a stream", refused[0] == 429, refused[0])
    sampling.undisturbed(checks, "the viewer never noticed", watched.done(), 3.5)
    publisher.stop()
    checks.holds("when the stream has ended, it goes", lambda: within(60, "it is gone", lambda: name not in sample.uids(), every=0.5))
    checks.holds("the cluster is Ready", sample.ready)
    checks.check("no other pod was touched", all(sample.uids().get(pod) == uid for pod, uid in others.items()))
