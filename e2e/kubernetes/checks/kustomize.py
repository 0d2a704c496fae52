"""config/default in the place of the chart: the same operator, with rights enough, that takes a running cluster over."""

from .. import demo
from ..paths import ROOT
from ..procs import within

CONFIG = ROOT / "config"


def body(checks, sample):
    kubernetes = sample.kubernetes
    sample.ready()
    uids = sample.uids()

    def deployments():
        return kubernetes.json("get", "deployments", "-n", demo.OPERATOR_NAMESPACE)["items"]

    kubernetes.helm("uninstall", demo.RELEASE, "--namespace", demo.OPERATOR_NAMESPACE, "--wait")
    within(60, "the operator is gone", lambda: not deployments())
    try:
        def install():
            kubernetes.kubectl("apply", "--server-side", "--force-conflicts", "-k", CONFIG / "default")
            sample.operator_ready()
        checks.holds("kubectl apply -k config/default", install)

        def scales():
            sample.kubectl("scale", "epool", "demo-edge", "--replicas=3")
            within(60, "a third edge runs", lambda: sample.pool("demo-edge")["status"].get("readyReplicas") == 3, every=0.5)
            sample.kubectl("scale", "epool", "demo-edge", "--replicas=2")
            within(60, "two are left", lambda: len(sample.pods("demo-edge")) == 2, every=0.5)
            sample.ready()
        checks.holds("it makes and removes pods", scales)
        now = sample.uids()
        checks.check("no pod was replaced", {name: now.get(name) for name in uids} == uids, sorted(set(uids) ^ set(now)) or "")
    finally:
        # The namespace stays, with the operator's authority in it, and so do the definitions, with everybody's clusters.
        kubernetes.kubectl("delete", "--ignore-not-found", "-k", CONFIG / "rbac")
        for name in ("deployment", "service", "networkpolicy"):
            kubernetes.kubectl("delete", "--ignore-not-found", "-f", CONFIG / "manager" / f"{name}.yaml")
        within(60, "that operator is gone", lambda: not deployments())
        demo.install(kubernetes)
        sample.operator_ready()
    checks.holds("with the chart again the cluster is Ready", sample.ready)
