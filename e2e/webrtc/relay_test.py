"""Is the bad link as bad as it says? `python3 e2e/webrtc/relay_test.py`"""

import json
import socket
import subprocess
import sys
import unittest
from pathlib import Path

from relay import Conditions, Link


def link(seed=1, **wanted):
    conditions = Conditions()
    conditions.change(wanted)
    return Link(conditions, seed)


class Links(unittest.TestCase):
    def test_a_perfect_link_carries_at_once(self):
        perfect = link()
        self.assertEqual([perfect.arrival(t, 1200) for t in (0.0, 1.0)], [0.0, 1.0])

    def test_the_same_seed_loses_the_same_datagrams(self):
        one, two, other = link(loss=0.1), link(loss=0.1), link(seed=2, loss=0.1)
        fates = [[x.arrival(n, 100) is None for n in range(2000)] for x in (one, two, other)]
        self.assertEqual(fates[0], fates[1])
        self.assertNotEqual(fates[0], fates[2])
        self.assertTrue(150 < sum(fates[0]) < 250, sum(fates[0]))

    def test_delay_and_jitter(self):
        slow = link(delay=50, jitter=10, reorder=True)
        times = [slow.arrival(n, 100) - n for n in range(1000)]
        self.assertTrue(0.04 <= min(times) < 0.042 and 0.058 < max(times) <= 0.06)

    def test_the_order_stays_unless_wanted_otherwise(self):
        times = [link(jitter=10, delay=50, reorder=r) for r in (False, True)]
        arrivals = [[x.arrival(n / 1000, 100) for n in range(500)] for x in times]
        self.assertEqual(arrivals[0], sorted(arrivals[0]))
        self.assertNotEqual(arrivals[1], sorted(arrivals[1]))

    def test_the_rate_holds_and_the_queue_is_bounded(self):
        narrow = link(rate=500_000, queue=10_000)
        arrivals = [at for n in range(2000) if (at := narrow.arrival(n / 1000, 1000)) is not None]
        self.assertAlmostEqual(len(arrivals) * 8000 / 2, 500_000, delta=50_000)
        self.assertTrue(narrow.overflowed > 1000)
        self.assertTrue(max(arrivals) < 2 + 10_000 * 8 / 500_000)

    def test_nonsense_is_refused(self):
        for wanted in ({"loss": 2}, {"loss": "x"}, {"delay": -1}, {"rate": True}, {"queue": None}):
            with self.assertRaises(ValueError):
                Conditions().change(wanted)


class Program(unittest.TestCase):
    def test_it_carries_both_ways_and_changes_its_port(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            server.bind(("127.0.0.1", 0))
            for end in (server, client):
                end.settimeout(5)
            command = [sys.executable, Path(__file__).with_name("relay.py"), "--to", f"127.0.0.1:{server.getsockname()[1]}"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
                try:
                    port = json.loads(relay.stdout.readline())["listening"]
                    client.sendto(b"one", ("127.0.0.1", port))
                    data, first = server.recvfrom(100)
                    self.assertEqual(data, b"one")
                    server.sendto(b"back", first)
                    self.assertEqual(client.recv(100), b"back")
                    relay.stdin.write('nonsense\n{"rebind": true, "report": true}\n')
                    relay.stdin.flush()
                    self.assertEqual(json.loads(relay.stdout.readline())["down"], {"carried": 1, "lost": 0, "overflowed": 0})
                    client.sendto(b"two", ("127.0.0.1", port))
                    data, second = server.recvfrom(100)
                    self.assertEqual(data, b"two")
                    self.assertNotEqual(first, second)
                finally:
                    relay.stdin.close()
                    self.assertEqual(relay.wait(5), 0)


if __name__ == "__main__":
    unittest.main()
