"""JSONPath as Table columns use it."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.custom.jsonpath import JsonPath, JsonPathError, printed

OBJECT = {
    "a": [{"k": "x", "v": 1}, {"k": "y", "v": 2}],
    "b": {"c.d": 3, "e": None},
    "t": True,
    "l": [1, 2, 3, 4],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a[0].k", ["x"]), (".a[*].v", [1, 2]), ('.a[?(@.k=="y")].v', [2]), (".a[?(@.v>1)].k", ["y"]),
        (".a[?(@.k)].v", [1, 2]), (".b.c\\.d", [3]), (".a[-1:].v", [2]), (".a[0,1].v", [1, 2]), ("..v", [1, 2]),
        (".zz", []), (".zz.y", []), (".b.*", [3, None]), (".t", [True]), ("$.a[1]['k']", ["y"]), (".l[1:3]", [2, 3]),
        (".l[::2]", [1, 3]), (".l[-2]", [3]), (".l[0:0]", []), ("", [OBJECT]), (".t.x", []),
        ("'text'", ["text"]), ("5", [5]),
    ],
)  # fmt: skip
def test_what_a_path_finds(path: str, found: list[Any]) -> None:
    assert JsonPath(f"{{{path}}}").results(OBJECT) == [found]


@pytest.mark.parametrize("path", [".l[9]", ".t[0]", ".b[?(@.e==1)]", ".a[?(@.k<1)]"])
def test_a_path_that_does_not_fit_the_object(path: str) -> None:
    with pytest.raises(JsonPathError):
        JsonPath(f"{{{path}}}").results(OBJECT)


@pytest.mark.parametrize("path", ["[", ".a[x]", "....a", "range .a", ".a[?(@.k", ".a['b", "%", ".a[0:1:-]"])
def test_a_path_that_cannot_be_read(path: str) -> None:
    with pytest.raises(JsonPathError):
        JsonPath(f"{{{path}}}")


def test_a_path_nested_too_deep_is_refused() -> None:
    with pytest.raises(JsonPathError):
        JsonPath("{" + "[?(@" * 5000 + ")]" * 5000 + "}")


def test_several_actions_and_text_between_them() -> None:
    assert JsonPath("a{.t}-{.b.c\\.d}z").results(OBJECT) == [["a"], [True], ["-"], [3], ["z"]]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "<no value>"), (True, "true"), (3, "3"), (2.0, "2"), ({"b": 1, "a": "<"}, '{"a":"\\u003c","b":1}')],
)
def test_printing(value: Any, text: str) -> None:
    assert printed(value) == text
