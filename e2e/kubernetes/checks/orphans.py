"""What the operator no longer wants goes; what looks like it and is somebody else's stays."""

from ..procs import Failed, within

NAME = "demo-leftover"
PORTS = [{"name": "http", "port": 80}]
# By whose owner reference: what an older operator, or a spec that has changed, could have left.
OF_THE_CLUSTER = {
    "Service": ("v1", {"spec": {"ports": PORTS}}),
    "ConfigMap": ("v1", {}),
    "ServiceAccount": ("v1", {}),
    "NetworkPolicy": ("networking.k8s.io/v1", {"spec": {"podSelector": {"matchLabels": {"nobody": "has-this"}}}}),
    "Ingress": ("networking.k8s.io/v1", {"spec": {"defaultBackend": {"service": {"name": NAME, "port": {"number": 80}}}}}),
}
OF_A_POOL = {
    "Service": ("v1", {"spec": {"ports": PORTS}}),
    "ConfigMap": ("v1", {}),
    "PodDisruptionBudget": ("policy/v1", {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"nobody": "has-this"}}}}),
    "PersistentVolumeClaim": ("v1", {"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "nobody-has-this",
                                              "resources": {"requests": {"storage": "1Gi"}}}}),
}


def leftover(kind, version, body, owner, pool=None, name=NAME):
    labels = {"app.kubernetes.io/name": "sluice-node", "app.kubernetes.io/instance": "demo", "app.kubernetes.io/managed-by": "sluice-operator",
              "sluice.dev/cluster": "demo", **({"sluice.dev/pool": pool} if pool else {})}
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
                 "controller": True, "blockOwnerDeletion": False}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels, "ownerReferences": [reference]}, **body}


def body(checks, sample):
    sample.ready()
    cluster, pool = sample.json("get", "mcl", "demo"), sample.pool("demo-edge")

    def gone(kind, name):
        if sample.json("get", kind, "--field-selector", f"metadata.name={name}")["items"]:
            raise Failed("it is still there")
        return True

    for owner, kinds, name in ((cluster, OF_THE_CLUSTER, None), (pool, OF_A_POOL, "demo-edge")):
        for kind, (version, content) in kinds.items():
            def goes(kind=kind, version=version, content=content, owner=owner, name=name):
                sample.kubernetes.apply(leftover(kind, version, content, owner, name), namespace=sample.namespace)
                within(30, "it is gone", lambda: gone(kind, NAME), every=0.3)
            checks.holds(f"a {kind} of the {owner['kind']} that it does not want goes", goes)

    # The same labels, no owner: a person's copy of something, say.
    copy = leftover("ConfigMap", "v1", {}, cluster, name="demo-copy")
    del copy["metadata"]["ownerReferences"]
    sample.kubernetes.apply(copy, namespace=sample.namespace)
    try:
        sample.kubernetes.apply(leftover("ConfigMap", "v1", {}, cluster), namespace=sample.namespace)
        within(30, "the leftover is gone", lambda: gone("ConfigMap", NAME), every=0.3)
        still = sample.json("get", "ConfigMap", "--field-selector", "metadata.name=demo-copy")["items"]
        checks.check("a ConfigMap that nobody of ours owns stays", len(still) == 1)
    finally:
        sample.kubectl("delete", "configmap", "demo-copy", "--ignore-not-found")
    sample.ready()
