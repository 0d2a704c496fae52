"""How a cluster is reached from outside: load balancer, Ingress, Gateway API. None of it replaces a pod, all of it goes again."""

import json

from ..procs import Failed, within
from .sample import Publisher

ADDRESS = "10.10.1.20"
INGRESS = {"className": "nginx", "host": "watch.example.com", "publishHost": "publish.example.com"}
GATEWAY = {"http": [{"name": "public"}], "hostnames": ["watch.example.com"], "rtmp": [{"name": "public", "sectionName": "rtmp"}]}
ROUTES = ("httproutes", "tcproutes")


def body(checks, sample):
    kubernetes = sample.kubernetes
    sample.ready()
    uids = sample.uids()

    def patch(kind, name, spec):
        sample.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def condition(kind, name, wanted):
        item = sample.json("get", kind, name)
        found = next((c for c in item["status"]["conditions"] if c["type"] == "ExposureReady"), None)
        if found is None or found["status"] != wanted:
            raise Failed(f"ExposureReady is {found}")
        if not any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"]["conditions"]):
            raise Failed("Ready waits for the exposure")
        return found

    def gone(kind, selector="sluice.dev/cluster=demo"):
        left = sample.json("get", kind, "-l", selector)["items"]
        if left:
            raise Failed(f"left: {[i['metadata']['name'] for i in left]}")
        return True

    try:
        patch("opool", "demo-origin", {"exposure": {"rtmp": {"mode": "LoadBalancer"}}})
        service = checks.holds("a load balancer is asked for", lambda: within(20, "Service", lambda: sample.json("get", "service", "demo-origin-rtmp")))
        checks.check("it is of type LoadBalancer", service and service["spec"]["type"] == "LoadBalancer")
        found = checks.holds("until it has an address, ExposureReady is False and Ready does not wait",
                             lambda: within(20, "condition", lambda: condition("opool", "demo-origin", "False"), every=0.3))
        checks.note(found["message"] if found else "")
        kubernetes.assign_address("demo-origin-rtmp", sample.namespace, ADDRESS)
        checks.holds("with an address it is True", lambda: within(20, "condition", lambda: condition("opool", "demo-origin", "True"), every=0.3))

        def listed():
            endpoints = sample.json("get", "mcl", "demo")["status"]["endpoints"]
            if ADDRESS not in json.dumps(endpoints):
                raise Failed(f"endpoints: {endpoints}")
            return True
        checks.holds("the cluster's status lists the address to publish to", lambda: within(20, "endpoints", listed, every=0.3))
        publisher = Publisher("exposed", ADDRESS)
        sample.publishers.append(publisher)

        def plays():
            status, text = kubernetes.http(f"http://{sample.address('demo-edge')}:5080/LiveApp/streams/exposed.m3u8")
            return status == 200 and "#EXTM3U" in text
        checks.holds("what is published to it plays from the edges", lambda: within(30, "plays", plays, every=0.5))
        publisher.stop()

        patch("mcl", "demo", {"exposure": {"ingress": INGRESS}})

        def ingress():
            hosts = {rule["host"]: rule["http"]["paths"][0]["backend"]["service"]["name"]
                     for item in sample.json("get", "ingress", "-l", "sluice.dev/cluster=demo")["items"] for rule in item["spec"]["rules"]}
            if set(hosts) != {INGRESS["host"], INGRESS["publishHost"]}:
                raise Failed(f"hosts: {hosts}")
            return hosts
        checks.holds("an Ingress leads its hosts to the Services", lambda: within(20, "Ingress", ingress, every=0.3))

        kubernetes.define("gateway-api")
        patch("mcl", "demo", {"exposure": {"gateway": GATEWAY}})

        def routes():
            for kind in ROUTES:
                items = sample.json("get", kind, "-l", "sluice.dev/cluster=demo")["items"]
                if not items or any(p["name"] != "public" for i in items for p in i["spec"]["parentRefs"]):
                    raise Failed(f"{kind}: {items}")
            return True
        checks.holds("kinds that came later are found, and routes made", lambda: within(90, "routes", routes, every=0.5))
        found = checks.holds("without a controller that takes them, ExposureReady says so",
                             lambda: within(20, "condition", lambda: condition("mcl", "demo", "False"), every=0.3))
        checks.note(found["message"] if found else "")
    finally:
        patch("mcl", "demo", {"exposure": None})
        patch("opool", "demo-origin", {"exposure": None})
    for kind in ("ingress", *ROUTES):
        checks.holds(f"taken off the spec, no {kind} is left", lambda kind=kind: within(20, kind, lambda: gone(kind), every=0.3))

    def service_gone():
        return "demo-origin-rtmp" not in {i["metadata"]["name"] for i in sample.json("get", "services")["items"]}
    checks.holds("taken off the spec, the load balancer goes", lambda: within(20, "Service", service_gone, every=0.3))
    checks.holds("the cluster is Ready", sample.ready)
    checks.check("no pod was replaced", sample.uids() == uids)
