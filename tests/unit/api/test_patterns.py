"""Patterns are those of Go's regexp, and take no more time than the text is long."""

from __future__ import annotations

import pytest

from anynode.api import patterns


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("x{2}", "axxb", True), ("^a$", "a\n", False), (r"^\d+$", "٣", False), (r"^\pL+$", "é", True),
        ("(?i)AB", "ab", True), ("^(a+)+$", "a" * 10000 + "!", False),
    ],
)  # fmt: skip
def test_searching(pattern: str, text: str, found: bool) -> None:
    assert patterns.searcher(pattern)(text) is found


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(", "missing closing ): `(`"), ("[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"), ("\\", "trailing backslash at end of expression: ``"),
        ("a{1001}", "invalid repeat count: `{1001}`"), ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("[b-a]", "invalid character class range: `b-a`"), ("x)", "unexpected ): `x)`"),
        ("a\\q", "invalid escape sequence: `\\q`"),
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_told_as_go_tells_it(pattern: str, text: str) -> None:
    with pytest.raises(patterns.PatternError) as raised:
        patterns.compiled(pattern)
    assert str(raised.value) == f"error parsing regexp: {text}"
