"""Nodes and pods that only seem to run, by kwok: thousands of them, beside the real node.

Their pods have addresses in 10.200.0.0/16, all of which lead to this machine: a process that listens on 0.0.0.0 in the
cluster's network answers for all of them, and sees from its own address which pod was meant.
"""

from . import build, space
from .paths import BIN, CONTROL, SIMULATED_PODS, STATE
from .procs import Daemon, require, within

TAINT = "sluice.dev/simulated"


def start(kubernetes, count, capacity=None, labels=None, prefix="simulated"):
    """Adds `count` nodes. Pods come to them only when they tolerate the taint sluice.dev/simulated. Returns kwok's daemon.

    `capacity` adds to what each has to give: {"nvidia.com/mig-1g.10gb": "7"}.
    """
    stages = build.kwok()
    process = Daemon("kwok", space.inside([
        BIN / "kwok", "--config", stages, "--kubeconfig", STATE / "kubeconfigs" / "kwok", "--cidr", SIMULATED_PODS, "--node-ip", CONTROL,
        "--manage-all-nodes=false", "--manage-nodes-with-label-selector", f"{TAINT}=true",
        "--server-address", "127.0.0.1:10247", "--node-lease-duration-seconds=200"]))
    process.start()
    gives = {"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti", **(capacity or {})}
    names = [f"{prefix}-{number}" for number in range(count)]
    kubernetes.apply([{
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            TAINT: "true", "type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "kubernetes.io/role": "agent", **(labels or {})}},
        "spec": {"taints": [{"key": TAINT, "value": "true", "effect": "NoSchedule"}]},
        "status": {"capacity": gives, "allocatable": gives},
    } for name in names])

    def ready():
        listed = kubernetes.get(f"/api/v1/nodes?labelSelector={TAINT}%3Dtrue")["items"]
        good = {n["metadata"]["name"] for n in listed
                if any(c["type"] == "Ready" and c["status"] == "True" for c in n.get("status", {}).get("conditions", []))}
        return set(names) <= good

    require(process, 60 + count / 10, f"{count} simulated nodes are Ready", ready, every=0.3)
    if capacity:
        within(10, "the simulated nodes give what they were told to", lambda: all(
            key in kubernetes.get(f"/api/v1/nodes/{names[0]}")["status"]["allocatable"] for key in capacity))
    return process
