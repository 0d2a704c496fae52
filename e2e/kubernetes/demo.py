"""`make cluster`: from nothing to a stream that plays. A second call brings what has changed since."""

from . import database, images
from .cluster import Kubernetes
from .paths import BIN, HOME, KUBECONFIG, OPERATOR_NAMESPACE, ROOT, SAMPLE_NAMESPACE, SPACE, STATE
from .procs import Failed, say, within

RELEASE = "sluice"
CHART = ROOT / "charts" / "sluice"
SAMPLE = ROOT / "config" / "samples" / "laptop"
CLUSTER = "demo"
POOLS = {"demo-origin": "originpools.sluice.dev", "demo-edge": "edgepools.sluice.dev"}
# A new value makes the operator replace every pod of a pool, one after the other.
RESTARTED = "sluice.dev/restarted-at"
PATIENCE = 240


def run(kubernetes: Kubernetes):
    say(f"compiling (profile {images.profile()})")
    images.compile_programs()
    kubernetes.up()
    made = {program: images.make(program)[1] for program in images.PROGRAMS}
    for program in images.PROGRAMS:
        kubernetes.import_image(program)
    database.start(kubernetes, SAMPLE_NAMESPACE)
    install(kubernetes)
    follow_operator(kubernetes, made["sluice-operator"])
    sample(kubernetes)
    follow_nodes(kubernetes, made["sluice-node"])
    wait_ready(kubernetes)
    print(describe(kubernetes))


def install(kubernetes, *more):
    """Installs the operator, or brings the release to what the chart is now."""
    say("installing the operator")
    # Definitions may have been applied by others on this cluster, of an older tree: Helm's win.
    kubernetes.helm("upgrade", "--install", RELEASE, CHART, "--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait",
                    "--force-conflicts", "--timeout", "120s", *more)


def sample(kubernetes, path=SAMPLE):
    say(f"applying {path.relative_to(ROOT)}")
    flag = "-k" if (path / "kustomization.yaml").exists() else "-f"
    kubernetes.kubectl("apply", "--server-side", "--force-conflicts", flag, path)


def _note(what):
    """Which image is known to run, by its id: the tag stays the same."""
    return STATE / "running" / what


def _changed(what, identity):
    """Whether another image ran before this one, so that what runs has to be replaced."""
    note = _note(what)
    before = note.read_text() if note.exists() else None
    return before is not None and before != identity


def _done(what, identity):
    note = _note(what)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(identity)


def follow_operator(kubernetes, identity):
    if _changed("operator", identity):
        say("replacing the operator")
        deployments = kubernetes.json("get", "deployments", "-n", OPERATOR_NAMESPACE, "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]
        for deployment in deployments:
            name = f"deployment/{deployment['metadata']['name']}"
            kubernetes.kubectl("rollout", "restart", "-n", OPERATOR_NAMESPACE, name)
            kubernetes.kubectl("rollout", "status", "-n", OPERATOR_NAMESPACE, "--timeout=120s", name)
    _done("operator", identity)


def follow_nodes(kubernetes, identity):
    if _changed("nodes", identity):
        say("rolling the new node image out")
        before = {pool: _pool(kubernetes, pool).get("revision") for pool in POOLS}
        for pool in POOLS:
            kubernetes.kubectl("annotate", "-n", SAMPLE_NAMESPACE, "--overwrite", f"{POOLS[pool]}/{pool}", f"{RESTARTED}={identity[:12]}")

        def replaced():
            for pool, revision in before.items():
                status = _pool(kubernetes, pool)
                if status.get("revision") == revision or status.get("updatedReplicas", 0) < status.get("replicas", 0):
                    raise Failed(f"{pool}: {status.get('message') or 'old pods'}")
            return True

        # Pods with streams stay beside the new ones until these have ended.
        within(PATIENCE, "new pods", replaced, every=0.5)
    _done("nodes", identity)


def _pool(kubernetes, pool):
    return kubernetes.json("get", POOLS[pool], pool, "-n", SAMPLE_NAMESPACE).get("status", {})


def _conditions(item):
    return {c["type"]: c for c in item.get("status", {}).get("conditions", [])}


def wait_ready(kubernetes, seconds=PATIENCE):
    """Waits for the sample cluster and both of its pools, each at the generation that was applied."""
    say("waiting until the sample cluster is Ready")
    kinds = "mediaclusters.sluice.dev,originpools.sluice.dev,edgepools.sluice.dev"

    def ready():
        items = kubernetes.json("get", kinds, "-n", SAMPLE_NAMESPACE)["items"]
        found = {item["metadata"]["name"]: item for item in items}
        for name in (CLUSTER, *POOLS):
            condition = _conditions(found[name]).get("Ready")
            if condition is None or condition["status"] != "True":
                raise Failed(f"{name}: {condition['reason']}: {condition.get('message', '')}" if condition else f"{name} has no status yet")
            if condition.get("observedGeneration", 0) < found[name]["metadata"]["generation"]:
                raise Failed(f"{name}: the operator has not seen its newest spec")
        return True

    try:
        within(seconds, "the sample cluster is Ready", ready, every=0.5)
    except Failed as error:
        pods = kubernetes.kubectl("get", "pods", "-A", "-o", "wide", check=False).stdout
        raise Failed(f"{error}\n{pods}look closer: scripts/kubernetes.sh kubectl -n {SAMPLE_NAMESPACE} describe mcl,opool,epool") from error


def address(kubernetes, service, namespace=SAMPLE_NAMESPACE):
    """The address of a Service within the cluster."""
    return kubernetes.json("get", "service", service, "-n", namespace)["spec"]["clusterIP"]


def describe(kubernetes):
    origin, edge = (address(kubernetes, pool) for pool in POOLS)
    listed = kubernetes.kubectl("get", "mcl,opool,epool", "-n", SAMPLE_NAMESPACE).rstrip().replace("\n", "\n  ")
    inside = f"nsenter --net=/run/netns/{SPACE}"
    return f"""
A media cluster runs on Kubernetes: 1 origin, 2 edges.

  {listed}

  Publish    {inside} ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine \\
               -c:v libx264 -preset veryfast -tune zerolatency -g 30 -c:a aac -f flv rtmp://{origin}/LiveApp/cam1
  Watch      {inside} ffplay http://{edge}:5080/LiveApp/streams/cam1.m3u8
  From here  scripts/kubernetes.sh forward        until Ctrl-C: publish to rtmp://127.0.0.1:11935/LiveApp/cam1,
                                                  watch http://127.0.0.1:18080/LiveApp/play.html?id=cam1
  kubectl    scripts/kubernetes.sh kubectl -n {SAMPLE_NAMESPACE} get mcl,opool,epool,pods
             or, in a shell that has all of it:
             export KUBECONFIG={KUBECONFIG} PATH={BIN}:$PATH
             {inside} kubectl -n {SAMPLE_NAMESPACE} get epool
  Logs       scripts/kubernetes.sh kubectl -n {OPERATOR_NAMESPACE} logs deployment/sluice-operator; Kubernetes' own: {HOME / 'logs'}
  End        make cluster-down
"""
