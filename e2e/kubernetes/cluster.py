"""The cluster as a whole: how it comes up, what one does with it, how it goes without a trace."""

import fcntl
import http.client
import json
import os
import shutil
import signal
import ssl
import time
from pathlib import Path

from . import build, components, images, node, outside, pki, space
from .audit import Audit
from .paths import BIN, CONTROL, HOME, KUBECONFIG, LOGS, STATE
from .procs import Daemon, Failed, born, require, run, say, within

# Every real node that was ever started has one of these numbers.
NUMBERS = range(1, 10)


class Kubernetes:
    """The one local Kubernetes of this machine, running or not."""

    def __init__(self):
        self.audit = Audit(components.AUDIT_LOG)

    # --- parts

    def daemon(self, name):
        """A process by its name: `kube-apiserver`, `etcd`, `kubelet-node1`, `containerd-node1`, `coredns`, `mongodb-media` …"""
        if name in components.ALL:
            return components.ALL[name]()
        for one in self.nodes():
            for daemon in (one.kubelet, one.containerd):
                if daemon.name == name:
                    return daemon
        # What else was started can be told to end, not to start.
        return Daemon(name, [])

    def daemons(self):
        """The names of all that were started."""
        folder = STATE / "daemons"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def nodes(self):
        return [one for number in NUMBERS if (one := node.Node(number)).dir.exists()]

    def node(self, number=1):
        return node.Node(number)

    # --- up

    def up(self):
        """Starts what does not run; returns when pods can run, names resolve and CPU is measured."""
        if os.geteuid() != 0:
            raise Failed("network namespaces and containers need root: run this with sudo")
        build.programs()
        with Alone():
            if self._mend():
                return self
            if STATE.exists() or space.exists():
                say("clearing what an earlier cluster left")
                self._down()
            node.throw_away(wait=False)
            began = time.monotonic()
            try:
                self._up()
            except BaseException:
                # Logs stay; the next one starts from nothing.
                self._down()
                raise
            say(f"Kubernetes is up ({time.monotonic() - began:.0f} s)")
        return self

    def _mend(self):
        """Whether a cluster of these programs runs. What of it has ended is started again; its objects stay."""
        if not (STATE / "up").exists() or not space.exists() or (STATE / "up").read_text() != self._made_of():
            return False
        # Without its database there is nothing to go on with; a machine that was started anew has no process at all.
        if not components.etcd().running() or not any(one.containerd.running() for one in self.nodes()):
            return False
        ended = [name for name in components.ALL if not components.ALL[name]().running()]
        for name in ended:
            say(f"starting {name} again")
            components.ALL[name]().start()
        if "kube-apiserver" in ended:
            self.wait_api()
        for one in self.nodes():
            if not (one.kubelet.running() and one.containerd.running()):
                say(f"starting {one.name} again")
                one.start()
            self.wait_node(one)
        return True

    @staticmethod
    def _made_of():
        return "\n".join(os.path.realpath(BIN / name) for name in build.PROGRAMS)

    def _up(self):
        shutil.rmtree(LOGS, ignore_errors=True)
        STATE.mkdir(parents=True)
        space.create()
        first = self.node(1)
        components.certificates()
        etcd = components.etcd().start()
        first.start_runtime()
        within(10, "etcd listens", lambda: _listens("127.0.0.1", 2379), every=0.02)
        api = components.apiserver().start()
        require(etcd, 1, "etcd runs", lambda: True)
        images.wait_for_runtime(first)
        images.load_pause(first)
        self.wait_api(api)
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            components.ALL[name]().start()
        first.kubelet.start()
        within(10, "what belongs to Kubernetes itself is there", lambda: self.apply(components.objects()) or True, every=0.2)
        for name in ("coredns", "metrics-server"):
            components.ALL[name]().start()
        self.wait_node(first)
        require(components.coredns(), 20, "CoreDNS is ready", lambda: self.http("http://10.10.0.1:8181/ready")[0] == 200)
        require(components.metrics_server(), 40, "metrics-server is available", lambda: self.available("v1beta1.metrics.k8s.io"))
        within(20, "there is a default service account", lambda: self.get("/api/v1/namespaces/default/serviceaccounts/default"))
        (STATE / "up").write_text(self._made_of())

    def wait_api(self, daemon=None):
        """Waits until the API server takes requests."""
        require(daemon or components.apiserver(), 60, "the API server is ready", lambda: self.request("GET", "/readyz")[0] == 200)

    def wait_node(self, one, seconds=40):
        def ready():
            conditions = self.get(f"/api/v1/nodes/{one.name}")["status"].get("conditions", [])
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        require(one.kubelet, seconds, f"{one.name} is Ready", ready)

    def available(self, name):
        """Whether the API server reaches an aggregated API."""
        conditions = self.get(f"/apis/apiregistration.k8s.io/v1/apiservices/{name}").get("status", {}).get("conditions", [])
        return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)

    def restart_api(self):
        """kill -9 of the API server, and another one; returns when it takes requests."""
        api = components.apiserver()
        api.kill()
        self.wait_api(api.start())

    def add_node(self, number=2):
        """A second real node, with every image that the first one has."""
        one = self.node(number)
        with Alone():
            one.start_runtime()
            images.wait_for_runtime(one)
            for archive in sorted((self.node(1).dir / "archives").glob("*.tar")):
                images.load(one, archive)
            images.copy(self.node(1), one)
            one.start()
            self.wait_node(one)
        return one

    # --- down

    def down(self):
        """Ends all of it and leaves nothing: no process, mount, control group, namespace, folder."""
        if os.geteuid() != 0:
            raise Failed("root is needed: run this with sudo")
        with Alone():
            self._down()
            node.throw_away(wait=True)

    def _down(self):
        nodes = self.nodes()
        for one in nodes:
            one.stop_pods()
        for name in self.daemons():
            Daemon(name, []).kill()
        node.kill_containers()
        outside.remove()
        # Tests' own, and shims that nobody ended.
        for _ in range(100):
            pids = space.members()
            if not pids:
                break
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        within(10, "all mounts are gone", lambda: node.clear(nodes))
        space.remove()
        KUBECONFIG.unlink(missing_ok=True)
        # The next cluster at this address serves other kinds.
        shutil.rmtree(Path.home() / ".kube" / "cache" / "discovery" / f"{CONTROL}_6443", ignore_errors=True)

    # --- what one does with it

    def request(self, method, path, body=None, kind="application/json", user="admin", patience=10):
        """One request to the API server: (status, text). `user` is whose certificate is shown."""
        context = ssl.create_default_context(cafile=str(pki.crt("ca")))
        context.load_cert_chain(pki.crt(user), pki.key(user))
        with space.entered():
            connection = http.client.HTTPSConnection(CONTROL, 6443, timeout=patience, context=context)
            try:
                data = json.dumps(body) if isinstance(body, (dict, list)) else body
                connection.request(method, path, data, {"Content-Type": kind, "Accept": "application/json"})
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except http.client.HTTPException as error:
                raise Failed(f"{method} {path}: {error}") from error
            finally:
                connection.close()

    def get(self, path):
        """An object or a list by its path; fails when the API server does not answer 200."""
        status, text = self.request("GET", path)
        if status != 200:
            raise Failed(f"GET {path}: {status} {text[:300]}")
        return json.loads(text)

    def http(self, url, patience=5, method="GET", body=None, headers=None):
        """A request from within the cluster's network: (status, text)."""
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        if scheme != "http":
            raise ValueError(f"{url}: only http")
        with space.entered():
            connection = http.client.HTTPConnection(host, timeout=patience)
            try:
                connection.request(method, slash + path or "/", body, headers or {})
                answer = connection.getresponse()
                return answer.status, answer.read().decode(errors="replace")
            except http.client.HTTPException as error:
                raise Failed(f"{url}: {error}") from error
            finally:
                connection.close()

    def inside(self, command):
        """The command, run in the cluster's network."""
        return space.inside(command)

    def _tool(self, name, words, **more):
        env = {**os.environ, "KUBECONFIG": str(KUBECONFIG), "PATH": f"{BIN}:{os.environ['PATH']}"}
        return run(space.inside([BIN / name, *words]), env=env, **more)

    def kubectl(self, *words, **more):
        """Runs kubectl; returns what it wrote. `text=` is its input, `check=False` gives the finished process instead."""
        return self._tool("kubectl", words, **more)

    def helm(self, *words, **more):
        return self._tool("helm", words, **more)

    def json(self, *words):
        """What kubectl prints with `-o json`, read."""
        return json.loads(self.kubectl(*words, "-o", "json"))

    def apply(self, what, *words, namespace=None, manager="kit", check=True):
        """Server-side apply of YAML text, a file or folder, or objects. Returns what kubectl said."""
        where = ["-n", namespace] if namespace else []
        common = ["apply", "--server-side", f"--field-manager={manager}", *where, *words]
        if isinstance(what, Path):
            return self.kubectl(*common, "-f", what, check=check)
        if not isinstance(what, str):
            what = json.dumps({"apiVersion": "v1", "kind": "List", "items": what if isinstance(what, list) else [what]})
        return self.kubectl(*common, "-f", "-", text=what, check=check)

    def define(self, name):
        """Makes the API server know the kinds of `gateway-api`, `prometheus` or `cert-manager`."""
        files = build.definitions(name)
        self.kubectl("apply", "--server-side", "--force-conflicts", *[word for file in files for word in ("-f", file)])
        definitions = [f"crd/{crd}" for crd in self._defined(files)]
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *definitions)

    @staticmethod
    def _defined(files):
        names = []
        for file in files:
            text = file.read_text()
            for part in text.split("\n---\n"):
                if "\nkind: CustomResourceDefinition" in part:
                    metadata = part.split("\nmetadata:", 1)[1]
                    names += [line.split(":", 1)[1].strip() for line in metadata.splitlines() if line.startswith("  name:")][:1]
        return names

    def import_archive(self, archive):
        """Hands an image archive to every real node, and to those that come later."""
        kept = self.node(1).dir / "archives"
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, kept / Path(archive).name)
        for one in self.nodes():
            images.load(one, archive)

    def import_image(self, program):
        """Hands the image of `sluice-node` or `sluice-operator` to every node. Returns whether it was another one than before."""
        return images.install(self.nodes(), program)

    def add_volumes(self, count, size="1Gi", storage_class="local", number=1):
        """Folders of a node as PersistentVolumes: unlike those of the host path provisioner they get the pod's group."""
        one = self.node(number)
        objects = [{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": storage_class},
                    "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}]
        for index in range(count):
            path = one.dir / "volumes" / f"{storage_class}-{index}"
            path.mkdir(parents=True, exist_ok=True)
            here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [one.name]}
            objects.append({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {
                    "name": f"{storage_class}-{one.name}-{index}", "labels": {"sluice.dev/kit": "volume"}},
                "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": storage_class,
                         "persistentVolumeReclaimPolicy": "Retain", "local": {"path": str(path)},
                         "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}}})
        self.apply(objects)

    def assign_address(self, service, namespace, address):
        """Does what a cloud does for a Service of type LoadBalancer: gives it an address, of 10.10.1.0/24."""
        status = {"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}}
        self.kubectl("patch", "service", service, "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    def status(self):
        """What runs, a line each."""
        lines = []
        for name in self.daemons():
            pid = Daemon(name, []).pid()
            lines.append(f"{name:32} {f'pid {pid}' if pid and born(pid) else 'does not run'}")
        return "\n".join(lines) or "there is no cluster: scripts/kubernetes.sh up"


def _listens(host, port):
    with space.entered():
        connection = http.client.HTTPConnection(host, port, timeout=1)
        connection.connect()
        connection.close()
    return True


class Alone:
    """One at a time, whoever asks: of what brings the cluster up or down, or (another `name`) of what changes the sample."""

    def __init__(self, name="cluster"):
        self.name = name

    def __enter__(self):
        HOME.mkdir(parents=True, exist_ok=True)
        self.file = open(HOME / f"{self.name}.lock", "w", encoding="utf-8")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another one to be done")
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()
