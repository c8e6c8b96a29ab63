"""Eviction under disruption budgets. The expectations are a real server's answers."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api import errors
from anynode.registry import pods
from anynode.registry.deletion import DeleteOptions

NOW, BEFORE = "2026-01-02T03:04:05Z", "2026-01-01T00:00:00Z"


def budget(allowed: int, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "b", "generation": 1},
        "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, **status},
    }


def test_the_last_disruption_closes_the_budget() -> None:
    status = pods.with_disruption(budget(1), "p", NOW)["status"]
    assert status["disruptedPods"] == {"p": NOW}
    assert status["conditions"] == [
        {
            "type": "DisruptionAllowed", "status": "False", "observedGeneration": 1, "lastTransitionTime": NOW,
            "reason": "InsufficientPods", "message": "",
        }
    ]  # fmt: skip


def test_one_disruption_of_many_leaves_the_conditions_alone() -> None:
    assert "conditions" not in pods.with_disruption(budget(2), "p", NOW)["status"]


def test_a_condition_that_was_false_keeps_its_time_and_place() -> None:
    known = {"type": "DisruptionAllowed", "status": "False", "lastTransitionTime": BEFORE, "reason": "SyncFailed"}
    other = {"type": "Other", "status": "True"}
    status = pods.with_disruption(budget(1, conditions=[known, other]), "p", NOW)["status"]
    assert [each["type"] for each in status["conditions"]] == ["DisruptionAllowed", "Other"]
    assert status["conditions"][0]["lastTransitionTime"] == BEFORE
    assert status["conditions"][0]["reason"] == "InsufficientPods"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            DeleteOptions(uid="other"),
            "the UID in the precondition (other) does not match the UID in record (u). "
            "The object might have been deleted and then recreated",
        ),
        (
            DeleteOptions(uid="u", resource_version="7"),
            "the ResourceVersion in the precondition (7) does not match the ResourceVersion in record (9). "
            "The object might have been modified",
        ),
    ],
)
def test_an_eviction_of_another_pod_is_refused(options: DeleteOptions, why: str) -> None:
    pod = {"metadata": {"name": "p", "uid": "u", "resourceVersion": "9"}}
    with pytest.raises(errors.Conflict) as refused:
        pods.check_meant(pod, options)
    assert refused.value.message == f'Operation cannot be fulfilled on Pod "p": {why}'
    pods.check_meant(pod, DeleteOptions(uid="u", resource_version="9"))
