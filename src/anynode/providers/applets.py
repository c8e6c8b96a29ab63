"""Programs that pods of a userland image expect and the host lacks: busybox's applets.

With busybox on the host its applets are offered for whatever the host has not; without it, the few of our own. Blocks
on the disk: belongs in a thread.
"""

from __future__ import annotations

import pathlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from anynode.providers import httpd

OWN = {"httpd": httpd.__file__}


def install(directory: pathlib.Path) -> None:
    """Fill ``directory`` with what the host lacks; it comes last in a container's PATH."""
    directory.mkdir(parents=True, exist_ok=True)
    busybox = shutil.which("busybox")
    if busybox is not None:
        for name in _applets(busybox):
            if shutil.which(name) is None and not (directory / name).exists():
                (directory / name).symlink_to(busybox)
    for name, file in OWN.items():
        if shutil.which(name) is None and not (directory / name).exists():
            script = directory / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(file)} "$@"\n')
            script.chmod(0o755)


def _applets(busybox: str) -> Sequence[str]:
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False)
    return listed.stdout.split() if listed.returncode == 0 else ()
