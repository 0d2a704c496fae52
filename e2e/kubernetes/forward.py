"""Leads TCP ports of this machine's loopback to Services of the cluster, so that a browser or an encoder here can use them."""

import selectors
import socket
import sys
import threading

from . import space
from .demo import address
from .procs import Failed

SAMPLE = ("18080=media/demo-edge:5080", "18081=media/demo-origin:5080", "11935=media/demo-origin:1935")


def run(kubernetes, ways):
    """Serves until it is interrupted. A way is `PORT=NAMESPACE/SERVICE:PORT`."""
    listening = selectors.DefaultSelector()
    for way in ways:
        try:
            here, _, there = way.partition("=")
            namespace, _, service = there.partition("/")
            service, _, port = service.partition(":")
            target = (address(kubernetes, service, namespace), int(port))
            listener = socket.create_server(("127.0.0.1", int(here)))
        except (ValueError, OSError) as error:
            raise Failed(f"{way}: {error} (a way is PORT=NAMESPACE/SERVICE:PORT)") from error
        listening.register(listener, selectors.EVENT_READ, target)
        print(f"127.0.0.1:{here} leads to {there}", file=sys.stderr)
    while True:
        for key, _ in listening.select():
            client, _ = key.fileobj.accept()
            threading.Thread(target=_serve, args=(client, key.data), daemon=True).start()


def _serve(client, target):
    try:
        with space.entered():
            server = socket.create_connection(target, 5)
    except OSError as error:
        print(f"{target[0]}:{target[1]}: {error}", file=sys.stderr)
        client.close()
        return
    server.settimeout(None)
    back = threading.Thread(target=_copy, args=(server, client), daemon=True)
    back.start()
    _copy(client, server)
    back.join()
    client.close()
    server.close()


def _copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side went away; the other one is told.
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
