"""Many clusters at once: kwok pretends to run their pods, one process answers the operator for all of them.

Says how long the operator takes until all is Ready, what it needs of memory and CPU, how often it asks the API server, how
long a reconcile takes, and that it writes nothing when nothing changes. The operator itself is the real one, in its pod.
"""

import concurrent.futures
import os
import time
from collections import Counter

from procs import binary

from . import build, demo, images, simulated
from .components import AUDIT_LOG
from .paths import BIN, KUBECONFIG, OPERATOR_NAMESPACE, STATE
from .procs import Daemon, Failed, require, say, within
from .space import inside

# Clusters in a namespace of their own would be as many namespaces, whose own objects are not what is measured.
PER_NAMESPACE = 20
KEYS = '{{with .metadata}}key {{.namespace}} {{index .labels "sluice.dev/cluster"}}{{end}} {{.data.key | base64decode}}{{"\\n"}}'
PODS = ("pod {.metadata.namespace} {.metadata.name} {.status.podIP} {.metadata.labels['sluice\\.dev/cluster']} "
        "{.metadata.labels['sluice\\.dev/role']}{\"\\n\"}")
PLACEMENT = {"nodeSelector": {simulated.TAINT: "true"}, "tolerations": [{"key": simulated.TAINT, "operator": "Exists"}]}
KINDS = ("mediaclusters", "originpools", "edgepools")


def namespaces(clusters):
    return [f"scale-{number}" for number in range((clusters + PER_NAMESPACE - 1) // PER_NAMESPACE)]


def objects(number, edges):
    """A cluster with one origin and some edges."""
    name, namespace = f"c{number}", f"scale-{number // PER_NAMESPACE}"

    def one(kind, suffix, spec):
        return {"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": f"{name}{suffix}", "namespace": namespace}, "spec": spec}

    common = {"clusterRef": {"name": name}, "placement": PLACEMENT, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    return [
        one("MediaCluster", "", {"database": {"external": {"secret": {"name": demo.database.SECRET}}}}),
        one("OriginPool", "-o", {**common, "replicas": 1}),
        one("EdgePool", "-e", {**common, "replicas": edges}),
    ]


def create(kubernetes, clusters, edges):
    kubernetes.apply([item for namespace in namespaces(clusters) for item in (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": demo.database.SECRET, "namespace": namespace},
         "stringData": {"uri": "mongodb://mongodb.media:27017/"}})])

    def post(item):
        plural = item["kind"].lower() + "s"
        path = f"/apis/sluice.dev/v1alpha1/namespaces/{item['metadata']['namespace']}/{plural}"
        status, text = kubernetes.request("POST", path, item, patience=60)
        if status not in (201, 409):
            raise Failed(f"{path}: {status} {text[:300]}")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(post, [item for number in range(clusters) for item in objects(number, edges)]))


def stub(kubernetes, change_every=0):
    """Starts the process that answers for all pods. It is told of them by two watches."""
    authority = within(60, "the operator has its CA", lambda: kubernetes.get(
        f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/secrets/sluice-operator-ca")["data"]["tls.crt"], every=0.5)
    path = STATE / "operator-ca.b64"
    path.write_text(authority)
    script = """
base64 -d "$1" > "$1.pem"
{ kubectl get secrets -A -l sluice.dev/cluster --field-selector type=Opaque --watch -o go-template="$3" &
  kubectl get pods -A -l sluice.dev/pool --watch -o jsonpath="$4"; } | "$2" --operator-ca "$1.pem" --change-every "$5"
"""
    process = Daemon("stub", inside(["sh", "-c", script, "stub", path, binary("sluice-stub"), only_keys(), PODS, change_every]), env={
        "KUBECONFIG": str(KUBECONFIG), "PATH": f"{BIN}:{os.environ['PATH']}"}, group=True)
    return process.start()


def only_keys():
    """The template of KEYS, for Secrets that have a key at all."""
    return "{{if .data}}{{if .data.key}}" + KEYS + "{{end}}{{end}}"


def operator_process():
    """The id of the operator's process on this machine."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if file.read().startswith(b"/usr/local/bin/sluice-operator\0"):
                        return int(entry)
            except OSError:
                continue
    raise Failed("the operator does not run on this machine")


def usage(pid):
    """(seconds of CPU, MiB of memory now, MiB at most)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in file if line.startswith(("VmRSS", "VmHWM"))}
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), sizes["VmRSS"], sizes["VmHWM"]


def metrics(kubernetes):
    """The operator's metrics, as text."""
    pods = kubernetes.json("get", "pods", "-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=sluice-operator")["items"]
    running = [p for p in pods if p["status"].get("phase") == "Running"]
    return kubernetes.http(f"http://{running[0]['status']['podIP']}:8080/metrics")[1]


def quantile(text, q, name="sluice_operator_reconcile_seconds"):
    """{kind: the bound below which that share of all reconciles ended}."""
    buckets = {}
    for line in text.splitlines():
        if line.startswith(f"{name}_bucket{{"):
            labels, _, value = line.partition("} ")
            parts = dict(part.split("=", 1) for part in labels.partition("{")[2].replace('"', "").split(","))
            buckets.setdefault(parts["kind"], []).append((float(parts["le"].replace("+Inf", "inf")), float(value)))
    found = {}
    for kind, counts in buckets.items():
        counts.sort()
        total = counts[-1][1]
        if total:
            found[kind] = next(bound for bound, count in counts if count >= q * total)
    return found


def asked(kubernetes, user, mark, seconds):
    """What the operator asked the API server since the mark, a second."""
    entries = kubernetes.audit.entries(mark, user=user)
    writes = Counter(f"{e.verb} {e.kind}" for e in entries if e.writes and e.resource != "leases")
    return len(entries) / seconds, writes


def clear(kubernetes, clusters):
    """Takes all of it away again."""
    kubernetes.daemon("stub").kill()
    kubernetes.kubectl("delete", "namespaces", "--ignore-not-found", "--timeout=600s", *namespaces(clusters), check=False, timeout=660)
    kubernetes.kubectl("delete", "nodes", "-l", simulated.TAINT, check=False)
    kubernetes.daemon("kwok").kill()


def run(kubernetes, clusters=500, edges=3, rest=60, patience=1800):
    """Returns whether all held."""
    try:
        return measure(kubernetes, clusters, edges, rest, patience)
    finally:
        clear(kubernetes, clusters)


def measure(kubernetes, clusters, edges, rest, patience):
    wanted = clusters * (edges + 1)
    kubernetes.up()
    for program in images.PROGRAMS:
        images.make(program)
    kubernetes.import_image("sluice-operator")
    demo.install(kubernetes)
    account = kubernetes.json("get", "deployments", "-n", OPERATOR_NAMESPACE)["items"][0]["spec"]["template"]["spec"]["serviceAccountName"]
    user = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{account}"
    build.kwok()
    simulated.start(kubernetes, max(2, wanted // 250), capacity={"pods": "1000"})
    answering = stub(kubernetes)
    pid = operator_process()

    say(f"{clusters} clusters, {wanted} pods")
    begin, mark = time.monotonic(), kubernetes.audit.mark()
    before, _, _ = usage(pid)
    create(kubernetes, clusters, edges)
    print(f"applied in {time.monotonic() - begin:.0f} s", flush=True)

    def ready():
        counts = Counter()
        for kind in KINDS:
            for item in kubernetes.get(f"/apis/sluice.dev/v1alpha1/{kind}")["items"]:
                if item["metadata"]["namespace"].startswith("scale-"):
                    conditions = item.get("status", {}).get("conditions", [])
                    counts[kind] += any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if any(counts[kind] < clusters for kind in KINDS):
            raise Failed(f"Ready: {dict(counts)}")
        return True

    require(answering, patience, "all of it is Ready", ready, every=2)
    took = time.monotonic() - begin
    cpu, _, most = usage(pid)
    rate, writes = asked(kubernetes, user, mark, took)
    text = metrics(kubernetes)
    print(f"all Ready after {took:.0f} s; operator: {cpu - before:.0f} s of CPU, at most {most:.0f} MiB")
    print(f"requests to the API server: {rate:.1f}/s, {sum(writes.values()) / clusters:.1f} writes a cluster: "
          f"{', '.join(f'{what} {count}' for what, count in writes.most_common(12))}")
    print(f"reconciles, p50 within {quantile(text, 0.5)} s, p99 within {quantile(text, 0.99)} s", flush=True)

    time.sleep(20)
    mark, (before, _, _) = kubernetes.audit.mark(), usage(pid)
    time.sleep(rest)
    rate, writes = asked(kubernetes, user, mark, rest)
    cpu, memory, _ = usage(pid)
    print(f"at rest for {rest} s: {sum(writes.values())} writes {dict(writes)}, {rate:.1f} requests/s, "
          f"{100 * (cpu - before) / rest:.1f} % of a core, {memory:.0f} MiB", flush=True)
    good = not writes
    answering.kill()
    stub(kubernetes, change_every=5)
    time.sleep(30)
    mark, (before, _, _) = kubernetes.audit.mark(), usage(pid)
    time.sleep(rest)
    rate, writes = asked(kubernetes, user, mark, rest)
    cpu, memory, _ = usage(pid)
    print(f"viewers of every edge change every 5 s: {sum(writes.values()) / rest:.1f} writes/s {dict(writes.most_common(4))}, "
          f"{100 * (cpu - before) / rest:.1f} % of a core, {memory:.0f} MiB")
    # Counts are written every 5 s at most, those of a pool and of its cluster.
    good = good and all(count <= (rest / 5 + 2) * clusters for what, count in writes.items() if what.endswith("/status"))
    print(f"audit log: {AUDIT_LOG.stat().st_size / 2**20:.0f} MiB; scale: {'passed' if good else 'FAILED'}")
    return good
