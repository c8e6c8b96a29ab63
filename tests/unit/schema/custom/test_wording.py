"""Complaints say where, what and why in upstream's form."""

from __future__ import annotations

from anynode.schema.custom import wording


def test_a_text_behind_a_pointer_is_printed_as_json() -> None:
    assert wording.invalid("a", wording.Pointer("x\u200by"), "bad").message == 'Invalid value: "x\u200by": bad'


def test_an_omitted_value_leaves_only_the_detail() -> None:
    found = wording.invalid("spec", wording.OMITTED, "wrong")
    assert (found.field, found.message) == ("spec", "Invalid value: wrong")


def test_the_object_itself_has_go_s_path() -> None:
    assert wording.invalid("", None, "x").field == "<nil>"


def test_sizes_count_their_nouns() -> None:
    assert wording.too_long("a", 1).message == "Too long: may not be more than 1 byte"
    assert wording.too_long("a", -1).message == "Too long: value is too long"
    assert wording.too_many("a", 3, 1).message == "Too many: 3: must have at most 1 item"
    assert wording.too_many("a", -1, -1).message == "Too many: has too many items"
