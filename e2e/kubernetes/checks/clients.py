"""Clients that measure: sluice-load, run beside a check in the cluster's network, and what it reports."""

import json
import signal
import subprocess

from .. import images
from ..paths import LOGS
from ..procs import Failed


class Clients:
    """Clients of one kind, from now until `done`. Their window begins when the last of them has started."""

    def __init__(self, name, command, url, count, *more, place=list):
        """`place` puts a command where it is to run, if that is elsewhere."""
        self.name = name
        self.log = LOGS / f"load-{name}.log"
        words = [images.compiled("sluice-load"), command, "--url", url, "-n", count, "--rate", 20, "--warmup", "0s", "--duration", "1h", "--json",
                 "--allow-remote", *more]
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen(place([str(word) for word in words]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out)
        self.report = None

    def done(self):
        """Ends them; what they noticed."""
        if self.report is None:
            self.child.send_signal(signal.SIGINT)
            try:
                said = self.child.communicate(timeout=20)[0]
            except subprocess.TimeoutExpired as error:
                self.stop()
                raise Failed(f"{self.name}: no report") from error
            if not said:
                raise Failed(f"{self.name}: no report: {self.log.read_text(errors='replace')[-300:]}")
            self.report = json.loads(said)
        return self.report

    def stop(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


# What nobody may notice. A viewer may see a discontinuity where a publisher came back, and connections that the server closes
# after it said so are part of every drain.
TROUBLE = ("stalls", "errors", "missed", "falls", "restarts", "broken")


def told(report):
    """A line with the numbers of a report."""
    seen = report["continuity"]
    whole = seen["all"]
    text = f"{report['live']} of {report['clients']} in {report['window_s']:.0f} s: longest gap {whole['longest_gap_s']:.2f} s"
    counts = {name: whole[name] for name in (*TROUBLE, "discontinuities", "told", "idle") if whole[name]}
    counts |= {name: report[name] for name in ("failed", "lost_frames", "reconnects", "asked_to_reconnect") if report.get(name)}
    if whole["stalled_s"]:
        counts["stalled"] = f"{whole['stalled_s']:.1f} s, at most {whole['longest_stall_s']:.1f} s"
    return ", ".join([text, *(f"{name} {count}" for name, count in counts.items())])


def uncut(checks, what, report, longest):
    """All clients were there all the time, and none noticed anything; newer media came at least every `longest` seconds. A publisher
    was not even asked to come back elsewhere."""
    whole = report["continuity"]["all"]
    there = report["live"] == report["clients"] and not report["failed"]
    if report["command"] == "publish":
        there = there and not whole["told"] and not report["asked_to_reconnect"]
    good = there and not any(whole[name] for name in TROUBLE) and whole["longest_gap_s"] <= longest
    if not checks.check(what, good, told(report)):
        for problem in report["continuity"]["problems"]:
            checks.note(problem)
    return good
