"""The processes of the control plane and what they are told. Flags that tests cannot do without say why."""

import json

from . import pki
from .paths import API_SERVICE, BIN, CONTROL, DNS_SERVICE, KUBECONFIG, PODS, SERVICES, STATE
from .procs import Daemon
from .space import inside

API = f"https://{CONTROL}:6443"
CONFIG = STATE / "config"
AUDIT_LOG = STATE / "audit.log"
METRICS_PORT = 4443

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # Who writes what.
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        # What service accounts read, to compare with what they may read: all but those of Kubernetes itself.
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"], "verbs": ["get", "list", "watch"]},
        {"level": "None"},
    ],
}


def certificates():
    for name in ("ca", "front-proxy-ca"):
        pki.authority(name)
    pki.signer("service-accounts")
    pki.leaf("apiserver", "/CN=kube-apiserver", names=[
        "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:kubernetes.default.svc.cluster.local",
        "DNS:localhost", f"IP:{CONTROL}", f"IP:{API_SERVICE}", "IP:127.0.0.1"])
    pki.leaf("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    # An authority of its own: only the aggregator may speak for others.
    pki.leaf("front-proxy", "/CN=front-proxy-client", ca="front-proxy-ca")
    pki.leaf("metrics-server-serving", "/CN=metrics-server", names=["DNS:metrics-server.kube-system.svc", f"IP:{CONTROL}"])
    for name, subject in {
        "admin": "/O=system:masters/CN=admin",
        "kube-controller-manager": "/CN=system:kube-controller-manager",
        "kube-scheduler": "/CN=system:kube-scheduler",
        "kube-proxy": "/CN=system:kube-proxy",
        "coredns": "/CN=system:coredns",
        "metrics-server": "/CN=system:metrics-server",
        "kwok": "/O=system:masters/CN=kwok",
    }.items():
        pki.leaf(name, subject)
        pki.kubeconfig(_kubeconfig(name), name, API)
    pki.kubeconfig(KUBECONFIG, "admin", API)


def _kubeconfig(name):
    return KUBECONFIG if name == "admin" else STATE / "kubeconfigs" / name


def _written(name, content):
    """A configuration file: JSON of a dict (which is YAML, too), or text."""
    CONFIG.mkdir(parents=True, exist_ok=True)
    path = CONFIG / name
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    # kube-proxy ends when its file is written, even with the same content.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path


def _daemon(name, *words, program=None):
    return Daemon(name, inside([program or BIN / name, *words]))


def etcd():
    return _daemon("etcd", "--data-dir", STATE / "etcd", "--unsafe-no-fsync", "--logger=zap", "--log-level=warn",
                   "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
                   "--listen-peer-urls=http://127.0.0.1:2380", "--quota-backend-bytes=4294967296",
                   "--auto-compaction-retention=5m", program="/usr/bin/etcd")


def apiserver():
    return _daemon(
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={CONTROL}",
        f"--service-cluster-ip-range={SERVICES}",
        "--secure-port=6443",
        f"--tls-cert-file={pki.crt('apiserver')}", f"--tls-private-key-file={pki.key('apiserver')}",
        f"--client-ca-file={pki.crt('ca')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki.crt('service-accounts')}",
        f"--service-account-signing-key-file={pki.key('service-accounts')}",
        f"--kubelet-certificate-authority={pki.crt('ca')}",
        f"--kubelet-client-certificate={pki.crt('apiserver-kubelet')}",
        f"--kubelet-client-key={pki.key('apiserver-kubelet')}",
        # Otherwise logs and exec look the node's name up in DNS, and time out.
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki.crt('front-proxy-ca')}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki.crt('front-proxy')}", f"--proxy-client-key-file={pki.key('front-proxy')}",
        "--enable-aggregator-routing=true",
        f"--audit-policy-file={_written('audit-policy', AUDIT_POLICY)}",
        f"--audit-log-path={AUDIT_LOG}",
        # In one file, whatever a test writes.
        "--audit-log-maxsize=4096",
        "--profiling=false",
    )


def controller_manager():
    return _daemon(
        "kube-controller-manager",
        f"--kubeconfig={_kubeconfig('kube-controller-manager')}",
        f"--authentication-kubeconfig={_kubeconfig('kube-controller-manager')}",
        f"--authorization-kubeconfig={_kubeconfig('kube-controller-manager')}",
        f"--root-ca-file={pki.crt('ca')}",
        f"--service-account-private-key-file={pki.key('service-accounts')}",
        f"--cluster-signing-cert-file={pki.crt('ca')}", f"--cluster-signing-key-file={pki.key('ca')}",
        "--use-service-account-credentials=true",
        # With a lease to lose, it would end when the API server is away for 10 s, and nothing would bring it back.
        "--leader-elect=false",
        "--allocate-node-cidrs=false",
        f"--cluster-cidr={PODS}",
        # Tests of autoscaling need not wait as long as a production cluster should.
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )


def scheduler():
    return _daemon(
        "kube-scheduler",
        f"--kubeconfig={_kubeconfig('kube-scheduler')}",
        f"--authentication-kubeconfig={_kubeconfig('kube-scheduler')}",
        f"--authorization-kubeconfig={_kubeconfig('kube-scheduler')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )


def proxy():
    config = _written("kube-proxy", {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(_kubeconfig("kube-proxy"))},
        "clusterCIDR": PODS,
        "hostnameOverride": "node1",
        "bindAddress": CONTROL,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The kernel's limits are not this namespace's to change.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    })
    return _daemon("kube-proxy", f"--config={config}")


def coredns():
    corefile = _written("Corefile", f""".:53 {{
    bind {CONTROL}
    errors
    health {CONTROL}:8053
    ready {CONTROL}:8181
    cache 5
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {_kubeconfig("coredns")} sluice
        ttl 5
    }}
    # Nothing outside can be reached: say at once that it is not there, or clients try again for seconds.
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
""")
    return _daemon("coredns", "-conf", corefile)


def metrics_server():
    return _daemon(
        "metrics-server",
        f"--kubeconfig={_kubeconfig('metrics-server')}",
        f"--authentication-kubeconfig={_kubeconfig('metrics-server')}",
        f"--authorization-kubeconfig={_kubeconfig('metrics-server')}",
        f"--secure-port={METRICS_PORT}", f"--bind-address={CONTROL}",
        f"--tls-cert-file={pki.crt('metrics-server-serving')}", f"--tls-private-key-file={pki.key('metrics-server-serving')}",
        "--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP",
        # Two kubelets of one machine have different ports.
        "--kubelet-use-node-status-port",
        # The first must exceed the second, or it panics.
        "--metric-resolution=10s", "--kubelet-request-timeout=8s",
    )


ALL = {
    "etcd": etcd,
    "kube-apiserver": apiserver,
    "kube-controller-manager": controller_manager,
    "kube-scheduler": scheduler,
    "kube-proxy": proxy,
    "coredns": coredns,
    "metrics-server": metrics_server,
}


def host_service(name, namespace, ports, cluster_ip=None):
    """A Service whose only endpoint is a process of the host: {port name: (port, port of the process, protocol)}."""
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "sluice-test-kit"}
    service = {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"ports": [{"name": n, "port": outer, "targetPort": inner, "protocol": protocol}
                           for n, (outer, inner, protocol) in ports.items()]},
    }
    if cluster_ip:
        service["spec"]["clusterIP"] = cluster_ip
    slices = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-host", "namespace": namespace, "labels": {**labels, "kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [CONTROL], "conditions": {"ready": True}}],
        "ports": [{"name": n, "port": inner, "protocol": protocol} for n, (_, inner, protocol) in ports.items()],
    }
    return [service, slices]


def _role(name, user, rules):
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    return [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}, "subjects": [subject]},
    ]


def objects():
    """What the API server must know for DNS, CPU metrics and a simulated GPU's runtime class to work."""
    read = ["get", "list", "watch"]
    metrics_user = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:metrics-server"}
    return [
        *host_service("kube-dns", "kube-system", {"dns": (53, 53, "UDP"), "dns-tcp": (53, 53, "TCP")}, DNS_SERVICE),
        *_role("sluice-kit:coredns", "system:coredns", [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ]),
        *host_service("metrics-server", "kube-system", {"https": (443, METRICS_PORT, "TCP")}),
        *_role("sluice-kit:metrics-server", "system:metrics-server", [
            {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["pods", "nodes", "namespaces"], "verbs": read},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
            {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        ]),
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
         "metadata": {"name": "sluice-kit:metrics-server", "namespace": "kube-system"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "extension-apiserver-authentication-reader"},
         "subjects": [metrics_user]},
        # Who may read CPU metrics: whoever may view pods, as in a cluster that an administrator set up.
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
         "metadata": {"name": "sluice-kit:metrics-reader", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
         "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": read}]},
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1beta1.metrics.k8s.io"},
         "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                  "caBundle": pki.bundle("ca"),
                  "service": {"name": "metrics-server", "namespace": "kube-system", "port": 443}}},
        # Pods that ask for a GPU name it; here its runtime is the common one.
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
    ]
