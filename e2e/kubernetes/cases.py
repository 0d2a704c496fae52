"""Wrong specs are refused by the API server in words that name the field, right ones are taken. The cases are in crds/cases.

    PYTHONPATH=e2e python3 -m kubernetes.cases                what the API server says (schema and CEL)
    PYTHONPATH=e2e python3 -m kubernetes.cases --conditions   also what the operator, which has to run, explains in conditions

Needs a cluster (scripts/kubernetes.sh up). Brings the definitions to those of this tree, works in a namespace of its own.
"""

import copy
import json
import sys
import time

from . import manifests
from .cluster import Kubernetes
from .paths import ROOT
from .procs import Failed, within

CASES = ROOT / "crds" / "cases"
NAMESPACE = "spec-cases"
PLURALS = {"MediaCluster": "mediaclusters", "OriginPool": "originpools", "EdgePool": "edgepools"}
# Most are explained at once; what only the node finds, when it has ended again and again.
EXPLAINED_WITHIN = 90


def load(name):
    return json.loads((CASES / f"{name}.json").read_text())


def merged(base, patch):
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


class Cases:
    def __init__(self, kubernetes: Kubernetes):
        self.kubernetes = kubernetes
        self.bases = load("bases")
        self.brought = False

    def path(self, kind, name=""):
        return f"/apis/sluice.dev/v1alpha1/namespaces/{NAMESPACE}/{PLURALS[kind]}" + (f"/{name}" if name else "")

    def send(self, method, kind, body, name="", dry=True):
        """(status, answer) of one request, as strict as kubectl."""
        query = "?fieldManager=cases&fieldValidation=Strict" + ("&dryRun=All" if dry else "")
        status, text = self.kubernetes.request(method, self.path(kind, name) + query, body)
        return status, json.loads(text)

    def object(self, case, patch):
        return merged(copy.deepcopy(self.bases[case["kind"]]), patch)

    def delete(self, kind, name):
        self.kubernetes.request("DELETE", self.path(kind, name))
        within(20, f"{kind} {name} is gone", lambda: self.kubernetes.request("GET", self.path(kind, name))[0] == 404)

    def answer(self, case):
        """What the API server says to the case: made anew, or put in the place of what was there."""
        new = self.object(case, case["patch"])
        if "old" not in case:
            return self.send("POST", case["kind"], new)
        old = self.object(case, case["old"])
        name = old["metadata"]["name"]
        status, stored = self.send("POST", case["kind"], old, dry=False)
        if status != 201:
            raise Failed(f"{case['name']}: what it begins with is refused: {stored.get('message')}")
        try:
            # Somebody else may write its status meanwhile.
            for _ in range(5):
                new["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
                status, said = self.send("PUT", case["kind"], new, name)
                if status != 409:
                    return status, said
                stored = self.kubernetes.get(self.path(case["kind"], name))
            return status, said
        finally:
            self.delete(case["kind"], name)

    def refused(self, case):
        """Checks that it is refused, with the field and the sentence; returns what is wrong."""
        status, said = self.answer(case)
        if status < 400:
            return "it is taken"
        causes = said.get("details", {}).get("causes") or []
        for cause in causes:
            field = cause.get("field", "")
            # A rule about metadata has no field of its own (the API server refuses such a path): its sentence names the field.
            named = case["field"] in cause["message"] if field == "<nil>" else field == case["field"] or field.startswith(case["field"] + ".")
            if named and case["says"] in cause["message"]:
                return None
        # A field that does not exist is a cause without one; the sentence names it.
        message = said.get("message", "")
        if not causes and case["says"] in message and case["field"] in message:
            return None
        return f"expected {case['field']}: … {case['says']} …; {status} says: {message}"

    def samples(self):
        """What config/samples has of our kinds, as cases that are to be taken."""
        for sample in manifests.SAMPLES:
            for each in manifests.kustomize(f"samples/{sample}"):
                if each["kind"] in PLURALS:
                    del each["metadata"]["namespace"]
                    yield {"name": f"{each['metadata']['name']} of sample {sample}", "kind": each["kind"], "patch": each}

    def work(self, conditions):
        """Cases, each with the check that it is for."""
        wrong = load("wrong")
        work = [(case, self.refused) for case in wrong if case["refused_by"] != "condition"]
        work += [(case, self.taken) for case in [*load("right"), *self.samples()]]
        if conditions:
            work += [(case, self.explained) for case in wrong if case["refused_by"] == "condition"]
        return work

    def taken(self, case):
        status, said = self.answer(case)
        return None if status in (200, 201) else f"{status}: {said.get('message')}"

    def explained(self, case):
        """Makes it for real, and waits for a condition that names the field; returns what is wrong."""
        wrong = self.object(case, case["patch"])
        name = wrong["metadata"]["name"]
        others = [] if case["kind"] == "MediaCluster" else [self.bases["MediaCluster"]]
        for each in [*others, wrong]:
            status, said = self.send("POST", each["kind"], each, dry=False)
            if status != 201:
                return f"it is refused: {said.get('message')}"
        end, seen = time.monotonic() + EXPLAINED_WITHIN, "no condition"
        try:
            while time.monotonic() < end:
                conditions = self.kubernetes.get(self.path(case["kind"], name)).get("status", {}).get("conditions", [])
                for condition in conditions:
                    if condition["type"] in ("Ready", "Degraded", "DatabaseReady"):
                        seen = f"{condition['type']}={condition['status']} {condition['reason']}: {condition['message']}"
                        if case["field"] in condition["message"] and case["says"] in condition["message"]:
                            return None
                time.sleep(0.25)
            return f"expected {case['field']} … {case['says']} …; last seen: {seen}"
        finally:
            for each in [wrong, *others]:
                self.delete(each["kind"], each["metadata"]["name"])

    def prepare(self):
        self.brought = self.kubernetes.request("GET", "/apis/sluice.dev/v1alpha1")[0] == 404
        self.kubernetes.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=kit", "-k", ROOT / "config" / "crd")
        self.kubernetes.kubectl("wait", "--for=condition=Established", "--timeout=30s", *[f"crd/{each}.sluice.dev" for each in PLURALS.values()])
        self.kubernetes.apply([
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "case-database", "namespace": NAMESPACE},
             "stringData": {"uri": "mongodb://mongodb.media:27017/"}}])

        # New definitions are served some moments after they are established.
        def served():
            status, said = self.send("POST", "MediaCluster", self.bases["MediaCluster"])
            if status != 201:
                raise Failed(f"{status}: {said.get('message')}")
            return True
        within(20, "the definitions are served", served)

    def clear(self):
        self.kubernetes.kubectl("delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found")
        # Helm takes no definitions that are not its own.
        if self.brought:
            self.kubernetes.kubectl("delete", "-k", ROOT / "config" / "crd", "--wait=false")


def main(words):
    cases = Cases(Kubernetes())
    cases.prepare()
    work = cases.work("--conditions" in words)
    failed = 0
    try:
        for case, check in work:
            wrong = check(case)
            if wrong:
                failed += 1
                print(f"FAILED {case['kind']}: {case['name']}: {wrong}")
    finally:
        cases.clear()
    print(f"spec cases: {len(work) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
