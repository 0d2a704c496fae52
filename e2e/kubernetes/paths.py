"""Names, addresses, versions and places that everything about the local Kubernetes agrees on."""

import os
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
KIT = Path(__file__).resolve().parent

KUBERNETES = "v1.35.4"
HELM = "v4.1.0"
METRICS_SERVER = "v0.9.0"
KWOK = "v0.8.0"

# Tools and users rely on these: the namespace, the kubeconfig and the folder of programs keep their names.
SPACE = "sluice"
HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice" / "cluster"
KUBECONFIG = HOME / "kubeconfig"
BIN = HOME / "bin"
CRDS = HOME / "crds"
BUILDS = HOME / "builds"
IMAGES = HOME / "images"

# What runs: gone after `down`. Logs stay until the next `up`, for the one who asks why.
STATE = HOME / "run"
LOGS = HOME / "logs"
# Sockets have paths of their own, because such a path may have 107 bytes only.
SOCKETS = Path("/run/sluice-kubernetes")
# Control groups of all pods, below every controller of cgroup v1.
CGROUP = "sluice"

# The node's address, where all of the control plane listens. Pods of node N are in 10.244.N.0/24.
CONTROL = "10.10.0.1"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
PODS = "10.244.0.0/16"
# Pods that kwok only pretends to run.
SIMULATED_PODS = "10.200.0.0/16"
# Given to Services of type LoadBalancer, on request.
LOAD_BALANCERS = "10.10.1.0/24"

OPERATOR_NAMESPACE = "sluice-system"
SAMPLE_NAMESPACE = "media"


def version():
    """The version of this workspace, which is the images' tag."""
    with open(ROOT / "Cargo.toml", "rb") as file:
        return tomllib.load(file)["workspace"]["package"]["version"]


def image(program):
    return f"ghcr.io/sluice-media/{program}:{version()}"
