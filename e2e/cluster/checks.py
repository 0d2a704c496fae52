"""Checks that are counted, one line each, and a summary that scripts/test.sh understands."""

import sys
import time
import traceback

from procs import Failed, Work


class Checks:
    def __init__(self, name):
        self.name, self.passed, self.failed = name, 0, 0
        self.begin = time.monotonic()

    def check(self, what, good, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
        print(f"{'ok  ' if good else 'FAIL'} {what}{f': {detail}' if detail != '' else ''}", flush=True)
        return bool(good)

    def holds(self, what, call):
        """A check that is a call: it holds when it raises nothing of what can be expected. Returns its result."""
        begin = time.monotonic()
        try:
            result = call()
        except (Failed, OSError, ValueError, KeyError) as error:
            self.check(what, False, error)
            return None
        self.check(what, True, f"{time.monotonic() - begin:.2f} s")
        return result

    def note(self, text):
        print(f"     {text}", flush=True)

    def end(self):
        print(f"{self.name}: {self.passed} passed, {self.failed} failed ({time.monotonic() - self.begin:.0f} s)", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1


def run(name, body, keep=False):
    """Runs `body(work, checks)`; says what stands in the way when it cannot go on. The exit code."""
    checks = Checks(name)
    work = Work(keep)
    try:
        body(work, checks)
    except Failed as error:
        checks.check("it could go on", False, error)
    except Exception:
        checks.check("it could go on", False, "an error of the test itself")
        traceback.print_exc(file=sys.stdout)
    if checks.failed:
        for process in work.processes():
            if not process.running() or process.name.startswith(("o", "e", "store")):
                print(f"--- {process.name}: {process.tail(5)}", flush=True)
    work.close()
    return checks.end()


def serve(body, keep=False):
    """Runs `body(work, None)` until Ctrl-C; the exit code."""
    work = Work(keep)
    try:
        body(work, None)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit:
        print("ending", file=sys.stderr)
        return 0
    finally:
        work.close()
    return 0
