"""Who says what about metadata, in which order and how often. The expectations are a real server's answers."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema import metadata_order
from anynode.schema.kinds.catalogue import rules_of

LABELS, FINALIZER, TYPE = "metadata.labels", "metadata.finalizers[0]", "type"
META = {"name": "x", "namespace": "ns", "uid": "u", "resourceVersion": "1"}


def told(group: str, kind: str, new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    rules = rules_of(group, kind)
    order = metadata_order.MAIN.get(kind, metadata_order.DEFAULT)
    found = metadata_order.of_update(new, old, rules, rules.validate_update, order, namespaced=True)
    return [each.field for each in found]


def changed(group: str, kind: str, metadata: dict[str, Any], **more: Any) -> list[str]:
    old = {"metadata": META, **more.pop("old", {})}
    return told(group, kind, {**old, "metadata": {**META, **metadata}, **more}, old)


@pytest.mark.parametrize(
    ("group", "kind", "labels", "finalizers"),
    [
        ("", "ConfigMap", 4, 2),  # alone and as a change for all kinds, then both again among its own rules
        ("", "Namespace", 4, 2),
        ("coordination.k8s.io", "Lease", 3, 0),
        ("discovery.k8s.io", "EndpointSlice", 3, 1),
        ("policy", "PodDisruptionBudget", 2, 0),
        ("", "Event", 2, 0),
        ("node.k8s.io", "RuntimeClass", 4, 0),
        ("apps", "Deployment", 3, 1),
        ("", "PersistentVolume", 4, 2),
        ("storage.k8s.io", "VolumeAttributesClass", 4, 2),
        ("certificates.k8s.io", "CertificateSigningRequest", 4, 2),
    ],
)
def test_metadata_is_judged_as_often_as_upstream_does(group: str, kind: str, labels: int, finalizers: int) -> None:
    said = changed(group, kind, {"labels": {"a": "-x"}, "finalizers": ["odd"]})
    assert said.count(LABELS) == labels
    assert said.count(FINALIZER) == finalizers


def test_a_finalizer_that_belongs_to_nobody_is_enough() -> None:
    assert changed("", "ConfigMap", {"finalizers": ["odd"]}) == [FINALIZER, FINALIZER]
    assert changed("", "ConfigMap", {"finalizers": ["a.b/c", "kubernetes"]}) == []
    assert changed("coordination.k8s.io", "Lease", {"finalizers": ["odd"]}) == []


def test_what_may_not_change_stands_between_change_and_object() -> None:
    said = changed("", "Secret", {"labels": {"a": "-x"}}, old={"type": "Opaque"}, type="x")
    assert said == [LABELS, LABELS, LABELS, TYPE, LABELS]


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("networking.k8s.io", "ServiceCIDR"),
        ("resource.k8s.io", "ResourceClaim"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ],
)
def test_some_statuses_are_written_without_metadata(group: str, kind: str) -> None:
    old = {"metadata": {**META, "labels": {"a": "b"}}, "spec": {}}
    new = {"metadata": {**META, "labels": {"B !": "x"}, "finalizers": ["bad"]}, "spec": {}}
    assert rules_of(group, kind).prepare_status(new, old)["metadata"] == old["metadata"]


def test_new_objects() -> None:
    new = {"metadata": {"name": "x", "namespace": "ns", "finalizers": ["odd"]}}
    assert [each.field for each in metadata_order.of_create(new, "Pod", namespaced=True, rule=None)] == [FINALIZER]
    assert metadata_order.of_create(new, "Lease", namespaced=True, rule=None) == []
