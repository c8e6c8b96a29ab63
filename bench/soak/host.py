"""``python -m bench.soak.host SOCKET WORDS...``: the anynode program, and a thread that says what it holds.

One line in (``quick`` or ``deep``), one JSON document out.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

from anynode.cli.main import main
from bench.soak import census


def serve(path: str) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen()
    while True:
        connection, _ = listening.accept()
        with connection:
            asked = connection.recv(16)
            found = census.deep() if asked.startswith(b"deep") else census.quick()
            connection.sendall(json.dumps(found).encode())


if __name__ == "__main__":
    if os.path.exists(sys.argv[1]):
        os.unlink(sys.argv[1])
    threading.Thread(target=serve, args=(sys.argv[1],), daemon=True, name="census").start()
    main(args=sys.argv[2:])
