"""Merging into the user's kubeconfig disturbs nothing that is not ours."""

from __future__ import annotations

import pathlib
import stat

import pytest

from anynode.cli import kubeconfig
from anynode.cli.state import StateError

OURS = {
    "clusters": [{"name": "anynode", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "anynode", "user": {"token": "t"}}],
    "contexts": [{"name": "anynode", "context": {"cluster": "anynode", "user": "anynode"}}],
    "current-context": "anynode",
}


def test_others_entries_and_unknown_fields_stay() -> None:
    theirs = {
        "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}],
        "users": [{"name": "me", "user": {"exec": {"command": "x"}}}],
        "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "me"}}],
        "current-context": "prod",
        "extensions": [{"name": "x"}],
    }
    once = kubeconfig.merged(theirs, OURS)
    twice = kubeconfig.merged(once, OURS)
    assert [entry["name"] for entry in once["clusters"]] == ["prod", "anynode"]
    assert once["extensions"] == [{"name": "x"}]
    assert once["current-context"] == "anynode"
    assert twice == once
    assert [entry["name"] for entry in kubeconfig.without(once, "anynode")["contexts"]] == ["prod"]
    assert kubeconfig.without(once, "anynode")["current-context"] == ""


def test_the_first_file_of_the_variable_is_written(tmp_path: pathlib.Path) -> None:
    assert kubeconfig.user_file({"KUBECONFIG": f"{tmp_path}/a:{tmp_path}/b"}) == tmp_path / "a"
    kubeconfig.merge_into(tmp_path / "sub" / "config", OURS)
    assert kubeconfig.read(tmp_path / "sub" / "config")["users"] == OURS["users"]
    assert stat.S_IMODE((tmp_path / "sub" / "config").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just text"])
def test_a_file_that_is_no_kubeconfig_is_left_alone(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(StateError, match="nothing was merged"):
        kubeconfig.merge_into(path, OURS)
    assert path.read_text() == text


def test_a_linked_file_stays_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    kubeconfig.merge_into(tmp_path / "link", OURS)
    assert (tmp_path / "link").is_symlink()
    assert kubeconfig.read(tmp_path / "real")["current-context"] == "anynode"
