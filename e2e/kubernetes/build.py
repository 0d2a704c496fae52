"""Builds the programs of the local Kubernetes, once for each version of what they are made of.

`binaries/` is one Go module with all of them, so that what they share is compiled once: about eight minutes on two
cores the first time, nothing later. kwok wants another client library, and so is a build of its own, made when it is
first asked for. Definitions of other projects' kinds come from their Go modules, too, which are reachable where
release pages are not.
"""

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

from .paths import BIN, BUILDS, CRDS, HELM, HOME, KIT, KUBERNETES, KWOK, METRICS_SERVER
from .procs import Failed, run, say

SOURCES = KIT / "binaries"
PROGRAMS = ("coredns", "device-plugin", "helm", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler",
            "kubectl", "kubelet", "metrics-server")

# Kinds that tests want the API server to know, though nobody here acts on them: name -> (module, version, files).
DEFINITIONS = {
    "gateway-api": ("sigs.k8s.io/gateway-api", "v1.6.3", "config/crd/standard/*.yaml"),
    "prometheus": ("github.com/prometheus-operator/prometheus-operator", "v0.85.0",
                   "example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,podmonitors,prometheusrules}.yaml"),
    "cert-manager": ("github.com/cert-manager/cert-manager", "v1.21.2", "deploy/crds/*.yaml"),
}


def go(*words, cwd=HOME, timeout=3600, **env):
    if shutil.which("go") is None:
        raise Failed("Go 1.26 or newer is needed to build Kubernetes: https://go.dev/doc/install")
    return run(["nice", "go", *words], cwd=cwd, timeout=timeout,
               env={**os.environ, "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0", "GOWORK": "off", **env})


def module(path, version):
    """The folder of a downloaded Go module."""
    HOME.mkdir(parents=True, exist_ok=True)
    return Path(json.loads(go("mod", "download", "-json", f"{path}@{version}"))["Dir"])


class _Once:
    """One build at a time, whoever asks."""

    def __init__(self):
        HOME.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        self.file = open(HOME / "build.lock", "w", encoding="utf-8")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def _link(names, directory):
    BIN.mkdir(parents=True, exist_ok=True)
    for name in names:
        link, target = BIN / name, directory / name
        if link.is_symlink() and os.readlink(link) == str(target):
            continue
        temporary = BIN / f".{name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.rename(link)


def _fit_metrics_server(directory):
    """A copy of metrics-server whose one file that was generated from a newer Kubernetes names only models of this one."""
    shutil.copytree(module("sigs.k8s.io/metrics-server", METRICS_SERVER), directory)
    run(["chmod", "-R", "u+w", directory])
    file = directory / "pkg/api/generated/openapi/zz_generated.openapi.go"
    lines = [line.replace("v1.ShardInfo{}", "v1.Preconditions{}") for line in file.read_text().splitlines()
             if "ShardInfo{}.OpenAPIModelName(): " not in line]
    file.write_text("\n".join(lines) + "\n")


def programs():
    """Makes sure that all programs but kwok are in BIN."""
    key = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in (".go", ".mod", ".sum"):
            key.update(str(path.relative_to(SOURCES)).encode() + b"\0" + path.read_bytes())
    out = BUILDS / f"kubernetes-{KUBERNETES}-{key.hexdigest()[:12]}"
    with _Once():
        if not (out / "complete").exists():
            say(f"building Kubernetes {KUBERNETES}, Helm {HELM}, CoreDNS and metrics-server (once, some minutes)")
            shutil.rmtree(out, ignore_errors=True)
            source = out / "source"
            shutil.copytree(SOURCES, source)
            _fit_metrics_server(source / "metrics-server")
            major, minor, _ = KUBERNETES.lstrip("v").split(".")
            version = "k8s.io/component-base/version"
            flags = [f"-X {version}.gitVersion={KUBERNETES}", f"-X {version}.gitMajor={major}", f"-X {version}.gitMinor={minor}",
                     f"-X helm.sh/helm/v4/internal/version.version={HELM}"]
            go("build", "-trimpath", "-ldflags", " ".join(["-s -w", *flags]), "-o", f"{out}/", "tool", "./coredns", "./device-plugin",
               cwd=source)
            missing = [name for name in PROGRAMS if not (out / name).exists()]
            if missing:
                raise Failed(f"the build did not make {', '.join(missing)}")
            shutil.rmtree(source)
            (out / "complete").touch()
        _link(PROGRAMS, out)


# How kwok's nodes and pods come to be Ready and go: as it ships them, each at once.
STAGES = ("node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease", "pod/fast/pod-ready", "pod/fast/pod-complete",
          "pod/fast/pod-delete")


def kwok():
    """Makes sure that kwok, which pretends to run nodes and pods, is in BIN. Returns the file of its stages."""
    out = BUILDS / f"kwok-{KWOK}"
    stages = out / "stages.yaml"
    with _Once():
        if not (out / "kwok").exists():
            say(f"building kwok {KWOK} (once, some minutes)")
            out.mkdir(parents=True, exist_ok=True)
            go("install", "-trimpath", "-ldflags", "-s -w", f"sigs.k8s.io/kwok/cmd/kwok@{KWOK}", GOBIN=str(out))
        if not stages.exists():
            source = module("sigs.k8s.io/kwok", KWOK) / "kustomize" / "stage"
            stages.write_text("\n---\n".join((source / f"{name}.yaml").read_text() for name in STAGES))
        _link(["kwok"], out)
    return stages


def definitions(name):
    """The files that define the kinds of `gateway-api`, `prometheus` or `cert-manager`."""
    path, version, pattern = DEFINITIONS[name]
    out = CRDS / f"{name}-{version}"
    with _Once():
        if not out.exists():
            source = module(path, version)
            head, _, rest = pattern.partition("{")
            names, _, tail = rest.partition("}")
            patterns = [head + name + tail for name in names.split(",")]
            files = sorted(file for each in patterns for file in source.glob(each))
            if not files:
                raise Failed(f"{path} {version} has no {pattern}")
            temporary = CRDS / f".{name}"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for file in files:
                shutil.copyfile(file, temporary / file.name)
            temporary.rename(out)
    return sorted(out.glob("*.yaml"))


PAUSE = """
/* Holds a pod's namespaces until it is told to end. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number) { (void)number; _exit(0); }
static void reap(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0) {} }

int main(void) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
"""


def pause():
    """A static program that waits for a signal: all that the image of a pod's sandbox needs."""
    out = BUILDS / f"pause-{hashlib.sha256(PAUSE.encode()).hexdigest()[:12]}"
    with _Once():
        if not out.exists():
            BUILDS.mkdir(parents=True, exist_ok=True)
            temporary = out.with_suffix(".new")
            run(["cc", "-static", "-Os", "-s", "-x", "c", "-o", temporary, "-"], text=PAUSE)
            temporary.rename(out)
    return out
