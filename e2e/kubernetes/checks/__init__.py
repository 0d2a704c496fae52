"""What must be true of a running operator, tried out on the real Kubernetes: scripts/kubernetes.sh check [NAME...]

Each file has one subject and a `body(checks, sample)`; they run one after the other on the cluster of `make cluster`, in
its network namespace, and put back what they changed.
"""
