"""``anynode fork`` and ``anynode rewind`` on running clusters."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import Kubectl, anynode, until


def revision(kubectl: Kubectl) -> str:
    listed = json.loads(kubectl("get", "--raw", "/api/v1/namespaces?limit=1"))
    return str(listed["metadata"]["resourceVersion"])


@pytest.fixture(params=["--ephemeral", "--log-format=text"], ids=["memory", "file"])
def source(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Kubectl]:
    directory = tmp_path / "source"
    place = ("--name", "source", "--data-dir", str(directory))
    anynode("up", "--detach", "--port", "0", request.param, *place)
    yield Kubectl(directory / "kubeconfig", tmp_path)
    anynode("down", *place)


def test_a_fork_begins_with_the_state_and_goes_its_own_way(
    source: Kubectl, tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    source("create", "deployment", "web", "--image=none", "--", "sleep", "1000")
    source("expose", "deployment", "web", "--port=80")
    source("rollout", "status", "deployment/web", "--timeout=30s")
    then = revision(source)
    source("create", "configmap", "later")

    directory = tmp_path / "copy"
    place = ("--name", "copy", "--data-dir", str(directory))
    kind = "--ephemeral" if "memory" in request.node.name else "--log-format=text"
    anynode("fork", f"{source.kubeconfig.parent}@{then}", "--detach", kind, *place)
    try:
        copy = Kubectl(directory / "kubeconfig", tmp_path)
        assert copy.run("get", "configmap", "later", check=False).returncode == 1
        assert int(revision(copy)) >= int(then)
        uid = "jsonpath={.metadata.uid}"
        assert copy("get", "deployment", "web", "-o", uid) == source("get", "deployment", "web", "-o", uid)
        address = "jsonpath={.spec.clusterIP}"
        assert copy("get", "service", "web", "-o", address) != source("get", "service", "web", "-o", address)
        until(lambda: "1/1" in copy("get", "pods", "--no-headers"), "the copy's own pod runs")
        copy("scale", "deployment", "web", "--replicas=2")
        copy("delete", "service", "web")
        assert source("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "1"
        source("get", "service", "web")
        assert not list(directory.glob("*.snapshot"))
        again = anynode("fork", str(source.kubeconfig.parent), "--detach", *place, check=False)
        assert again.returncode == 1
        assert "there is a cluster 'copy'" in again.stderr
    finally:
        anynode("down", *place)


def test_a_cluster_goes_back_and_forth(source: Kubectl) -> None:
    cluster = str(source.kubeconfig.parent)
    source("create", "configmap", "settings", "--from-literal=colour=red")
    source("create", "deployment", "web", "--image=none", "--", "sleep", "1000")
    source("rollout", "status", "deployment/web", "--timeout=30s")
    then = revision(source)
    source("patch", "configmap", "settings", "-p", '{"data":{"colour":"blue"}}')
    source("delete", "deployment", "web", "--cascade=foreground")
    source("create", "namespace", "extra")

    planned = json.loads(anynode("rewind", f"{cluster}@{then}", "--dry-run", "-o", "json").stdout)
    assert source("get", "configmap", "settings", "-o", "jsonpath={.data.colour}") == "blue"
    assert planned["restored"] >= 2
    refused = anynode("rewind", f"{cluster}@{then}", check=False)
    assert refused.returncode == 1
    assert "say --yes" in refused.stderr

    done = json.loads(anynode("rewind", f"{cluster}@{then}", "--yes", "-o", "json").stdout)
    assert source("get", "configmap", "settings", "-o", "jsonpath={.data.colour}") == "red"
    assert source.run("get", "namespace", "extra", check=False).returncode == 1
    source("rollout", "status", "deployment/web", "--timeout=30s")
    until(lambda: "1/1" in source("get", "pods", "--no-headers"), "the pod that was brought back runs")

    anynode("rewind", f"{cluster}@{done['before']}", "--yes")
    assert source("get", "configmap", "settings", "-o", "jsonpath={.data.colour}") == "blue"
    until(lambda: not source("get", "pods", "--no-headers"), "the pods went with their deployment")


def test_what_cannot_be_gone_back_to_changes_nothing(source: Kubectl) -> None:
    cluster = str(source.kubeconfig.parent)
    before = revision(source)
    for target, said in ((f"{cluster}@99999999", "is yet to come"), (cluster, "which revision?")):
        done = anynode("rewind", target, "--yes", check=False)
        assert done.returncode == 1
        assert said in done.stderr
    assert source.run("get", "--raw", "/anynode/v1/rewind", check=False).returncode == 1
    asked = source.run("get", "--raw", "/anynode/v1/snapshot", "--as", "somebody", check=False)
    assert "cannot get path" in asked.stderr
    assert before == revision(source)
