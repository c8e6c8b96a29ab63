"""Served resources and the kinds that keep their objects."""

from __future__ import annotations

from anynode.api import resources
from anynode.registry.kinds import views_of
from anynode.schema.kinds.catalogue import rules_of

VIEWS = views_of(resources.builtin(), rules_of)


def test_only_events_of_the_new_group_are_judged_as_they_are_served() -> None:
    assert [slot for slot, view in VIEWS.items() if view.rules is not None] == [("events.k8s.io", "v1", "events")]


def test_a_new_event_keeps_to_the_stricter_rules() -> None:
    view = VIEWS["events.k8s.io", "v1", "events"]
    stored = {
        "metadata": {"name": "e", "namespace": "d"},
        "involvedObject": {"namespace": "d"},
        "type": "Normal",
        "reason": "R",
    }
    assert [each.field for each in view.judged(stored, None)] == ["eventTime"]
    changed = {**stored, "message": "other"}
    assert [each.field for each in view.judged(changed, stored)] == ["message"]


def test_events_are_selected_by_the_names_of_the_group_they_are_asked_for_in() -> None:
    core, new = VIEWS["", "v1", "events"], VIEWS["events.k8s.io", "v1", "events"]
    assert new.field_labels["reportingController"] == "reportingComponent"
    assert new.field_labels["regarding.name"] == "involvedObject.name"
    assert "source" in core.field_labels
    assert "source" not in new.field_labels
    assert set(new.field_labels.values()) < set(core.field_labels)


def test_an_event_without_a_source_comes_from_its_reporting_controller() -> None:
    read = VIEWS["", "v1", "events"].kind.read_fields
    assert read({"reportingComponent": "c"})["source"] == "c"
    assert read({"reportingComponent": "c", "source": {"component": "s"}})["source"] == "s"


def test_signing_requests_are_selected_by_signer() -> None:
    view = VIEWS["certificates.k8s.io", "v1", "certificatesigningrequests"]
    assert view.kind.read_fields({"spec": {"signerName": "a/b"}})["spec.signerName"] == "a/b"
