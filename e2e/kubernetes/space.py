"""The network namespace that the whole cluster lives in: its addresses can neither leave the machine nor clash with it."""

import contextlib
import ctypes
import os
import subprocess

from .paths import CONTROL, LOAD_BALANCERS, SIMULATED_PODS, SPACE
from .procs import Failed, run

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
FILE = f"/run/netns/{SPACE}"


def exists():
    return os.path.exists(FILE)


def inside(command):
    """The command, run in the namespace; it keeps its process id. (`ip netns exec` would hide the control groups.)"""
    return ["nsenter", f"--net={FILE}", *map(str, command)]


def create():
    run(["ip", "netns", "add", SPACE])
    for line in (
        "link set lo up",
        # The node's network card. A dummy device would do, but not every kernel has it.
        "link add node0 type bridge",
        f"addr add {CONTROL}/24 dev node0",
        "link set node0 up",
        # Nobody is there; the kubelet wants a default route.
        "route add default via 10.10.0.254 dev node0",
        # One process answers for every pod that kwok pretends to run.
        f"route add local {SIMULATED_PODS} dev lo",
        f"route add local {LOAD_BALANCERS} dev lo",
    ):
        run(["ip", "-n", SPACE, *line.split()])
    settings = {
        "net/ipv4/ip_forward": 1,
        "net/ipv6/conf/all/forwarding": 1,
        # Answers of a pod to another one on the same bridge go through address translation, too.
        "net/bridge/bridge-nf-call-iptables": 1,
        "net/ipv4/conf/all/rp_filter": 0,
        "net/ipv4/conf/default/rp_filter": 0,
    }
    script = "\n".join(f"[ ! -e /proc/sys/{name} ] || echo {value} > /proc/sys/{name}" for name, value in settings.items())
    run(inside(["sh", "-c", script]))


def add_address(address):
    """Another address of the machine: that of a further node."""
    have = run(["ip", "-n", SPACE, "addr", "show", "dev", "node0"])
    if f" {address}/" not in have:
        run(["ip", "-n", SPACE, "addr", "add", f"{address}/24", "dev", "node0"])


def remove():
    if exists():
        subprocess.run(["ip", "netns", "del", SPACE], check=False, capture_output=True)


@contextlib.contextmanager
def entered():
    """This thread is in the namespace: what it connects or listens to is there, and stays there."""
    if not exists():
        raise Failed("there is no cluster: scripts/kubernetes.sh up")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    target = os.open(FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(target)
        try:
            yield
        finally:
            _enter(before)
    finally:
        os.close(target)
        os.close(before)


def _enter(descriptor):
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter the network namespace (root is needed): {os.strerror(number)}")


def members(space=FILE):
    """The ids of all processes in the namespace, or in another one, but this one and those that wait for it."""
    own, pid = set(), os.getpid()
    while pid > 1:
        own.add(pid)
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    try:
        wanted = os.stat(space)
    except OSError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in own:
            continue
        try:
            there = os.stat(f"/proc/{entry}/ns/net")
        except OSError:
            continue
        if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry))
    return found
