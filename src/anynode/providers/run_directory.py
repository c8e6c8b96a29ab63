"""A directory of this user's own for what lives as long as processes do: sockets, locks.

Invariant: nobody else can enter it. It is in the system's place for temporary files, where another user may have taken
its name; then ``ProviderError`` says so.
"""

from __future__ import annotations

import os
import pathlib
import tempfile

from anynode.provider import ProviderError


def run_directory() -> pathlib.Path:
    """The directory, made if need be."""
    folder = pathlib.Path(tempfile.gettempdir()) / f"anynode-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise ProviderError("CreateContainerError", f"{folder} belongs to somebody else")
    folder.chmod(0o700)
    return folder
