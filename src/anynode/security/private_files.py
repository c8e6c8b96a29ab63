"""Files and directories for their owner only.

A file appears or changes whole or not at all, whoever writes it at the same time; what ``write_private`` wrote is on
disk when it returns.
"""

from __future__ import annotations

import os
import pathlib


def make_private(directory: pathlib.Path) -> None:
    """Make a directory only its owner may enter, or close one that others may."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def write_private(path: pathlib.Path, content: bytes) -> None:
    """Write a file only its owner may read, in place of an older one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
