"""The sample cluster as those outside reach it: by the host names of its Ingress, and where its nodes tell WebRTC clients to send to."""

import json

from play import Http
from rtc import Session, Socket

from .. import outside
from ..ingress import CLASS, Controller
from ..paths import CONTROL
from ..procs import Failed

WATCH, PUBLISH = "watch.example.com", "publish.example.com"
# WebSockets and long requests, as in the sample for production. Without affinity: viewers are to spread over the edges.
INGRESS = {"className": CLASS, "host": WATCH, "publishHost": PUBLISH, "annotations": {
    "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600", "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
    "nginx.ingress.kubernetes.io/proxy-buffering": "off"}}


class Site:
    """A machine outside, an ingress controller and the cluster's Ingress, for as long as the block runs."""

    def __init__(self, sample, *hosts):
        self.sample = sample
        self.outside = outside.Outside(WATCH, PUBLISH, *hosts)
        self.controller = Controller(sample.kubernetes)

    def __enter__(self):
        self.outside.__enter__()
        try:
            self.controller.__enter__()
            self._ingress(INGRESS)
            self.controller.leads(WATCH, "/LiveApp/play.html")
            self.controller.leads(PUBLISH, "/LiveApp/publish.html")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._ingress(None)
        self.controller.__exit__()
        self.outside.__exit__()

    def _ingress(self, ingress):
        self.sample.kubectl("patch", "mcl", "demo", "--type=merge", "-p", json.dumps({"spec": {"exposure": {"ingress": ingress}}}))

    def ask(self, kind, stream="asked", host=WATCH):
        """A session that the Ingress leads to some pod, without media; it is ended there. Raises `Answer` when it is refused."""
        session = Session(f"http://{CONTROL}", kind, stream, host=host)
        # Another request to the Ingress may lead elsewhere.
        session.http = Http(f"http://{self.pod_of(session)['status']['podIP']}:5080")
        session.end()
        return session

    def pod_of(self, session):
        """The pod that has a session: its own address is always told besides."""
        told = {ip for _, ip, _ in session.candidates()}
        items = self.sample.kubernetes.json("get", "pods", "-A", "-l", "sluice.dev/cluster")["items"]
        pod = next((pod for pod in items if pod["status"].get("podIP") in told), None)
        if pod is None:
            raise Failed(f"no pod has one of {sorted(session.candidates())}")
        return pod

    def socket(self, host=WATCH):
        return Socket(f"http://{CONTROL}", host=host)

    def publish(self, stream, count=1, host=WATCH, kbps=300):
        """sluice-load outside publishes by WHIP: one host is enough for that."""
        url = f"http://{host}/LiveApp/whip/{stream}"
        return self.sample.load("publish-whip", url, count, "--kbps", kbps, place=outside.command)

    def play(self, stream, count=1, host=WATCH):
        """sluice-load outside plays by WHEP."""
        url = f"http://{host}/LiveApp/whep/{stream}"
        return self.sample.load("play-whep", url, count, "--decrypt-every", 1, place=outside.command)
