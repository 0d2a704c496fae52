"""WebRTC sessions on a pod that goes out of service: media goes on until the drain's deadline, nobody new comes, and clients are told."""

import json
import tempfile
import time
from pathlib import Path

from ..procs import Failed, within
from .clients import told, uncut
from .plugin import Plugin
from .site import PUBLISH, WATCH

DEADLINE = 25
# What the operator and the node take to see it, to tell clients and to end, at most.
LATE = 30


def edges(checks, site):
    """The edge pool is scaled in while both of its pods have viewers."""
    sample = site.sample
    publisher = site.publish("drained")
    within(20, "the stream plays", lambda: site.ask("whep", "drained"), every=0.5)
    # One after the other: each group is to be on both edges.
    before = site.play("drained", 4)
    within(20, "four viewers are on two edges", lambda: viewers(sample, 4), every=0.3)
    until = site.play("drained", 4)
    sockets = [site.socket() for _ in range(4)]
    checks.holds("eight viewers are on two edges", lambda: within(20, "viewers", lambda: viewers(sample, 8), every=0.3))
    try:
        drain = Drain(checks, site, "demo-edge", lambda: site.ask("whep", "drained", WATCH))
        patch = {"spec": {"drain": {"deadline": f"{DEADLINE}s"}, "replicas": 1}}
        sample.kubectl("patch", "epool", "demo-edge", "--type=merge", "-p", json.dumps(patch))
        drain.begins("scaled in, one of them drains, and new viewers come to the other one")
        drain.lasts(before, "four viewers on both noticed nothing as long as it did")
        drain.ends(until, sockets, "viewer")
        again = site.play("drained", 2)
        time.sleep(3)
        uncut(checks, "who comes back is served by the other edge", again.done(), 1.0)
        uncut(checks, "the publisher noticed nothing", publisher.done(), 1.0)
    finally:
        for socket in sockets:
            socket.close()
        patch = {"spec": {"drain": None, "replicas": 2}}
        sample.kubectl("patch", "epool", "demo-edge", "--type=merge", "-p", json.dumps(patch))


def origin(checks, site):
    """An origin is drained with the plugin while it has publishers."""
    sample = site.sample
    before, until = site.publish("early"), site.publish("late")
    within(20, "the streams play", lambda: site.ask("whep", "early") and site.ask("whep", "late"), every=0.5)
    watched = site.play("early", 2)
    sockets = [site.socket(PUBLISH) for _ in range(2)]
    going = sample.pods("demo-origin")[0]["metadata"]["name"]
    try:
        drain = Drain(checks, site, "demo-origin", lambda: site.ask("whip", "new", PUBLISH))
        with tempfile.TemporaryDirectory() as folder:
            Plugin(sample, Path(folder)).run("drain", going, "--deadline", f"{DEADLINE}s")
        drain.begins("an origin drains, and new publishers come to another one")
        uncut(checks, "viewers of its streams noticed nothing", watched.done(), 1.0)
        drain.lasts(before, "nor did its publisher, as long as it drained")
        drain.ends(until, sockets, "publisher")
    finally:
        for socket in sockets:
            socket.close()


class Drain:
    """The drain of one pod of a pool, from now; `ask` opens a session through the Ingress."""

    def __init__(self, checks, site, pool, ask):
        self.checks, self.site, self.pool, self.ask = checks, site, pool, ask
        self.began = time.monotonic()
        self.name = None

    def begins(self, what):
        def draining():
            found = [pod["name"] for pod in self.site.sample.pool(self.pool)["status"]["pods"] if pod["state"] == "Draining"]
            if len(found) != 1:
                raise Failed(f"draining: {found}")
            return found[0]

        def elsewhere():
            self.name = within(20, "a pod drains", draining, every=0.3)
            # Who is on the way when it begins is let in.
            within(10, "new sessions come elsewhere", lambda: all(self._asked() != self.name for _ in range(4)), every=0.5)
            return True
        self.checks.holds(what, elsewhere)

    def _asked(self):
        return self.site.pod_of(self.ask())["metadata"]["name"]

    def _there(self):
        return self.site.sample.kubectl("get", "pod", self.name, check=False).returncode == 0

    def lasts(self, clients, what):
        time.sleep(max(0.0, self.began + DEADLINE - 5 - time.monotonic()))
        uncut(self.checks, what, clients.done(), 1.0)
        service = self.site.sample.kubectl("get", "service", f"{self.name}-webrtc", check=False)
        self.checks.check("it is there, and so are the ports that lead to it", self._there() and service.returncode == 0, service.stderr.strip())

    def ends(self, clients, sockets, kind):
        """`clients` stay until they are cut; some of `sockets` are at the pod."""
        early = sum(any(one.get("definition") == "server_will_stop" for one in socket.heard) for socket in sockets)
        within(DEADLINE + LATE, f"{self.name} is gone", lambda: not self._there(), every=0.3)
        after = time.monotonic() - self.began
        self.checks.check("at its deadline it goes", DEADLINE - 1 <= after <= DEADLINE + LATE, f"after {after:.0f} s of {DEADLINE}")
        warned = [socket for socket in sockets if any(one.get("definition") == "server_will_stop" for one in socket.heard)]
        self.checks.check("then it told clients of its WebSocket that it stops", warned and not early,
                          f"{len(warned)} of {len(sockets)}, {early} before")
        others = [socket for socket in sockets if socket not in warned]
        self.checks.holds(f"those of other pods are served: {len(others)}", lambda: all(self._answers(socket) for socket in others))
        asked = time.monotonic()
        report = clients.done()
        problems = report["continuity"]["problems"]
        # They are counted from the beginning of the clients' window.
        cut = [asked - report["window_s"] + float(problem.split(" s,")[0]) - self.began for problem in problems]
        self.checks.check(f"no {kind} was cut before the deadline, and who had stayed was then",
                          bool(cut) and min(cut) >= DEADLINE - 1, [f"{one:.0f} s" for one in cut])
        self.checks.note(told(report))
        for problem in problems:
            self.checks.note(problem)

    @staticmethod
    def _answers(socket):
        socket.say("ping")
        return bool(socket.hears("pong"))


def viewers(sample, wanted):
    """{pod: viewers}, when each edge has some."""
    status = sample.pool("demo-edge")["status"]
    found = {pod["name"]: pod["viewers"] for pod in status["pods"]}
    if status["viewers"] != wanted or len(found) != 2 or min(found.values()) == 0:
        raise Failed(f"viewers: {found}")
    return found
