"""Images: built by buildah from images/Containerfile, or put together here from files; handed to each node's containerd."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from . import build
from .paths import IMAGES, ROOT, image, version
from .procs import Failed, run, say, within

PAUSE = "sluice.dev/pause:1"
BASE = "docker.io/library/debian:bookworm-slim"
# Raised when what is left out of the base changes.
BASE_GENERATION = 1
PROGRAMS = ("sluice-node", "sluice-operator")


# --- handing images to a node

def wait_for_runtime(node):
    within(20, f"containerd of {node.name} answers", lambda: node.ctr("version", timeout=5))


def load(node, archive):
    """Imports an archive as `docker save` or buildah writes it."""
    node.ctr("images", "import", archive)


def load_pause(node):
    if PAUSE not in node.ctr("images", "ls", "-q").split():
        path = IMAGES / "pause.tar"
        archive(path, PAUSE, {"pause": build.pause().read_bytes()}, ["/pause"])
        load(node, path)


def archive(path, tag, files, entrypoint, user="0:0"):
    """Writes an image of nothing but the files (path -> content, all executable): for tests that need a small program."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps({
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64", "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": user},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = json.dumps([{"Config": f"{name}.json", "RepoTags": [tag], "Layers": [f"{digest}.tar"]}]).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for member, content in ((f"{name}.json", config), (f"{digest}.tar", layer.getvalue()), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


# --- building ours

def buildah(*words, **more):
    IMAGES.mkdir(parents=True, exist_ok=True)
    policy = IMAGES / "policy.json"
    # Nothing is pulled; this only says that a check of signatures is not wanted.
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    command, *rest = words
    known = ["--signature-policy", policy] if command in ("bud", "commit", "from", "push") else []
    return run(["buildah", "--root", IMAGES / "storage", "--runroot", IMAGES / "run", command, *known, *rest],
               env={**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(IMAGES)}, **more)


# What a container has no use for, as in Debian's own slim images.
LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/groff", "usr/share/lintian", "usr/share/linda",
            "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "var/log", "var/cache/ldconfig/aux-cache")


def base():
    """Makes sure that buildah has the image that our Containerfile begins with. Debian's packages are what it is made of."""
    tag = f"localhost/sluice-base:bookworm-{BASE_GENERATION}"
    if not buildah("images", "--quiet", "--filter", f"reference={tag}", check=False).stdout.strip():
        root = IMAGES / "debian"
        shutil.rmtree(root, ignore_errors=True)
        say("making a small Debian for the images (once, about a minute)")
        run(["debootstrap", "--variant=minbase", "bookworm", root, "http://deb.debian.org/debian"])
        for name in LEFT_OUT:
            path = root / name
            if path.is_dir():
                for entry in path.iterdir():
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry)
                    else:
                        entry.unlink()
            elif path.exists():
                path.unlink()
        container = buildah("from", "scratch").strip()
        tar = IMAGES / "debian.tar"
        run(["tar", "--create", "--numeric-owner", "--file", tar, "--directory", root, "."])
        buildah("add", "--quiet", container, tar, "/")
        buildah("config", "--cmd", "bash", container)
        buildah("commit", "--quiet", "--rm", container, tag)
        tar.unlink()
        shutil.rmtree(root)
    buildah("tag", tag, BASE)


def profile():
    return os.environ.get("SLUICE_PROFILE") or "release"


def compile_programs():
    """Compiles ours with cargo, profile SLUICE_PROFILE. The whole workspace, as `make test` does: for single packages cargo would
    choose other features of what they share, and compile that again."""
    words = ["cargo", "build", "--quiet", "--locked", "--workspace", "--bins", "--profile", profile()]
    done = subprocess.run(words, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(words)}: exit {done.returncode}")


def compiled(program):
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    path = target / ("debug" if profile() == "dev" else profile()) / program
    if not path.exists():
        raise Failed(f"{path} is not there: cargo build --profile {profile()} -p {program}")
    return path


def make(program, binary=None):
    """Builds the image of a program from its compiled binary; returns (tag, id of the image). Quick when nothing changed."""
    binary = Path(binary or compiled(program))
    tag = image(program)
    containerfile = ROOT / "images" / "Containerfile"
    seen = binary.stat()
    key = f"{binary} {seen.st_size} {seen.st_mtime_ns} {hashlib.sha256(containerfile.read_bytes()).hexdigest()} {version()} {BASE_GENERATION}"
    stamp = _stamp(tag)
    kept = {}
    try:
        kept = json.loads(stamp.read_text())
        if kept["key"] == key and Path(kept["archive"]).exists():
            return tag, kept["id"]
    except (OSError, ValueError, KeyError):
        pass
    base()
    say(f"making the image {tag}")
    context = IMAGES / "context" / program
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    # Without line numbers it is a third of the size; function names for backtraces stay.
    run(["strip", "--strip-debug", "-o", context / program, binary])
    buildah("bud", "--pull-never", "--layers", "--quiet", "--target", "local", "--build-context", f"bin={context}",
            "--build-arg", f"PROGRAM={program}", "--build-arg", f"VERSION={version()}", "--tag", tag, "--file", containerfile, context)
    identity = buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", tag).strip()
    path = IMAGES / f"{program}.tar"
    path.unlink(missing_ok=True)
    buildah("push", "--quiet", tag, f"docker-archive:{path}:{tag}")
    shutil.rmtree(context)
    if kept.get("id", identity) != identity:
        # The one before, which has no name any more.
        buildah("rmi", kept["id"], check=False)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(json.dumps({"key": key, "tag": tag, "id": identity, "archive": str(path)}))
    return tag, identity


def install(nodes, program):
    """Hands the made image to the nodes. Returns whether any of them had another one."""
    tag = image(program)
    kept = json.loads(_stamp(tag).read_text())
    return any([_install(node, tag, kept) for node in nodes])


def copy(first, node):
    """Hands a node what `install` handed to the first one."""
    folder = first.dir / "images"
    for stamp in sorted(folder.iterdir()) if folder.is_dir() else ():
        kept = json.loads((IMAGES / "made" / stamp.name).read_text())
        _install(node, kept["tag"], kept)


def _install(node, tag, kept):
    stamp = node.dir / "images" / _stamp(tag).name
    if stamp.exists() and stamp.read_text() == kept["id"]:
        return False
    load(node, kept["archive"])
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(kept["id"])
    return True


def _stamp(tag):
    return IMAGES / "made" / tag.replace("/", "_")
