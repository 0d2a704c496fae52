"""A real Kubernetes on this machine, for `make cluster` and for tests.

    sys.path.insert(0, "e2e"); from kubernetes import Kubernetes
    k = Kubernetes(); k.up(); k.apply(yaml); k.json("get", "pods", "-n", "media"); k.daemon("kube-apiserver").kill()

etcd, API server, controller manager, scheduler, kube-proxy, CoreDNS and metrics-server are plain processes in one
network namespace; each node is a kubelet with a containerd of its own; pods are real containers. Needs root.
What exists where is in paths.py, what a cluster is made of in components.py, how it comes and goes in cluster.py.
"""

from .cluster import Kubernetes
from .procs import Failed, within

__all__ = ["Failed", "Kubernetes", "within"]
