"""Clients people write operators and scripts with, as they come from PyPI: kopf and the official Python client."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.conftest import Kubectl, until

OPERATOR = """
import kopf
import kubernetes


@kopf.on.login()
def login(**kwargs):
    return kopf.login_with_kubeconfig(**kwargs)


@kopf.on.create("example.com", "v1", "greetings")
def created(spec, name, namespace, patch, **_):
    kubernetes.config.load_kube_config()
    child = {"metadata": {"name": name}, "data": {"text": spec["text"] * spec["times"]}}
    kopf.adopt(child)
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, child)
    patch.status["said"] = 1


@kopf.on.field("example.com", "v1", "greetings", field="spec.text")
def changed(old, new, name, namespace, **_):
    if old is not None:
        body = {"data": {"text": new}}
        kubernetes.config.load_kube_config()
        kubernetes.client.CoreV1Api().patch_namespaced_config_map(name, namespace, body)


@kopf.on.delete("example.com", "v1", "greetings")
def deleted(name, logger, **_):
    logger.info("farewell " + name)
"""


def definition(group: str, plural: str, kind: str) -> dict[str, Any]:
    spec = {
        "type": "object",
        "required": ["text"],
        "properties": {
            "text": {"type": "string", "maxLength": 40},
            "times": {"type": "integer", "minimum": 1, "default": 2},
        },
        "x-kubernetes-validations": [{"rule": "self.text != 'forbidden'", "message": "not that"}],
    }
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}}
    column = {"name": "Text", "type": "string", "jsonPath": ".spec.text"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": schema,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [version],
        },
    }


@pytest.fixture
def greetings(admin: Kubectl) -> Iterator[None]:
    admin.apply(definition("example.com", "greetings", "Greeting"))
    admin("wait", "--for=condition=Established", "crd/greetings.example.com", "--timeout=10s")
    yield
    admin("delete", "crd", "greetings.example.com", "--timeout=20s")


def greeting(text: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Greeting",
        "metadata": {"name": "hello"},
        "spec": {"text": text, **spec},
    }


@pytest.fixture
def operator(kubectl: Kubectl, greetings: None, tmp_path: pathlib.Path) -> Iterator[list[str]]:
    """A running kopf operator; the lines it has logged."""
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR)
    running = subprocess.Popen(
        [sys.executable, "-m", "kopf", "run", "--standalone", "-n", kubectl.namespace, str(file)],
        env={**kubectl.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lines.extend, args=(running.stderr,))
    reader.start()
    yield lines
    running.terminate()
    running.wait(timeout=20)
    reader.join()
    running.stderr.close()


def test_a_kopf_operator_takes_care_of_a_custom_resource(kubectl: Kubectl, operator: list[str]) -> None:
    text = "jsonpath={.data.text}"
    kubectl.apply(greeting("ho"))
    until(lambda: kubectl.run("get", "cm", "hello", "-o", text, check=False).stdout == "hoho", "the operator's child")
    until(lambda: kubectl("get", "greeting", "hello", "-o", "jsonpath={.status.said}") == "1", "its status")
    assert kubectl.json("get", "greeting", "hello")["metadata"]["finalizers"] == [
        "kopf.zalando.org/KopfFinalizerMarker"
    ]
    kubectl.apply(greeting("hey"))
    until(lambda: kubectl("get", "cm", "hello", "-o", text) == "hey", "the change handled")
    kubectl("delete", "greeting", "hello", "--timeout=20s")
    collected = "the child collected with its owner"
    until(lambda: kubectl.run("get", "cm", "hello", check=False).returncode == 1, collected, seconds=10)
    until(lambda: any("farewell hello" in line for line in operator), "the farewell")


def test_kubectl_speaks_to_a_custom_resource(kubectl: Kubectl, greetings: None) -> None:
    def refused(obj: dict[str, Any]) -> str:
        done = kubectl.run("create", "-f", "-", given=str(obj).replace("'", '"'), check=False)
        assert done.returncode == 1
        return done.stderr

    assert "spec.text: Required value" in refused({**greeting("x"), "spec": {}})
    assert 'unknown field "spec.colour"' in refused(greeting("x", colour="red"))
    assert "spec: Invalid value: not that" in refused(greeting("forbidden"))
    kubectl.apply(greeting("ho"))
    assert kubectl("get", "greetings", "--no-headers").split() == ["hello", "ho"]
    assert "maxLength" not in kubectl("explain", "greeting.spec.times")
    assert "FIELD: times <integer>" in kubectl("explain", "greeting.spec.times")
    kubectl("patch", "greeting", "hello", "--type=merge", "-p", '{"spec":{"times":5}}')
    assert kubectl("get", "greeting", "hello", "-o", "jsonpath={.spec.times} {.metadata.generation}") == "5 2"


SCRIPT = """
import sys
from kubernetes import client, config, dynamic, utils, watch

config.load_kube_config()
namespace = sys.argv[1]
dyn = dynamic.DynamicClient(client.ApiClient())
api = dyn.resources.get(api_version="example.com/v1", kind="Greeting")
made = api.create(namespace=namespace, body={
    "apiVersion": "example.com/v1", "kind": "Greeting", "metadata": {"name": "a"}, "spec": {"text": "hi"}})
assert made.spec.times == 2, made
applied = api.server_side_apply(namespace=namespace, name="a", field_manager="script", force_conflicts=True, body={
    "apiVersion": "example.com/v1", "kind": "Greeting", "metadata": {"name": "a"}, "spec": {"text": "ho"}})
assert applied.spec.text == "ho"
events = [each["type"] for each in api.watch(namespace=namespace, timeout=1)]
assert events == ["ADDED"], events
try:
    api.create(namespace=namespace, body={
        "apiVersion": "example.com/v1", "kind": "Greeting", "metadata": {"name": "b"}, "spec": {"text": "x" * 41}})
except dynamic.exceptions.UnprocessibleEntityError as error:
    assert "spec.text: Too long: may not be more than 40 bytes" in str(error.body), error.body
else:
    raise SystemExit("a text that is too long was taken")
api.delete(namespace=namespace, name="a")

apps = client.AppsV1Api()
labels = {"app": "web"}
pod = client.V1PodSpec(containers=[client.V1Container(name="c", image="none", command=["sleep", "100"])])
template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels=labels), spec=pod)
spec = client.V1DeploymentSpec(replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template)
apps.create_namespaced_deployment(namespace, client.V1Deployment(
    metadata=client.V1ObjectMeta(name="web"), spec=spec))
for event in watch.Watch().stream(apps.list_namespaced_deployment, namespace, timeout_seconds=30):
    if event["object"].status.ready_replicas == 2:
        break
else:
    raise SystemExit("the deployment was not ready")
print("done")
"""


def test_the_official_python_client(kubectl: Kubectl, greetings: None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kubectl.namespace],
        env=kubectl.environment,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.stdout.strip() == "done", done.stderr
