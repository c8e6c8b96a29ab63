"""Values are printed as Go prints them."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.go_text import Ordered, go_float, go_json, go_quoted, go_type, go_value


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (2.0, "2"), (2.5, "2.5"), (-1.25, "-1.25"), (0.0001, "0.0001"), (0.00001, "1e-05"),
        (999999.0, "999999"), (1e6, "1e+06"), (1234567.5, "1.2345675e+06"), (1e300, "1e+300"),
        (9.223372036854775808e18, "9.223372036854776e+18"),
    ],
)  # fmt: skip
def test_floats_have_exponents_where_go_has_them(number: float, text: str) -> None:
    assert go_float(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [None, True, 1.0]}, '{"a":[null,true,1],"b":1}'),
        ("<a> & b", '"\\u003ca\\u003e \\u0026 b"'),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        (0.000001, "0.000001"),
        (Ordered(Z=1, A=None), '{"Z":1,"A":null}'),
    ],
)
def test_json_is_go_json(value: Any, text: str) -> None:
    assert go_json(value) == text


def test_texts_are_quoted_as_go_quotes_them() -> None:
    assert go_quoted('a"\\\n\x01\x7fé\u200b') == '"a\\"\\\\\\n\\x01\\x7fé\\u200b"'


@pytest.mark.parametrize(
    ("value", "text", "name"),
    [
        (None, "<nil>", "<nil>"),
        (True, "true", "bool"),
        (3, "3", "int64"),
        (1e6, "1e+06", "float64"),
        ("a b", "a b", "string"),
        ([1, [None]], "[1 [<nil>]]", "[]interface {}"),
        ({"b": {}, "a": [False, "x"]}, "map[a:[false x] b:map[]]", "map[string]interface {}"),
    ],
)
def test_values_and_types_are_printed_plainly(value: Any, text: str, name: str) -> None:
    assert (go_value(value), go_type(value)) == (text, name)
