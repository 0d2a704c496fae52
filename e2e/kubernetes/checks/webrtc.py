"""WebRTC from outside: each pod tells its clients the ports and addresses that lead to it, and keeps them while it drains.

The clients are in the cluster's network, but where the media goes is told them by the nodes: ports of the machine, addresses of load
balancers, never a pod's own one.
"""

import json
import time

from play import Http
from rtc import Session

from ..paths import CONTROL
from ..procs import Failed, within
from . import sample as sampling
from .clients import told, uncut
from .drains import DRAIN

BALANCED = "10.10.1.21"
POOLS = (("opool", "demo-origin"), ("epool", "demo-edge"))
# With ports of machines: Pod Security admits them in privileged namespaces only.
HOST_NAMESPACE = "host-ports"
HOST_PORT = 5904


def body(checks, sample):
    sample.ready()
    uids = sample.uids()
    try:
        publishers, players = node_ports(checks, sample)
        checks.check("no pod was replaced for it", all(sample.uids().get(name) == uid for name, uid in uids.items()))
        drained(checks, sample, publishers, players)
        balanced(checks, sample)
    finally:
        for kind, name in POOLS:
            expose(sample, kind, name, None)
    checks.holds("taken off the spec, clients are told pods' own addresses again", lambda: within(
        20, "candidates", lambda: only(asked(sample, "whip", "demo-origin"), pod_ips(sample, "demo-origin")), every=0.5))
    checks.holds("and the Services of pods go", lambda: within(20, "Services", lambda: not pod_services(sample), every=0.5))
    host_ports(checks, sample)
    checks.holds("the cluster is Ready", sample.settled)


def expose(sample, kind, name, webrtc, namespace=None):
    words = ["patch", kind, name, "--type=merge", "-p", json.dumps({"spec": {"exposure": {"webrtc": webrtc} if webrtc else None}})]
    sample.kubernetes.kubectl(*words, "-n", namespace or sample.namespace)


def asked(sample, kind, pool, stream="asked"):
    """The candidates of an answer through the pool's Service."""
    session = Session(f"http://{sample.address(pool)}:5080", kind, stream)
    found = session.candidates()
    # The Service may lead elsewhere now: it is ended at the pod that has it.
    ip = next(iter({ip for _, ip, _ in found} & pod_ips(sample, pool)))
    session.http = Http(f"http://{ip}:5080")
    session.end()
    return found


def pod_ips(sample, pool):
    return {pod["status"]["podIP"] for pod in sample.pods(pool)}


def only(candidates, ips):
    strange = {one for one in candidates if one[1] not in ips or one[2] != 5004}
    if strange or not candidates:
        raise Failed(f"candidates: {sorted(candidates)}")
    return True


def pod_services(sample):
    return {item["metadata"]["name"]: item for item in sample.json("get", "services", "-l", "sluice.dev/cluster=demo")["items"]
            if item["metadata"]["name"].endswith("-webrtc")}


def outside(sample, pool):
    """{pod: its candidates for the outside}, once Kubernetes has chosen the ports."""
    services, found = pod_services(sample), {}
    for pod in sample.pods(pool):
        name = pod["metadata"]["name"]
        ports = services[f"{name}-webrtc"]["spec"]["ports"]
        found[name] = {(port["protocol"].lower(), CONTROL, port["nodePort"]) for port in ports}
        if len(found[name]) != 2:
            raise Failed(f"{name}-webrtc has the ports {ports}")
    return found


def exposed(sample, kind, name, wanted):
    found = next((c for c in sample.json("get", kind, name)["status"]["conditions"] if c["type"] == "ExposureReady"), None)
    if found is None or found["status"] != wanted:
        raise Failed(f"ExposureReady is {found}")
    return found["message"]


def node_ports(checks, sample):
    for kind, name in POOLS:
        expose(sample, kind, name, {"mode": "NodePort"})
    for kind, name in POOLS:
        said = checks.holds(f"{name}: ExposureReady is True", lambda k=kind, n=name: within(
            20, "condition", lambda: exposed(sample, k, n, "True"), every=0.3))
        checks.note(said or "")

    def those(kind, pool, stream):
        every = outside(sample, pool)
        found = asked(sample, kind, pool, stream)
        if not any(found == ports | {(protocol, ip, 5004) for protocol in ("udp", "tcp")}
                   for pod, ports in every.items() for ip in [pod_ip(sample, pod)]):
            raise Failed(f"candidates: {sorted(found)}, ports: {every}")
        return True

    checks.holds("publishers are told the machine's address and the pod's node ports, UDP and TCP, and its own address", lambda: within(
        20, "candidates", lambda: those("whip", "demo-origin", "asked"), every=0.5))
    publishers = sample.rtc("publish-whip", "demo-origin", "rtc{n}", 2, "--kbps", 600)
    within(20, "the stream plays", lambda: asked(sample, "whep", "demo-edge", "rtc0"), every=0.5)
    checks.holds("viewers are told the same of the edge that answers", lambda: within(
        20, "candidates", lambda: those("whep", "demo-edge", "rtc0"), every=0.5))
    return publishers, sample.rtc("play-whep", "demo-edge", "rtc0", 6, "--decrypt-every", 1)


def pod_ip(sample, name):
    return next(pod["status"]["podIP"] for pod in sample.pods() if pod["metadata"]["name"] == name)


def drained(checks, sample, publishers, players):
    """An origin and an edge go out of service while media flows."""
    time.sleep(3)
    going = [sample.pods(pool)[0]["metadata"]["name"] for pool in ("demo-origin", "demo-edge")]
    for name in going:
        sample.kubectl("annotate", "pod", name, f"{DRAIN}=")

    def draining():
        for _, pool in POOLS:
            status = sample.pool(pool)["status"]
            if status["draining"] != 1:
                raise Failed(f"{pool}: {status}")
        return True
    checks.holds("an origin and an edge drain", lambda: within(60, "draining", draining, every=0.3))
    time.sleep(8)
    left = {pod["metadata"]["name"] for pod in sample.pods()}
    checks.check("they are there while they have sessions, and so are the ports that lead to them",
                 all(name in left and f"{name}-webrtc" in pod_services(sample) for name in going), sorted(left))
    uncut(checks, "six viewers through node ports noticed nothing", players.done(), 1.0)
    uncut(checks, "nor did the publishers", publishers.done(), 1.0)
    checks.holds("when the sessions have ended, the pods go", lambda: within(
        60, "they are gone", lambda: not set(going) & set(sample.uids()), every=0.5))


def balanced(checks, sample):
    sample.settled()
    expose(sample, "opool", "demo-origin", {"mode": "LoadBalancer"})
    service = within(20, "Service", lambda: next(name for name, item in pod_services(sample).items()
                                                 if name.startswith("demo-origin") and item["spec"]["type"] == "LoadBalancer"), every=0.3)
    said = checks.holds("without an address of the load balancer ExposureReady is False", lambda: within(
        20, "condition", lambda: exposed(sample, "opool", "demo-origin", "False"), every=0.3))
    checks.note(said or "")
    sample.kubernetes.assign_address(service, sample.namespace, BALANCED)

    def there():
        found = asked(sample, "whip", "demo-origin")
        if not {("udp", BALANCED, 5004), ("tcp", BALANCED, 5004)} <= found or any(ip == CONTROL for _, ip, _ in found):
            raise Failed(f"candidates: {sorted(found)}")
        return True
    checks.holds("publishers are told the load balancer's address", lambda: within(20, "candidates", there, every=0.5))
    checks.holds("and ExposureReady is True", lambda: within(
        20, "condition", lambda: exposed(sample, "opool", "demo-origin", "True"), every=0.3))
    publishers = sample.rtc("publish-whip", "demo-origin", "balanced{n}", 1, "--kbps", 300)
    time.sleep(5)
    uncut(checks, "a publisher comes in through it", publishers.done(), 1.0)


def host_ports(checks, sample):
    kubernetes = sample.kubernetes
    objects = sampling.small(HOST_NAMESPACE, "host")
    objects[0]["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "privileged"}
    objects[-1]["spec"] |= {
        "exposure": {"webrtc": {"mode": "HostPort", "hostPort": HOST_PORT}},
        "config": {"rtc_ice_servers": "stun:stun.example.com, turn:turn.example.com:3478?transport=udp", "rtc_turn_user": "sluice",
                   "rtc_turn_password_file": "/etc/turn/password"},
        "podTemplate": {"volumes": [{"name": "turn", "secret": {"secretName": "turn"}}],
                        "volumeMounts": [{"name": "turn", "mountPath": "/etc/turn", "readOnly": True}]}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "turn", "namespace": HOST_NAMESPACE},
              "stringData": {"password": "only-for-relaying"}}
    kubernetes.apply([objects[0], secret, *objects[1:]])
    try:
        def there():
            pods = kubernetes.json("get", "pods", "-n", HOST_NAMESPACE, "-l", "sluice.dev/accepting=true")["items"]
            if not pods:
                raise Failed("no pod accepts yet")
            ip = pods[0]["status"]["podIP"]
            session = Session(f"http://{ip}:5080", "whip", "asked")
            session.end()
            wanted = {(protocol, *at) for protocol in ("udp", "tcp") for at in ((CONTROL, HOST_PORT), (ip, 5004))}
            if session.candidates() != wanted:
                raise Failed(f"candidates: {sorted(session.candidates())}, not {sorted(wanted)}")
            return session.links
        links = checks.holds("with HostPort clients are told the machine's address and that port", lambda: within(60, "candidates", there, every=0.5))
        said = [link for link in links or [] if "turn:turn.example.com:3478?transport=udp" in link and "only-for-relaying" in link]
        checks.check("and the TURN server of the pool's settings, with the password of a Secret", len(said) == 1, links)
        service = kubernetes.json("get", "service", "host-origin", "-n", HOST_NAMESPACE)["spec"]["clusterIP"]
        publishers = sample.load("publish-whip", f"http://{service}:5080/LiveApp/whip/host{{n}}", 1, "--kbps", 300)
        time.sleep(4)
        report = publishers.done()
        checks.check("a publisher comes in through it", report["live"] == 1 and not report["failed"], told(report))
    finally:
        kubernetes.kubectl("delete", "namespace", HOST_NAMESPACE, "--wait=false")
