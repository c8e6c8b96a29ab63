"""Values as upstream prints them in its own form, and what differs between two of them."""

from __future__ import annotations

from typing import Any

from anynode.schema.kinds.internal_form import difference, internal


def pod(*variables: str) -> dict[str, Any]:
    return {"containers": [{"name": "c", "env": [{"name": name, "value": "v"} for name in variables]}]}


def test_a_template_shows_its_metadata_among_its_fields() -> None:
    template = {"metadata": {"labels": {"b": "1", "a": "2"}}, "spec": {"devices": {"requests": None}}}
    shown = internal("ResourceClaimTemplateSpec", template)
    assert list(shown) == ["labels", "Spec"]
    assert list(shown["labels"]) == ["a", "b"]
    assert shown["Spec"] == {"Devices": {"Requests": None, "Constraints": None, "Config": None}}


def test_a_difference_is_a_unified_diff() -> None:
    text = difference("PodSpec", pod("a", "b"), pod("a", "c"))
    assert '-     "Name": "b",\n' in text
    assert '+     "Name": "c",\n' in text
    assert text.startswith("@@ -")


def test_a_very_long_difference_is_told_coarsely() -> None:
    names = [f"v{number}" for number in range(3_000)]
    old, new = pod("a", *names, "z"), pod("b", *names, "y")
    text = difference("PodSpec", old, new)
    header, *rows = text.splitlines()
    assert header.startswith("@@ -")
    assert len(rows) < 2_100
    assert rows[3].startswith("-")
    assert rows[3].endswith('"Name": "a",')
    assert difference("PodSpec", pod(*names), pod(*names)) == ""
