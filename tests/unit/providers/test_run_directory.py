"""The directory for sockets and locks: this user's alone."""

from __future__ import annotations

import os
import pathlib
import stat
import tempfile

import pytest

from anynode.provider import ProviderError
from anynode.providers.run_directory import run_directory


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"anynode-{os.getuid()}"


def test_nobody_else_can_enter(folder: pathlib.Path) -> None:
    assert run_directory() == folder
    folder.chmod(0o755)
    assert run_directory() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_name_that_somebody_else_has_taken_is_not_used(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(ProviderError, match="belongs to somebody else"):
        run_directory()
