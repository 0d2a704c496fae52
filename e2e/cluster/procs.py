"""Processes that a test starts, and ends by their ids: whatever happens to the test, none is left behind."""

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A check did not hold, or something did not start; the text says what."""


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def within(seconds, what, check, every=0.1):
    """Waits until `check()` gives something true, and returns it. A check that raises has not held yet."""
    end = time.monotonic() + seconds
    problem = None
    while True:
        try:
            result = check()
            if result:
                return result
            problem = None
        except (OSError, ValueError, KeyError, Failed) as error:
            problem = error
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s" + (f" ({problem})" if problem else ""))
        time.sleep(every)


class Process:
    """A running program whose output goes to a file."""

    def __init__(self, name, command, log, env=None, cwd=None, stdin=None):
        self.name = name
        self.log = Path(log)
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # What is set for the tests is not meant for the nodes.
                env={**{k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}, **(env or {})},
                cwd=cwd or ROOT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def tell(self, number):
        if self.running():
            self.child.send_signal(number)

    def end(self, number=signal.SIGTERM, patience=10.0):
        """Asks it to end; when it does not, kills it. Returns the exit code."""
        self.tell(number)
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()

    def kill(self):
        """kill -9."""
        self.tell(signal.SIGKILL)
        self.child.wait()

    def tail(self, lines=3):
        text = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " | ".join(text[-lines:])


class Work:
    """A temporary folder and what runs in it; also undoes what `undo` was told, last first."""

    def __init__(self, keep=False):
        self.dir = Path(tempfile.mkdtemp(prefix="sluice-cluster-"))
        # Workers of nginx, which have another user, come through here.
        self.dir.chmod(0o755)
        self.keep = keep
        self._processes = []
        self._undo = []
        self._closed = False
        atexit.register(self.close)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupted)

    @staticmethod
    def _interrupted(number, _frame):
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    def start(self, name, command, **more):
        process = Process(name, command, self.dir / f"{name}.log", **more)
        self._processes.append(process)
        return process

    def processes(self):
        return list(self._processes)

    def undo(self, call):
        self._undo.append(call)

    def close(self):
        if self._closed:
            return
        self._closed = True
        alive = [p for p in reversed(self._processes) if p.running()]
        for process in alive:
            process.tell(signal.SIGTERM)
        end = time.monotonic() + 5
        for process in alive:
            try:
                process.child.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for call in reversed(self._undo):
            try:
                call()
            except (OSError, subprocess.SubprocessError) as error:
                print(f"could not tidy up: {error}", file=sys.stderr)
        if self.keep:
            print(f"logs and data are in {self.dir}", file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)


def binary(name):
    """A program of ours: SLUICE_NODE_BINARY or SLUICE_LOAD_BINARY, else the newest one that was built."""
    given = os.environ.get(name.upper().replace("-", "_") + "_BINARY")
    if given:
        return Path(given).resolve()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [p for profile in ("release", "ci") if (p := target / profile / name).exists()]
    if not built:
        raise Failed(f"{name} is not built: make build")
    return max(built, key=lambda p: p.stat().st_mtime)
