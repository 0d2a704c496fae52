"""The stand-in for MongoDB, a process of the host, as a Service of the cluster."""

import socket

from . import space
from .components import host_service
from .paths import CONTROL, ROOT, STATE
from .procs import Daemon, require, run

SECRET = "demo-database"


def daemon(namespace, port=27017):
    """The process. It keeps what it acknowledged, also over a kill -9."""
    data = STATE / "databases" / namespace
    data.mkdir(parents=True, exist_ok=True)
    return Daemon(f"mongodb-{namespace}", space.inside([ROOT / "scripts" / "mongo.sh", port, data, "--host", CONTROL]))


def start(kubernetes, namespace, port=27017, secret=SECRET):
    """A database that pods of the namespace reach as mongodb.NAMESPACE:27017; its URI is in a Secret. Returns the daemon.

    Databases of several namespaces need several ports of the host.
    """
    # It may have to be loaded first, for which its own network is none.
    run([ROOT / "scripts" / "mongo.sh", "--install"])
    process = daemon(namespace, port).start()

    def answers():
        with space.entered(), socket.create_connection((CONTROL, port), 1):
            return True

    require(process, 60, "the database takes connections", answers)
    kubernetes.apply([
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        *host_service("mongodb", namespace, {"mongodb": (27017, port, "TCP")}),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": namespace},
         "stringData": {"uri": f"mongodb://mongodb.{namespace}:27017/"}},
    ], "--force-conflicts", manager="kit-database")
    return process
