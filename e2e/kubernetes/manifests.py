"""Whether the chart, config/ and what they say about the operator agree with each other.

    PYTHONPATH=e2e python3 -m kubernetes.manifests            says what does not, exit 1
    PYTHONPATH=e2e python3 -m kubernetes.manifests --write    writes config/rbac, config/manager, and tables: the chart's values, the rights

The chart is the source: config/ is what it renders with its defaults, without Helm's labels. Needs Helm and kubectl, no cluster.
"""

import re
import sys

import yaml

from . import build
from .paths import BIN, OPERATOR_NAMESPACE, ROOT
from .procs import Failed, run

CHART = ROOT / "charts" / "sluice"
CONFIG = ROOT / "config"
NOTE = "# Written by `PYTHONPATH=e2e python3 -m kubernetes.manifests --write` from charts/sluice: change it there.\n"
SAMPLES = ("laptop", "production", "gpu")
# Labels and annotations that only an object of Helm's has.
HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by", "helm.sh/resource-policy")
SECURITY = ROOT / "docs" / "kubernetes-security.md"


class _Dumper(yaml.SafeDumper):
    """Writes each object in full, and lists indented below their key."""

    def ignore_aliases(self, data):
        return True

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)


def helm(*words):
    """What the chart renders: objects, the test hook aside."""
    text = run([BIN / "helm", "template", "sluice", CHART, "-n", OPERATOR_NAMESPACE, *words])
    objects = [each for each in yaml.safe_load_all(text) if each]
    return [each for each in objects if "helm.sh/hook" not in each["metadata"].get("annotations", {})]


def kustomize(folder):
    return [each for each in yaml.safe_load_all(run([BIN / "kubectl", "kustomize", CONFIG / folder])) if each]


def without_helm(thing):
    """The object without what only Helm puts there."""
    if isinstance(thing, list):
        return [without_helm(each) for each in thing]
    if not isinstance(thing, dict):
        return thing
    kept = {name: without_helm(value) for name, value in thing.items() if name not in HELM}
    for name in ("labels", "annotations"):
        if name in thing and not kept[name]:
            del kept[name]
    return kept


def key(each):
    return (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])


def files():
    """config/rbac and config/manager as they should be: path -> text."""
    places = {"ServiceAccount": "rbac/operator.yaml", "Role": "rbac/operator.yaml", "RoleBinding": "rbac/operator.yaml",
              "ClusterRole": "rbac/operator.yaml", "ClusterRoleBinding": "rbac/operator.yaml", "Deployment": "manager/deployment.yaml",
              "Service": "manager/service.yaml", "NetworkPolicy": "manager/networkpolicy.yaml"}
    found = {}
    for each in helm("--set", "crds.install=false"):
        each = without_helm(each)
        place = places[each["kind"]]
        if any(label.startswith("rbac.authorization.k8s.io/aggregate") for label in each["metadata"]["labels"]):
            place = "rbac/users.yaml"
        found.setdefault(place, []).append(each)
    namespace = {"apiVersion": "v1", "kind": "Namespace",
                 "metadata": {"name": OPERATOR_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    found["manager/namespace.yaml"] = [namespace]
    texts = {place: NOTE + yaml.dump_all(each, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=1000)
             for place, each in found.items()}
    for folder in ("rbac", "manager"):
        names = sorted(place.split("/")[1] for place in texts if place.startswith(folder))
        body = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names}
        texts[f"{folder}/kustomization.yaml"] = NOTE + yaml.dump(body, Dumper=_Dumper, sort_keys=False)
    return texts


def values(text, path=""):
    """Rows of the table: (key, default, meaning) of each value, the comment above it being its meaning."""
    rows, stack, comment = [], [], []
    lines = text.splitlines()
    for index, line in enumerate(lines):
        bare = line.strip()
        if bare.startswith("#"):
            comment.append(bare.lstrip("# "))
            continue
        match = re.match(r"^( *)([A-Za-z_]+):(?: (.*))?$", line)
        if not match:
            comment = [] if not bare else comment
            continue
        depth, name, value = len(match[1]) // 2, match[2], match[3]
        stack = [*stack[:depth], (name, " ".join(comment))]
        comment = []
        below = next((each for each in lines[index + 1:] if each.strip() and not each.strip().startswith("#")), "")
        if value is None and below.startswith("  " * (depth + 1)):
            continue
        # What is said above a group is said of its first value.
        said = " ".join(part for _, part in stack if part)
        stack = [(each, "") for each, _ in stack]
        rows.append((".".join(each for each, _ in stack), value or "", said))
    return rows


def table():
    lines = ["| Value | Default | Meaning |", "|---|---|---|"]
    for name, default, meaning in values((CHART / "values.yaml").read_text()):
        cell = meaning.replace("|", "\\|")
        lines.append(f"| `{name}` | `{default}` | {cell} |")
    return "\n".join(lines) + "\n"


def rights():
    lines = ["| In | Resources | Verbs |", "|---|---|---|"]
    with_metrics = "with `metricsApi.enabled`: "
    for file, where in (("watched.yaml", "namespaces that it looks after"), ("own.yaml", "its own namespace"),
                        ("machines.yaml", "the whole cluster (`rbac.machines`)"),
                        ("metrics-api-own.yaml", with_metrics + "its own namespace"),
                        ("metrics-api-cluster.yaml", with_metrics + "the whole cluster")):
        for rule in yaml.safe_load((CHART / "rbac" / file).read_text()):
            resources = ", ".join(f"`{each}`" for each in rule["resources"])
            group = f" ({rule['apiGroups'][0]})" if rule["apiGroups"] != [""] else ""
            named = " named `" + "`, `".join(rule["resourceNames"]) + "`" if "resourceNames" in rule else ""
            lines.append(f"| {where} | {resources}{group}{named} | {', '.join(rule['verbs'])} |")
    return "\n".join(lines) + "\n"


def pages():
    """Pages with a table between two comments as they should be: path -> text."""
    found = {}
    for path, name, content in ((CHART / "README.md", "values", table()), (SECURITY, "rights", rights())):
        parts = re.match(rf"(?s)(.*<!-- {name}[^\n]*-->\n).*(<!-- /{name} -->\n.*)", path.read_text())
        if not parts:
            raise Failed(f"{path} has no place for the table {name}")
        found[path] = parts[1] + "\n" + content + "\n" + parts[2]
    return found


# --- checks: each gives the sentences that say what is wrong


def generated_files_are_current():
    wrong = [f"config/{place} is not current" for place, text in files().items()
             if not (CONFIG / place).exists() or (CONFIG / place).read_text() != text]
    wrong += [f"charts/sluice/values.yaml: {name} has no comment" for name, _, said in values((CHART / "values.yaml").read_text()) if not said]
    wrong += [f"{path.relative_to(ROOT)}: its table is not current" for path, text in pages().items() if path.read_text() != text]
    return wrong and [*wrong, "generated ones are written by: PYTHONPATH=e2e python3 -m kubernetes.manifests --write"]


def chart_and_kustomize_are_the_same():
    ours = {key(each): without_helm(each) for each in helm()}
    theirs = {key(each): each for each in kustomize("default")}
    # Helm makes the namespace itself, without labels.
    theirs.pop(("Namespace", "", OPERATOR_NAMESPACE), None)
    wrong = [f"{name} is in one of chart and config/default only" for name in sorted(set(ours) ^ set(theirs))]
    wrong += [f"{name} differs between chart and config/default" for name in ours if name in theirs and ours[name] != theirs[name]]
    return wrong


def chart_is_sound():
    run([BIN / "helm", "lint", "--strict", CHART])
    wrong = []
    everything = ["--set", "metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true",
                  "--set", "replicas=3,watchNamespaces={media,sluice-system},priorityClassName=system-cluster-critical",
                  "--set", "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring,podLabels.a=b,podAnnotations.c=d",
                  "--set", "image.pullSecrets={registry},image.digest=sha256:" + "0" * 64]
    objects = helm(*everything)
    kinds = {each["kind"] for each in objects}
    for kind in ("ServiceMonitor", "PrometheusRule", "ConfigMap", "PodDisruptionBudget"):
        if kind not in kinds:
            wrong.append(f"{kind} is not rendered though it is asked for")
    bindings = [each["roleRef"]["name"] for each in objects if each["kind"] == "ClusterRoleBinding"]
    if bindings != ["sluice-operator-machines"]:
        wrong.append(f"watchNamespaces is given, and yet rights are granted in all namespaces: {bindings}")
    without = helm("--set", "watchNamespaces={media},rbac.machines=false")
    if any(each["kind"] == "ClusterRoleBinding" for each in without):
        wrong.append("rbac.machines is false, and yet rights are granted in the whole cluster")
    names = [key(each) for each in objects]
    wrong += [f"{name} is rendered twice" for name in sorted(set(names)) if names.count(name) > 1]
    return wrong


def metrics_api_is_whole():
    """The metrics API comes with all that keeps it from being in others' way, and with none of it when nobody would answer."""
    wrong = []
    objects = {key(each): each for each in helm("--set", "metricsApi.enabled=true,watchNamespaces={media}")}
    versions = {name: each["spec"] for (kind, _, name), each in objects.items() if kind == "APIService"}
    if sorted(versions) != ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"]:
        return [f"APIServices: {sorted(versions)}"]
    service = next(each for (kind, _, name), each in objects.items() if kind == "Service" and name.endswith("-metrics-api"))
    for name, spec in versions.items():
        if "caBundle" in spec or "insecureSkipTLSVerify" in spec:
            wrong.append(f"{name}: its CA is the operator's to give")
        if spec["service"] != {"namespace": OPERATOR_NAMESPACE, "name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}:
            wrong.append(f"{name} does not lead to the Service: {spec['service']}")
    if versions["v1beta2.custom.metrics.k8s.io"]["versionPriority"] <= versions["v1beta1.custom.metrics.k8s.io"]["versionPriority"]:
        wrong.append("v1beta1 is preferred")
    deployment = next(each for (kind, *_), each in objects.items() if kind == "Deployment")["spec"]
    container = deployment["template"]["spec"]["containers"][0]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    target = service["spec"]["ports"][0]["targetPort"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    if deployment["replicas"] < 2 or not any(kind == "PodDisruptionBudget" for kind, *_ in objects):
        wrong.append("one replica that goes takes the API along")
    if ports.get(target) != 8443 or env.get("SLUICE_OPERATOR_METRICS_SERVICE") != service["metadata"]["name"]:
        wrong.append(f"the Service does not lead to the operator: {target}, {ports}, {env}")
    policy = next(each for (kind, *_), each in objects.items() if kind == "NetworkPolicy")["spec"]
    if not any(rule["ports"] == [{"port": 8443, "protocol": "TCP"}] and "from" not in rule for rule in policy["ingress"]):
        wrong.append("the NetworkPolicy keeps the API server out")
    bound = [name for kind, _, name in objects if kind == "ClusterRoleBinding"]
    if sorted(bound) != ["sluice-operator-machines", "sluice-operator-metrics-api"]:
        wrong.append(f"watchNamespaces is given, and yet rights are granted in all namespaces by {bound}")
    asked = {rule for (kind, _, name), each in objects.items() if kind == "ClusterRole" and name == "sluice-view" for rule in
             (resource for rule in each["rules"] if rule["apiGroups"] == ["custom.metrics.k8s.io"] for resource in rule["resources"])}
    listed = (ROOT / "operator" / "custom-metrics" / "src" / "path.rs").read_text()
    names = re.findall(r'"([a-z_]+)"', re.search(r"METRICS: \[&str; \d+\] =\s*\[(.*?)\]", listed, re.S)[1])
    known = {f"{kind}/{name}" for kind in ("originpools.sluice.dev", "edgepools.sluice.dev", "pods") for name in names}
    if asked != known:
        wrong.append(f"who may view does not see {sorted(known - asked)}, or sees what is not there: {sorted(asked - known)}")
    for value in ("metricsApi.enabled=false", "metricsApi.enabled=true,replicas=0"):
        left = [name for kind, _, name in map(key, helm("--set", value)) if kind == "APIService" or "metrics-api" in name]
        if left:
            wrong.append(f"{value}: nobody answers, and yet there is {left}")
    return wrong


def values_of_the_chart_before_do():
    """`helm upgrade --reuse-values` gives the chart no value that came later: it is as with the defaults then, and each can still be set."""
    later = "metricsApi=null,rbac.machines=null"
    before, now = helm("--set", later), helm()
    wrong = [] if before == now else [f"without {later} it is not what it is with the defaults"]
    served = [each for each in helm("--set", "rbac.machines=null,metricsApi.enabled=true") if each["kind"] == "APIService"]
    if len(served) != 2:
        wrong.append(f"metricsApi.enabled is set with the values of the chart before, and there are {len(served)} APIServices")
    return wrong


def wrong_values_are_refused():
    wrong = []
    for value, says in (("replicas=-1", "replicas"), ("replicaCount=2", "replicaCount"), ("image.tag=a b", "tag"), ("log.format=xml", "format"),
                        ("watchNamespaces={Media}", "watchNamespaces"), ("image.pullPolicy=Sometimes", "pullPolicy"),
                        ("metrics.serviceMonitor.interval=soon", "interval"), ("resources.limits.memory=much", "memory"),
                        ("metrics.service=false,metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.enabled needs metrics.service")):
        done = run([BIN / "helm", "template", "sluice", CHART, "--set", value], check=False)
        if done.returncode == 0:
            wrong.append(f"the chart takes {value}")
        elif says not in done.stderr:
            wrong.append(f"the chart refuses {value} without naming {says}: {done.stderr.strip()[-200:]}")
    return wrong


def rights_are_named():
    """No wildcard, nothing twice, no way to more rights."""
    wrong, seen = [], set()
    for file in sorted(path.name for path in (CHART / "rbac").iterdir()):
        for rule in yaml.safe_load((CHART / "rbac" / file).read_text()):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        right = (file, group, resource, verb, tuple(rule.get("resourceNames", ())))
                        if "*" in (group, resource, verb):
                            wrong.append(f"{file}: a wildcard in {right[1:]}")
                        if group == "rbac.authorization.k8s.io" or verb in ("impersonate", "escalate", "bind") or resource == "pods/exec":
                            wrong.append(f"{file}: {right[1:]} leads to more rights")
                        if right in seen:
                            wrong.append(f"{file}: {right[1:]} is granted twice")
                        seen.add(right)
    return wrong


def operator_knows_its_environment():
    """Variables that the chart sets are settings of the operator."""
    settings = (ROOT / "operator" / "src" / "settings.rs").read_text()
    deployment = next(each for each in helm("--set", "watchNamespaces={a},metricsApi.enabled=true") if each["kind"] == "Deployment")
    names = [each["name"] for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]]
    return [f"the operator has no setting {name}" for name in names if f'"{name}"' not in settings]


OF_OPERATOR = r'(counters|gauges|counter|gauge|histogram)\(\s*"([a-z_]+)"'


def metrics_exist():
    """Dashboard and alerts ask for metrics that node and operator have."""
    exist = set()
    for source, pattern, prefix in (("node/api/src/metrics.rs", r'out\.(gauge|counter|histogram)\(\s*"([a-z_]+)"', "sluice_"),
                                    ("operator/src/metrics.rs", OF_OPERATOR, "sluice_operator_"),
                                    ("operator/src/metrics/pools.rs", OF_OPERATOR, "sluice_operator_")):
        for kind, name in re.findall(pattern, (ROOT / source).read_text()):
            exist |= {prefix + name} | ({f"{prefix}{name}_bucket"} if kind == "histogram" else set())
    asked = set()
    for file in (CHART / "dashboards" / "sluice.json", CHART / "templates" / "prometheusrule.yaml"):
        asked |= set(re.findall(r"\bsluice_[a-z_]+", file.read_text()))
    # What Prometheus makes of the pods' labels sluice.dev/….
    asked = {name for name in asked if not name.startswith("sluice_dev_")}
    if len(asked) < 20 or len(exist) < 30:
        return [f"only {len(asked)} metrics asked for and {len(exist)} found: this check does not see what it should"]
    return [f"no node or operator has {name}" for name in sorted(asked - exist)]


def versions_are_one():
    with open(ROOT / "Cargo.toml", encoding="utf-8") as file:
        version = re.search(r'^version = "(.*)"', file.read(), re.M)[1]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return [f"Chart.yaml: {name} is {chart[name]}, the workspace's version is {version}" for name in ("version", "appVersion") if chart[name] != version]


def samples_render():
    wrong = []
    for sample in SAMPLES:
        objects = kustomize(f"samples/{sample}")
        kinds = [each["kind"] for each in objects]
        for kind in ("Namespace", "Secret", "MediaCluster", "OriginPool", "EdgePool"):
            if kind not in kinds:
                wrong.append(f"config/samples/{sample} has no {kind}")
        clusters = {each["metadata"]["name"] for each in objects if each["kind"] == "MediaCluster"}
        for each in objects:
            if each["kind"].endswith("Pool") and each["spec"]["clusterRef"]["name"] not in clusters:
                wrong.append(f"config/samples/{sample}: {each['metadata']['name']} belongs to a cluster that is not there")
    return wrong


CHECKS = (generated_files_are_current, chart_and_kustomize_are_the_same, chart_is_sound, metrics_api_is_whole, values_of_the_chart_before_do,
          wrong_values_are_refused, rights_are_named, operator_knows_its_environment, metrics_exist, versions_are_one, samples_render)


def main(words):
    build.programs()
    if words == ["--write"]:
        for place, text in files().items():
            (CONFIG / place).parent.mkdir(exist_ok=True)
            (CONFIG / place).write_text(text)
        for path, text in pages().items():
            path.write_text(text)
        return 0
    failed = 0
    for check in CHECKS:
        try:
            wrong = check()
        except Failed as error:
            wrong = [str(error)]
        failed += bool(wrong)
        print(f"{'FAILED' if wrong else 'ok':6} {check.__name__.replace('_', ' ')}")
        for sentence in wrong:
            print(f"       {sentence}")
    print(f"manifests: {len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
