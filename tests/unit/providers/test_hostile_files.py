"""What a container may leave in its pod's directory for the node to stumble over."""

from __future__ import annotations

import datetime
import os
import pathlib
import stat
import subprocess
import sys
import time

import pytest

from anynode.aio.clock import SystemClock
from anynode.provider import LogOptions, ProviderError, VolumeFile
from anynode.providers import supervisor
from anynode.providers.container_logs import LogReader, last_output, open_log
from anynode.providers.pod_files import make_private, write_files

OLD = [VolumeFile(path="a", content=b"1", mode=0o644)]
NEW = [VolumeFile(path="a", content=b"2", mode=0o644)]


def test_an_update_of_a_volume_removes_nothing_a_turned_link_leads_to(tmp_path: pathlib.Path) -> None:
    volume, treasure = tmp_path / "volume", tmp_path / "treasure"
    volume.mkdir()
    treasure.mkdir()
    (treasure / "gold").write_text("mine")
    write_files(volume, OLD)
    (volume / "..data").unlink()
    (volume / "..data").symlink_to(treasure)
    write_files(volume, NEW)
    assert (treasure / "gold").read_text() == "mine"
    assert (volume / "a").read_bytes() == b"2"


def test_a_volume_is_renewed_though_its_link_led_to_the_same_content(tmp_path: pathlib.Path) -> None:
    volume, elsewhere = tmp_path / "volume", tmp_path / "elsewhere"
    volume.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a").write_bytes(b"2")
    (elsewhere / "a").chmod(0o644)
    write_files(volume, OLD)
    (volume / "..data").unlink()
    (volume / "..data").symlink_to(elsewhere)
    write_files(volume, NEW)
    assert (volume / "..data").resolve().parent == volume.resolve()


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/outside"])
def test_a_file_of_a_volume_stays_inside(tmp_path: pathlib.Path, path: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    with pytest.raises(ProviderError, match="leads out of the volume"):
        write_files(volume, [VolumeFile(path=path, content=b"", mode=0o644)])


def test_a_pipe_in_place_of_a_log_keeps_nobody_waiting(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "0.log")
    assert last_output(tmp_path / "0.log", 10, 100) == b""
    with pytest.raises(OSError, match="not a regular file"):
        open_log(tmp_path / "0.log")


def test_a_link_in_place_of_a_log_is_not_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_text("2026-01-01T00:00:00.000000000Z stdout F secret\n")
    (tmp_path / "0.log").symlink_to(tmp_path / "secret")
    assert last_output(tmp_path / "0.log", 10, 100) == b""


@pytest.mark.parametrize(
    "options",
    [
        LogOptions(since_seconds=2**62),
        LogOptions(since_time=datetime.datetime.fromisoformat("0001-01-01T00:00:00+14:00")),
    ],
)
async def test_logs_since_before_all_time_are_the_whole_log(tmp_path: pathlib.Path, options: LogOptions) -> None:
    (tmp_path / "0.log").write_text("2026-01-01T00:00:00.000000000Z stdout F hello\n")
    reader = LogReader(tmp_path / "0.log", options, SystemClock(), lambda: False)
    assert await reader.read() == b"hello\n"
    await reader.close()


def test_nobody_else_may_command_the_supervisor_whatever_the_mask(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.sock"
    program = [sys.executable, "-I", "-S", supervisor.__file__, str(path), "0.2"]
    subprocess.run(program, check=True, stdin=subprocess.DEVNULL, capture_output=True, umask=0)
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    for _ in range(200):
        if not path.exists():
            break
        time.sleep(0.02)
    assert not path.exists()


def test_a_nodes_directories_are_closed_to_others_whatever_the_mask(tmp_path: pathlib.Path) -> None:
    before = os.umask(0)
    try:
        make_private(tmp_path / "nodes" / "n" / "pods")
        make_private(tmp_path / "nodes" / "n" / "pods")
    finally:
        os.umask(before)
    for each in ("nodes", "nodes/n", "nodes/n/pods"):
        assert stat.S_IMODE((tmp_path / each).stat().st_mode) == 0o700
