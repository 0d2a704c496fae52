"""Helm: upgrade, uninstall and install again leave pods and streams alone."""

import time

from .. import demo
from ..procs import Failed, within
from . import sample as sampling

LEAVING = "leaving"


def body(checks, sample):
    kubernetes = sample.kubernetes
    sample.ready()
    publisher = sample.publish("release")
    watched = sample.watch("release")
    uids = sample.uids()
    definitions = {d["metadata"]["name"]: d["metadata"]["uid"] for d in kubernetes.json("get", "crds")["items"]
                   if d["spec"]["group"] == "sluice.dev"}

    kubernetes.apply(sampling.small(LEAVING), "--force-conflicts")
    checks.holds("another cluster runs beside it", lambda: within(90, "Ready", lambda: any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in kubernetes.json("get", "mcl", "small", "-n", LEAVING).get("status", {}).get("conditions", [])), every=0.5))

    def upgrade():
        demo.install(kubernetes, "--set", "podAnnotations.check=upgraded")
        sample.operator_ready()
        sample.ready()
    checks.holds("helm upgrade", upgrade)
    checks.check("no media pod was replaced by it", sample.uids() == uids)

    def uninstall():
        kubernetes.helm("uninstall", demo.RELEASE, "--namespace", demo.OPERATOR_NAMESPACE, "--wait")
        within(60, "the operator is gone", lambda: not kubernetes.json("get", "deployments", "-n", demo.OPERATOR_NAMESPACE)["items"])
    checks.holds("helm uninstall", uninstall)
    time.sleep(10)
    checks.check("pods run on without an operator", sample.uids() == uids)
    checks.check("the publisher goes on", publisher.running())
    left = {d["metadata"]["name"]: d["metadata"]["uid"] for d in kubernetes.json("get", "crds")["items"] if d["spec"]["group"] == "sluice.dev"}
    checks.check("the kinds and all objects of theirs are kept", left == definitions)

    kubernetes.kubectl("delete", "namespace", LEAVING, "--wait=false")

    def empty():
        status = kubernetes.json("get", "namespace", LEAVING)["status"]
        left = [c for c in status.get("conditions", []) if c["type"] == "NamespaceContentRemaining"]
        if not left or left[0]["status"] != "False" or kubernetes.json("get", "pods", "-n", LEAVING)["items"]:
            raise Failed(f"{left}")
        return True

    def gone():
        # Kubernetes looks again only after half of the longest grace period that it met, unless the namespace changes.
        kubernetes.kubectl("annotate", "namespace", LEAVING, "--overwrite", f"sluice.dev/nudge={time.time_ns()}", check=False)
        return not [n for n in kubernetes.json("get", "namespaces")["items"] if n["metadata"]["name"] == LEAVING]

    checks.holds("its namespace is emptied without an operator", lambda: within(60, "empty", empty, every=0.5))
    checks.holds("nothing keeps the namespace from going", lambda: within(30, "gone", gone, every=2))

    def install():
        demo.install(kubernetes)
        sample.ready()
    checks.holds("helm install takes the cluster over again", install)
    checks.check("no media pod was replaced by that either", sample.uids() == uids)
    checks.check("the publisher was never cut", publisher.running())
    sampling.undisturbed(checks, "the viewer never noticed", watched.done(), 3.5)
