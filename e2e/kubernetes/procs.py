"""Commands that are waited for, and daemons that outlive the program that started them."""

import json
import os
import signal
import subprocess
import sys

from .paths import LOGS, ROOT, STATE

# Clusters without Kubernetes are tested with the same means.
sys.path.insert(0, str(ROOT / "e2e" / "cluster"))
from procs import Failed, within  # noqa: E402


def say(text):
    print(f"\033[1m== {text}\033[0m", file=sys.stderr, flush=True)


def run(command, check=True, capture=True, text=None, timeout=600, **more):
    """Runs a command and returns what it wrote; a failure carries the end of what it complained about."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=capture, text=True, input=text, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL if text is None else None, cwd=more.pop("cwd", ROOT), **more)
    except FileNotFoundError as error:
        raise Failed(f"{words[0]} is not there: scripts/setup.sh kubernetes ({error})") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(words)[:300]}: took more than {timeout} s") from error
    if check and done.returncode != 0:
        said = ((done.stderr or "") + (done.stdout or "")).strip()
        raise Failed(f"{' '.join(words)[:300]}: exit {done.returncode}: {said[-2000:]}")
    return done.stdout if check else done


def born(pid):
    """When a process was started, in clock ticks; None when there is none (a zombie is none)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        # A killed program is a zombie already while its other threads still hold its ports.
        if fields[0] == "Z" and len(os.listdir(f"/proc/{pid}/task")) <= 1:
            return None
    except OSError:
        return None
    return int(fields[19])


def reap(pid):
    """Forgets a child of ours that has ended; others' children are theirs."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


class Daemon:
    """A process that goes on when its starter ends. Its id and birth are kept in a file, so any later program finds it."""

    def __init__(self, name, command, env=None, group=False):
        """With `group`, signals go to what it started, too: for a shell with a pipe."""
        self.name = name
        self.group = group
        self.command = [str(word) for word in command]
        self.env = env or {}
        self.log = LOGS / f"{name}.log"
        self.record = STATE / "daemons" / name

    def _kept(self):
        try:
            return json.loads(self.record.read_text())
        except (OSError, ValueError):
            return None

    def pid(self):
        """The id of the running process, or None."""
        kept = self._kept()
        if kept is None:
            return None
        reap(kept["pid"])
        return kept["pid"] if born(kept["pid"]) == kept["born"] else None

    def running(self):
        return self.pid() is not None

    def start(self):
        """Starts it unless it runs; does not wait until it is of use."""
        if self.running():
            return self
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "KUBE", "GO"))}
        with open(self.log, "ab") as out:
            child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=ROOT,
                                     env={**env, **self.env}, start_new_session=True)
        # It goes on after this program, which must not complain about that when it ends.
        child.returncode = 0
        temporary = self.record.with_suffix(".new")
        temporary.write_text(json.dumps({"pid": child.pid, "born": born(child.pid), "group": self.group}))
        temporary.rename(self.record)
        return self

    def tell(self, number):
        pid = self.pid()
        if pid is not None:
            send = os.killpg if self._kept().get("group") else os.kill
            send(pid, number)
        return pid

    def kill(self):
        """kill -9; returns when it is gone."""
        if self.tell(signal.SIGKILL) is not None:
            within(10, f"{self.name} is gone", lambda: not self.running(), every=0.01)
        self.record.unlink(missing_ok=True)

    def stop(self, patience=10):
        """Asks it to end, and kills it when it does not."""
        if self.tell(signal.SIGTERM) is not None:
            try:
                within(patience, f"{self.name} ends", lambda: not self.running(), every=0.02)
            except Failed:
                self.kill()
        self.record.unlink(missing_ok=True)

    def restart(self):
        self.kill()
        return self.start()

    def tail(self, lines=3):
        text = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " | ".join(text[-lines:])


def require(daemon, seconds, what, check, every=0.05):
    """Like `within`, but gives up at once, with the daemon's last words, when it has ended."""
    ended = object()
    try:
        result = within(seconds, what, lambda: check() if daemon.running() else ended, every)
    except Failed as error:
        raise Failed(f"{error}; {daemon.name} said: {daemon.tail()}") from error
    if result is ended:
        raise Failed(f"{what}: {daemon.name} has ended: {daemon.tail(4)} (all of it: {daemon.log})")
    return result
