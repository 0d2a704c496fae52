"""Certificates of the cluster, made anew each time it comes up, and the kubeconfig files that carry them."""

import base64
import json
import os

from .paths import STATE
from .procs import run

DIR = STATE / "pki"
DAYS = "3650"


def crt(name):
    return DIR / f"{name}.crt"


def key(name):
    return DIR / f"{name}.key"


def _request(name, subject, *more):
    DIR.mkdir(parents=True, exist_ok=True)
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", DAYS, "-subj", subject,
         "-keyout", key(name), "-out", crt(name), *more])


def authority(name):
    if not crt(name).exists():
        _request(name, f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")


def leaf(name, subject, ca="ca", names=()):
    """A certificate for a server that is called one of `names` (`DNS:…`, `IP:…`), or for a client."""
    if crt(name).exists():
        return
    alternative = ["-addext", f"subjectAltName={','.join(names)}"] if names else []
    _request(name, subject, "-CA", crt(ca), "-CAkey", key(ca), "-addext", "basicConstraints=critical,CA:FALSE",
             "-addext", "extendedKeyUsage=serverAuth,clientAuth", *alternative)


def signer(name):
    """A key pair alone."""
    if not key(name).exists():
        DIR.mkdir(parents=True, exist_ok=True)
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key(name)])
        run(["openssl", "pkey", "-in", key(name), "-pubout", "-out", crt(name)])


def bundle(name):
    """A certificate as objects carry it."""
    return base64.b64encode(crt(name).read_bytes()).decode()


def kubeconfig(path, name, server):
    """A file with which the holder of the certificate `name` reaches the API server."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    # JSON is YAML, too.
    text = json.dumps({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sluice",
        "clusters": [{"name": "sluice", "cluster": {"server": server, "certificate-authority-data": bundle("ca")}}],
        "users": [{"name": name, "user": {"client-certificate-data": bundle(name), "client-key-data": base64.b64encode(key(name).read_bytes()).decode()}}],
        "contexts": [{"name": "sluice", "context": {"cluster": "sluice", "user": name}}],
    }, indent=1)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.rename(path)
    return path
