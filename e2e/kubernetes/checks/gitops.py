"""Tools that apply again what they applied before find nothing to do: the operator writes no field of theirs."""

from .. import demo
from ..procs import Failed


def body(checks, sample):
    kubernetes = sample.kubernetes
    sample.ready()

    def same(*words, **more):
        done = kubernetes.kubectl("diff", *words, check=False, **more)
        if done.returncode != 0:
            raise Failed(f"exit {done.returncode}: {(done.stdout + done.stderr)[:600]}")

    checks.holds("the sample, by server-side apply", lambda: same("--server-side", "--force-conflicts", "-k", demo.SAMPLE))
    checks.holds("the sample, by client-side apply", lambda: same("-k", demo.SAMPLE))
    manifest = kubernetes.helm("get", "manifest", demo.RELEASE, "--namespace", demo.OPERATOR_NAMESPACE)
    # Helm's own name would ask for the labels that Helm adds after rendering.
    checks.holds("the release", lambda: same("--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-", text=manifest))
    for kind, name in (("mcl", demo.CLUSTER), ("opool", "demo-origin"), ("epool", "demo-edge")):
        item = sample.json("get", kind, name, "--show-managed-fields")
        ours = [m for m in item["metadata"]["managedFields"] if m["manager"].startswith("sluice-")]
        spec = [m["manager"] for m in ours if "f:spec" in m.get("fieldsV1", {})]
        checks.check(f"no field of the spec of {kind}/{name} is the operator's", ours and not spec, ", ".join(spec))
