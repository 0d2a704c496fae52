"""Every spec of crds/cases: refused by the API server, explained in a condition, or taken. And whether chart and kustomize agree."""

from .. import cases as table
from .. import manifests as rendered
from ..procs import Failed


def body(checks, sample):
    cases = table.Cases(sample.kubernetes)
    cases.prepare()
    try:
        for case, check in cases.work(conditions=True):
            wrong = check(case)
            checks.check(f"{case['kind']}: {case['name']}", wrong is None, wrong or "")
    finally:
        cases.clear()


def manifests(checks, _):
    for each in rendered.CHECKS:
        try:
            wrong = each()
        except Failed as error:
            wrong = [str(error)]
        checks.check(each.__name__.replace("_", " "), not wrong, "; ".join(wrong or []))
