"""What the operator may do is what it does: verbs granted by RBAC against verbs used in the audit log, both ways."""

from .. import demo
from ..paths import OPERATOR_NAMESPACE


def granted(kubernetes, account, namespace=OPERATOR_NAMESPACE):
    """{(group, resource, verb)} that roles give a service account."""
    found = set()
    for bindings, scoped in (("clusterrolebindings", False), ("rolebindings", True)):
        words = ["get", bindings] + (["-A"] if scoped else [])
        for binding in kubernetes.json(*words)["items"]:
            subjects = binding.get("subjects") or []
            if not any(s["kind"] == "ServiceAccount" and s["name"] == account and s.get("namespace") == namespace for s in subjects):
                continue
            reference = binding["roleRef"]
            where = ["-n", binding["metadata"]["namespace"]] if reference["kind"] == "Role" else []
            for rule in kubernetes.json("get", reference["kind"].lower(), reference["name"], *where).get("rules") or []:
                found |= {(group, resource, verb) for group in rule.get("apiGroups", []) for resource in rule.get("resources", [])
                          for verb in rule["verbs"]}
    return found


def spell(rights):
    return ", ".join(f"{verb} {resource}{f'.{group}' if group else ''}" for group, resource, verb in sorted(rights))


def body(checks, sample):
    """Counts from the start of the log: run the other checks before."""
    user = sample.operator_user()
    # What is optional was used, too: its rights are to be there.
    demo.install(sample.kubernetes, "--set", "metricsApi.enabled=true")
    may = granted(sample.kubernetes, user.rpartition(":")[2])
    used = sample.kubernetes.audit.used(user)
    checks.check("rights were found", len(may) >= 10, len(may))
    checks.check("no right has a wildcard", not any("*" in right for right in may), spell(r for r in may if "*" in r))
    demo.install(sample.kubernetes)
    # While Helm takes roles away, and while the API server starts, what is granted is refused, too.
    refused = {(e.group, e.kind, e.verb) for e in sample.kubernetes.audit.refused(user)} - may
    checks.check("nothing was refused that is not granted", not refused, spell(refused))
    checks.check("every right that was used is granted", used <= may, spell(used - may))
    checks.check("every right that is granted was used", may <= used, spell(may - used))
