from __future__ import annotations

import datetime

import pytest

from anynode.api.errors import Conflict, Invalid
from anynode.api.objects import Object, meta
from anynode.api.resources import known
from anynode.registry.deletion import (
    FOREGROUND,
    ORPHAN,
    Collection,
    DeleteOptions,
    Marked,
    Pending,
    Remove,
    Verdict,
    check_preconditions,
    decide,
    is_finished,
    validate_options,
)
from anynode.registry.kinds import pod_grace

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def after(obj: Object, options: DeleteOptions | None = None, collection: Collection = "dependents") -> Verdict:
    return decide(obj, options or DeleteOptions(), NOW, grace_of=None, collection=collection)


def pod(**metadata: object) -> Object:
    return {
        "metadata": {"name": "p", "generation": 1, **metadata},
        "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30},
    }


def after_pod(obj: Object, options: DeleteOptions | None = None) -> Verdict:
    return decide(obj, options or DeleteOptions(), NOW, grace_of=pod_grace, collection="dependents")


def test_what_nothing_holds_goes_at_once() -> None:
    assert after({"metadata": {"name": "a"}}) == Remove()


def test_finalizers_hold_and_the_mark_is_made_once() -> None:
    first = after({"metadata": {"name": "a", "generation": 3, "finalizers": ["x/y"]}})
    assert isinstance(first, Marked)
    assert not first.then_remove
    assert meta(first.obj)["deletionTimestamp"] == "2026-01-01T00:00:00Z"
    assert meta(first.obj)["generation"] == 4
    again = after(first.obj)
    assert isinstance(again, Marked)
    assert again.obj == first.obj


@pytest.mark.parametrize(
    ("options", "collection", "finalizers"),
    [
        (DeleteOptions(propagation="Orphan"), "dependents", [ORPHAN]),
        (DeleteOptions(propagation="Foreground"), "dependents", [FOREGROUND]),
        (DeleteOptions(orphan_dependents=True), "dependents", [ORPHAN]),
        (DeleteOptions(), "orphan", [ORPHAN]),
    ],
)
def test_the_propagation_policy_becomes_a_finalizer(
    options: DeleteOptions, collection: Collection, finalizers: list[str]
) -> None:
    verdict = after({"metadata": {"name": "a"}}, options, collection)
    assert isinstance(verdict, Marked)
    assert meta(verdict.obj)["finalizers"] == finalizers


def test_background_overrides_orphaning_and_events_know_no_dependents() -> None:
    assert after({"metadata": {"name": "a"}}, DeleteOptions(propagation="Background"), "orphan") == Remove()
    assert after({"metadata": {"name": "a"}}, DeleteOptions(propagation="Foreground"), "unsupported") == Remove()


def test_a_running_pod_gets_its_grace_which_may_only_shrink() -> None:
    marked = after_pod(pod())
    assert isinstance(marked, Marked)
    assert not marked.then_remove
    assert meta(marked.obj)["deletionGracePeriodSeconds"] == 30
    assert meta(marked.obj)["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    assert after_pod(marked.obj) == Pending()
    assert after_pod(marked.obj, DeleteOptions(grace_seconds=60)) == Pending()
    shorter = after_pod(marked.obj, DeleteOptions(grace_seconds=5))
    assert isinstance(shorter, Marked)
    assert meta(shorter.obj)["deletionTimestamp"] == "2026-01-01T00:00:05Z"
    gone = after_pod(marked.obj, DeleteOptions(grace_seconds=0))
    assert isinstance(gone, Marked)
    assert gone.then_remove


def test_a_pod_on_no_node_or_over_is_removed_right_after_its_mark() -> None:
    unscheduled = {"metadata": {"name": "p"}, "spec": {}}
    finished = {**pod(), "status": {"phase": "Succeeded"}}
    for each in (unscheduled, finished):
        verdict = after_pod(each)
        assert isinstance(verdict, Marked)
        assert verdict.then_remove


def test_an_update_finishes_only_what_was_marked_before() -> None:
    marked = {"metadata": {"deletionTimestamp": "x", "deletionGracePeriodSeconds": 0, "finalizers": ["x/y"]}}
    freed = {"metadata": {"deletionTimestamp": "x", "deletionGracePeriodSeconds": 0}}
    assert is_finished(freed, marked)
    assert not is_finished(marked, marked)
    assert not is_finished({"metadata": {}}, {"metadata": {"finalizers": ["x/y"]}})


def test_preconditions_name_what_was_meant() -> None:
    obj = {"metadata": {"name": "a", "uid": "u"}}
    check_preconditions(obj, 5, DeleteOptions(uid="u", resource_version="5"), known("secrets"))
    with pytest.raises(Conflict, match="UID in the precondition"):
        check_preconditions(obj, 5, DeleteOptions(uid="v"), known("secrets"))
    with pytest.raises(Conflict, match="ResourceVersion in the precondition"):
        check_preconditions(obj, 5, DeleteOptions(resource_version="4"), known("secrets"))


def test_preconditions_of_namespaces_and_definitions_are_told_in_their_own_words() -> None:
    obj = {"metadata": {"name": "a", "uid": "u"}}
    said = 'Operation cannot be fulfilled on namespaces "a": Precondition failed: '
    check_preconditions(obj, 5, DeleteOptions(uid="u", resource_version="5"), known("namespaces"))
    with pytest.raises(Conflict) as refused:
        check_preconditions(obj, 5, DeleteOptions(uid="v"), known("namespaces"))
    assert str(refused.value) == f"{said}UID in precondition: v, UID in object meta: u"
    with pytest.raises(Conflict) as refused:
        check_preconditions(obj, 5, DeleteOptions(resource_version="4"), known("namespaces"))
    assert str(refused.value) == f"{said}ResourceVersion in precondition: 4, ResourceVersion in object meta: 5"


@pytest.mark.parametrize(
    "raw",
    [
        {"propagationPolicy": "Sideways"},
        {"dryRun": ["Some"]},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
    ],
)
def test_options_that_make_no_sense_are_invalid(raw: Object) -> None:
    with pytest.raises(Invalid):
        validate_options(raw)


def test_a_negative_grace_is_one_second() -> None:
    assert validate_options({"gracePeriodSeconds": -3}).grace_seconds == 1
