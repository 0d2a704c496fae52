"""At rest nothing is written but the Lease; with constant load, too."""

import time
from collections import Counter

from ..paths import OPERATOR_NAMESPACE
from . import sample as sampling

SECONDS = 120


def body(checks, sample, seconds=SECONDS):
    sample.ready()
    sample.publish("rest")
    watched = sample.watch("rest")
    # What has just begun is counted first.
    time.sleep(15)
    user = sample.operator_user()
    mark = sample.kubernetes.audit.mark()
    time.sleep(seconds)
    writes = sample.kubernetes.audit.entries(mark, user=user, writes=True)
    leases = [entry for entry in writes if entry.resource == "leases"]
    # Other clusters, of whoever shares this Kubernetes, need not be at rest.
    ours = [e for e in writes if e.resource != "leases" and e.namespace in (sample.namespace, OPERATOR_NAMESPACE, "")]
    others = Counter(f"{e.verb} {e.kind} {e.namespace}/{e.name}" for e in ours)
    checks.check(f"{seconds} s under constant load: no write but the Lease's", not others, dict(others) or f"{len(leases)} renewals")
    checks.check("the leader renews its Lease", leases != [], len(leases))
    sampling.undisturbed(checks, "the viewer is served meanwhile", watched.done(), 3.0)
