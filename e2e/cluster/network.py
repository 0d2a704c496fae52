"""Machines made of network namespaces: a bridge, and a namespace with an address for each machine. Needs root."""

import os
import subprocess

from procs import Failed


def ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise Failed(f"ip {' '.join(words)}: {done.stderr.strip()} (network namespaces need root)")
    return done.returncode == 0


class Lan:
    """A switch with machines on it, 10.SECOND.0.0/24. This machine is on it as .254."""

    def __init__(self, work, second=177):
        if os.geteuid() != 0:
            raise Failed("network namespaces need root: run this with sudo")
        self.tag = f"sl{os.getpid() % 100000}"
        self.second = second
        self.machines = {}
        self.bridge = f"{self.tag}b"
        work.undo(self.remove)
        # Without snooping, multicast goes everywhere, as through a simple switch.
        ip("link", "add", self.bridge, "type", "bridge", "mcast_snooping", "0")
        ip("addr", "add", f"{self.address(254)}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")

    def address(self, number):
        return f"10.{self.second}.0.{number}"

    def machine(self, name):
        """A new machine; its address."""
        number = len(self.machines) + 1
        space, inner, outer = f"{self.tag}-{name}", f"{self.tag}i{number}", f"{self.tag}o{number}"
        ip("netns", "add", space)
        self.machines[name] = (space, outer)
        ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        ip("link", "set", inner, "netns", space)
        ip("link", "set", outer, "master", self.bridge, "up")
        ip("-n", space, "link", "set", inner, "name", "eth0")
        ip("-n", space, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", space, "link", "set", "lo", "up")
        return self.address(number)

    def inside(self, name, command):
        """The command, run on that machine; it keeps its process id."""
        return ["ip", "netns", "exec", self.machines[name][0], *command]

    def cut(self, name):
        """Pulls the plug of a machine: nobody is told."""
        ip("link", "set", self.machines[name][1], "down")

    def heal(self, name):
        ip("link", "set", self.machines[name][1], "up")

    def remove(self):
        for space, _ in self.machines.values():
            ip("netns", "del", space, check=False)
        ip("link", "del", self.bridge, check=False)
