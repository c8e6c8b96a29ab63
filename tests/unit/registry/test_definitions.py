"""What the server says of definitions, step by step, and how versions are ranked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anynode.api.objects import Object
from anynode.registry import definitions

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
NAMES: Object = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}


def definition(name: str = "widgets", group: str = "example.com", **names: object) -> Object:
    return {
        "metadata": {"name": f"{name}.{group}"},
        "spec": {"group": group, "names": {**NAMES, "plural": name, **names}, "versions": []},
        "status": {"acceptedNames": {"plural": "", "kind": ""}, "conditions": None},
    }


def settled(crd: Object, others: Sequence[Object] = (), *, bundle_ok: bool = True) -> Object:
    """The definition when nothing more is to be said."""
    for _ in range(10):
        after = definitions.next_status(crd, [*others, crd], NOW, bundle_ok=bundle_ok)
        if after is crd:
            return crd
        crd = after
    raise AssertionError("the status never settles")


def said(crd: Object, kind: str) -> tuple[str, str, str]:
    found = definitions.condition(crd, kind)
    assert found is not None
    return found["status"], found["reason"], found["message"]


@pytest.mark.parametrize(
    ("given", "ranked"),
    [
        (["v1", "v2", "v10"], ["v10", "v2", "v1"]),
        (["v1alpha1", "v1", "v1beta2", "v1beta1"], ["v1", "v1beta2", "v1beta1", "v1alpha1"]),
        (["foo10", "v1alpha1", "foo1"], ["v1alpha1", "foo1", "foo10"]),
        (["v0", "v01", "v1"], ["v1", "v0", "v01"]),
        (["v11alpha2", "v2beta1", "v3beta1"], ["v3beta1", "v2beta1", "v11alpha2"]),
    ],
)
def test_versions_are_ranked_as_clients_prefer_them(given: list[str], ranked: list[str]) -> None:
    assert sorted(given, key=definitions.version_rank) == ranked


def test_names_are_accepted_before_the_definition_is_established() -> None:
    crd = definition()
    first = definitions.next_status(crd, [crd], NOW, bundle_ok=True)
    assert said(first, "NamesAccepted") == ("True", "NoConflicts", "no conflicts found")
    assert said(first, "Established")[:2] == ("False", "Installing")
    assert definitions.is_requestable(first)
    second = definitions.next_status(first, [first], LATER, bundle_ok=True)
    assert said(second, "Established")[:2] == ("True", "InitialNamesAccepted")
    assert definitions.condition(second, "Established")["lastTransitionTime"] == LATER  # type: ignore[index]
    assert definitions.next_status(second, [second], LATER, bundle_ok=True) is second
    assert second["status"]["acceptedNames"] == NAMES


@pytest.mark.parametrize(
    ("names", "reason", "message"),
    [
        ({"kind": "Widget", "listKind": "GadgetList"}, "KindConflict", '"Widget" is already in use'),
        (
            {"kind": "Gadget", "singular": "widget", "listKind": "GadgetList"},
            "SingularConflict",
            '"widget" is already in use',
        ),
        ({"kind": "Gadget", "singular": "gadget", "listKind": "WidgetList"}, "ListKindConflict", '"WidgetList" is'),
        (
            {"kind": "G", "singular": "g", "listKind": "GL", "shortNames": ["wi", "widget", "g2"]},
            "ShortNamesConflict",
            '["wi" is already in use, "widget" is already in use]',
        ),
    ],
)
def test_a_name_somebody_has_is_refused_and_the_others_are_kept(names: Object, reason: str, message: str) -> None:
    owner = settled(definition(shortNames=["wi"]))
    rival = settled(definition("gadgets", **names), [owner])
    status, found, text = said(rival, "NamesAccepted")
    assert (status, found) == ("False", reason)
    assert text.startswith(message)
    assert rival["status"]["acceptedNames"]["plural"] == "gadgets"
    assert said(rival, "Established") == ("False", "NotAccepted", "not all names are accepted")
    assert not definitions.is_requestable(rival)


def test_an_established_definition_stays_so_when_new_names_are_refused() -> None:
    owner = settled(definition())
    rival = settled(definition("gadgets", kind="Gadget", singular="gadget", listKind="GadgetList"), [owner])
    changed = {**rival, "spec": {**rival["spec"], "names": {**rival["spec"]["names"], "kind": "Widget"}}}
    after = settled(changed, [owner])
    assert said(after, "NamesAccepted")[1] == "KindConflict"
    assert definitions.is_true(after, "Established")
    assert after["status"]["acceptedNames"]["kind"] == "Gadget"


def test_authorities_that_cannot_be_read_hold_up_the_definition() -> None:
    crd = settled(definition(), bundle_ok=False)
    assert said(crd, "Established")[:2] == ("False", "InvalidCABundle")
    assert said(settled(crd), "Established")[0] == "True"


@pytest.mark.parametrize(
    ("annotation", "status", "reason"),
    [
        ("", "False", "MissingAnnotation"),
        ("unapproved, test", "False", "UnapprovedAnnotation"),
        ("https://github.com/kubernetes/kubernetes/pull/1", "True", "ApprovedAnnotation"),
        ("maybe", "False", "InvalidAnnotation"),
    ],
)
def test_the_communitys_own_groups_need_approval(annotation: str, status: str, reason: str) -> None:
    crd = definition(group="a.k8s.io")
    crd["metadata"]["annotations"] = {definitions.APPROVED: annotation}
    assert said(settled(crd), definitions.APPROVAL)[:2] == (status, reason)


def test_other_groups_need_none() -> None:
    assert definitions.condition(settled(definition(group="k8s.io.example")), definitions.APPROVAL) is None


def test_a_schema_from_before_structural_ones_is_told_of() -> None:
    crd = definition()
    crd["spec"]["preserveUnknownFields"] = True
    found = settled(crd)
    assert (
        said(found, definitions.NON_STRUCTURAL)[2] == "spec.preserveUnknownFields: Invalid value: true: must be false"
    )
    fixed = settled({**found, "spec": {**found["spec"], "preserveUnknownFields": False}})
    assert definitions.condition(fixed, definitions.NON_STRUCTURAL) is None


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    crd = definitions.with_condition(definition(), "A", "True", "X", "x", NOW)
    crd = definitions.with_condition(crd, "A", "True", "Y", "y", LATER)
    assert definitions.condition(crd, "A") == {
        "type": "A", "status": "True", "lastTransitionTime": NOW, "reason": "Y", "message": "y",
    }  # fmt: skip


def test_only_a_deleted_definition_with_its_finalizer_is_cleaned_up() -> None:
    crd = definition()
    crd["metadata"]["finalizers"] = ["x/y", definitions.FINALIZER]
    assert not definitions.needs_cleanup(crd)
    deleted = {**crd, "metadata": {**crd["metadata"], "deletionTimestamp": NOW}}
    assert definitions.needs_cleanup(deleted)
    let_go = definitions.without_finalizer(deleted)
    assert let_go["metadata"]["finalizers"] == ["x/y"]
    assert not definitions.needs_cleanup(let_go)
