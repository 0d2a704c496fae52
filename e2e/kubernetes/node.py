"""Real nodes: each a kubelet and a containerd of its own, with everything below one folder."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from . import components, images, pki, space
from .paths import BIN, CGROUP, CONTROL, DNS_SERVICE, HOME, SOCKETS, STATE
from .procs import Daemon, run

CONTROLLERS = Path("/sys/fs/cgroup")
RUNTIME = "io.containerd.grpc.v1.cri"
RESULTS = Path("/var/lib/cni/results")

# A kubelet's folder for device plugins cannot be configured. Each gets its own there, which nobody else sees; its other
# mounts, below the root-dir, are shared with containerd.
PLUGINS = Path("/var/lib/kubelet/device-plugins")
OWN_PLUGINS = f'''mount --make-private "$(findmnt -no TARGET -T {PLUGINS})" && mount --bind "$0" {PLUGINS} && exec "$@"'''


class Node:
    """Node number N of this machine: 10.10.0.N, pods in 10.244.N.0/24."""

    def __init__(self, number):
        self.number = number
        self.name = f"node{number}"
        self.address = CONTROL.rsplit(".", 1)[0] + f".{number}"
        self.dir = STATE / self.name
        self.kubelet_dir = self.dir / "kubelet"
        self.socket = SOCKETS / f"{self.name}.sock"
        self.containerd = Daemon(f"containerd-{self.name}", space.inside(["/usr/bin/containerd", "--config", self.dir / "containerd.toml"]))
        self.kubelet = Daemon(f"kubelet-{self.name}", space.inside([
            "unshare", "--mount", "--propagation", "unchanged", "sh", "-c", OWN_PLUGINS, self.dir / "device-plugins",
            BIN / "kubelet", "--config", self.dir / "kubelet.json", "--kubeconfig", self.dir / "kubeconfig",
            "--hostname-override", self.name, "--node-ip", self.address, "--root-dir", self.kubelet_dir,
            "--cert-dir", self.dir / "certificates"]))

    # --- configuration

    def configure(self):
        for folder in (self.dir, self.kubelet_dir, self.dir / "cni", self.dir / "device-plugins", self.dir / "pod-logs", SOCKETS, PLUGINS):
            folder.mkdir(parents=True, exist_ok=True)
        if str(self.kubelet_dir) not in mounts():
            run(["mount", "--bind", self.kubelet_dir, self.kubelet_dir])
            run(["mount", "--make-shared", self.kubelet_dir])
        space.add_address(self.address)
        pki.leaf(self.name, f"/O=system:nodes/CN=system:node:{self.name}", names=[f"DNS:{self.name}", f"IP:{self.address}"])
        pki.kubeconfig(self.dir / "kubeconfig", self.name, components.API)
        (self.dir / "containerd.toml").write_text(self._containerd())
        (self.dir / "cni" / "10-sluice.conflist").write_text(json.dumps(self._network(), indent=1))
        (self.dir / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (self.dir / "kubelet.json").write_text(json.dumps(self._kubelet(), indent=1))
        for controller in self._controllers():
            path = controller / CGROUP / self.name
            path.mkdir(parents=True, exist_ok=True)
            if controller.name == "cpuset":
                # A new cpuset has no processors and no memory: nothing could run in it.
                for folder in (path.parent, path):
                    for file in ("cpuset.cpus", "cpuset.mems"):
                        if not (folder / file).read_text().strip():
                            (folder / file).write_text((folder.parent / file).read_text())

    @staticmethod
    def _controllers():
        """The folders of cgroup v1's controllers; `unified` is cgroup v2."""
        return [d for d in CONTROLLERS.iterdir() if d.is_dir() and not d.is_symlink() and d.name != "unified"]

    def _containerd(self):
        return f"""version = 2
root = "{self.dir}/containerd"
state = "{SOCKETS}/{self.name}"
oom_score = 0

[grpc]
  address = "{self.socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{self.dir}/opt"

[plugins."{RUNTIME}"]
  sandbox_image = "{images.PAUSE}"
  # Without the right to lower a process's score, every pod would fail.
  restrict_oom_score_adj = true
  # Pods' network namespaces are mounted below `state`, so that none is left behind elsewhere.
  netns_mounts_under_state_dir = true

  [plugins."{RUNTIME}".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self.dir}/cni"

  [plugins."{RUNTIME}".containerd]
    default_runtime_name = "runc"
    [plugins."{RUNTIME}".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    # What pods with a GPU ask for.
    [plugins."{RUNTIME}".containerd.runtimes.nvidia]
      runtime_type = "io.containerd.runc.v2"
"""

    def _network(self):
        return {
            "cniVersion": "0.4.0",
            "name": f"sluice-{self.name}",
            "plugins": [
                {"type": "bridge", "bridge": f"pods{self.number}", "isGateway": True, "ipMasq": False, "hairpinMode": True,
                 "ipam": {"type": "host-local", "dataDir": str(self.dir / "addresses"),
                          "ranges": [[{"subnet": f"10.244.{self.number}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
            ],
        }

    def _kubelet(self):
        offset = 100 * (self.number - 1)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "port": 10250 + offset,
            "healthzBindAddress": self.address,
            "healthzPort": 10248 + offset,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": str(pki.crt("ca"))}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki.crt(self.name)),
            "tlsPrivateKeyFile": str(pki.key(self.name)),
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}/{self.name}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.dir / "resolv.conf"),
            "volumePluginDir": str(self.dir / "plugins"),
            "podLogsDir": str(self.dir / "pod-logs"),
            # Images came from here and cannot be had again: none is thrown away when the machine's disk fills.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "500Mi", "imagefs.available": "500Mi"},
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "10s",
        }

    # --- life

    def start_runtime(self):
        """containerd, with the image of the pods' sandboxes."""
        self.configure()
        self.containerd.start()

    def start(self):
        self.start_runtime()
        images.wait_for_runtime(self)
        images.load_pause(self)
        self.kubelet.start()
        return self

    def ctr(self, *words, **more):
        return run(["ctr", "--address", self.socket, "--namespace", "k8s.io", *words], **more)

    def device_plugin(self, count=1, resource="nvidia.com/gpu"):
        """Makes the kubelet offer `count` devices that do not exist. Returns the daemon: stopped, they are gone."""
        name = f"device-plugin-{self.name}-{resource.replace('/', '-')}"
        return Daemon(name, space.inside([BIN / "device-plugin", "--directory", self.dir / "device-plugins",
                                          "--resource", resource, "--count", count])).start()

    # --- accidents

    def die(self):
        """As when its machine loses power: nobody on it says goodbye, and no packet comes from it."""
        run(space.inside(["ip", "link", "set", f"pods{self.number}", "down"]))
        self.kubelet.kill()
        self.containerd.kill()
        kill_containers(self.name)

    def revive(self):
        """It is started again, as after an accident."""
        run(space.inside(["ip", "link", "set", f"pods{self.number}", "up"]))
        return self.start()

    # --- end

    def stop_pods(self):
        """Ends all containers and what watches over them."""
        self.kubelet.kill()
        if not self.containerd.running():
            return
        done = self.ctr("tasks", "ls", "-q", check=False, timeout=20)
        tasks = done.stdout.split() if done.returncode == 0 else []
        if tasks:
            self.ctr("tasks", "rm", "--force", *tasks, check=False, timeout=60)

    def leftovers(self):
        """What plugins and shims keep outside our folders: notes about addresses, sockets."""
        prefix = f"sluice-{self.name}-"
        found = []
        for path in RESULTS.glob(f"{prefix}*") if RESULTS.is_dir() else ():
            pod = path.name.removeprefix(prefix).rpartition("-")[0]
            found += [path, *RESULTS.glob(f"*-{pod}-*")]
        for path in (SOCKETS / self.name).glob("io.containerd.runtime.v2.task/*/*/address"):
            try:
                found.append(Path(path.read_text().strip().removeprefix("unix://")))
            except OSError:
                # The shim ended just now, and took it away.
                pass
        return found


def _control_groups(node=""):
    """Ours, or those of one node, deepest first."""
    found = []
    for controller in CONTROLLERS.iterdir():
        top = controller / CGROUP / node
        if controller.is_symlink() or not top.is_dir():
            continue
        found += [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
    return found


def kill_containers(node=""):
    """Whatever is left in the pods' control groups, or in those of one node."""
    for _ in range(50):
        pids = set()
        for group in _control_groups(node):
            try:
                pids |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
            except OSError:
                pass
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def mounts():
    """What is mounted below our folders, last first."""
    tops = (f"{STATE}/", f"{SOCKETS}/")
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    return [point for point in reversed(points) if point.startswith(tops)]


def clear(nodes):
    """Takes away everything that nodes leave behind, also after a crash. No process of theirs runs any more."""
    leftovers = [path for node in nodes for path in node.leftovers()]
    kill_containers()
    for path in leftovers:
        path.unlink(missing_ok=True)
    for point in mounts():
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
    for group in _control_groups():
        try:
            group.rmdir()
        except OSError:
            pass
    containers = Path("/var/log/containers")
    for link in containers.iterdir() if containers.is_dir() else ():
        if link.is_symlink() and os.readlink(link).startswith(f"{STATE}/"):
            link.unlink()
    for folder in (PLUGINS, PLUGINS.parent):
        try:
            folder.rmdir()
        except OSError:
            # Not there, or of a kubelet that is not ours.
            pass
    if mounts():
        # Never delete through a mount.
        return False
    shutil.rmtree(SOCKETS, ignore_errors=True)
    if STATE.exists():
        STATE.rename(HOME / f"gone-{time.time_ns()}")
    return True


def throw_away(wait):
    """Deletes the files of clusters that are gone: thousands, which takes a while on a busy disk."""
    gone = [str(path) for path in HOME.glob("gone-*")]
    if gone:
        child = subprocess.Popen(["nice", "rm", "-rf", *gone], stdin=subprocess.DEVNULL, start_new_session=True)
        if wait:
            child.wait()
        else:
            # It ends by itself.
            child.returncode = 0
