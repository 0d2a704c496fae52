"""The sample cluster as the checks see it: its objects, a publisher, viewers."""

import signal
import subprocess

from .. import demo
from ..cluster import Kubernetes
from ..paths import LOGS, OPERATOR_NAMESPACE, SAMPLE_NAMESPACE
from ..procs import Failed, within
from .clients import Clients

# What tells a stream's story is shared with the tests of clusters without Kubernetes; kubernetes.procs finds it.
from play import Viewer
from watch import Watchers

# What the operator makes beside pods.
OWNED = ("services", "configmaps", "secrets", "serviceaccounts", "poddisruptionbudgets", "networkpolicies", "ingresses")


class Publisher:
    """ffmpeg, once: when its connection is cut, it ends, and that is seen."""

    def __init__(self, stream, host):
        self.stream = stream
        self.log = LOGS / f"publisher-{stream}.log"
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen([
                "ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-f", "lavfi", "-i",
                "sine=frequency=440:sample_rate=48000", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt",
                "yuv420p", "-g", "30", "-b:v", "600k", "-c:a", "aac", "-f", "flv", f"rtmp://{host}/LiveApp/{stream}"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def running(self):
        return self.child.poll() is None

    def stop(self):
        if self.running():
            self.child.send_signal(signal.SIGINT)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Watched:
    """A viewer of one stream at one pod or Service, from now until `done`."""

    def __init__(self, base, stream):
        viewer = Viewer(base, stream)
        within(30, f"{stream} plays at {base}", lambda: len(viewer.look().segments) >= 1, every=0.3)
        self.watchers = Watchers({stream: viewer}, every=0.2, threads=1, segments=True).start()
        self.seen = self.watchers.seen[stream]

    def done(self):
        self.watchers.stop()
        return self.seen


class Sample:
    """The cluster `demo` in namespace `media`."""

    namespace = SAMPLE_NAMESPACE

    def __init__(self):
        self.kubernetes = Kubernetes()
        self.publishers = []
        self.clients = []

    def close(self):
        for one in (*self.publishers, *self.clients):
            one.stop()

    # --- objects

    def kubectl(self, *words, **more):
        return self.kubernetes.kubectl(*words, "-n", self.namespace, **more)

    def json(self, *words):
        return self.kubernetes.json(*words, "-n", self.namespace)

    def pool(self, name):
        return self.json("get", demo.POOLS[name], name)

    def ready(self, seconds=120):
        demo.wait_ready(self.kubernetes, seconds)

    def settled(self, seconds=90):
        """Ready, and nothing of what was before is on its way out."""
        self.ready()

        def gone():
            items = self.json("get", "pods", "-l", "sluice.dev/cluster=demo")["items"]
            going = [p["metadata"]["name"] for p in items if "deletionTimestamp" in p["metadata"]]
            if going:
                raise Failed(f"still going: {', '.join(going)}")
            return True
        within(seconds, "no pod is on its way out", gone, every=0.5)

    def pods(self, pool=None):
        """The pods of the cluster or of a pool that are not going."""
        selector = "sluice.dev/cluster=demo" + (f",sluice.dev/pool={pool}" if pool else "")
        items = self.json("get", "pods", "-l", selector)["items"]
        return sorted((p for p in items if "deletionTimestamp" not in p["metadata"]), key=lambda p: p["metadata"]["name"])

    def uids(self, pool=None):
        return {p["metadata"]["name"]: p["metadata"]["uid"] for p in self.pods(pool)}

    def owned(self):
        """{(kind, name): uid} of what the operator made for the cluster, pods apart."""
        found = {}
        for kind in OWNED:
            for item in self.json("get", kind, "-l", "sluice.dev/cluster=demo")["items"]:
                found[(kind, item["metadata"]["name"])] = item["metadata"]["uid"]
        return found

    def whole(self, before, seconds=60):
        """Waits until everything that was there before is there again."""
        def all_there():
            missing = set(before) - set(self.owned())
            if missing:
                raise Failed("missing: " + ", ".join(f"{kind}/{name}" for kind, name in sorted(missing)))
            return True
        within(seconds, "all owned objects are there", all_there, every=0.5)

    # --- the operator

    def operator(self):
        """Its Deployment."""
        items = self.kubernetes.json("get", "deployments", "-n", OPERATOR_NAMESPACE, "-l", f"app.kubernetes.io/instance={demo.RELEASE}")["items"]
        if len(items) != 1:
            raise Failed(f"{len(items)} Deployments of the release {demo.RELEASE} in {OPERATOR_NAMESPACE}")
        return items[0]

    def operator_user(self):
        account = self.operator()["spec"]["template"]["spec"]["serviceAccountName"]
        return f"system:serviceaccount:{OPERATOR_NAMESPACE}:{account}"

    def kill_operator(self):
        """Its pods are gone at once, as when their machine dies."""
        labels = self.operator()["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        self.kubernetes.kubectl("delete", "pods", "-n", OPERATOR_NAMESPACE, "-l", selector, "--grace-period=0", "--force", "--wait=false")

    def scale_operator(self, replicas):
        name = self.operator()["metadata"]["name"]
        self.kubernetes.kubectl("scale", "deployment", name, "-n", OPERATOR_NAMESPACE, f"--replicas={replicas}")
        if replicas:
            self.operator_ready()
        else:
            within(60, "the operator is gone", lambda: not self.operator()["status"].get("replicas"), every=0.3)

    def operator_ready(self, seconds=60):
        name = self.operator()["metadata"]["name"]
        self.kubernetes.kubectl("rollout", "status", "deployment", name, "-n", OPERATOR_NAMESPACE, f"--timeout={seconds}s")

    # --- streams

    def address(self, service):
        return demo.address(self.kubernetes, service)

    def publish(self, stream="check", pod=None):
        """A publisher through the origin pool's Service, or at a pod, once its stream plays through the edge pool's Service."""
        publisher = Publisher(stream, pod["status"]["podIP"] if pod else self.address("demo-origin"))
        self.publishers.append(publisher)

        def running():
            if not publisher.running():
                raise Failed(f"the publisher has ended: {publisher.log.read_text(errors='replace')[-300:]}")

        self.plays(stream, running)
        return publisher

    def plays(self, stream, before=lambda: None):
        """Waits until a stream plays through the edge pool's Service; `before` is called each time."""
        url = f"http://{self.address('demo-edge')}:5080"

        def plays():
            before()
            return "#EXTINF" in Viewer(url, stream).look().text

        within(30, f"{stream} plays through the edge pool's Service", plays, every=0.5)

    def load_publishers(self, name, count):
        """sluice-load publishes NAME0, NAME1, … through the origin pool's Service, and comes back when it is cut."""
        url = f"rtmp://{self.address('demo-origin')}/LiveApp/{name}{{n}}"
        return self._load(f"publish-{name}", "ingest", url, count, "--kbps", 60, "--reconnect")

    def load_players(self, name, count, stream, *more):
        """sluice-load plays a stream through the edge pool's Service, with the buffer of an ordinary player."""
        url = f"http://{self.address('demo-edge')}:5080/LiveApp/streams/{stream}.m3u8"
        return self._load(f"play-{name}", "play-hls", url, count, "--like-a-player", *more)

    def rtc(self, command, pool, stream, count, *more):
        """sluice-load publishes (`publish-whip`) or plays (`play-whep`) over WebRTC, negotiated through the pool's Service."""
        url = f"http://{self.address(pool)}:5080/LiveApp/{command.rpartition('-')[2]}/{stream}"
        return self.load(command, url, count, *more)

    def load(self, command, url, count, *more, place=list):
        return self._load(f"{command}-{len(self.clients)}", command, url, count, *more, place=place)

    def _load(self, *words, place=list):
        clients = Clients(*words, place=place)
        self.clients.append(clients)
        return clients

    def watch(self, stream, pod=None):
        """A viewer at a pod, or at the edge pool's Service."""
        host = pod["status"]["podIP"] if pod else self.address("demo-edge")
        return Watched(f"http://{host}:5080", stream)


def small(namespace, name="small"):
    """A cluster of one origin, whose database is the sample's."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database", "namespace": namespace},
         "stringData": {"uri": "mongodb://mongodb.media:27017/"}},
        {"apiVersion": "sluice.dev/v1alpha1", "kind": "MediaCluster", "metadata": {"name": name, "namespace": namespace},
         "spec": {"database": {"external": {"secret": {"name": "database"}}}}},
        {"apiVersion": "sluice.dev/v1alpha1", "kind": "OriginPool", "metadata": {"name": f"{name}-origin", "namespace": namespace}, "spec": {
            "clusterRef": {"name": name}, "replicas": 1, "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}}},
    ]


def undisturbed(checks, what, seen, longest):
    """The viewer got media all the time, in order, and every request was answered."""
    good = seen.looks > 0 and seen.longest_gap <= longest and not seen.failures and not seen.falls
    checks.check(what, good, f"{seen.looks} looks, longest gap {seen.longest_gap:.2f} s (at most {longest}), {seen.failures} failures"
                 f"{f' ({seen.last_problem})' if seen.last_problem else ''}, {len(seen.falls)} steps back")
