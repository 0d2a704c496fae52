"""Machines that are emptied, and machines that are lost, with a second real kubelet: whatever can be kept is kept."""

import subprocess
import time

from ..paths import BIN, KUBECONFIG
from ..procs import Failed, within
from . import sample as sampling

LONGEST_GAP = 3.5
OURS = "sluice.dev/cluster=demo"


def body(checks, sample):
    sample.settled()
    kubernetes = sample.kubernetes
    second = kubernetes.add_node(2)
    if labelled(sample, "demo-origin", "accepting") != {"node1"}:
        raise Failed("the origin is expected on the first machine")
    try:
        emptied(checks, sample)
        deleted(checks, sample)
        lost(checks, sample, second)
    finally:
        kubernetes.kubectl("uncordon", "node1")
        sample.kubectl("scale", "originpools.sluice.dev/demo-origin", "--replicas=1")
        # What comes after has one machine again.
        if second.kubelet.running():
            kubernetes.kubectl("cordon", "node2")
    checks.holds("the cluster is Ready", lambda: sample.settled(150))


# --- what is seen

def machine(pod):
    return pod["spec"].get("nodeName", "")


def label(pod, name):
    return pod["metadata"]["labels"].get(f"sluice.dev/{name}") == "true"


def ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def takes(pod):
    return ready(pod) and label(pod, "accepting")


def labelled(sample, pool, name):
    """The machines of the pool's pods with a label."""
    return {machine(pod) for pod in sample.pods(pool) if label(pod, name)}


def told(sample, pool, name):
    """What the pool's status says of a pod."""
    return next((pod for pod in sample.pool(pool)["status"].get("pods", []) if pod["name"] == name), None)


def evict(sample, name):
    return sample.kubernetes.request("POST", f"/api/v1/namespaces/{sample.namespace}/pods/{name}/eviction", {
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": sample.namespace}})[0]


# --- a machine is emptied

def emptied(checks, sample):
    kubernetes = sample.kubernetes
    publisher = sample.publish("machines")
    watched = sample.watch("machines")
    origin = sample.pods("demo-origin")[0]["metadata"]["name"]
    checks.check("a pod that takes sessions may not be evicted", evict(sample, sample.pods("demo-edge")[0]["metadata"]["name"]) == 429)
    kubernetes.kubectl("cordon", "node1")
    fewest = {pool: [] for pool in ("demo-origin", "demo-edge")}

    def elsewhere():
        for pool, seen in fewest.items():
            seen.append(sum(takes(pod) for pod in sample.pods(pool)))
        where = {pool: {machine(pod) for pod in sample.pods(pool) if takes(pod)} for pool in fewest}
        if any(each != {"node2"} for each in where.values()):
            raise Failed(f"new sessions go to {where}")
        return True
    checks.holds("after a cordon other machines' pods take its place", lambda: within(60, "others", elsewhere, every=0.3))
    checks.check("and take sessions before the old ones stop to", min(fewest["demo-origin"]) >= 1 and min(fewest["demo-edge"]) >= 2, fewest)
    old = sample.json("get", "pod", origin)["metadata"]
    checks.check("the origin drains because of its machine", old["annotations"].get("sluice.dev/drain-reason") == "Machine", old["annotations"])
    checks.check("machine autoscalers are told to leave it alone",
                 old["annotations"].get("cluster-autoscaler.kubernetes.io/safe-to-evict") == "false"
                 and old["annotations"].get("karpenter.sh/do-not-disrupt") == "true", old["annotations"])
    drain = subprocess.Popen(kubernetes.inside([
        BIN / "kubectl", "--kubeconfig", KUBECONFIG, "drain", "node1", "--ignore-daemonsets", "--delete-emptydir-data", f"--pod-selector={OURS}"]),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(8)
        checks.check("kubectl drain waits for the publisher", drain.poll() is None and publisher.running())
        checks.check("an eviction of its pod is refused", evict(sample, origin) == 429)
        sampling.undisturbed(checks, "the viewer never noticed", watched.done(), LONGEST_GAP)
        publisher.stop()

        def through():
            if drain.poll() is None:
                raise Failed("it waits")
            return True
        checks.holds("kubectl drain ends when the publisher has", lambda: within(60, "it ends", through, every=0.3))
        checks.check("without a complaint", drain.returncode == 0, drain.stderr.read()[-500:] if drain.returncode else "")
    finally:
        if drain.poll() is None:
            drain.terminate()
    left = [pod["metadata"]["name"] for pod in sample.pods() if machine(pod) == "node1"]
    checks.check("none of our pods is left there", not left, left)
    kubernetes.kubectl("uncordon", "node1")


# --- a pod is deleted by hand

def deleted(checks, sample):
    sample.settled()
    publisher = sample.publish("deleted")
    origin = sample.pods("demo-origin")[0]["metadata"]["name"]
    sample.kubectl("delete", "pod", origin, "--wait=false")

    def replaced():
        pod = sample.json("get", "pod", origin)
        if label(pod, "accepting"):
            raise Failed("it is in its Service still")
        if not any(takes(other) for other in sample.pods("demo-origin")):
            raise Failed("there is no other yet")
        return pod
    checks.holds("a deleted pod leaves its Service, and is replaced", lambda: within(40, "another", replaced, every=0.3))

    def explained():
        pod = told(sample, "demo-origin", origin)
        if not pod or pod["state"] != "Terminating" or "1 publisher" not in pod.get("message", "") or not pod.get("deadline"):
            raise Failed(pod)
        return True
    checks.holds("the status says what it waits for, and until when", lambda: within(20, "told", explained, every=0.5))
    time.sleep(10)
    checks.check("its publisher is not cut", publisher.running())
    publisher.stop()

    def gone():
        items = sample.json("get", "pods", "-l", OURS)["items"]
        return origin not in [pod["metadata"]["name"] for pod in items]
    checks.holds("it ends when the publisher has", lambda: within(40, "gone", gone, every=0.5))


# --- a machine is lost

def lost(checks, sample, second):
    sample.kubectl("scale", "originpools.sluice.dev/demo-origin", "--replicas=2")

    def spread():
        found = {pool: {machine(pod): pod for pod in sample.pods(pool) if takes(pod)} for pool in ("demo-origin", "demo-edge")}
        if set(found["demo-origin"]) != {"node1", "node2"}:
            raise Failed(f"origins are on {sorted(found['demo-origin'])}")
        return found
    # Pods stay where they are when a machine comes back: with two it is by chance where the edges are.
    sample.kubectl("delete", "pods", "-l", f"{OURS},sluice.dev/pool=demo-edge", "--wait=false")
    within(60, "an origin on each machine", spread, every=0.5)
    sample.settled()
    found = spread()
    edges = [pod for pod in sample.pods("demo-edge") if machine(pod) == "node1"]
    if not edges:
        raise Failed("no edge is on the first machine")
    victims = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in sample.pods() if machine(pod) == "node2"}
    publisher = sample.publish("lost", found["demo-origin"]["node2"])
    watched = sample.watch("lost", edges[0])
    began = time.monotonic()
    second.die()
    # An encoder notices by its own timeout, and comes back by the address that it knows.
    time.sleep(3)
    publisher.child.kill()

    def comes_back():
        # The Service may send it to the lost pod for some seconds still: like any encoder, it tries again.
        if not sample.publishers[-1].running():
            sample.publishers.append(sampling.Publisher("lost", sample.address("demo-origin")))
        if time.monotonic() - watched.seen.moved > 1.5 or watched.seen.longest_gap < 1:
            raise Failed("the viewer does not see it again yet")
        return sample.publishers[-1]
    again = checks.holds("a publisher that comes back plays again at another origin, and the viewer sees it",
                         lambda: within(30, "it plays again", comes_back, every=0.3))
    back = time.monotonic() - began
    seen = watched.done()
    checks.check("its stream was freed long before Kubernetes noticed", back < 30 and seen.longest_gap < 30 and not seen.falls,
                 f"back after {back:.1f} s, the viewer's longest gap {seen.longest_gap:.1f} s, {seen.failures} failures, {len(seen.falls)} steps back")

    def left():
        for name, uid in victims.items():
            pod = sample.json("get", "pod", name)
            if pod["metadata"]["uid"] == uid and label(pod, "accepting"):
                raise Failed(f"{name} is in its Service still")
        return True
    checks.holds("nobody new is sent to its pods", lambda: within(20, "out of their Services", left, every=0.3))

    def silent():
        conditions = sample.kubernetes.json("get", "node", "node2")["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] != "True" for c in conditions)
    within(90, "Kubernetes notices", silent, every=0.3)

    def replaced():
        here = {pool: sum(takes(pod) for pod in sample.pods(pool) if machine(pod) == "node1") for pool in ("demo-origin", "demo-edge")}
        if here != {"demo-origin": 2, "demo-edge": 2}:
            raise Failed(f"on the first machine: {here}")
        return True
    checks.holds("then its pods are replaced at once", lambda: within(30, "replaced", replaced, every=0.3))
    kept = {pod["metadata"]["name"]: pod for pod in sample.pods() if pod["metadata"]["uid"] in victims.values()}
    checks.check("what may still run is not deleted", set(kept) == set(victims), sorted(kept))

    def evictable():
        held = [name for name, pod in kept.items() if label(sample.json("get", "pod", name), "busy")]
        if held:
            raise Failed(f"{', '.join(held)} would hold up kubectl drain")
        return True
    checks.holds("and does not hold up kubectl drain", lambda: within(20, "evictable", evictable, every=0.5))
    sample.kubernetes.kubectl("delete", "node", "node2")

    def removed():
        uids = {pod["metadata"]["uid"] for pod in sample.json("get", "pods", "-l", OURS)["items"]}
        if uids & set(victims.values()):
            raise Failed("they are there")
        return True
    checks.holds("when Kubernetes has the machine no more, its pods are removed", lambda: within(20, "removed", removed, every=0.3))
    if again:
        checks.check("the publisher that came back was not cut by any of it", again.running())
        again.stop()
    second.revive()
    sample.kubernetes.wait_node(second)
