"""Slices of devices and what claims got of them, judged as a kube-apiserver does."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

SLICE = rules_of("resource.k8s.io", "ResourceSlice")
CLAIM = rules_of("resource.k8s.io", "ResourceClaim")


def a_slice(*devices: dict[str, Any], **spec: Any) -> dict[str, Any]:
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    return {
        "metadata": {"name": "s"},
        "spec": {"driver": "a.b", "nodeName": "n", "pool": pool, "devices": list(devices), **spec},
    }


def said(errors: Any) -> list[str]:
    return [f"{error.field}: {error.message}" for error in errors]


def test_a_plain_slice_is_taken() -> None:
    device = {"name": "d", "attributes": {"v": {"version": "1.2.3"}}, "capacity": {"m": {"value": "1Gi"}}}
    assert SLICE.validate(a_slice(device)) == []


@pytest.mark.parametrize(
    ("device", "first"),
    [
        ({"name": "d", "attributes": {"v": {"version": "1"}}}, "spec.devices[0].attributes[v].version: Invalid value"),
        ({"name": "d", "attributes": {"v": {}}}, 'spec.devices[0].attributes[v]: Invalid value: "": exactly one value'),
        ({"name": "d", "nodeName": "n"}, "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and"),
        ({"name": "d", "taints": [{"key": "k"}]}, "spec.devices[0].taints[0].effect: Required value"),
        ({"name": "d", "consumesCounters": [{}]}, "spec.devices[0].consumesCounters[0].counterSet: Required value"),
        ({"name": "d", "bindingConditions": ["a"]}, "spec.devices[0].bindingFailureConditions: Invalid value: null"),
        (
            {"name": "d", "capacity": {"m": {"value": "1", "requestPolicy": {}}}},
            "spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true",
        ),
    ],
)
def test_a_wrong_device_is_refused(device: dict[str, Any], first: str) -> None:
    assert said(SLICE.validate(a_slice(device)))[0].startswith(first)


@pytest.mark.parametrize(
    ("policy", "first"),
    [
        ({"validValues": ["1"]}, "default: Required value: required when validValues is defined"),
        ({"default": "1", "validValues": ["2", "1"]}, 'validValues[1]: Invalid value: "1": values must be sorted'),
        ({"default": "3", "validValues": ["1"]}, 'validValues: Invalid value: "3": default value is not valid'),
        ({"default": "1", "validRange": {}}, "validRange.min: Required value: required when validRange is defined"),
        ({"default": "1", "validRange": {"min": "9"}}, 'validRange.min: Invalid value: "9": min is larger than'),
        ({"default": "4", "validRange": {"min": "1", "step": "2"}}, 'validRange.step: Invalid value: "4": value is'),
        ({"validValues": ["1"], "validRange": {}}, "Forbidden: exactly one policy can be specified"),
    ],
)
def test_a_policy_of_requests_is_judged(policy: dict[str, Any], first: str) -> None:
    capacity = {"m": {"value": "8", "requestPolicy": policy}}
    found = said(SLICE.validate(a_slice({"name": "d", "allowMultipleAllocations": True, "capacity": capacity})))
    start = "spec.devices[0].capacity[m].requestPolicy"
    assert any(row.startswith((f"{start}.{first}", f"{start}: {first}")) for row in found), found


def test_a_slice_keeps_its_driver_pool_and_node() -> None:
    new = a_slice(driver="c.d", nodeName="m")
    assert [row.partition(":")[0] for row in said(SLICE.validate_update(new, a_slice()))] == [
        "spec.driver",
        "spec.nodeName",
    ]


def test_a_claim_is_printed_in_gos_form_when_it_changes() -> None:
    old = {"spec": {"devices": {"requests": [{"name": "r"}]}}}
    (row,) = said(CLAIM.validate_update({"spec": {"devices": {"requests": None}}}, old))
    shown = '{"Devices":{"Requests":null,"Constraints":null,"Config":null}}'
    assert row == f"spec: Invalid value: {shown}: field is immutable"


def test_a_device_status_needs_an_allocated_device() -> None:
    status = {"devices": [{"driver": "a.b", "pool": "p", "device": "d", "shareID": "x"}]}
    found = said(CLAIM.validate_status({"spec": {}, "status": status}, {"spec": {}, "status": {}}))
    assert found == [
        'status.devices[0].shareID: Invalid value: "x": error validating uid: invalid UUID length: 1',
        'status.devices[0]: Invalid value: {"Driver":"a.b","Pool":"p","Device":"d","ShareID":"x"}: '
        "must be an allocated device in the claim",
    ]
