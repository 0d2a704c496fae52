"""Whatever is deleted or killed comes back, and a stream on pods that were not touched never notices."""

import time

from ..procs import Failed, within
from . import sample as sampling

# When the operator dies, counted from the deletion that it has to answer: in each step of a reconcile, whichever it is.
MOMENTS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
LONGEST_GAP = 3.5


def body(checks, sample):
    sample.ready()
    publisher = sample.publish("heals")
    edges = sample.pods("demo-edge")
    if len(edges) < 2:
        raise Failed(f"two edges are needed, there are {len(edges)}")
    kept, other = edges[0], edges[1]
    watched = sample.watch("heals", kept)
    untouched = {name: uid for name, uid in sample.uids().items() if name != other["metadata"]["name"]}
    before = sample.owned()
    checks.check("the operator made objects beside pods", len(before) >= 8, ", ".join(f"{k}/{n}" for k, n in sorted(before)))

    for kind, name in sorted(before):
        def again(kind=kind, name=name):
            sample.kubectl("delete", kind, name, "--wait=false")
            def there():
                uid = sample.owned().get((kind, name))
                return uid is not None and uid != before[(kind, name)]
            within(30, "it is there again", there, every=0.3)
        checks.holds(f"{kind}/{name} is made again", again)
    checks.holds("the cluster is Ready after that", sample.ready)

    def pod_again():
        sample.kubectl("delete", "pod", other["metadata"]["name"], "--grace-period=0", "--force")

        def replaced():
            uids = set(sample.uids("demo-edge").values())
            return len(uids) == len(edges) and other["metadata"]["uid"] not in uids
        within(60, "there is another one", replaced, every=0.3)
        sample.ready()
    checks.holds("an edge that was deleted by force is replaced", pod_again)

    def since():
        """Since when all of it is Ready."""
        items = sample.json("get", "mcl,opool,epool")["items"]
        return {i["metadata"]["name"]: next(c["lastTransitionTime"] for c in i["status"]["conditions"] if c["type"] == "Ready") for i in items}

    sample.ready()
    earlier = since()
    sample.kill_operator()
    sample.operator_ready()
    # Its lease lasts 15 s.
    time.sleep(25)
    checks.check("another operator that takes over finds all as Ready as it was", since() == earlier, f"{earlier}, then {since()}")

    before = sample.owned()
    names = sorted(before)
    for index, moment in enumerate(MOMENTS):
        kind, name = names[index % len(names)]
        def killed(kind=kind, name=name, moment=moment):
            sample.kubectl("delete", kind, name, "--wait=false")
            time.sleep(moment)
            sample.kill_operator()
            sample.operator_ready()
            sample.whole(before)
            sample.ready()
        checks.holds(f"operator killed {moment} s after {kind}/{name} was deleted", killed)

    def api():
        sample.kubernetes.restart_api()
        kind, name = names[0]
        sample.kubectl("delete", kind, name, "--wait=false")
        sample.whole(before)
        sample.ready()
    checks.holds("API server killed and started again", api)

    after = {name: uid for name, uid in sample.uids().items() if name in untouched}
    checks.check("pods that nobody deleted are the same ones", after == untouched)
    checks.check("the publisher was never cut", publisher.running())
    sampling.undisturbed(checks, "the viewer of the other edge never noticed", watched.done(), LONGEST_GAP)


def memory_lost(checks, sample):
    """The cluster key while the operator is down: nobody may make another one silently."""
    untouched = sample.uids()
    key = next((name for kind, name in sample.owned() if kind == "secrets" and "key" in name), None)
    if key is None:
        raise Failed("there is no Secret with the cluster key")
    kept = sample.json("get", "secret", key)
    sample.scale_operator(0)
    sample.kubectl("delete", "secret", key)
    sample.scale_operator(1)

    def degraded():
        condition = next((c for c in sample.json("get", "mediaclusters.sluice.dev", "demo")["status"]["conditions"] if c["type"] == "Degraded"), None)
        return condition["message"] if condition and condition["status"] == "True" else None
    said = checks.holds("without its key and with a new operator the cluster is Degraded", lambda: within(40, "Degraded", degraded, every=0.5))
    checks.note(said or "")
    for field in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
        kept["metadata"].pop(field, None)
    sample.kubernetes.apply(kept, "--force-conflicts", namespace=sample.namespace, manager="restore")
    checks.holds("with the key put back it is Ready", sample.ready)
    checks.check("no pod was replaced meanwhile", sample.uids() == untouched)
