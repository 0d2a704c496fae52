"""Viewers in threads, and what they notice: sequences that fall, media that does not come, requests that fail."""

import threading
import time

from play import Answer
from procs import Failed


class Seen:
    """What the viewers of one stream noticed."""

    def __init__(self, stream):
        self.stream = stream
        self.sequence = -1
        #: The number of the newest segment.
        self.last = -1
        self.newest = 0.0
        #: How often a list began with an earlier segment than the one before it.
        self.earlier = 0
        #: When the newest media last became newer, by the monotonic clock.
        self.moved = time.monotonic()
        self.longest_gap = 0.0
        #: Where numbers began again: the newest segment, and the one that had been listed before.
        self.falls = []
        self.failures = 0
        self.looks = 0
        self.last_problem = ""
        self._goal = None
        self._reached = None

    def aim(self, newest):
        """From now on, notes when media newer than this wall-clock time is listed."""
        self._goal, self._reached = newest, None

    def reached(self):
        """When that was, by the wall clock; None while it was not."""
        return self._reached

    def note(self, listed):
        now = time.monotonic()
        self.looks += 1
        last = listed.sequence + len(listed.segments) - 1
        self.earlier += listed.sequence < self.sequence
        # Of two edges one may be a segment ahead.
        if last < self.last - 1:
            self.falls.append((self.last, last))
        self.sequence, self.last = listed.sequence, max(self.last, last)
        # Two edges may be a part apart: only what is new counts.
        if listed.newest > self.newest + 0.01:
            self.longest_gap = max(self.longest_gap, now - self.moved)
            self.newest, self.moved = listed.newest, now
        if self._goal is not None and self._reached is None and listed.newest > self._goal:
            self._reached = time.time()

    def problem(self, error):
        self.failures += 1
        self.last_problem = str(error)


class Watchers:
    """Looks at many streams again and again, with a few threads."""

    def __init__(self, viewers, every=0.2, threads=4, segments=False):
        """`viewers`: {stream: Viewer}. With `segments`, the newest segment is fetched now and then, too."""
        self.seen = {stream: Seen(stream) for stream in viewers}
        self._stop = threading.Event()
        pairs = list(viewers.items())
        self._threads = [
            threading.Thread(target=self._run, args=(pairs[i::threads], every, segments), daemon=True) for i in range(threads)
        ]

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        now = time.monotonic()
        for seen in self.seen.values():
            seen.longest_gap = max(seen.longest_gap, now - seen.moved)

    def _run(self, pairs, every, segments):
        turn = 0
        while not self._stop.is_set():
            begin = time.monotonic()
            turn += 1
            for stream, viewer in pairs:
                seen = self.seen[stream]
                try:
                    listed = viewer.look()
                    seen.note(listed)
                    if segments and turn % 10 == 0 and listed.segments:
                        status = viewer.segment(listed)[0]
                        if status != 200:
                            seen.problem(f"{listed.segments[-1]} was answered with {status}")
                except Answer as error:
                    seen.problem(error)
                    viewer.again()
                except (Failed, OSError, ValueError) as error:
                    seen.problem(error)
                if self._stop.is_set():
                    return
            self._stop.wait(max(0.0, every - (time.monotonic() - begin)))
