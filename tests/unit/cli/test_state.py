"""The data directory: who holds it, what it says of a running cluster, and what it refuses."""

from __future__ import annotations

import json
import os
import pathlib
import stat

import pytest

from anynode.cli.state import DataDir, Running, StateError, clusters_directory, context_name


def running(directory: DataDir) -> Running:
    return Running(
        name="anynode",
        pid=os.getpid(),
        server="https://127.0.0.1:1",
        data_dir=str(directory.path),
        ephemeral=False,
        nodes=("node-0",),
        provider="process",
        version="0",
        started_at="2026-01-01T00:00:00+00:00",
    )


def test_a_held_directory_is_refused_to_a_second_holder_and_names_the_first(tmp_path: pathlib.Path) -> None:
    directory = DataDir(tmp_path / "c")
    with directory.held():
        directory.announce(running(directory))
        with pytest.raises(StateError, match=rf"already runs on .*pid {os.getpid()}, https://127.0.0.1:1"):
            directory.held().__enter__()
        assert directory.running() == running(directory)
    assert directory.running() is None
    assert not directory.run_file.exists()


def test_a_note_left_by_a_killed_process_is_not_a_running_cluster(tmp_path: pathlib.Path) -> None:
    directory = DataDir(tmp_path)
    directory.lock_file.touch()
    directory.run_file.write_text(json.dumps(running(directory).wire()))
    assert directory.running() is None


def test_a_held_directory_that_is_not_ready_yet_is_not_running(tmp_path: pathlib.Path) -> None:
    directory = DataDir(tmp_path)
    with directory.held():
        assert directory.running() is None
        with pytest.raises(StateError, match="another anynode is starting"):
            directory.held().__enter__()


def test_the_directory_and_its_files_are_private(tmp_path: pathlib.Path) -> None:
    directory = DataDir(tmp_path / "c")
    with directory.held():
        directory.announce(running(directory))
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(directory.run_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.lock_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a-", "x" * 43, ".."])
def test_a_bad_cluster_name_is_refused(name: str) -> None:
    with pytest.raises(StateError, match="is no name for a cluster"):
        DataDir.named(name)


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="Choose another with --data-dir"):
        DataDir.named("a", str(tmp_path / "file" / "c")).make()


def test_where_clusters_live() -> None:
    assert clusters_directory({"ANYNODE_HOME": "/h"}) == pathlib.Path("/h/clusters")
    assert clusters_directory({"XDG_DATA_HOME": "/d"}) == pathlib.Path("/d/anynode/clusters")
    assert clusters_directory({}) == pathlib.Path.home() / ".local/share/anynode/clusters"


def test_the_context_carries_the_name() -> None:
    assert context_name("anynode") == "anynode"
    assert context_name("ci") == "anynode-ci"
