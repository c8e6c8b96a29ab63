"""Volumes and claims to them."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.fields import FieldPath
from anynode.schema.kinds import volume_rules
from anynode.schema.kinds.catalogue import rules_of

CLAIM, VOLUME = rules_of("", "PersistentVolumeClaim"), rules_of("", "PersistentVolume")
ROOM = {"requests": {"storage": "1Gi"}}
METADATA = {"name": "x", "namespace": "d", "creationTimestamp": "2026-01-01T00:00:00Z"}


def claim(**spec: Any) -> dict[str, Any]:
    whole = {"accessModes": ["ReadWriteOnce"], "resources": ROOM, **spec}
    return dict(CLAIM.prepare_create(CLAIM.default({"metadata": METADATA, "spec": whole})))


def volume(**spec: Any) -> dict[str, Any]:
    whole = {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}, **spec,
    }  # fmt: skip
    return dict(VOLUME.prepare_create(VOLUME.default({"metadata": METADATA, "spec": whole})))


def changed(old: dict[str, Any], **spec: Any) -> list[str]:
    rules = CLAIM if "resources" in old["spec"] else VOLUME
    new = rules.prepare_update({**old, "spec": {**old["spec"], **spec}}, old)
    return [f"{each.field}: {each.message}" for each in rules.validate_update(new, old)]


def test_they_begin_pending() -> None:
    assert claim()["status"] == {"phase": "Pending"}
    assert claim()["spec"]["volumeMode"] == "Filesystem"
    made = volume()
    assert made["status"]["phase"] == "Pending"
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"accessModes": []}, ["spec.accessModes: Required value: at least 1 access mode is required"]),
        ({"resources": {}}, ["spec.resources[storage]: Required value"]),
        ({"resources": {"requests": {"storage": "0"}}},
            ['spec.resources[storage]: Invalid value: "0": must be greater than zero']),
        ({"volumeMode": "Odd"}, ['spec.volumeMode: Unsupported value: "Odd": supported values: "Block", "Filesystem"']),
    ],
)  # fmt: skip
def test_bad_claims(spec: dict[str, Any], expected: list[str]) -> None:
    assert [f"{each.field}: {each.message}" for each in CLAIM.validate(claim(**spec))] == expected


def test_a_claim_is_fixed_but_for_its_size_when_bound() -> None:
    bound = {**claim(), "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    assert changed(bound, resources={"requests": {"storage": "2Gi"}}) == []
    [found] = changed(bound, accessModes=["ReadOnlyMany"])
    assert found.startswith("spec: Forbidden: spec is immutable after creation except resources.requests")
    assert any(
        "field can not be less than" in text for text in changed(bound, resources={"requests": {"storage": "1"}})
    )


def test_a_volume_has_one_source() -> None:
    two = volume(nfs={"server": "s", "path": "/p"})
    assert [each.message for each in VOLUME.validate(two)] == ["Forbidden: may not specify more than 1 volume type"]
    [found] = changed(volume(), hostPath={"path": "/y", "type": ""})
    assert found.startswith("spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable")


@pytest.mark.parametrize(
    ("field", "name", "wrong"),
    [
        ("initiatorName", "LoadBalancer", ["spec.iscsi.initiatorname"]),
        ("initiatorName", "iqn.2001-04.com.example:a", []),
        ("initiatorName", "eui.0123456789abcdef", []),
        ("iqn", "iqn.2001.com", ["spec.iscsi.iqn"]),
        ("iqn", "naa.0123456789abcdef", ["spec.iscsi.iqn"]),
    ],
)
def test_names_of_iscsi_are_of_three_kinds(field: str, name: str, wrong: list[str]) -> None:
    source = {"targetPortal": "t", "iqn": "iqn.2001-04.com.example:a", field: name}
    found = volume_rules.validate_iscsi(source, FieldPath("spec.iscsi"))
    assert [each.field for each in found] == wrong
