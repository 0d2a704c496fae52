"""WHIP, WHEP and Ant Media's WebSocket as far as signalling goes: sessions that are offered, changed and ended, without media."""

import json
import socket
import threading
from urllib.parse import urlsplit

from play import PATIENCE, Answer, Http
from procs import Failed, within

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_USER, _PASSWORD = "sluicekit", "0123456789abcdefghijklmn"
_TRANSPORT = f"""c=IN IP4 0.0.0.0
a=ice-ufrag:{_USER}
a=ice-pwd:{_PASSWORD}
a=fingerprint:sha-256 {":".join(["5A"] * 32)}
a=setup:actpass
a=rtcp-mux
"""


def offer(direction):
    """H.264 and Opus, to be sent (`sendonly`: WHIP) or received (`recvonly`: WHEP)."""
    ids = "a=msid:s a\na=ssrc:1001 cname:c\n" if direction == "sendonly" else ""
    return (
        "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE 0 1\n"
        f"m=audio 9 UDP/TLS/RTP/SAVPF 111\n{_TRANSPORT}a=mid:0\na={direction}\na=rtpmap:111 opus/48000/2\n{ids}"
        f"m=video 9 UDP/TLS/RTP/SAVPF 107\n{_TRANSPORT}a=mid:1\na={direction}\na=rtpmap:107 H264/90000\na=rtcp-fb:107 nack\n"
        "a=rtcp-fb:107 nack pli\na=fmtp:107 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\n"
        f"{ids.replace('1001', '1002').replace('s a', 's v')}"
    ).replace("\n", "\r\n")


class Session:
    """One session at `base`, opened by an offer; raises `Answer` when it is refused."""

    def __init__(self, base, kind, stream, app="LiveApp", host=None):
        """`host` is the name that is asked for, where an address is `base`."""
        path = f"/{app}/{kind}/{stream}"
        self.http = Http(base, {"Host": host} if host else None)
        status, headers, body = self.http.request(
            path, "POST", offer("sendonly" if kind == "whip" else "recvonly"), {"Content-Type": SDP})
        self.answer = body.decode()
        if status != 201:
            raise Answer(status, base + path, self.answer)
        self.path, self.tag = headers["location"], headers["etag"]
        #: STUN and TURN servers for the client.
        self.links = headers.get_all("link") or []

    def candidates(self):
        """Where media is to be sent to, as (protocol, address, port)."""
        found = set()
        for line in self.answer.splitlines():
            if line.startswith("a=candidate:"):
                words = line.split()
                found.add((words[2].lower(), words[4], int(words[5])))
        return found

    def trickle(self):
        """Tells a candidate; the status of the answer (204)."""
        fragment = (f"a=ice-ufrag:{_USER}\r\na=ice-pwd:{_PASSWORD}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
                    "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=end-of-candidates\r\n")
        return self.http.request(self.path, "PATCH", fragment, {"Content-Type": FRAGMENT, "If-Match": self.tag})[0]

    def end(self):
        """Ends it; the status of the answer (200)."""
        return self.http.request(self.path, "DELETE")[0]


def upgrades(base, path):
    """The status that a WebSocket's request is answered with: 101."""
    return Http(base).request(path, headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "c2x1aWNlc2x1aWNlc2x1aQ=="})[0]


class Socket:
    """A WebSocket of Ant Media's signalling. What the server says is kept, in order."""

    def __init__(self, base, app="LiveApp", host=None):
        at = urlsplit(base)
        self.heard, self.ended = [], threading.Event()
        self.socket = socket.create_connection((at.hostname, at.port or 80), PATIENCE)
        self.socket.sendall(
            (f"GET /{app}/websocket HTTP/1.1\r\nHost: {host or at.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2x1aWNlc2x1aWNlc2x1aQ==\r\n\r\n").encode())
        self.stream = self.socket.makefile("rb")
        status = self.stream.readline().decode(errors="replace").strip()
        if " 101 " not in f"{status} ":
            raise Failed(f"{base}: the WebSocket is answered with {status!r}")
        while self.stream.readline() not in (b"\r\n", b""):
            pass
        self.socket.settimeout(None)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        try:
            while True:
                first, length = self.stream.read(2)
                if length in (126, 127):
                    length = int.from_bytes(self.stream.read(2 if length == 126 else 8), "big")
                payload = self.stream.read(length)
                match first & 0x0F:
                    case 1:
                        self.heard.append(json.loads(payload))
                    case 8:
                        return
                    case 9:
                        self._send(10, payload)
        except (OSError, ValueError):
            # It was closed, by either side.
            pass
        finally:
            self.ended.set()

    def _send(self, kind, payload):
        """A frame, masked by zeros."""
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self.socket.sendall(bytes([0x80 | kind]) + length + bytes(4) + payload)

    def say(self, command, **more):
        self._send(1, json.dumps({"command": command, **more}).encode())

    def hears(self, word, seconds=PATIENCE):
        """The first message that is this command or notification."""
        def found():
            return next((one for one in list(self.heard) if word in (one.get("command"), one.get("definition"))), None)
        try:
            return within(seconds, f"{word} is heard", found)
        except Failed as error:
            raise Failed(f"{error}; heard{' until it was closed' if self.ended.is_set() else ''}: {self.heard[-3:]}") from error

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
