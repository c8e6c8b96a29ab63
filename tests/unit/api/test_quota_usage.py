"""What objects weigh, and which changes of them free something."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

import pytest

from anynode.api.objects import Object
from anynode.api.quota_usage import calculated, evaluator_of


class Alone:
    """Nothing lies beside the object."""

    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def device_classes(self) -> Iterable[Object]:
        return ()

    def pod(self, namespace: str, name: str) -> Object | None:
        return None

    def device_claims(self, namespace: str) -> Iterable[Object]:
        return ()


def usage(resource: str, obj: Object) -> dict[str, str]:
    return {name: str(amount) for name, amount in evaluator_of(resource, Alone()).usage(obj).items()}


def pod(status: Object | None = None, spec: Object | None = None, **metadata: Any) -> Object:
    return {"metadata": metadata, "spec": {"containers": []} | (spec or {}), "status": status or {}}


@pytest.mark.parametrize(
    ("given", "weighs"),
    [
        (pod(), True),
        (pod({"phase": "Failed"}), False),
        (pod(deletionTimestamp="2025-12-31T23:59:50Z", deletionGracePeriodSeconds=30), True),
        (pod(deletionTimestamp="2025-12-31T23:59:00Z", deletionGracePeriodSeconds=30), False),
    ],
)
def test_a_pod_that_is_over_only_takes_its_place_in_storage(given: Object, weighs: bool) -> None:
    assert usage("pods", given) == {"count/pods": "1"} | ({"pods": "1"} if weighs else {})


@pytest.mark.parametrize(
    ("resource", "new", "old", "frees"),
    [
        ("pods", pod({"phase": "Succeeded"}), pod({"phase": "Running"}), True),
        ("pods", pod({"phase": "Running"}), pod({"phase": "Pending"}), False),
        ("pods", pod(spec={"activeDeadlineSeconds": 5}), pod(), True),
        ("pods", pod({"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}), pod(), True),
        ("services", {"spec": {"type": "ClusterIP"}}, {"spec": {"type": "NodePort"}}, True),
        ("services", {"spec": {"type": "ExternalName"}}, {"spec": {"type": "ClusterIP"}}, False),
        ("persistentvolumeclaims", {"status": {"currentVolumeAttributesClassName": "a"}}, {"status": {}}, True),
        ("persistentvolumeclaims", {"status": {"phase": "Bound"}}, {"status": {"phase": "Pending"}}, False),
        ("configmaps", {"data": {"a": "b"}}, {}, False),
    ],
)
def test_which_changes_are_counted_anew(resource: str, new: Object, old: Object, frees: bool) -> None:
    assert evaluator_of(resource, Alone()).frees(new, old) is frees


def test_a_claim_weighs_what_it_was_given_where_that_is_more_in_whole_bytes() -> None:
    claim = {
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}},
        "status": {"allocatedResources": {"storage": "3"}},
    }
    found = usage("persistentvolumeclaims", claim)
    assert found["requests.storage"] == found["gold.storageclass.storage.k8s.io/requests.storage"] == "3"
    assert usage("persistentvolumeclaims", {**claim, "status": {}})["requests.storage"] == "2"


@pytest.mark.parametrize(
    ("operator", "values", "claims"),
    [
        ("Exists", None, {"a", "b"}),
        ("In", ["gold"], {"a"}),
        ("NotIn", ["gold"], {"b", "c"}),
        ("DoesNotExist", None, {"c"}),
    ],
)
def test_claims_in_the_scope_of_attribute_classes(operator: str, values: Any, claims: set[str]) -> None:
    given = {
        "a": {"spec": {"volumeAttributesClassName": "gold"}},
        "b": {"spec": {}, "status": {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "iron"}}},
        "c": {"spec": {}},
    }
    requirement = {"scopeName": "VolumeAttributesClass", "operator": operator, "values": values}
    evaluator = evaluator_of("persistentvolumeclaims", Alone())
    assert {name for name, claim in given.items() if evaluator.in_scope(requirement, claim)} == claims


def test_a_quota_is_told_what_it_limits_and_nothing_else() -> None:
    evaluators = [
        (evaluator_of("pods", Alone()), [pod(), pod({"phase": "Failed"})]),
        (evaluator_of("secrets", Alone()), [{}, {}]),
        (evaluator_of("deployments.apps", Alone()), []),
    ]
    hard = dict.fromkeys(("pods", "secrets", "count/secrets", "count/deployments.apps", "count/unknown.x"), "9")
    found = calculated({"spec": {"hard": hard}}, evaluators)
    assert {name: str(amount) for name, amount in found.items()} == {
        "pods": "1",
        "secrets": "2",
        "count/secrets": "2",
        "count/deployments.apps": "0",
    }
