"""Private files are replaced whole and readable by their owner only."""

from __future__ import annotations

import os
import pathlib
import stat

from anynode.security.private_files import make_private, write_private


def test_a_private_file_is_replaced_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"
    path.write_text("anyone's")
    path.chmod(0o644)
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_is_no_hindrance(tmp_path: pathlib.Path) -> None:
    (tmp_path / f".f.{os.getpid()}").write_text("half")
    write_private(tmp_path / "f", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_an_open_directory_is_closed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "d").mkdir(mode=0o755)
    make_private(tmp_path / "d")
    make_private(tmp_path / "new" / "below")
    assert [stat.S_IMODE((tmp_path / each).stat().st_mode) for each in ("d", "new/below")] == [0o700, 0o700]
