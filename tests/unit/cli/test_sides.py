"""How a state is named on the command line."""

from __future__ import annotations

import pathlib

import pytest

from anynode.cli.sides import Side
from anynode.cli.state import StateError


@pytest.fixture
def kubeconfig(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "config"
    path.write_text("{}")
    return str(path)


def test_a_revision_of_a_cluster(kubeconfig: str) -> None:
    side = Side.parse(f"{kubeconfig}@1200")
    assert (side.kubeconfig, side.revision) == (kubeconfig, "1200")
    assert side.now().revision == ""
    assert side.now().text == kubeconfig


@pytest.mark.parametrize("revision", ["", "x", "-1", "1.5"])
def test_what_is_no_revision_is_refused(kubeconfig: str, revision: str) -> None:
    with pytest.raises(StateError, match="is no revision"):
        Side.parse(f"{kubeconfig}@{revision}")


def test_a_cluster_that_does_not_run_is_said(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(StateError, match="'green' is not running"):
        Side.parse("green")
    with pytest.raises(StateError, match="is not running"):
        Side.parse(f"{tmp_path}/")
