"""What a viewer sees: HLS playlists read over connections that stay open."""

import datetime
import http.client
import json
import re
import subprocess
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from procs import Failed

PATIENCE = 5.0


class Answer(Failed):
    """An answer that is not 200."""

    def __init__(self, status, url, body=""):
        super().__init__(f"{url} was answered with {status}: {body[:200].strip()}")
        self.status = status


class Http:
    """One connection to one server, opened again when it is closed."""

    def __init__(self, base, headers=None, patience=PATIENCE):
        self.base = base.rstrip("/")
        parts = urlsplit(self.base)
        self.host, self.port, self.patience = parts.hostname, parts.port, patience
        self.headers = headers or {}
        self._connection = None

    def request(self, path, method="GET", body=None, headers=None):
        """Status, headers, body. A connection that the server had closed meanwhile is opened again once."""
        for again in (True, False):
            fresh = self._connection is None
            if fresh:
                self._connection = http.client.HTTPConnection(self.host, self.port, timeout=self.patience)
            try:
                self._connection.request(method, path, body, {**self.headers, **(headers or {})})
                answer = self._connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or not again or isinstance(error, TimeoutError):
                    raise OSError(f"{method} {self.base}{path}: {error or type(error).__name__}") from error
        raise AssertionError("unreachable")

    def get(self, path):
        """The body of a 200, redirects followed; anything else is raised."""
        for _ in range(3):
            status, headers, body = self.request(path)
            if status in (301, 302, 307, 308):
                url = urljoin(self.base + path, headers["location"])
                path = url[len(self.base) :] if url.startswith(self.base) else urlsplit(url)._replace(scheme="", netloc="").geturl()
                continue
            if status != 200:
                raise Answer(status, self.base + path, body.decode(errors="replace"))
            return path, headers, body
        raise Failed(f"{self.base}{path} redirects in a circle")

    def text(self, path):
        return self.get(path)[2].decode()

    def json(self, path):
        return json.loads(self.text(path))

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Listed:
    """A media playlist."""

    sequence: int = 0
    segments: list = field(default_factory=list)
    parts: int = 0
    #: Wall-clock time of the end of the newest media, seconds since 1970.
    newest: float = 0.0
    ended: bool = False
    #: What is added to a path to wait for the next part, as a query.
    wait: str = ""
    text: str = ""


def parse(text):
    listed = Listed(text=text)
    found = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)
    if not found:
        raise Failed(f"not a media playlist: {text[:80]!r}")
    listed.sequence = int(found[1])
    clock = None
    part = 0.0
    inside = 0
    for line in text.splitlines():
        if line.startswith("#EXT-X-PROGRAM-DATE-TIME:"):
            clock = datetime.datetime.fromisoformat(line.split(":", 1)[1].replace("Z", "+00:00")).timestamp()
            part = 0.0
        elif line.startswith("#EXTINF:"):
            clock = None if clock is None else clock + float(line[8:].split(",")[0])
            part, inside = 0.0, 0
        elif line.startswith("#EXT-X-PART:"):
            listed.parts += 1
            inside += 1
            part += float(re.search(r"DURATION=([\d.]+)", line)[1])
        elif line.startswith("#EXT-X-ENDLIST"):
            listed.ended = True
        elif line and not line.startswith("#"):
            listed.segments.append(line)
    listed.newest = (clock or 0.0) + part
    listed.wait = f"_HLS_msn={listed.sequence + len(listed.segments)}&_HLS_part={inside}"
    return listed


class Viewer:
    """Plays one stream from one address, and remembers its place as a player does."""

    def __init__(self, base, stream, app="LiveApp", patience=PATIENCE):
        self.http = Http(base, patience=patience)
        self.start = f"/{app}/streams/{stream}.m3u8"
        self.path = None

    def look(self, block=False):
        """The media playlist of the video as it is now; with `block`, when it has one part more."""
        if self.path is None:
            path, _, body = self.http.get(self.start)
            text = body.decode()
            if "#EXT-X-STREAM-INF" not in text:
                self.path = path
                return parse(text)
            variant = next(line for line in text.splitlines() if line and not line.startswith("#"))
            self.path = urljoin(path, variant)
        path, _, body = self.http.get(self.path)
        listed = parse(body.decode())
        self.path = path
        if block:
            joint = "&" if "?" in path else "?"
            listed = parse(self.http.text(f"{path}{joint}{listed.wait}"))
        return listed

    def segment(self, listed, index=-1):
        """Status, headers and bytes of a segment of the list."""
        return self.http.request(urljoin(self.path, listed.segments[index]))

    def again(self):
        """Forgets the place: the next look begins at the master playlist."""
        self.path = None


def probe(url, seconds=20):
    """The codecs that ffprobe finds."""
    out = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", url],
        capture_output=True, text=True, timeout=seconds, check=False,
    )
    return sorted(set(out.stdout.split()))


def rtmp_packets(url, seconds=2, limit=15):
    """How many video packets an RTMP player gets in so many seconds of media."""
    try:
        out = subprocess.run(
            ["ffprobe", "-v", "error", "-read_intervals", f"%+{seconds}", "-count_packets", "-select_streams", "v",
             "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", url],
            capture_output=True, text=True, timeout=limit, check=False,
        )
    except subprocess.TimeoutExpired:
        return 0
    words = out.stdout.split()
    return int(words[0]) if words and words[0].isdigit() else 0
