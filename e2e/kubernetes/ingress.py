"""An ingress controller: nginx on port 80 of the first node, led by Ingress objects of class `nginx` and by EndpointSlices.

It does of Kubernetes' ingress-nginx what our Ingress objects ask for: hosts, path prefixes, WebSockets, and the annotations for time
limits, buffering and affinity. No TLS. Requests go to pods, one after the other, as there.
"""

import re
import shutil
import signal
import threading

from . import space
from .paths import CONTROL, STATE
from .procs import Daemon, Failed, require, within

CLASS = "nginx"
_ANNOTATION = "nginx.ingress.kubernetes.io/"
# What may stand in our configuration as it is given.
_PLAIN = re.compile(r"[-$\w./:]+")
_INGRESSES = "/apis/networking.k8s.io/v1/ingresses"
_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


def _plain(text):
    if not _PLAIN.fullmatch(text):
        raise Failed(f"an Ingress has {text!r}, which this controller does not take")
    return text


def _endpoints(slices):
    """{(namespace, Service, name of the port): addresses of pods that are ready}"""
    found = {}
    for item in slices:
        service = item["metadata"].get("labels", {}).get("kubernetes.io/service-name")
        for port in item.get("ports") or []:
            at = found.setdefault((item["metadata"]["namespace"], service, port.get("name")), set())
            for endpoint in item.get("endpoints") or []:
                if endpoint.get("conditions", {}).get("ready", True):
                    at |= {f"{address}:{port['port']}" for address in endpoint["addresses"]}
    return found


def _location(prefix, upstream, annotations):
    """A path prefix counts by whole elements."""
    says = {"proxy-read-timeout": "60", "proxy-send-timeout": "60", "proxy-buffering": "on"}
    says |= {name: _plain(annotations[_ANNOTATION + name]) for name in says if _ANNOTATION + name in annotations}
    inside = f"proxy_pass http://{upstream};" if upstream else "return 503;"
    settings = (f"proxy_read_timeout {says['proxy-read-timeout']}s; proxy_send_timeout {says['proxy-send-timeout']}s; "
                f"proxy_buffering {says['proxy-buffering']};")
    whole = _plain(prefix.rstrip("/")) if prefix.rstrip("/") else ""
    exact = f"location = {whole} {{ {settings} {inside} }}\n    " if whole else ""
    return f"    {exact}location {whole}/ {{ {settings} {inside} }}\n"


def configuration(ingresses, slices, folder):
    """nginx' configuration for what the API server has."""
    endpoints = _endpoints(slices)
    upstreams, servers = {}, {}
    for item in ingresses:
        if item["spec"].get("ingressClassName") != CLASS:
            continue
        annotations = item["metadata"].get("annotations") or {}
        for rule in item["spec"].get("rules") or []:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                key = (item["metadata"]["namespace"], service["name"], service["port"].get("name"))
                at, name = sorted(endpoints.get(key, ())), "_".join(key)
                by = annotations.get(f"{_ANNOTATION}upstream-hash-by")
                if at:
                    upstreams[name] = ([f"hash {_plain(by)} consistent;"] if by else []) + [f"server {one} max_fails=0;" for one in at]
                location = _location(path["path"], name if at else None, annotations)
                servers.setdefault(_plain(rule["host"]), []).append(location)
    temporary = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    blocks = [f"  upstream {name} {{ {' '.join(lines)} }}\n" for name, lines in sorted(upstreams.items())]
    blocks += [f"  server {{\n    listen {CONTROL}:80;\n    server_name {host};\n{''.join(locations)}  }}\n"
               for host, locations in sorted(servers.items())]
    return f"""daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
{temporary}  access_log off;
  client_max_body_size 1m;
  proxy_http_version 1.1;
  map $http_upgrade $upgrades {{ default upgrade; '' ''; }}
  proxy_set_header Host $http_host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $upgrades;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{ listen {CONTROL}:80 default_server; return 404; }}
{"".join(blocks)}}}
"""


class Controller:
    """The controller, for as long as the block runs."""

    def __init__(self, kubernetes):
        self.kubernetes = kubernetes
        self.folder = STATE / "ingress"
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        if program is None:
            raise Failed("nginx is not installed: scripts/setup.sh test")
        words = [program, "-p", self.folder, "-e", self.folder / "error.log", "-c", self.folder / "nginx.conf"]
        self.daemon = Daemon("ingress", space.inside(words))
        self.written = None
        self.problem = None
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self):
        # One that was left by a program that was killed.
        self.daemon.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write()
        self.daemon.start()
        require(self.daemon, 10, "nginx listens", lambda: self.kubernetes.http(f"http://{CONTROL}/")[0] == 404)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        if self.thread.is_alive():
            self.thread.join()
        self.daemon.stop()

    def _write(self):
        """Whether the configuration is another one now."""
        items = [self.kubernetes.get(path)["items"] for path in (_INGRESSES, _SLICES)]
        wanted = configuration(*items, self.folder)
        if wanted == self.written:
            return False
        (self.folder / "nginx.conf").write_text(wanted)
        self.written = wanted
        return True

    def _follow(self):
        while not self.ends.wait(0.3):
            try:
                if self._write():
                    self.daemon.tell(signal.SIGHUP)
            except (Failed, OSError, ValueError, KeyError) as error:
                self.problem = error

    def leads(self, host, path="/"):
        """Waits until a host leads to pods."""
        def answered():
            status, text = self.kubernetes.http(f"http://{CONTROL}{path}", headers={"Host": host})
            if status != 200:
                raise Failed(f"{status} {text[:100]} {self.problem or ''}")
            return True
        return within(20, f"{host} leads to pods", answered, every=0.3)
