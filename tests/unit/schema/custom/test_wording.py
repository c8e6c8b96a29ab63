"""Values in complaints are printed as Go prints them."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.custom import wording


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (2.0, "2"), (2.5, "2.5"), (-1.25, "-1.25"), (0.0001, "0.0001"), (0.00001, "1e-05"),
        (999999.0, "999999"), (1e6, "1e+06"), (1234567.5, "1.2345675e+06"), (1e300, "1e+300"),
        (9.223372036854775808e18, "9.223372036854776e+18"),
    ],
)  # fmt: skip
def test_floats_have_exponents_where_go_has_them(number: float, text: str) -> None:
    assert wording.go_float(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [None, True, 1.0]}, '{"a":[null,true,1],"b":1}'),
        ("<a> & b", '"\\u003ca\\u003e \\u0026 b"'),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        (0.000001, "0.000001"),
        (wording.Ordered(Z=1, A=None), '{"Z":1,"A":null}'),
    ],
)
def test_json_is_go_json(value: Any, text: str) -> None:
    assert wording.go_json(value) == text


def test_texts_are_quoted_as_go_quotes_them() -> None:
    assert wording.go_quoted('a"\\\n\x01\x7fé\u200b') == '"a\\"\\\\\\n\\x01\\x7fé\\u200b"'


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
