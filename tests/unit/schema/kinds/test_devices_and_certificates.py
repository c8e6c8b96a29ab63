"""Devices with their claims, and certificate signing requests."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

DEVICES, CERTIFICATES = "resource.k8s.io", "certificates.k8s.io"
REQUEST = {"name": "r", "exactly": {"deviceClassName": "c"}}


def claim(**devices: Any) -> list[str]:
    rules = rules_of(DEVICES, "ResourceClaim")
    made = rules.default({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [REQUEST], **devices}}})
    return [f"{each.field}: {each.message}" for each in rules.validate(made)]


def test_a_request_asks_for_one_device() -> None:
    filled = rules_of(DEVICES, "ResourceClaim").default({"spec": {"devices": {"requests": [REQUEST]}}})
    [request] = filled["spec"]["devices"]["requests"]
    assert request["exactly"] == {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}


BETTER = {"name": "r", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]}


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ({}, []),
        ({"requests": [{**REQUEST, **BETTER}]},
            ["spec.devices.requests[0]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, "
             "but multiple fields are set"]),
        ({"requests": [REQUEST, REQUEST]}, ['spec.devices.requests[1]: Duplicate value: "r"']),
        ({"requests": [BETTER], "constraints": [{"requests": ["r/x"], "matchAttribute": "a.b/c"}]}, []),
        ({"constraints": [{"requests": ["r/x"], "matchAttribute": "a.b/c"}]},
            ['spec.devices.constraints[0].requests[0]: Invalid value: "r/x": must be the name of a request in the '
             "claim or the name of a request and a subrequest separated by '/'"]),
        ({"config": [{"opaque": {"driver": "a.b", "parameters": {}}}]}, []),
        ({"config": [{}]}, ["spec.devices.config[0].opaque: Required value"]),
    ],
)  # fmt: skip
def test_bad_claims(devices: dict[str, Any], expected: list[str]) -> None:
    assert claim(**devices) == expected


def test_a_claim_stays_as_it_was_asked() -> None:
    rules = rules_of(DEVICES, "ResourceClaim")
    old = rules.default({"spec": {"devices": {"requests": [REQUEST]}}})
    new = rules.default({"spec": {"devices": {}}})
    assert [each.field for each in rules.validate_update(new, old)] == ["spec"]
    user = {"resource": "pods", "name": "p", "uid": "u"}
    reserved = {**old, "status": {"reservedFor": [user]}}
    assert [each.message for each in rules.validate_status(reserved, old)] == [
        "Forbidden: may not be specified when `allocated` is not set"
    ]


def test_slices_belong_somewhere() -> None:
    rules = rules_of(DEVICES, "ResourceSlice")
    spec = {"driver": "a.b", "pool": {"name": "p", "resourceSliceCount": 1}}
    nowhere = [each.message for each in rules.validate({"spec": spec})]
    assert nowhere == [
        "Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    ]
    here = {"spec": {**spec, "nodeName": "n", "devices": [{"name": "d", "attributes": {"a": {"int": 1}}}]}}
    assert list(rules.validate(here)) == []
    elsewhere = {"spec": {**here["spec"], "nodeName": "m"}}
    assert [each.field for each in rules.validate_update(elsewhere, here)] == ["spec.nodeName"]


def pem(kind: str) -> str:
    return base64.b64encode(f"-----BEGIN {kind}-----\nAA==\n-----END {kind}-----\n".encode()).decode()


def signing(**spec: Any) -> dict[str, Any]:
    rules = rules_of(CERTIFICATES, "CertificateSigningRequest")
    whole = {"request": pem("CERTIFICATE REQUEST"), "usages": ["client auth"], "signerName": "a.b/c", **spec}
    return dict(rules.prepare_create(rules.default({"metadata": {"name": "c"}, "spec": whole})))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"request": pem("CERTIFICATE")}, ["spec.request"]),
        ({"request": "%"}, ["spec.request"]),
        ({"usages": ["client auth", "client auth", "odd"]}, ["spec.usages[2]", "spec.usages[1]"]),
        ({"signerName": "a/b/c"}, ["spec.signerName"]),
        ({"signerName": "a/b"}, ["spec.signerName"]),
        ({"expirationSeconds": 599}, ["spec.expirationSeconds"]),
    ],
)
def test_bad_signing_requests(spec: dict[str, Any], expected: list[str]) -> None:
    found = rules_of(CERTIFICATES, "CertificateSigningRequest").validate(signing(**spec))
    assert [each.field for each in found] == expected


def test_nobody_asks_in_anothers_name() -> None:
    spec = signing(username="root", groups=["system:masters"])["spec"]
    assert not {"username", "groups"} & {*spec}


def test_each_endpoint_decides_its_own() -> None:
    rules, old = rules_of(CERTIFICATES, "CertificateSigningRequest"), signing()
    approved = {**old, "status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    issued = {**old, "status": {"certificate": pem("CERTIFICATE")}}
    approval = rules.subresources["approval"]

    assert rules.prepare_update(approved, old)["status"] == {}
    assert list(approval.validate(approval.prepare(approved, old), old)) == []
    assert approval.prepare(issued, old)["status"] == {}
    assert [each.message for each in rules.validate_status(rules.prepare_status(approved, old), old)] == [
        'Forbidden: updates may not add a condition of type "Approved"'
    ]
    assert list(rules.validate_status(rules.prepare_status(issued, old), old)) == []
    assert [each.message for each in approval.validate(approval.prepare(old, approved), approved)] == [
        'Forbidden: updates may not remove a condition of type "Approved"'
    ]
