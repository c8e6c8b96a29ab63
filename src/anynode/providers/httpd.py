"""``httpd`` for pods that expect busybox's where the host has none: serves a directory over HTTP.

Run as ``httpd [-f] [-p [ADDRESS:]PORT] [-h DIRECTORY]``, the options tutorials use. Standard library only; it is a
program of a pod, not a part of the node.
"""

from __future__ import annotations

import functools
import getopt
import http.server
import os
import sys


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of requests, as busybox without ``-v``."""

    def log_message(self, format: str, *args: object) -> None:
        return


def main(arguments: list[str]) -> None:
    """Serve until killed; without ``-f`` in the background, as busybox does."""
    options = dict(getopt.getopt(arguments, "fivp:h:u:r:c:")[0])
    address, _, port = options.get("-p", "80").rpartition(":")
    directory = options.get("-h", ".")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler if "-v" in options else Quiet, directory=directory)
    server = http.server.ThreadingHTTPServer((address, int(port)), handler)
    if "-f" not in options and os.fork():
        return
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
