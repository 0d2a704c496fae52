"""Kinds that not every cluster has: cert-manager's, the Prometheus operator's, all routes of the Gateway API, volumes.

Their definitions are the real ones, so the API server checks what is written; nobody acts on them here but the operator.
"""

import json
import tempfile
from pathlib import Path

from ..procs import Failed, run, within

NAMESPACE = "optional"
CLUSTER = "full"
HOST, PUBLISH = "watch.example.com", "publish.example.com"
MADE = ("certificates.cert-manager.io", "servicemonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com",
        *(f"{kind}.gateway.networking.k8s.io" for kind in ("httproutes", "tcproutes", "tlsroutes", "udproutes")))


def objects(certificate, key):
    gateway = [{"name": "public"}]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database", "namespace": NAMESPACE},
         "stringData": {"uri": "mongodb://mongodb.media:27017/"}},
        # What cert-manager would make.
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": f"{CLUSTER}-tls", "namespace": NAMESPACE},
         "stringData": {"tls.crt": certificate, "tls.key": key}},
        {"apiVersion": "sluice.dev/v1alpha1", "kind": "MediaCluster", "metadata": {"name": CLUSTER, "namespace": NAMESPACE}, "spec": {
            "database": {"external": {"secret": {"name": "database"}}},
            "security": {"tls": {"issuer": {"name": "ours", "kind": "ClusterIssuer"}, "dnsNames": [HOST, PUBLISH]}},
            "exposure": {"gateway": {"http": gateway, "hostnames": [HOST], "publishHostnames": [PUBLISH], "rtmp": gateway, "rtmps": gateway,
                                     "srt": gateway}}}},
        {"apiVersion": "sluice.dev/v1alpha1", "kind": "OriginPool", "metadata": {"name": f"{CLUSTER}-origin", "namespace": NAMESPACE}, "spec": {
            "clusterRef": {"name": CLUSTER}, "replicas": 1, "storage": {"size": "1Gi", "storageClassName": "local", "deletionPolicy": "Delete"},
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}}},
    ]


def self_signed():
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder) / "crt", Path(folder) / "key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", f"/CN={HOST}",
             "-addext", f"subjectAltName=DNS:{HOST},DNS:{PUBLISH}", "-keyout", key, "-out", certificate])
        return certificate.read_text(), key.read_text()


def body(checks, sample):
    kubernetes = sample.kubernetes
    for name in ("gateway-api", "prometheus", "cert-manager"):
        kubernetes.define(name)
    kubernetes.add_volumes(1)
    kubernetes.apply(objects(*self_signed()), "--force-conflicts")

    def counts():
        return {kind: len(kubernetes.json("get", kind, "-n", NAMESPACE, "-l", f"sluice.dev/cluster={CLUSTER}")["items"]) for kind in MADE}

    def made():
        missing = [kind for kind, count in counts().items() if not count]
        if missing:
            raise Failed(f"missing: {', '.join(missing)}")
        return True

    def ready(kind, name):
        conditions = kubernetes.json("get", kind, name, "-n", NAMESPACE).get("status", {}).get("conditions", [])
        found = next((c for c in conditions if c["type"] == "Ready"), {})
        if found.get("status") != "True":
            raise Failed(f"{found.get('reason')}: {found.get('message')}")
        return True

    try:
        # Kinds are looked for once a minute.
        checks.holds("certificate, routes and objects for Prometheus are made", lambda: within(90, "objects", made, every=1))
        checks.holds("with its certificate and its volume the cluster is Ready", lambda: within(60, "Ready", lambda: ready("mcl", CLUSTER), every=0.5))
        claims = kubernetes.json("get", "pvc", "-n", NAMESPACE)["items"]
        checks.check("the claim is bound", [c["status"]["phase"] for c in claims] == ["Bound"])
        pod = kubernetes.json("get", "pods", "-n", NAMESPACE, "-l", f"sluice.dev/cluster={CLUSTER}")["items"][0]
        answer = run(kubernetes.inside(["curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
                                        f"https://{pod['status']['podIP']}:5443/readyz"]), check=False).stdout
        checks.check("the node serves HTTPS with it", answer == "200", answer)
        kubernetes.kubectl("patch", "mcl", CLUSTER, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": {
            "security": None, "exposure": None, "monitoring": {"serviceMonitor": "Disabled", "prometheusRule": "Disabled"}}}))

        def gone():
            left = [kind for kind, count in counts().items() if count]
            if left:
                raise Failed(f"left: {', '.join(left)}")
            return True
        checks.holds("taken off the spec, all of them go", lambda: within(30, "they are gone", gone, every=0.5))
        checks.holds("the pool follows", lambda: within(90, "Ready", lambda: ready("opool", f"{CLUSTER}-origin"), every=0.5))
    finally:
        kubernetes.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", check=False)
        kubernetes.kubectl("delete", "pv", "-l", "sluice.dev/kit=volume", "--wait=false", check=False)
