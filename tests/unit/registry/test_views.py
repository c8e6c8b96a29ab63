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
