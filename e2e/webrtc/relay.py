"""A bad link for UDP: loss, delay, jitter, a rate with a bounded queue, and a change of address; all by a seed.

    relay.py --listen 127.0.0.1:6000 --to 127.0.0.1:5004 [--seed 1]

Carries datagrams between whoever writes to --listen and --to, with a socket of its own for each sender. Begins as a perfect
link. Reads one JSON object a line from its input, each changes what it names and leaves the rest:

    {"loss": 0.05, "delay": 50, "jitter": 10}     a share of the datagrams; ms, each way
    {"rate": 500000, "queue": 32000}              bit/s towards the sender (0: no limit), and what may wait, in bytes
    {"reorder": true}                             jitter may change the order
    {"rebind": true}                              --to sees every sender come from a new port from now on
    {"report": true}                              writes its counts as one line of JSON

Ends when its input ends.
"""

import argparse
import asyncio
import json
import random
import socket
import sys
from dataclasses import dataclass, field

# More senders than a test has: what else arrives is not carried.
MOST_SENDERS = 256


@dataclass
class Conditions:
    """How bad the link is; times in seconds, rate in bit/s, queue in bytes."""

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    queue: int = 32_000
    reorder: bool = False

    def change(self, wanted):
        """Takes what a command names. Raises ValueError for what makes no sense."""
        for name in ("loss", "rate"):
            if name in wanted:
                setattr(self, name, _number(name, wanted[name]))
        for name in ("delay", "jitter"):
            if name in wanted:
                setattr(self, name, _number(name, wanted[name]) / 1000)
        if "queue" in wanted:
            self.queue = int(_number("queue", wanted["queue"]))
        if "reorder" in wanted:
            self.reorder = bool(wanted["reorder"])
        if self.loss > 1:
            raise ValueError("loss is a share: 0 to 1")


def _number(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError(f"{name} is a number, 0 or more")
    return value


@dataclass
class Link:
    """One direction of the link. Pure: says when a datagram arrives, and draws its luck from the seed."""

    conditions: Conditions
    seed: int
    limited: bool = True
    lost: int = 0
    overflowed: int = 0
    carried: int = 0
    _busy: float = 0.0
    _newest: float = 0.0
    _luck: random.Random = field(init=False)

    def __post_init__(self):
        self._luck = random.Random(self.seed)

    def arrival(self, now, size):
        """When a datagram of `size` bytes that is sent at `now` arrives; None when it does not."""
        c = self.conditions
        # Drawn whether needed or not, so that the same datagrams are lost when something else changes.
        fate, shake = self._luck.random(), self._luck.uniform(-1, 1)
        if fate < c.loss:
            self.lost += 1
            return None
        sent = now
        if c.rate > 0 and self.limited:
            begin = max(now, self._busy)
            if (begin - now) * c.rate / 8 + size > c.queue:
                self.overflowed += 1
                return None
            sent = self._busy = begin + size * 8 / c.rate
        at = max(now, sent + c.delay + shake * c.jitter)
        if not c.reorder:
            at = self._newest = max(at, self._newest)
        self.carried += 1
        return at


class Upstream(asyncio.DatagramProtocol):
    """The socket that stands for one sender."""

    def __init__(self, relay, sender):
        self.relay, self.sender, self.transport = relay, sender, None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, _addr):
        self.relay.back(self.sender, data)

    def error_received(self, _exc):
        """Nobody listens there at the moment: to the sender it is loss."""


class Relay(asyncio.DatagramProtocol):
    """Carries datagrams both ways."""

    def __init__(self, to, seed):
        self.to = to
        self.conditions = Conditions()
        self.up = Link(self.conditions, seed, limited=False)
        self.down = Link(self.conditions, seed + 1)
        self.transport = None
        self.senders = {}
        self.waiting = {}
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        at = self.up.arrival(self.loop.time(), len(data))
        if at is not None:
            self.loop.call_at(at, self._forward, addr, data)

    def error_received(self, _exc):
        """The sender has gone: to --to it is loss."""

    def _forward(self, sender, data):
        upstream = self.senders.get(sender)
        if upstream is not None:
            upstream.transport.sendto(data)
            return
        # The first datagrams of a sender wait for its socket.
        waiting = self.waiting.get(sender)
        if waiting is not None:
            if len(waiting) < 64:
                waiting.append(data)
        elif len(self.senders) + len(self.waiting) < MOST_SENDERS:
            self.waiting[sender] = [data]
            self.loop.create_task(self._open(sender))

    async def _open(self, sender):
        _, upstream = await self.loop.create_datagram_endpoint(lambda: Upstream(self, sender), remote_addr=self.to)
        enlarge(upstream.transport)
        self.senders[sender] = upstream
        for data in self.waiting.pop(sender, []):
            upstream.transport.sendto(data)

    def back(self, sender, data):
        at = self.down.arrival(self.loop.time(), len(data))
        if at is not None:
            self.loop.call_at(at, self.transport.sendto, data, sender)

    def rebind(self):
        """What comes next from each sender leaves by a new socket."""
        for upstream in self.senders.values():
            upstream.transport.close()
        self.senders.clear()

    def report(self):
        def counts(link):
            return {"carried": link.carried, "lost": link.lost, "overflowed": link.overflowed}

        return {"senders": len(self.senders), "up": counts(self.up), "down": counts(self.down)}

    def command(self, line):
        wanted = json.loads(line)
        if not isinstance(wanted, dict):
            raise ValueError("a command is a JSON object")
        self.conditions.change(wanted)
        if wanted.get("rebind"):
            self.rebind()
        if wanted.get("report"):
            print(json.dumps(self.report()), flush=True)


def enlarge(transport):
    """A burst of a key frame must not be lost here by accident."""
    sock = transport.get_extra_info("socket")
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)


def address(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


async def serve(given):
    loop = asyncio.get_running_loop()
    _, relay = await loop.create_datagram_endpoint(lambda: Relay(given.to, given.seed), local_addr=given.listen)
    enlarge(relay.transport)
    print(json.dumps({"listening": relay.transport.get_extra_info("sockname")[1]}), flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        try:
            relay.command(line)
        except ValueError as error:
            print(f"relay: {line.decode(errors='replace').strip()}: {error}", file=sys.stderr, flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--listen", type=address, default=("127.0.0.1", 0), help="port 0: any, which is told")
    options.add_argument("--to", type=address, required=True)
    options.add_argument("--seed", type=int, default=1)
    asyncio.run(serve(options.parse_args()))


if __name__ == "__main__":
    main()
