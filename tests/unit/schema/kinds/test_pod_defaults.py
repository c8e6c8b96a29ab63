"""Defaults of pods and pod templates, and the QoS class that follows from them."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.pod_defaults import default_pod, default_template
from anynode.schema.kinds.qos import qos_class


def container(**given: Any) -> dict[str, Any]:
    pod = default_pod({"spec": {"containers": [{"name": "c", "image": "i:1", **given}]}})
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def volume(**given: Any) -> Any:
    return default_pod({"spec": {"volumes": [{"name": "v", **given}]}})["spec"]["volumes"][0]


def test_a_bare_pod_is_filled() -> None:
    pod = default_pod({"spec": {"containers": [{"name": "c", "image": "i"}]}})
    assert pod["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "i",
                "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "resources": {},
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "enableServiceLinks": True,
    }


def test_a_template_does_not_link_services() -> None:
    assert "enableServiceLinks" not in default_template({"spec": {"containers": []}})["spec"]
    assert default_template(None)["metadata"] == {}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("i", "Always"),
        ("i:latest", "Always"),
        ("i:1", "IfNotPresent"),
        ("host:5000/i", "Always"),
        ("host:5000/i:1", "IfNotPresent"),
        ("i@sha256:" + "a" * 64, "IfNotPresent"),
        ("UPPER", "IfNotPresent"),
    ],
)
def test_the_tag_chooses_the_pull_policy(image: str, policy: str) -> None:
    assert container(image=image)["imagePullPolicy"] == policy
    assert container(image=image, imagePullPolicy="Never")["imagePullPolicy"] == "Never"


def test_probes_and_hooks_are_filled() -> None:
    found = container(
        livenessProbe={"httpGet": {"port": 80}},
        readinessProbe={"grpc": {"port": 9}},
        lifecycle={"preStop": {"httpGet": {"port": "p"}}},
    )
    assert found["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert found["readinessProbe"]["grpc"] == {"port": 9, "service": ""}
    assert found["lifecycle"]["preStop"]["httpGet"] == {"port": "p", "path": "/", "scheme": "HTTP"}


def test_limits_become_requests() -> None:
    resources = container(resources={"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})["resources"]
    assert resources["requests"] == {"cpu": "500m", "memory": "1Gi"}


def test_host_network_pins_host_ports() -> None:
    spec = {"hostNetwork": True, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}
    [port] = default_pod({"spec": spec})["spec"]["containers"][0]["ports"]
    assert port == {"containerPort": 80, "hostPort": 80, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"emptyDir": {}}),
        ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
        ({"configMap": {"name": "c", "defaultMode": 0}}, {"configMap": {"name": "c", "defaultMode": 0}}),
        ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x", "type": ""}}),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {
                "projected": {
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
                    "defaultMode": 420,
                }
            },
        ),
    ],
)
def test_volumes_are_filled(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert volume(**given) == {"name": "v", **expected}


def test_the_service_account_has_two_names() -> None:
    for field in ("serviceAccount", "serviceAccountName"):
        spec = default_pod({"spec": {field: "a", "containers": []}})["spec"]
        assert (spec["serviceAccount"], spec["serviceAccountName"]) == ("a", "a")


BOTH = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "0"}}], "BestEffort"),
        ([{"limits": BOTH}], "Burstable"),
        ([{"limits": BOTH, "requests": BOTH}], "Guaranteed"),
        ([{"limits": BOTH, "requests": {"cpu": "1000m", "memory": "1024Mi"}}], "Guaranteed"),
        ([{"limits": BOTH, "requests": {**BOTH, "cpu": "1m"}}], "Burstable"),
        ([{"limits": BOTH, "requests": BOTH}, {}], "Burstable"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"ephemeral-storage": "1Gi"}}], "BestEffort"),
    ],
)
def test_the_qos_class(resources: list[dict[str, Any]], expected: str) -> None:
    containers = [{"name": f"c{at}", "resources": each} for at, each in enumerate(resources)]
    assert qos_class({"containers": containers}) == expected


def test_defaulted_limits_make_a_guaranteed_pod() -> None:
    pod = default_pod({"spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": BOTH}}]}})
    assert qos_class(pod["spec"]) == "Guaranteed"
