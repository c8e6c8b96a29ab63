"""``anynode diff`` against a running cluster."""

from __future__ import annotations

import json

from tests.e2e.conftest import Kubectl, anynode


def test_what_changed_since_a_revision(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=red")
    kubectl("create", "secret", "generic", "key", "--from-literal=word=hush")
    revision = _revision(kubectl)
    kubectl("patch", "configmap", "settings", "-p", '{"data":{"colour":"blue"}}')
    kubectl("patch", "secret", "key", "-p", '{"stringData":{"word":"quiet"}}')
    kubectl("create", "configmap", "more")

    side = f"{kubectl.kubeconfig}@{revision}"
    done = anynode("diff", side, "-n", kubectl.namespace, "-o", "json", check=False)
    assert done.returncode == 1, done.stderr
    found = {(each["kind"], each["name"]): each for each in json.loads(done.stdout)}
    assert found["ConfigMap", "settings"]["paths"] == ["data.colour"]
    assert found["ConfigMap", "more"]["action"] == "created"
    assert found["Secret", "key"]["before"]["data"] == {"word": "*** (before)"}
    assert set(found) == {("ConfigMap", "settings"), ("ConfigMap", "more"), ("Secret", "key")}

    shown = anynode("diff", side, "-n", kubectl.namespace, check=False).stdout
    assert "-  colour: red" in shown
    assert "+  colour: blue" in shown
    now = f"{kubectl.kubeconfig}@{_revision(kubectl)}"
    assert anynode("diff", now, now, "-n", kubectl.namespace, check=False).returncode == 0


def test_what_cannot_be_compared_is_said(kubectl: Kubectl) -> None:
    for side, sentence in (
        (f"{kubectl.kubeconfig}@99999999", "is yet to come"),
        (f"{kubectl.kubeconfig}@soon", "is no revision"),
        ("nowhere", "is not running"),
    ):
        done = anynode("diff", side, check=False)
        assert done.returncode == 2, side
        assert sentence in done.stderr


def _revision(kubectl: Kubectl) -> str:
    listed = json.loads(kubectl("get", "--raw", "/api/v1/namespaces?limit=1"))
    return str(listed["metadata"]["resourceVersion"])
