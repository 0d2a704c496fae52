"""WHIP and WHEP as far as HTTP goes: sessions that are offered, changed and ended, without media."""

from play import Answer, Http

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

    def __init__(self, base, kind, stream, app="LiveApp"):
        path = f"/{app}/{kind}/{stream}"
        self.http = Http(base)
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
