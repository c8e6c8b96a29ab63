"""Leases and endpoint slices."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

SLICE, LEASE = rules_of("discovery.k8s.io", "EndpointSlice"), rules_of("coordination.k8s.io", "Lease")


def endpoint_slice(**given: Any) -> dict[str, Any]:
    body = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}], **given}
    return dict(SLICE.prepare_create(SLICE.default({"metadata": {"name": "s", "namespace": "d"}, **body})))


def told(**given: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in SLICE.validate(endpoint_slice(**given))]


def test_ports_are_filled() -> None:
    assert endpoint_slice()["ports"] == [{"port": 80, "name": "", "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"addressType": "Odd"},
            ['addressType: Unsupported value: "Odd": supported values: "FQDN", "IPv4", "IPv6"']),
        ({"endpoints": [{"addresses": []}]},
            ["endpoints[0].addresses: Required value: must contain at least 1 address"]),
        ({"endpoints": [{"addresses": ["::1"]}]},
            ['endpoints[0].addresses: Invalid value: "::1": must be an IPv4 address',
             'endpoints[0].addresses[0]: Invalid value: "::1": may not be in the loopback range '
             "(127.0.0.0/8, ::1/128)"]),
        ({"addressType": "FQDN", "endpoints": [{"addresses": ["local"]}]},
            ['endpoints[0].addresses[0]: Invalid value: "local": should be a domain with at least two segments '
             "separated by dots"]),
        ({"ports": [{"port": 1}, {"port": 2}]}, ['ports[1].name: Duplicate value: ""']),
        ({"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001},
            ["endpoints: Too many: 1001: must have at most 1000 items"]),
    ],
)  # fmt: skip
def test_bad_slices(given: dict[str, Any], expected: list[str]) -> None:
    assert told(**given) == expected


def test_content_and_labels_count_the_generation() -> None:
    old = endpoint_slice()
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    annotated = {**old, "metadata": {**old["metadata"], "annotations": {"a": "b"}}}
    assert SLICE.prepare_update(labelled, old)["metadata"]["generation"] == 2
    assert SLICE.prepare_update(annotated, old)["metadata"]["generation"] == 1
    assert [each.field for each in SLICE.validate_update({**old, "addressType": "IPv6"}, old)] == ["addressType"]


def test_leases() -> None:
    spec = {"holderIdentity": "", "leaseDurationSeconds": 0, "leaseTransitions": -1}
    lease = LEASE.default({"metadata": {"name": "l"}, "spec": spec})
    assert [each.field for each in LEASE.validate(lease)] == [
        "spec.leaseDurationSeconds",
        "spec.leaseTransitions",
    ]
    assert LEASE.allow_create_on_update
    assert not LEASE.allow_unconditional_update


def test_a_protocol_that_was_said_is_not_defaulted() -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81, "protocol": ""}]
    obj = SLICE.default({"metadata": {"name": "s", "namespace": "d"}, "addressType": "IPv4", "ports": ports})
    assert [port["protocol"] for port in obj["ports"]] == ["TCP", ""]
    [error] = SLICE.validate(obj)
    assert (error.field, error.reason) == ("ports[1].protocol", "FieldValueNotSupported")
