"""Pools with GPUs: what the scheduler misses is in the status; with a (simulated) device the pod runs and has it."""

from ..procs import Failed, within

POOL = "gpu-origin"


def pool(resource="nvidia.com/gpu"):
    return {
        "apiVersion": "sluice.dev/v1alpha1", "kind": "OriginPool", "metadata": {"name": POOL, "namespace": "media"},
        "spec": {"clusterRef": {"name": "demo"}, "replicas": 1,
                 "gpu": {"mode": "ExtendedResource", "resourceName": resource, "count": 1, "runtimeClassName": "nvidia"},
                 "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
    }


def body(checks, sample):
    kubernetes = sample.kubernetes
    device = kubernetes.daemon("device-plugin-node1-nvidia.com-gpu")
    device.kill()
    within(30, "the node has no GPU", lambda: kubernetes.json("get", "node", "node1")["status"]["allocatable"].get("nvidia.com/gpu", "0") == "0")
    kubernetes.apply(pool(), "--force-conflicts")
    try:
        def says():
            status = kubernetes.json("get", "originpools.sluice.dev", POOL, "-n", sample.namespace).get("status", {})
            texts = [c.get("message", "") for c in status.get("conditions", [])]
            found = next((t for t in texts if "nvidia.com/gpu" in t and POOL in t), None)
            if not found:
                raise Failed(f"the conditions say: {texts}")
            return found
        said = checks.holds("a pool that cannot be scheduled says so, with the scheduler's reason", lambda: within(30, "it says so", says, every=0.5))
        checks.note(said or "")
        kubernetes.node(1).device_plugin(1)

        def ready():
            status = kubernetes.json("get", "originpools.sluice.dev", POOL, "-n", sample.namespace).get("status", {})
            return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        checks.holds("with a device on the node it becomes Ready", lambda: within(60, "Ready", ready, every=0.5))
        pod = kubernetes.json("get", "pods", "-n", sample.namespace, "-l", f"sluice.dev/pool={POOL}")["items"][0]
        env = kubernetes.kubectl("exec", "-n", sample.namespace, pod["metadata"]["name"], "-c", "node", "--", "env")
        capabilities = next((line for line in env.splitlines() if line.startswith("NVIDIA_DRIVER_CAPABILITIES=")), "")
        checks.check("the container may use the video parts of the driver", "video" in capabilities, capabilities)
        checks.check("the container has the device", "NVIDIA_VISIBLE_DEVICES=simulated-" in env)
    finally:
        kubernetes.kubectl("delete", "originpool", POOL, "-n", sample.namespace, "--wait=false", check=False)
        device.kill()
