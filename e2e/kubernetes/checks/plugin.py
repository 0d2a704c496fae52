"""The kubectl plugin, run as `kubectl sluice`: what it shows is what is, what it asks for is done, its report tells no secret."""

import base64
import json
import os
import stat
import tarfile
import tempfile
from pathlib import Path

from .. import images
from ..paths import BIN, KUBECONFIG, OPERATOR_NAMESPACE
from ..procs import Failed, run, within

SECRETS = (("demo-cluster-key", "key"), ("demo-admin-token", "token"), ("demo-database", "uri"))


class Plugin:
    """`kubectl sluice`, with the plugin in a folder of PATH, as a user has it."""

    def __init__(self, sample, folder):
        self.sample = sample
        (folder / "kubectl-sluice").symlink_to(images.compiled("kubectl-sluice"))
        completion = folder / "kubectl_complete-sluice"
        completion.write_text('#!/bin/sh\nexec kubectl-sluice __complete "$@"\n', encoding="utf-8")
        completion.chmod(0o755)
        self.env = {**os.environ, "KUBECONFIG": str(KUBECONFIG), "PATH": f"{folder}:{BIN}:{os.environ['PATH']}"}

    def run(self, *words, check=True, namespace=True, timeout=60):
        where = ["-n", self.sample.namespace] if namespace else []
        return run(self.sample.kubernetes.inside([BIN / "kubectl", "sluice", *words, *where]), env=self.env, check=check, timeout=timeout)

    def json(self, *words):
        return json.loads(self.run(*words, "-o", "json"))

    def completed(self, *words):
        """What kubectl's own completion makes of it."""
        said = run(self.sample.kubernetes.inside([BIN / "kubectl", "__complete", "sluice", *words]), env=self.env)
        return [line.split("\t")[0] for line in said.splitlines() if not line.startswith(":")]


def body(checks, sample):
    sample.settled()
    with tempfile.TemporaryDirectory() as folder:
        plugin = Plugin(sample, Path(folder))
        shows(checks, sample, plugin)
        streams(checks, sample, plugin)
        report(checks, sample, plugin, Path(folder))
        refusals(checks, sample, plugin)
        drains(checks, sample, plugin)
        alone(checks, sample, plugin)


def pods_of(status):
    return {pod["name"]: pod for cluster in status["clusters"] for pool in cluster["pools"] for pod in pool["pods"]}


def shows(checks, sample, plugin):
    status = plugin.json("status", "demo")
    seen = pods_of(status)
    checks.check("status tells of every pod", set(seen) == set(sample.uids()), sorted(seen))
    checks.check("all are Ready, and the operator runs",
                 all(pod["state"] == "Ready" and pod["ready"] for pod in seen.values()) and status["operator"]["state"] == "running", status)
    tree = plugin.run("status")
    checks.check("the tree has them, and where to publish", all(name in tree for name in sample.uids()) and "rtmp://" in tree, tree)
    checks.check("kubectl completes names", plugin.completed("status", "-n", sample.namespace, "") == ["demo"]
                 and "--follow" in plugin.completed("logs", "--fo"))
    version = plugin.json("version")
    checks.check("version tells all parts", version["kubernetes"].startswith("v1.") and version["operator"] and version["nodes"], version)


def streams(checks, sample, plugin):
    publisher = sample.publish("plugin")
    watched = sample.watch("plugin")
    origin = sample.pods("demo-origin")[0]["metadata"]["name"]

    def one():
        told = plugin.json("streams", "demo")
        mine = [s for s in told["streams"] if s["streamId"] == "plugin"]
        if len(mine) != 1 or mine[0]["viewers"] < 1 or told["failed"]:
            raise Failed(told)
        return mine[0]
    stream = checks.holds("a stream is listed once, with its viewers on the edges", lambda: within(20, "streams", one, every=0.5))
    if stream:
        good = stream["origin"] == origin and stream["state"] == "live" and stream["protocol"] == "rtmp" and origin in stream["pods"]
        checks.check("as its origin tells it", good, stream)
    carried = pods_of(plugin.json("status", "demo", "--streams"))[origin].get("carried") or []
    checks.check("status --streams shows it on its pod", any(s["streamId"] == "plugin" for s in carried), carried)
    watched.done()
    logs = plugin.run("logs", "demo", "--tail", "5").splitlines()
    names = {line.split(" ")[0] for line in logs}
    checks.check("logs are those of every pod, each line with its pod", names == set(sample.uids()), sorted(names))
    checks.check("the operator's logs, too", "sluice_operator" in plugin.run("logs", "--operator", "--tail", "20"))
    publisher.stop()


def report(checks, sample, plugin, folder):
    file = folder / "report.tar.gz"
    plugin.run("report", "demo", "-f", file, timeout=120)
    checks.check("only its owner may read a report", stat.S_IMODE(file.stat().st_mode) == 0o600)
    everything, names = b"", []
    with tarfile.open(file) as archive:
        for member in archive.getmembers():
            names.append(member.name.split("/", 1)[1])
            everything += archive.extractfile(member).read()
    pod = sample.pods("demo-origin")[0]["metadata"]["name"]
    where = f"namespaces/{sample.namespace}"
    wanted = {f"{where}/mediaclusters/demo.json", f"{where}/pods/{pod}.json", f"{where}/logs/{pod}/node.log", f"{where}/events.json",
              f"{where}/services/demo-origin.json", f"{where}/configmaps/demo-edge-config.json", "operator/lease.json", "report.json",
              f"secrets/{sample.namespace}.txt"}
    checks.check("it has what support asks for", wanted <= set(names), sorted(wanted - set(names)))
    for name, key in SECRETS:
        encoded = sample.json("get", "secret", name)["data"][key]
        plain = base64.b64decode(encoded)
        checks.check(f"the value of {name} is not in it, in no form", len(plain) > 8 and plain not in everything and encoded.encode() not in everything)
        checks.check(f"that there is {name}, is", f'"{name}"'.encode() in everything)


def refusals(checks, sample, plugin):
    def refused(code, says, *words, namespace=True):
        done = plugin.run(*words, check=False, namespace=namespace)
        checks.check(f"kubectl sluice {' '.join(words)}: exit code {code}", done.returncode == code and says in done.stderr, (done.returncode, done.stderr))
    nobody = f"system:serviceaccount:{sample.namespace}:nobody"
    refused(3, "there is demo", "status", "dmeo")
    refused(3, "no MediaCluster in namespace default", "status", "-n", "default", namespace=False)
    refused(4, f"no right to list mediaclusters.sluice.dev in namespace {sample.namespace}", "status", "--as", nobody)
    refused(4, "no right to get pods", "drain", sample.pods("demo-edge")[0]["metadata"]["name"], "--as", nobody)
    refused(3, "there is no pod nothing", "drain", "nothing")
    operator = sample.kubernetes.json("get", "pods", "-n", OPERATOR_NAMESPACE)["items"][0]["metadata"]["name"]
    refused(1, "is not one of Sluice's", "drain", operator, "-n", OPERATOR_NAMESPACE, namespace=False)
    refused(2, "10s to 48h", "drain", "x", "--deadline", "1s")


def drains(checks, sample, plugin):
    publisher = sample.publish("undrained")
    origin = sample.pods("demo-origin")[0]["metadata"]["name"]
    plugin.run("drain", origin, "--deadline", "10m")

    def begun():
        pod = pods_of(plugin.json("status"))[origin]
        if pod["state"] != "Draining" or not pod["deadline"] or not pod["message"]:
            raise Failed(pod)
        return pod
    checks.holds("status shows a drain, its end and what is left", lambda: within(30, "draining", begun, every=0.5))
    plugin.run("undrain", origin, "--wait", "--timeout", "30s")
    labels = sample.json("get", "pod", origin)["metadata"]["labels"]
    checks.check("undrain --wait ends when it takes new sessions", labels.get("sluice.dev/accepting") == "true", labels)
    checks.check("the publisher was not cut", publisher.running())
    publisher.stop()
    sample.ready()
    within(60, "one origin again", lambda: len(sample.pods("demo-origin")) == 1, every=0.5)
    edge = sample.pods("demo-edge")[0]["metadata"]
    said = plugin.run("drain", edge["name"], "--deadline", "30s", "--wait", "--timeout", "90s", timeout=120)
    checks.check("drain --wait ends when the pod is gone", edge["uid"] not in sample.uids().values() and "drained and gone" in said, said)
    checks.holds("the cluster is Ready", sample.ready)


def alone(checks, sample, plugin):
    sample.scale_operator(0)
    try:
        status = plugin.json("status", "demo")
        checks.check("without the operator status says so", status["operator"]["state"] == "down", status["operator"])
        checks.check("and shows the pods still", set(pods_of(status)) == set(sample.uids()), sorted(pods_of(status)))
        done = plugin.run("drain", sample.pods("demo-edge")[0]["metadata"]["name"], check=False)
        checks.check("a drain says that it begins later", done.returncode == 0 and "operator is not running" in done.stderr, done.stderr)
        plugin.run("undrain", sample.pods("demo-edge")[0]["metadata"]["name"])
    finally:
        sample.scale_operator(1)
    checks.holds("the cluster is Ready", sample.ready)
