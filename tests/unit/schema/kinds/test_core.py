"""Namespaces, configuration, secrets, accounts, nodes, endpoints and events."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of


def told(kind: str, group: str = "", **body: Any) -> list[str]:
    rules = rules_of(group, kind)
    metadata = {"name": "x", "namespace": "d", **body.pop("metadata", {})}
    made = rules.prepare_create(rules.default({"metadata": metadata, **body}))
    return [f"{each.field}: {each.message}" for each in rules.validate(made)]


def changed(kind: str, old: dict[str, Any], new: dict[str, Any], group: str = "") -> list[str]:
    rules = rules_of(group, kind)
    metadata = {"name": "x", "namespace": "d"}
    before, after = (rules.default({"metadata": metadata, **each}) for each in (old, new))
    return [f"{each.field}: {each.message}" for each in rules.validate_update(after, before)]


def test_a_namespace_is_filled() -> None:
    rules = rules_of("", "Namespace")
    made = rules.prepare_create(rules.default({"metadata": {"name": "n"}}))
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["status"] == {"phase": "Active"}


def test_a_finalized_namespace_keeps_all_but_finalizers() -> None:
    rules = rules_of("", "Namespace")
    old = rules.prepare_create(rules.default({"metadata": {"name": "n", "deletionTimestamp": "t"}}))
    new = {**old, "spec": {"finalizers": []}, "status": {"phase": "Odd"}}
    written = rules.subresources["finalize"].prepare(new, old)
    assert not written["spec"].get("finalizers")
    assert written["status"] == old["status"]


def test_secrets() -> None:
    rules = rules_of("", "Secret")
    assert rules.default({"data": {}})["type"] == "Opaque"
    assert told("Secret", data={"a b": ""})[0].startswith('data[a b]: Invalid value: "a b": a valid config key must')
    assert told("Secret", type="kubernetes.io/tls", data={"tls.crt": ""}) == ["data[tls.key]: Required value"]
    assert told("Secret", type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "e"})[0].startswith(
        "data[.dockerconfigjson]: Invalid value"
    )
    assert told("Secret", type="kubernetes.io/service-account-token") == [
        "metadata.annotations[kubernetes.io/service-account.name]: Required value"
    ]
    assert changed("Secret", {"type": "Opaque"}, {"type": "Other"}) == [
        'type: Invalid value: "Other": field is immutable'
    ]


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_what_is_immutable_stays(kind: str) -> None:
    fixed = {"immutable": True, "data": {"a": "Yg=="}}
    text = "Forbidden: field is immutable when `immutable` is set"
    assert changed(kind, fixed, {**fixed, "data": {"a": "Yw=="}}) == [f"data: {text}"]
    assert changed(kind, fixed, {**fixed, "immutable": False}) == [f"immutable: {text}"]
    assert changed(kind, {**fixed, "immutable": False}, fixed) == []


def test_config_maps_have_a_size() -> None:
    assert told("ConfigMap", data={"a": "b"}, binaryData={"a": "Yg=="}) == [
        'data[a]: Invalid value: "a": duplicate of key present in binaryData'
    ]
    assert told("ConfigMap", data={"a": "x" * (1024 * 1024 + 1)}) == [
        "[]: Too long: may not be more than 1048576 bytes"
    ]


def test_a_node_gets_allocatable_from_its_capacity() -> None:
    node = rules_of("", "Node").default({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "1"}}})
    assert node["status"]["allocatable"] == {"cpu": "1"}


def test_taints_are_unique_by_key_and_effect() -> None:
    taint = {"key": "a", "effect": "NoSchedule"}
    assert told("Node", spec={"taints": [taint]}) == []
    [found] = told("Node", spec={"taints": [taint, {**taint, "value": "x"}]})
    assert found.startswith("metadata.taints[1]: Duplicate value")


def test_a_nodes_pod_range_is_set_once() -> None:
    base = {"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]}}
    other = {"spec": {"podCIDR": "10.2.0.0/24", "podCIDRs": ["10.2.0.0/24"]}}
    assert changed("Node", {"spec": {}}, base) == []
    assert changed("Node", base, other) == [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    ]


def test_endpoints_are_judged() -> None:
    subset = {"addresses": [{"ip": "x"}], "ports": [{"port": 0}]}
    fields = {text.partition(": ")[0] for text in told("Endpoints", subsets=[subset])}
    assert fields == {"subsets[0].addresses[0].ip", "subsets[0].ports[0].port"}
    loopback = {"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 1}]}
    assert "loopback range" in told("Endpoints", subsets=[loopback])[0]


def test_core_events_live_where_their_object_does() -> None:
    assert told("Event", involvedObject={"namespace": "d", "kind": "Pod"}) == []
    assert told("Event", involvedObject={"namespace": "other", "kind": "Pod"})[0].startswith("involvedObject.namespace")


def test_new_events_need_a_reporter() -> None:
    given = {"regarding": {"namespace": "d"}, "type": "Normal"}
    assert told("Event", "events.k8s.io", **given) == ["eventTime: Required value"]
    timed = {**given, "eventTime": "2026-01-01T00:00:00.000000Z"}
    fields = {text.partition(": ")[0] for text in told("Event", "events.k8s.io", **timed)}
    assert fields == {"reportingController", "reportingInstance", "action", "reason"}


def test_what_an_event_is_about_is_shown_as_upstream_keeps_it() -> None:
    rules = rules_of("events.k8s.io", "Event")
    old = {"metadata": {"name": "e", "namespace": "d"}, "regarding": {"kind": "Pod", "namespace": "d"}}
    new = {**old, "regarding": {"kind": "Pod", "namespace": "d", "fieldPath": "f"}}
    shown = '{"Kind":"Pod","Namespace":"d","Name":"","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":"f"}'
    assert [f"{each.field}: {each.message}" for each in rules.validate_update(new, old)] == [
        f"involvedObject: Invalid value: {shown}: field is immutable"
    ]


@pytest.mark.parametrize(("group", "kind"), [("", "Event"), ("policy", "PodDisruptionBudget")])
def test_kinds_that_take_any_name_that_fits_into_a_path(group: str, kind: str) -> None:
    rule = rules_of(group, kind).valid_name
    assert rule is not None
    assert rule("Bad_Name") == []
    assert rule("a/b")
