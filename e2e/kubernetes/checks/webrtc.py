"""WebRTC from outside: each pod tells its clients the ports and addresses that lead to it, and keeps them while it drains.

The clients are on a machine outside of the cluster, which reaches its machines and load balancers and no pod. They negotiate through an
Ingress; where the media goes is told them by the nodes.
"""

import json
import time

from ..paths import CONTROL
from ..procs import Failed, within
from . import rtcdrains, rtcpages
from . import sample as sampling
from .clients import uncut
from .site import INGRESS, Site

BALANCED = "10.10.1.21"
POOLS = (("opool", "demo-origin"), ("epool", "demo-edge"))
# With ports of machines: Pod Security admits them in privileged namespaces only.
HOST_NAMESPACE, HOST, HOST_PORT = "host-ports", "host.example.com", 5904
SECRET = "only-for-relaying"
# A change of the spec is told to clients within this.
SOON = 20


def body(checks, sample):
    sample.settled()
    lives = lived(sample)
    with Site(sample, HOST) as site:
        pod = sample.pods("demo-edge")[0]["status"]["podIP"]
        reached = site.outside.run("curl", "-s", "-m", "2", f"http://{pod}:5080/readyz", check=False)
        checks.check("nobody outside reaches a pod", reached.returncode != 0)
        checks.holds("by itself a node tells its pod's address and nothing else", lambda: told(site, "whip", "demo-origin", own))
        try:
            node_ports(checks, site)
            rtcpages.pages(checks, site)
            checks.check("no pod was replaced, no node started again", lived(sample) == lives, lived(sample))
            rtcdrains.edges(checks, site)
            rtcdrains.origin(checks, site)
            sample.settled()
            balanced(checks, site)
        finally:
            for kind, name in POOLS:
                expose(sample, kind, name, None)
        checks.holds("taken off the spec, clients are told pods' own addresses again", lambda: told(site, "whip", "demo-origin", own))
        checks.holds("and the Services of pods go", lambda: within(SOON, "Services", lambda: not pod_services(sample), every=0.5))
        host_ports(checks, site)
    checks.holds("the cluster is Ready", sample.settled)


def lived(sample):
    """{pod: its uid and how often its node was started}"""
    return {pod["metadata"]["name"]: (pod["metadata"]["uid"], *(one["restartCount"] for one in pod["status"]["containerStatuses"]))
            for pod in sample.pods()}


def expose(sample, kind, name, webrtc):
    patch = {"spec": {"exposure": {"webrtc": webrtc} if webrtc else None}}
    sample.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(patch))


def own(pod):
    """A pod's own address, over UDP and TCP."""
    return {(protocol, pod["status"]["podIP"], 5004) for protocol in ("udp", "tcp")}


def told(site, kind, pool, wanted, stream="asked"):
    """Waits until each pod of the pool tells clients the candidates that are wanted of it, those and no others."""
    def all_told():
        pods = {pod["metadata"]["name"] for pod in site.sample.pods(pool)}
        seen = set()
        for _ in range(2 * len(pods)):
            session = site.ask(kind, stream)
            pod = site.pod_of(session)
            if session.candidates() != wanted(pod):
                raise Failed(f"{pod['metadata']['name']}: {sorted(session.candidates())}, not {sorted(wanted(pod))}")
            seen.add(pod["metadata"]["name"])
        if seen != pods:
            raise Failed(f"{sorted(seen)} answered, not all of {sorted(pods)}")
        return True
    return within(SOON, "candidates", all_told, every=0.5)


def pod_services(sample):
    return {item["metadata"]["name"]: item for item in sample.json("get", "services", "-l", "sluice.dev/cluster=demo")["items"]
            if item["metadata"]["name"].endswith("-webrtc")}


def exposed(sample, kind, name, wanted):
    """The sentence of ExposureReady, once the operator has seen the newest spec."""
    item = sample.json("get", kind, name)
    found = next((c for c in item["status"]["conditions"] if c["type"] == "ExposureReady"), None)
    if found is None or found["status"] != wanted or found.get("observedGeneration", 0) < item["metadata"]["generation"]:
        raise Failed(f"ExposureReady is {found}")
    return found["message"]


def node_ports(checks, site):
    sample = site.sample
    for kind, name in POOLS:
        expose(sample, kind, name, {"mode": "NodePort"})
    for kind, name in POOLS:
        said = checks.holds(f"{name}: ExposureReady is True", lambda k=kind, n=name: within(
            SOON, "condition", lambda: exposed(sample, k, n, "True"), every=0.3))
        checks.note(said or "")

    def of_machine(pod):
        ports = pod_services(sample)[f"{pod['metadata']['name']}-webrtc"]["spec"]["ports"]
        return own(pod) | {(port["protocol"].lower(), CONTROL, port["nodePort"]) for port in ports}

    checks.holds("publishers are told the machine's address with the pod's node ports, UDP and TCP, and its own",
                 lambda: told(site, "whip", "demo-origin", of_machine))
    publishers = site.publish("rtc{n}", 2)
    checks.holds("viewers are told the same of the edge that answers", lambda: told(site, "whep", "demo-edge", of_machine, "rtc0"))
    players = site.play("rtc0", 6)
    time.sleep(5)
    uncut(checks, "six viewers play through node ports", players.done(), 1.0)
    uncut(checks, "and two publishers publish through them, at the viewers' host", publishers.done(), 1.0)


def balanced(checks, site):
    sample = site.sample
    expose(sample, "opool", "demo-origin", {"mode": "LoadBalancer"})
    service = within(SOON, "a Service of type LoadBalancer", lambda: next(
        (name for name, item in pod_services(sample).items() if name.startswith("demo-origin") and item["spec"]["type"] == "LoadBalancer"), None),
        every=0.3)
    said = checks.holds("without an address of the load balancer ExposureReady is False", lambda: within(
        SOON, "condition", lambda: exposed(sample, "opool", "demo-origin", "False"), every=0.3))
    checks.note(said or "")
    sample.kubernetes.assign_address(service, sample.namespace, BALANCED)
    checks.holds("publishers are told the load balancer's address", lambda: told(
        site, "whip", "demo-origin", lambda pod: own(pod) | {(protocol, BALANCED, 5004) for protocol in ("udp", "tcp")}))
    checks.holds("and ExposureReady is True", lambda: within(
        SOON, "condition", lambda: exposed(sample, "opool", "demo-origin", "True"), every=0.3))
    publishers = site.publish("balanced")
    time.sleep(5)
    uncut(checks, "a publisher comes in through it", publishers.done(), 1.0)


def host_ports(checks, site):
    """Another cluster, in a namespace of its own, with a TURN server besides."""
    kubernetes = site.sample.kubernetes
    objects = sampling.small(HOST_NAMESPACE, "host")
    objects[0]["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "privileged"}
    objects[2]["spec"]["exposure"] = {"ingress": {key: value for key, value in INGRESS.items() if key != "publishHost"} | {"host": HOST}}
    objects[-1]["spec"] |= {
        "exposure": {"webrtc": {"mode": "HostPort", "hostPort": HOST_PORT}},
        "config": {"rtc_ice_servers": "stun:stun.example.com, turn:turn.example.com:3478?transport=udp", "rtc_turn_user": "sluice",
                   "rtc_turn_password_file": "/etc/turn/password"},
        "podTemplate": {"volumes": [{"name": "turn", "secret": {"secretName": "turn"}}],
                        "volumeMounts": [{"name": "turn", "mountPath": "/etc/turn", "readOnly": True}]}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "turn", "namespace": HOST_NAMESPACE},
              "stringData": {"password": SECRET}}
    kubernetes.apply([objects[0], secret, *objects[1:]])
    try:
        def there():
            session = site.ask("whip", host=HOST)
            pod = site.pod_of(session)
            wanted = own(pod) | {(protocol, CONTROL, HOST_PORT) for protocol in ("udp", "tcp")}
            if session.candidates() != wanted:
                raise Failed(f"candidates: {sorted(session.candidates())}, not {sorted(wanted)}")
            return session.links
        links = checks.holds("with HostPort clients are told the machine's address and that port", lambda: within(60, "candidates", there, every=0.5))
        publishers = site.publish("host", host=HOST)
        within(SOON, "the stream plays", lambda: site.ask("whep", "host", HOST), every=0.5)
        players = site.play("host", 2, HOST)
        turn(checks, site, links or [])
        time.sleep(4)
        uncut(checks, "two viewers play through it", players.done(), 1.0)
        uncut(checks, "and a publisher publishes", publishers.done(), 1.0)
    finally:
        kubernetes.kubectl("delete", "namespace", HOST_NAMESPACE, "--wait=false")


def turn(checks, site, links):
    """The TURN server of the pool's settings, whose password is in a Secret and nowhere else."""
    said = [link for link in links if "turn:turn.example.com:3478?transport=udp" in link and SECRET in link]
    checks.check("and the TURN server, with the password of a Secret", len(said) == 1, f"{len(links)} Link headers")

    def by_socket():
        socket = site.socket(HOST)
        try:
            socket.say("getIceServerConfig")
            heard = socket.hears("iceServerConfig")
        finally:
            socket.close()
        if (heard["turnServerUsername"], heard["turnServerCredential"]) != ("sluice", SECRET):
            raise Failed(heard)
        return True
    checks.holds("Ant Media's clients get it, too", by_socket)
    kubectl = site.sample.kubernetes.kubectl
    shown = kubectl("get", "pods,configmaps,services,mcl,opool,ingresses,events", "-n", HOST_NAMESPACE, "-o", "yaml")
    logs = kubectl("logs", "-n", HOST_NAMESPACE, "-l", "sluice.dev/cluster=host", "--tail=-1")
    checks.check("no object but the Secret shows the password, and no log", "rtc_turn_password_file" in shown.lower() and logs.strip() != ""
                 and SECRET not in shown and SECRET not in logs, f"{len(shown)} and {len(logs)} bytes looked at")
