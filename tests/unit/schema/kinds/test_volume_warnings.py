"""Texts that go with claims, volumes and classes that are let pass."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.objects import Object
from anynode.schema.kinds.volume_warnings import claim_warnings, class_warnings, volume_warnings

CLASS = "volume.beta.kubernetes.io/storage-class"


@pytest.mark.parametrize(
    ("storage", "warned"),
    [("1Gi", []), ("1500m", ['fractional byte value "1500m" is invalid, must be an integer']), ("2", [])],
)
def test_a_claim_asks_for_whole_bytes(storage: str, warned: list[str]) -> None:
    claim: Object = {"spec": {"resources": {"requests": {"storage": storage}}}}
    assert claim_warnings(claim) == [f"spec.resources.requests[storage]: {each}" for each in warned]


def test_old_annotations() -> None:
    said = 'deprecated since v1.8; use "storageClassName" attribute instead'
    claim: Object = {"metadata": {"annotations": {CLASS: "x"}}, "spec": {}}
    assert claim_warnings(claim) == [f"metadata.annotations[{CLASS}]: {said}"]
    assert volume_warnings(claim) == [f"metadata.annotations[{CLASS}]: {said}"]


@pytest.mark.parametrize(
    ("spec", "warned"),
    [
        ({"hostPath": {"path": "/"}}, []),
        ({"rbd": {}}, ["spec.rbd: deprecated in v1.28, non-functional in v1.31+"]),
        ({"storageos": {}}, ["spec.storageOS: deprecated in v1.22, non-functional in v1.25+"]),
        (
            {"persistentVolumeReclaimPolicy": "Recycle"},
            [
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the "
                "recommended approach is to use dynamic provisioning."
            ],
        ),
        (
            {
                "nodeAffinity": {
                    "required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "beta.kubernetes.io/os"}]}]}
                }
            },
            [
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is "
                'deprecated since v1.14; use "kubernetes.io/os" instead'
            ],
        ),
    ],
)
def test_volumes(spec: Any, warned: list[str]) -> None:
    assert volume_warnings({"spec": spec}) == warned


def test_classes() -> None:
    expressions = [{"key": "topology.kubernetes.io/zone"}, {"key": "failure-domain.beta.kubernetes.io/zone"}]
    assert class_warnings({"allowedTopologies": [{"matchLabelExpressions": expressions}]}) == [
        'allowedTopologies[0].matchLabelExpressions[1].key: deprecated since v1.17; use "topology.kubernetes.io/zone" '
        "instead"
    ]
