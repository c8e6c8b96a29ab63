from __future__ import annotations

import pytest

from anynode.cel.escaping import escape, unescape


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("plain", "plain"),
        ("namespace", "__namespace__"),
        ("a-b", "a__dash__b"),
        ("a.b/c", "a__dot__b__slash__c"),
        ("a__b", "a__underscores__b"),
        ("_", "_"),
        ("", None),
        ("1a", None),
        ("a$", None),
    ],
)
def test_names_are_escaped_and_back(name: str, written: str | None) -> None:
    assert escape(name) == written
    if written is not None:
        assert unescape(written) == name


def test_what_no_property_can_be_called() -> None:
    assert unescape("__nope__") is None
    assert unescape("x__namespace__") is None
