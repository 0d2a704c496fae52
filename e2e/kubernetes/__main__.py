"""The local Kubernetes from the command line; scripts/kubernetes.sh calls it.

    up             Kubernetes alone: API server, one node, DNS, CPU metrics; starts again what of it has ended
    down           ends it and leaves nothing
    status         what runs
    node2          adds a second real node
    kwok N         adds N simulated nodes
    gpu [COUNT]    the node offers COUNT devices nvidia.com/gpu that do not exist
    crds NAME...   adds kinds of gateway-api, prometheus or cert-manager
    images         builds the images of node and operator, and hands them to the nodes
    demo           database, operator (Helm) and the sample cluster; what changed is rolled out
    check [NAME]   tries the operator out on the sample cluster; without a name, all of it (checks/runner.py)
    scale          500 clusters with 2,000 simulated pods: what the operator takes (--clusters, --edges, --rest)
    forward ...    until Ctrl-C, ports of this machine lead to Services: PORT=NAMESPACE/SERVICE:PORT (none: the sample cluster's)
    kubectl ...    kubectl, in the cluster's network
    helm ...       Helm, in the cluster's network
    run ...        any command, in the cluster's network
"""

import argparse
import os
import sys

from . import build, demo, forward, images, scale, simulated
from .checks import runner
from .cluster import Alone, Kubernetes
from .paths import BIN, KUBECONFIG
from .procs import Failed
from .space import exists, inside


def replace(words):
    """Becomes the command, in the cluster's network."""
    if not (KUBECONFIG.exists() and exists()):
        raise Failed("there is no cluster: scripts/kubernetes.sh up")
    os.environ["KUBECONFIG"] = str(KUBECONFIG)
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    command = inside(words)
    os.execvp(command[0], command)


def main(words):
    if words and words[0] in ("kubectl", "helm", "run"):
        program = [BIN / words[0]] if words[0] != "run" else []
        replace([*program, *words[1:]])
    parser = argparse.ArgumentParser(prog="kubernetes.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("build", "up", "down", "status", "node2", "images", "demo"):
        commands.add_parser(name)
    commands.add_parser("kwok").add_argument("count", type=int)
    commands.add_parser("gpu").add_argument("count", type=int, nargs="?", default=1)
    many = commands.add_parser("scale")
    many.add_argument("--clusters", type=int, default=500)
    many.add_argument("--edges", type=int, default=3)
    many.add_argument("--rest", type=int, default=60)
    commands.add_parser("check").add_argument("names", nargs="*")
    commands.add_parser("forward").add_argument("ways", nargs="*")
    commands.add_parser("crds").add_argument("names", nargs="+", choices=sorted(build.DEFINITIONS))
    given = parser.parse_args(words)
    kubernetes = Kubernetes()
    match given.command:
        case "build":
            build.programs()
        case "up":
            kubernetes.up()
        case "down":
            kubernetes.down()
        case "status":
            print(kubernetes.status())
        case "node2":
            kubernetes.up().add_node(2)
        case "kwok":
            simulated.start(kubernetes.up(), given.count)
        case "gpu":
            kubernetes.up().node(1).device_plugin(given.count)
        case "crds":
            kubernetes.up()
            for name in given.names:
                kubernetes.define(name)
        case "images":
            images.compile_programs()
            for program in images.PROGRAMS:
                images.make(program)
            if kubernetes.nodes():
                for program in images.PROGRAMS:
                    kubernetes.import_image(program)
        case "check":
            if "SLUICE_INSIDE" not in os.environ:
                # All of it runs in the cluster's network, where pods and Services are reached as from a pod.
                os.environ["SLUICE_INSIDE"] = "1"
                replace([sys.executable, "-m", "kubernetes", *words])
            with Alone("sample"):
                return runner.main(given.names)
        case "scale":
            images.compile_programs()
            with Alone("sample"):
                return 0 if scale.run(kubernetes, given.clusters, given.edges, given.rest) else 1
        case "forward":
            forward.run(kubernetes, given.ways or forward.SAMPLE)
        case "demo":
            with Alone("sample"):
                demo.run(kubernetes)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
