"""Runs checks by name, one line each, with a summary that scripts/test.sh understands."""

import importlib
import sys
import traceback

from checks import Checks

from ..procs import Failed
from .sample import Sample

# In this order: `rights` looks at what all others made the operator do.
ALL = {
    "manifests": "specs.manifests",
    "specs": "specs.body",
    "plays": "plays.body",
    "gitops": "gitops.body",
    "scaling": "scaling.body",
    "hpa": "hpa.body",
    "drains": "drains.body",
    "plugin": "plugin.body",
    "rollout": "lifecycle.rollout",
    "pauses": "lifecycle.pauses",
    "stops": "lifecycle.stops",
    "autoscale": "autoscale.edges",
    "origins": "autoscale.origins",
    "upgrade": "upgrade.body",
    "losses": "losses.body",
    "exposure": "exposure.body",
    "webrtc": "webrtc.body",
    "gpu": "gpu.body",
    "heals": "heals.body",
    "machines": "machines.body",
    "orphans": "orphans.body",
    "optional": "optional.body",
    "metricsapi": "metricsapi.body",
    "key": "heals.memory_lost",
    "rest": "rest.body",
    "release": "release.body",
    "scoped": "scoped.body",
    "kustomize": "kustomize.body",
    "rights": "rights.body",
}


def _body(name):
    module, _, function = ALL[name].partition(".")
    return getattr(importlib.import_module(f".{module}", __package__), function)


def main(names):
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise Failed(f"there is no check {', '.join(unknown)}: {', '.join(ALL)}")
    failed = 0
    for name in names or ALL:
        checks, subject = Checks(name), Sample()
        try:
            _body(name)(checks, subject)
        except Failed as error:
            checks.check("it could go on", False, error)
        except Exception:
            checks.check("it could go on", False, "an error of the test itself")
            traceback.print_exc(file=sys.stdout)
        finally:
            subject.close()
        failed |= checks.end()
    return failed
