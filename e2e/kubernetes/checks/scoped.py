"""The operator with rights in named namespaces only: it looks after these, and asks for nothing else."""

import time

from .. import demo
from ..procs import Failed, within

ELSEWHERE = "elsewhere"


def body(checks, sample):
    kubernetes = sample.kubernetes
    sample.ready()
    uids = sample.uids()
    kubernetes.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ELSEWHERE}}])
    try:
        demo.install(kubernetes, "--set", f"watchNamespaces={{{sample.namespace}}}")
        sample.operator_ready()
        bindings = kubernetes.json("get", "clusterrolebindings", "-l", f"app.kubernetes.io/instance={demo.RELEASE}")["items"]
        granted = [each["roleRef"]["name"] for each in bindings]
        checks.check("no right is granted in all namespaces, but for machines, which have none", granted == ["sluice-operator-machines"], granted)
        # The pod before asks with the rights that were taken away until it is gone.
        within(60, "one operator runs", lambda: len(operators(kubernetes)) == 1, every=0.5)
        mark = kubernetes.audit.mark()
        kubernetes.apply({"apiVersion": "sluice.dev/v1alpha1", "kind": "MediaCluster", "metadata": {"name": "foreign", "namespace": ELSEWHERE},
                          "spec": {"database": {"external": {"secret": {"name": "none"}}}}})

        def again():
            sample.kubectl("delete", "configmap", "demo-edge-config")
            within(40, "it is there again", lambda: sample.json("get", "configmap", "demo-edge-config"), every=0.3)
            sample.ready()
        checks.holds("what is deleted in its namespace is made again", again)
        time.sleep(5)
        foreign = kubernetes.json("get", "mediacluster", "foreign", "-n", ELSEWHERE)
        checks.check("a cluster elsewhere is left alone", "status" not in foreign)
        refused = kubernetes.audit.refused(sample.operator_user(), mark)
        checks.check("nothing is asked for that is not granted", not refused, refused[:3] or "")
        checks.check("no pod was replaced", sample.uids() == uids)
    finally:
        demo.install(kubernetes)
        sample.operator_ready()
        kubernetes.kubectl("delete", "namespace", ELSEWHERE, "--wait=false")

    checks.holds("with all namespaces again the cluster is Ready", sample.ready)


def operators(kubernetes):
    """Its pods, those that are on their way out too."""
    items = kubernetes.json("get", "pods", "-n", demo.OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=sluice-operator")["items"]
    if not items:
        raise Failed("no operator runs")
    return items
