"""A machine outside of the cluster, in a network namespace of its own: it reaches the cluster's machines and load balancers, but no
pod and no Service, and knows the host names of Ingresses."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from .paths import CONTROL, SPACE
from .procs import run
from .space import members

NAME = "sluice-outside"
FILE = f"/run/netns/{NAME}"
# `ip netns exec` puts what is there in the place of what is in /etc.
_ETC = Path("/etc/netns") / NAME
_NEAR, ADDRESS = "10.20.0.1", "10.20.0.2"
# Nodes and load balancers. Pods and Services are elsewhere.
_REACHED = "10.10.0.0/16"


def create(hosts):
    """The machine; `hosts` lead to the first node there."""
    remove()
    _ETC.mkdir(parents=True)
    (_ETC / "hosts").write_text(f"127.0.0.1 localhost\n{CONTROL} {' '.join(hosts)}\n")
    run(["ip", "netns", "add", NAME])
    for space, line in (
        (SPACE, f"link add outside0 type veth peer name eth0 netns {NAME}"),
        (SPACE, f"addr add {_NEAR}/24 dev outside0"),
        (SPACE, "link set outside0 up"),
        (NAME, "link set lo up"),
        (NAME, f"addr add {ADDRESS}/24 dev eth0"),
        (NAME, "link set eth0 up"),
        (NAME, f"route add {_REACHED} via {_NEAR}"),
    ):
        run(["ip", "-n", space, *line.split()])


def remove():
    """Ends what runs there; the other end of its cable goes with it."""
    for pid in members(FILE):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if os.path.exists(FILE):
        subprocess.run(["ip", "netns", "del", NAME], check=False, capture_output=True)
    shutil.rmtree(_ETC, ignore_errors=True)
    try:
        _ETC.parent.rmdir()
    except OSError:
        # Others have namespaces there, or nobody ever had.
        pass


def command(words):
    """The command, run there; it keeps its process id."""
    return ["ip", "netns", "exec", NAME, *map(str, words)]


class Outside:
    """The machine, for as long as the block runs."""

    def __init__(self, *hosts):
        self.hosts = hosts

    def __enter__(self):
        create(self.hosts)
        return self

    def __exit__(self, *_):
        remove()

    def run(self, *words, **more):
        return run(command(words), **more)
