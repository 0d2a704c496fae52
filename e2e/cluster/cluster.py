"""Clusters of real processes on this machine: nodes, MongoDB's stand-in, nginx, haproxy."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from play import Http, Viewer
from procs import ROOT, Failed, binary, within

MODES = ("mongodb", "static", "multicast")
LOCAL = "127.0.0.1"


class Node:
    """One sluice-node with an address, ports and a data directory of its own; can be killed and started again."""

    def __init__(self, cluster, name, role, number):
        self.cluster, self.name, self.role = cluster, name, role
        self.process = None
        self.starts = 0
        # Settings of this node alone.
        self.env = {}
        if cluster.lan:
            self.host = cluster.lan.machine(name)
            self.http, self.rtmp, self.port, self.rtc = 5080, 1935, 5000, 5004
        else:
            self.host = LOCAL
            self.http, self.rtmp, self.port, self.rtc = (cluster.base + 10 * number + i for i in range(4))
        self.data = cluster.work.dir / name

    @property
    def url(self):
        return f"http://{self.host}:{self.http}"

    def rtmp_url(self, stream, app="LiveApp"):
        return f"rtmp://{self.host}:{self.rtmp}/{app}/{stream}"

    def inside(self, command):
        return self.cluster.lan.inside(self.name, command) if self.cluster.lan else command

    def start(self):
        """Starts it; does not wait."""
        c = self.cluster
        env = {
            "SLUICE_DATA_DIR": self.data,
            "SLUICE_HTTP_ADDR": f"{self.host}:{self.http}",
            "SLUICE_HTTPS_ADDR": "off",
            "SLUICE_RTMP_ADDR": f"{self.host}:{self.rtmp}",
            "SLUICE_RTC_ADDR": f"{self.host}:{self.rtc}",
            "SLUICE_CLUSTER_ADDR": f"{self.host}:{self.port}",
            "SLUICE_ADVERTISE_HOST": self.host,
            "SLUICE_NODE_ID": self.name,
            "SLUICE_ROLE": self.role,
            "SLUICE_CLUSTER_MODE": c.mode,
            "SLUICE_CLUSTER_KEY": c.key,
            "SLUICE_ADMIN_TOKEN": c.token,
            "SLUICE_TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8",
            **c.settings(),
            **c.env,
            **self.env,
        }
        self.starts += 1
        self.process = c.work.start(self.name, self.inside([c.binary, "run"]), env={k: str(v) for k, v in env.items()})

    def live(self):
        if self.process is None or not self.process.running():
            raise Failed(f"{self.name} has ended: {self.process.tail() if self.process else 'it was never started'}")
        return self.api().request("/rest/v2/liveness")[0] == 200

    def wait(self, seconds=20):
        within(seconds, f"{self.name} is live", self.live)

    def kill(self):
        """kill -9."""
        self.process.kill()

    def stop(self):
        return self.process.end(patience=20)

    def api(self):
        """REST with the admin token."""
        return Http(self.url, {"Authorization": f"Bearer {self.cluster.token}"}, patience=5)

    def viewer(self, stream):
        return Viewer(self.url, stream)

    def broadcasting(self, app="LiveApp"):
        """The ids of the streams that its REST lists as live."""
        api, found, offset = self.api(), set(), 0
        while True:
            page = api.json(f"/{app}/rest/v2/broadcasts/list/{offset}/50")
            found |= {b["streamId"] for b in page if b["status"] == "broadcasting"}
            offset += len(page)
            if len(page) < 50:
                return found

    def owners(self):
        """Who owns which stream, as this node sees it: {stream id: node}."""
        places = self.api().json("/rest/v2/cluster/streams")
        return {p["streamId"]: p.get("owner") for p in places}

    def members(self):
        """The ids of the nodes that this node lists as alive."""
        listed = self.api().json("/rest/v2/cluster/nodes/0/50")
        return {n["id"] for n in listed if n["status"] == "alive"}


class Cluster:
    """Origins o1, o2, … and edges e1, e2, …, on loopback or, with a Lan, each on a machine of its own."""

    def __init__(self, work, mode="mongodb", origins=2, edges=2, base=23100, lan=None, disk=False, env=None):
        if mode not in MODES:
            raise Failed(f"{mode} is not a mode: {', '.join(MODES)}")
        if mode == "multicast" and lan is None:
            raise Failed("mode multicast needs machines of its own: give it a Lan")
        self.work, self.mode, self.base, self.lan, self.disk = work, mode, base, lan, disk
        self.env = env or {}
        self.key, self.token = secrets.token_hex(16), secrets.token_hex(16)
        self.binary = binary("sluice-node")
        self.store = None
        self.store_host = LOCAL
        self.store_port = 27017 if lan else base + 1
        if lan and mode == "mongodb":
            self.store_host = lan.machine("db")
        roles = [("o", "origin", origins), ("e", "edge", edges)]
        names = [(f"{letter}{i + 1}", role) for letter, role, count in roles for i in range(count)]
        self.nodes = {name: Node(self, name, role, i + 1) for i, (name, role) in enumerate(names)}

    @property
    def origins(self):
        return [n for n in self.nodes.values() if n.role == "origin"]

    @property
    def edges(self):
        return [n for n in self.nodes.values() if n.role == "edge"]

    def __getitem__(self, name):
        return self.nodes[name]

    def settings(self):
        """What the mode adds to a node's settings."""
        if self.mode == "mongodb":
            return {"SLUICE_STORE": f"mongodb://{self.store_host}:{self.store_port}/?directConnection=true"}
        if self.mode == "static":
            return {"SLUICE_STATIC_MEMBERS": ",".join(f"{n.host}:{n.port};{n.name}" for n in self.nodes.values())}
        return {"SLUICE_MULTICAST_GROUP": "239.77.77.77:5001", "SLUICE_MULTICAST_INTERFACE": "eth0"}

    # --- the database

    def start_store(self):
        """Starts MongoDB's stand-in and waits until it takes connections."""
        path = ":memory:"
        if self.disk:
            path = self.work.dir / "store.data"
            path.mkdir(exist_ok=True)
        command = [str(word) for word in ("scripts/mongo.sh", self.store_port, path, "--host", self.store_host)]
        self.store = self.work.start("store", self.lan.inside("db", command) if self.lan else command)

        def answers():
            if not self.store.running():
                raise Failed(f"it has ended: {self.store.tail()}")
            with socket.create_connection((self.store_host, self.store_port), 1):
                return True

        within(120, "the database takes connections", answers)

    def start(self):
        if self.mode == "mongodb":
            self.start_store()
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            node.wait()
        self.complete()

    def complete(self, seconds=20):
        """Waits until every node lists every other as alive."""
        everybody = set(self.nodes)
        for node in self.nodes.values():
            within(seconds, f"{node.name} sees all of {sorted(everybody)}", lambda n=node: n.members() == everybody, every=0.2)

    # --- load

    def publish(self, url, count=1, kbps=200, places=None, name="publishers", inside=None):
        """Synthetic streams, whose publishers come back when they are cut off. `{n}` in the URL counts them."""
        command = [binary("sluice-load"), "publish", "--url", url, "-n", count, "--kbps", kbps, "--duration", "12h", "--rate", 25,
                   "--warmup", "0s", "--reconnect", "--no-stamp", "--allow-remote"]
        if places:
            command += ["--places", places]
        command = [str(word) for word in command]
        return self.work.start(name, inside(command) if inside else command)

    def ffmpeg(self, url, name="ffmpeg"):
        """A real picture and sound, once: 720p30, a key frame a second."""
        return self.work.start(name, [
            "ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-f", "lavfi", "-i",
            "sine=frequency=440:sample_rate=48000", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency",
            "-pix_fmt", "yuv420p", "-g", "30", "-b:v", "1500k", "-c:a", "aac", "-f", "flv", url])

    # --- load balancers

    def nginx(self, *ports):
        """Ports: HTTP, HTTPS, RTMP for publishers, RTMP for players, RTMPS; else some behind those of the nodes."""
        return Nginx(self, *(ports or range(self.base + 200, self.base + 205)))

    def haproxy(self, *ports):
        """The same, and the port with its numbers."""
        return Haproxy(self, *(ports or range(self.base + 210, self.base + 216)))


class Balancer:
    """A load balancer with this repository's configuration, but for addresses and paths."""

    def __init__(self, cluster, name, http, https, publish, play, rtmps):
        self.cluster, self.name = cluster, name
        self.http, self.https, self.publish, self.play, self.rtmps = http, https, publish, play, rtmps
        self.dir = cluster.work.dir / f"{name}-config"
        self.process = None
        self.render()

    @property
    def url(self):
        return f"http://{LOCAL}:{self.http}"

    def publish_url(self, stream, app="LiveApp"):
        return f"rtmp://{LOCAL}:{self.publish}/{app}/{stream}"

    def play_url(self, stream, app="LiveApp"):
        return f"rtmp://{LOCAL}:{self.play}/{app}/{stream}"

    def api(self):
        return Http(self.url, {"Authorization": f"Bearer {self.cluster.token}"})

    def viewer(self, stream):
        return Viewer(self.url, stream)

    def certificate(self):
        """A certificate for localhost: chain, key."""
        chain, key = self.dir / "chain.pem", self.dir / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", chain],
            check=True, capture_output=True)
        return chain, key

    def answers(self):
        if not self.process.running():
            raise Failed(f"it has ended: {self.process.tail()}")
        return Http(self.url).request("/proxy-health")[0] == 200

    def wait(self):
        within(10, f"{self.name} answers", self.answers)


class Nginx(Balancer):
    def __init__(self, cluster, *ports):
        super().__init__(cluster, "nginx", *ports)

    def render(self):
        """The repository's files; of sluice/site, what is particular to this machine, is written here."""
        shutil.copytree(ROOT / "config/nginx", self.dir, dirs_exist_ok=True)
        site = self.dir / "sluice/site"
        chain, key = self.certificate()
        tls = f"ssl_certificate {chain};\nssl_certificate_key {key};\nssl_protocols TLSv1.2 TLSv1.3;\n"
        module = next((p for p in ("/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so")
                       if Path(p).exists()), None)
        user = "user www-data;\n" if os.geteuid() == 0 else ""
        log = self.cluster.work.dir
        (site / "main.conf").write_text(
            f"{user}daemon off;\npid {self.dir}/nginx.pid;\nerror_log {log}/nginx-error.log warn;\n"
            + (f"load_module {module};\n" if module else ""))
        cache = self.dir / "cache"
        (site / "cache.conf").write_text(
            "".join(f"{kind}_temp_path {cache}-{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + f"proxy_cache_path {cache} levels=1:2 keys_zone=sluice:8m max_size=256m inactive=2m use_temp_path=off;\n"
            f"access_log {log}/nginx-access.log sluice;\n")
        (site / "listen-http.conf").write_text(f"listen {LOCAL}:{self.http};\nlisten {LOCAL}:{self.https} ssl http2;\n{tls}")
        (site / "listen-publish.conf").write_text(
            f"listen {LOCAL}:{self.publish};\nlisten {LOCAL}:{self.rtmps} ssl;\n{tls}access_log {log}/nginx-rtmp.log sluice_stream;\n")
        (site / "listen-play.conf").write_text(f"listen {LOCAL}:{self.play};\naccess_log {log}/nginx-rtmp.log sluice_stream;\n")
        self.servers(site / "upstreams-http.conf", sluice_edges=(self.cluster.edges, "http"),
                     sluice_viewers=(self.cluster.edges, "http"), sluice_origins=(self.cluster.origins, "http"),
                     sluice_whip=(self.cluster.origins, "http"), sluice_whep=(self.cluster.edges, "http"))
        self.servers(site / "upstreams-stream.conf", sluice_publish=(self.cluster.origins, "rtmp"), sluice_play=(self.cluster.edges, "rtmp"))

    @staticmethod
    def servers(path, **upstreams):
        """Puts other servers into the repository's upstreams; all else stays."""
        out, inside, placed = [], None, False
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] == ["upstream"]:
                inside, placed = words[1], False
            if inside and words[:1] == ["server"]:
                if not placed:
                    nodes, port = upstreams.pop(inside)
                    options = " ".join(words[2:])
                    out += [f"    server {n.host}:{getattr(n, port)} {options}" for n in nodes]
                    placed = True
                continue
            out.append(line)
        if upstreams:
            raise Failed(f"{path.name} has no servers in {', '.join(upstreams)}")
        path.write_text("\n".join(out) + "\n")

    def start(self):
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise Failed("nginx is not installed: scripts/setup.sh test")
        command = [program, "-p", self.dir, "-e", self.cluster.work.dir / "nginx-error.log", "-c", self.dir / "nginx.conf"]
        done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"nginx does not take its configuration: {done.stderr.strip()}")
        self.process = self.cluster.work.start("nginx", command)
        self.wait()

    def reload(self):
        self.process.tell(signal.SIGHUP)


class Haproxy(Balancer):
    def __init__(self, cluster, http, https, publish, play, rtmps, stats):
        self.stats = stats
        super().__init__(cluster, "haproxy", http, https, publish, play, rtmps)

    def render(self):
        """The repository's files with other servers; addresses come from the environment."""
        shutil.copytree(ROOT / "config/haproxy", self.dir, dirs_exist_ok=True)
        chain, key = self.certificate()
        (self.dir / "both.pem").write_text(chain.read_text() + key.read_text())
        (self.dir / "both.pem").chmod(0o600)
        c = self.cluster
        pools = {"edges": (c.edges, "http"), "viewers": (c.edges, "http"), "origins": (c.origins, "http"),
                 "whip": (c.origins, "http"), "whep": (c.edges, "http"), "publish": (c.origins, "rtmp"),
                 "play": (c.edges, "rtmp")}
        path = self.dir / "30-nodes.cfg"
        out, inside = [], None
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] == ["backend"]:
                inside = words[1]
            if words[:1] == ["server"]:
                if inside in pools:
                    nodes, port = pools.pop(inside)
                    check = "" if port == "http" else " port {}"
                    out += [f"    server {n.name} {n.host}:{getattr(n, port)}" + check.format(n.http) for n in nodes]
                continue
            out.append(line)
        if pools:
            raise Failed(f"{path.name} has no servers in {', '.join(pools)}")
        path.write_text("\n".join(out) + "\n")

    def start(self):
        program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise Failed("haproxy is not installed: scripts/setup.sh test")
        env = {
            "SLUICE_LB_CERTIFICATE": str(self.dir / "both.pem"),
            "SLUICE_LB_HTTP": f"{LOCAL}:{self.http}",
            "SLUICE_LB_HTTPS": f"{LOCAL}:{self.https}",
            "SLUICE_LB_PUBLISH": f"{LOCAL}:{self.publish}",
            "SLUICE_LB_PUBLISH_TLS": f"{LOCAL}:{self.rtmps}",
            "SLUICE_LB_PLAY": f"{LOCAL}:{self.play}",
            "SLUICE_LB_CONNECTIONS": "2000",
            "SLUICE_LB_STATS": f"{LOCAL}:{self.stats}",
        }
        files = [word for path in sorted(self.dir.glob("*.cfg")) for word in ("-f", path)]
        done = subprocess.run([program, "-c", *files], capture_output=True, text=True, check=False, env={**os.environ, **env})
        if done.returncode != 0:
            raise Failed(f"haproxy does not take its configuration: {done.stderr.strip()}")
        self.process = self.cluster.work.start("haproxy", [program, "-db", *files], env=env)
        self.wait()

    def states(self):
        """What it thinks of each server: {(pool, server): "UP" or …}."""
        rows = Http(f"http://{LOCAL}:{self.stats}").text("/;csv").splitlines()
        head = rows[0].lstrip("# ").split(",")
        table = [dict(zip(head, row.split(","))) for row in rows[1:] if row]
        return {(row["pxname"], row["svname"]): row["status"] for row in table if row["svname"] not in ("FRONTEND", "BACKEND")}
