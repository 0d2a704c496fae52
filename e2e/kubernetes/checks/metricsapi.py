"""Metrics for autoscalers: what the API server passes on is what the pools say, from every replica, and never a stale number."""

import base64
import json
import os
import signal
import tempfile
import time

from .. import demo, pki
from ..paths import OPERATOR_NAMESPACE
from ..procs import Failed, run, within

GROUP = "custom.metrics.k8s.io"
VERSIONS = ("v1beta2", "v1beta1")
SERVICE = f"{demo.RELEASE}-operator-metrics-api"
SECRET = "sluice-operator-metrics-ca"
ON = ("--set", "metricsApi.enabled=true")
PLURAL = {"demo-origin": "originpools.sluice.dev", "demo-edge": "edgepools.sluice.dev"}
VIEWER = "somebody"


def path(kind, name, metric, version="v1beta2", namespace="media"):
    return f"/apis/{GROUP}/{version}/namespaces/{namespace}/{kind}/{name}/{metric}"


def body(checks, sample):
    kubernetes = sample.kubernetes

    def ask(what, **more):
        status, text = kubernetes.request("GET", what, **more)
        return status, json.loads(text) if text.startswith("{") else text

    def number(what):
        """The one value there is."""
        status, answer = ask(what)
        if status != 200 or len(answer["items"]) != 1:
            raise Failed(f"{what}: {status} {answer}")
        return answer["items"][0]["value"]

    def available():
        for version in VERSIONS:
            if not kubernetes.available(f"{version}.{GROUP}"):
                raise Failed(f"{version} is not available")
        return True

    def bundle():
        spec = kubernetes.json("get", "apiservice", f"v1beta2.{GROUP}")["spec"]
        return base64.b64decode(spec.get("caBundle", "")).decode()

    sample.settled()
    uids = sample.uids()
    checks.holds("Helm installs it", lambda: demo.install(kubernetes, *ON) or True)
    replicas = sample.operator()["spec"]["replicas"]
    checks.check("the operator has two replicas", replicas == 2, replicas)
    checks.holds("both versions are available", lambda: within(60, "available", available, every=0.5))
    publisher = sample.publish("metricsapi")
    watched = sample.watch("metricsapi")
    streams = path(PLURAL["demo-origin"], "demo-origin", "streams")
    viewers = path(PLURAL["demo-edge"], "demo-edge", "viewers")
    try:
        _values(checks, sample, ask, number, streams, viewers)
        _callers(checks, sample, ask, bundle, streams)
        _leader(checks, sample, ask, number, streams)
        _renewal(checks, sample, ask, bundle, streams)
        _foreign(checks, sample, available)
        _stale(checks, sample, ask, viewers)
        checks.check("no media pod was replaced", sample.uids() == uids)
        checks.check("the publisher was never cut", publisher.running())
    finally:
        watched.done()
    _uninstalled(checks, sample)


def _values(checks, sample, ask, number, streams, viewers):
    def same():
        # What a viewer of HLS asks for comes in pieces: its session counts a moment later.
        told = {name: sample.pool(name)["status"] for name in PLURAL}
        wanted = {streams: told["demo-origin"]["streams"], viewers: told["demo-edge"]["viewers"]}
        if wanted[streams] != 1 or wanted[viewers] < 1:
            raise Failed(f"status says {wanted}")
        for what, value in wanted.items():
            for version in VERSIONS:
                found = number(what.replace("v1beta2", version))
                if found != str(value):
                    raise Failed(f"{what} in {version}: {found}, status says {value}")
        return wanted
    found = checks.holds("both versions give for pools what their status says", lambda: within(40, "the same", same, every=0.5))
    checks.note(f"{found}")

    def pods(pool, metric, version):
        status, answer = ask(path("pods", "*", metric, version) + f"?labelSelector=sluice.dev%2Fpool%3D{pool}")
        if status != 200 or len(answer["items"]) != len(sample.pods(pool)):
            raise Failed(f"{status} {answer}")
        return sum(int(item["value"]) for item in answer["items"])

    for version in VERSIONS:
        checks.holds(f"pods by labels, {version}", lambda version=version: within(
            10, "as many as the pool has", lambda: pods("demo-edge", "viewers", version) == int(number(viewers))))
    origin = sample.pods("demo-origin")[0]["metadata"]["name"]
    checks.holds("a pod by its name", lambda: number(path("pods", origin, "streams")) == "1")
    checks.holds("what is sent is counted", lambda: within(
        20, "more than 100 kbit/s", lambda: int(number(viewers.replace("viewers", "egress_bits_per_second"))) > 100_000, every=0.5))
    for what, says in ((streams.replace("streams", "kittens"), "kittens"), (streams.replace("demo-origin", "none"), "media/none"),
                       (streams.replace("streams", "encoder_load"), "transcode")):
        status, answer = ask(what)
        checks.check(f"404 with a sentence: {says}", status == 404 and says in answer.get("message", ""), f"{status} {answer}")
    raw = json.loads(sample.kubernetes.kubectl("get", "--raw", f"/apis/{GROUP}/v1beta2"))
    names = {each["name"] for each in raw["resources"]}
    checks.check("discovery lists them", {"pods/streams", "edgepools.sluice.dev/viewers"} <= names, sorted(names))
    sample.kubectl("create", "rolebinding", VIEWER, "--clusterrole=view", f"--user={VIEWER}")
    try:
        checks.holds("who may view pools may read their metrics", lambda: within(
            10, "read", lambda: sample.kubernetes.kubectl("get", "--raw", streams, f"--as={VIEWER}"), every=0.5))
        other = sample.kubernetes.kubectl("get", "--raw", streams, "--as=nobody", check=False)
        checks.check("who may not, may not", other.returncode != 0 and "forbidden" in other.stderr, other.stderr)
    finally:
        sample.kubectl("delete", "rolebinding", VIEWER)


def operators(sample):
    """The operator's pods that are not going: name -> address."""
    items = sample.kubernetes.json("get", "pods", "-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=sluice-operator")["items"]
    return {p["metadata"]["name"]: p["status"].get("podIP") for p in items if "deletionTimestamp" not in p["metadata"]}


def leader(sample):
    """The pod that holds the lease: each of its processes has a name of its own."""
    lease = sample.kubernetes.json("get", "lease", "sluice-operator", "-n", OPERATOR_NAMESPACE)
    return lease["spec"]["holderIdentity"].partition("_")[0]


def direct(sample, address, what, ca, certificate=None):
    """What a replica answers to one who is not the API server, or shows its certificate: (status, text)."""
    with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
        file.write(ca)
        file.flush()
        host = f"{SERVICE}.{OPERATOR_NAMESPACE}.svc"
        shown = ["--cert", pki.crt(certificate), "--key", pki.key(certificate)] if certificate else []
        done = run(sample.kubernetes.inside(["curl", "-s", "-m", "5", "--cacert", file.name, "--resolve", f"{host}:8443:{address}", *shown,
                                             "-w", "\n%{http_code}", f"https://{host}:8443{what}"]), check=False)
    text, _, code = done.stdout.rpartition("\n")
    return int(code or 0), text


def _callers(checks, sample, ask, bundle, streams):
    ca = bundle()
    found = operators(sample)
    holder = leader(sample)
    checks.check("one replica leads, another one does not", holder in found and len(found) == 2, f"{holder} of {found}")
    for name, address in sorted(found.items(), key=lambda each: each[0] != holder):
        def answers(address=address):
            status, text = direct(sample, address, streams, ca, "front-proxy")
            if status != 200 or json.loads(text)["items"][0]["value"] != "1":
                raise Failed(f"{status} {text}")
            return True
        role = "leads" if name == holder else "stands by"
        checks.holds(f"the replica that {role} answers, by a certificate of the CA in the APIService", lambda a=answers: within(20, "1", a, every=0.5))
        for certificate in (None, "admin"):
            status, text = direct(sample, address, streams, ca, certificate)
            checks.check(f"who shows {certificate or 'nothing'} is refused by it", status == 401 and '"kind":"Status"' in text, f"{status} {text}")


class Watching:
    """Asks for a value again and again while something happens: no wrong number, and how often there was none."""

    def __init__(self, ask, what, least):
        self.ask, self.what, self.least = ask, what, least
        self.answers = self.wrong = self.none = 0
        self.last = ""

    def look(self):
        try:
            status, answer = self.ask(self.what, patience=5)
        except (OSError, Failed) as error:
            status, answer = 0, str(error)
        if status == 200:
            self.answers += 1
            value = int(answer["items"][0]["value"])
            if value < self.least:
                self.wrong += 1
                self.last = f"{value}"
            return value
        self.none += 1
        self.last = answer.get("message", "") if isinstance(answer, dict) else answer
        return None

    def __str__(self):
        return f"{self.answers} answers, {self.wrong} too small, {self.none} without a value{f' ({self.last})' if self.last else ''}"


def _leader(checks, sample, ask, number, streams):
    kubernetes = sample.kubernetes
    holder = leader(sample)
    kubernetes.kubectl("delete", "pod", holder, "-n", OPERATOR_NAMESPACE, "--grace-period=0", "--force", "--wait=false")
    watching = Watching(ask, streams, 1)
    checks.holds("with the leader killed, the other one answers", lambda: within(5, "1", lambda: watching.look() == 1, every=0.2))
    end = time.monotonic() + 25
    while time.monotonic() < end:
        watching.look()
        time.sleep(0.5)
    checks.check("and goes on, while it takes over", not watching.wrong and watching.none <= 5, watching)
    sample.operator_ready()
    checks.holds("again the number is the same", lambda: within(20, "1", lambda: number(streams) == "1", every=0.5))


def _renewal(checks, sample, ask, bundle, streams):
    """The CA ends soon: it is followed, and nobody notices."""
    kubernetes = sample.kubernetes
    before = bundle()
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 10 * 86400))
    patch = {"data": {"expires": base64.b64encode(soon.encode()).decode()}}
    kubernetes.kubectl("patch", "secret", SECRET, "-n", OPERATOR_NAMESPACE, "--type=merge", "-p", json.dumps(patch))
    watching = Watching(ask, streams, 1)

    def followed():
        watching.look()
        now = bundle()
        return now if now.count("BEGIN") == 2 and before in now else None
    checks.holds("a CA that ends soon is followed by one beside which it stays trusted", lambda: within(40, "two of them", followed, every=0.3))
    end = time.monotonic() + 20
    while time.monotonic() < end:
        watching.look()
        time.sleep(0.3)
    checks.check("no request failed meanwhile", not watching.wrong and not watching.none, watching)
    only = bundle().replace(before, "")
    for name, address in operators(sample).items():
        checks.holds(f"{name} shows a certificate of the new one", lambda address=address: within(
            20, "200", lambda: direct(sample, address, streams, only, "front-proxy")[0] == 200, every=0.5))


def _foreign(checks, sample, available):
    """Somebody else takes the APIService: it is theirs."""
    kubernetes = sample.kubernetes
    name = f"v1beta2.{GROUP}"
    theirs = {"spec": {"service": {"namespace": "monitoring", "name": "prometheus-adapter"}, "caBundle": None, "insecureSkipTLSVerify": True}}
    kubernetes.kubectl("patch", "apiservice", name, "--type=merge", "-p", json.dumps(theirs))
    mark = kubernetes.audit.mark()
    try:
        def told():
            for pod, address in operators(sample).items():
                text = kubernetes.http(f"http://{address}:8080/metrics")[1]
                if "\nsluice_operator_metrics_api_broken 1\n" not in text:
                    raise Failed(f"{pod} does not say that it is broken")
                log = kubernetes.kubectl("logs", pod, "-n", OPERATOR_NAMESPACE)
                if "belongs to Service monitoring/prometheus-adapter" not in log:
                    raise Failed(f"the log of {pod} does not name who has it")
            return True
        checks.holds("an APIService that others have taken is told, by metric and log", lambda: within(40, "told", told, every=1))
        time.sleep(12)
        spec = kubernetes.json("get", "apiservice", name)["spec"]
        written = [e for e in kubernetes.audit.entries(mark, user=sample.operator_user(), writes=True, resource="apiservices") if e.name == name]
        checks.check("and left alone", "caBundle" not in spec and spec["service"]["name"] == "prometheus-adapter" and not written, f"{spec} {written}")
    finally:
        kubernetes.kubectl("patch", "apiservice", name, "--type=merge", "-p", '{"spec":{"insecureSkipTLSVerify":null}}')
        demo.install(kubernetes, *ON)
    checks.holds("given back, it serves again", lambda: within(60, "available", available, every=0.5))


def _stale(checks, sample, ask, viewers):
    """A node hangs: its number is unknown, not less."""
    edges = sample.pods("demo-edge")
    watching = Watching(ask, viewers, 1)
    counts = {}
    for pod in edges:
        status, answer = ask(path("pods", pod["metadata"]["name"], "viewers"))
        counts[pod["metadata"]["name"]] = int(answer["items"][0]["value"]) if status == 200 else 0
    # The one without viewers hangs: those of the other one go on, and the pool's number is not known all the same.
    pod = min(edges, key=lambda each: counts[each["metadata"]["name"]])
    name = pod["metadata"]["name"]
    container = next(c for c in pod["status"]["containerStatuses"] if c["name"] == "node")["containerID"].rpartition("/")[2]
    node = next(one for one in sample.kubernetes.nodes() if one.name == pod["spec"]["nodeName"])
    pid = next(int(line.split()[1]) for line in node.ctr("tasks", "ls").splitlines() if line.startswith(container))
    os.kill(pid, signal.SIGSTOP)
    said = None
    try:
        end = time.monotonic() + 50
        while said is None and time.monotonic() < end:
            if watching.look() is None and name in watching.last:
                said = watching.last
            time.sleep(0.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    checks.check("the number of a pool with a node that hangs is unknown, and why is said", said and "has not told" in said, watching)
    checks.check("it was never told as less", not watching.wrong, watching)
    checks.holds("when the node goes on, so does the number", lambda: within(30, "a number", lambda: (watching.look() or 0) >= 1, every=0.5))
    sample.settled()


def _uninstalled(checks, sample):
    kubernetes = sample.kubernetes
    kubernetes.helm("uninstall", demo.RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait")
    try:
        left = [a["metadata"]["name"] for a in kubernetes.json("get", "apiservices")["items"] if a["spec"].get("group") == GROUP]
        checks.check("helm uninstall takes the APIServices along", not left, left)
        kubernetes.kubectl("create", "namespace", "passing")
        checks.holds("a namespace can be deleted then",
                     lambda: kubernetes.kubectl("delete", "namespace", "passing", "--timeout=60s") or True)
    finally:
        demo.install(kubernetes)
        sample.operator_ready()
    checks.holds("installed without it, the cluster is Ready", sample.ready)
    left = kubernetes.json("get", "apiservices")["items"]
    checks.check("and there is no APIService", not any(a["spec"].get("group") == GROUP for a in left))
