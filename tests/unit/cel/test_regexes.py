from __future__ import annotations

import random
import time

import pytest

from anynode.cel import regexes
from anynode.cel.errors import CostExceeded


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=a)", "error parsing regexp: invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "error parsing regexp: invalid or unsupported Perl syntax: `(?!`"),
        ("(?<=a)", "error parsing regexp: invalid named capture: `(?<=a)`"),
        (r"(a)\1", r"error parsing regexp: invalid escape sequence: `\1`"),
        ("[a", "error parsing regexp: missing closing ]: `[a`"),
        ("(a", "error parsing regexp: missing closing ): `(a`"),
        ("a)", "error parsing regexp: unexpected ): `a)`"),
        ("*", "error parsing regexp: missing argument to repetition operator: `*`"),
        ("a**", "error parsing regexp: invalid nested repetition operator: `**`"),
        ("a{1001}", "error parsing regexp: invalid repeat count: `{1001}`"),
        ("[z-a]", "error parsing regexp: invalid character class range: `z-a`"),
        ("a\\", "error parsing regexp: trailing backslash at end of expression: ``"),
        (r"\p{Nope}", r"error parsing regexp: invalid character class range: `\p{Nope}`"),
    ],
)
def test_refuses_what_re2_refuses(pattern: str, message: str) -> None:
    with pytest.raises(regexes.RegexError) as caught:
        regexes.compiled(pattern)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("^a$", "a\n", False),
        ("(?m)^a$", "b\na\nc", True),
        ("a.c", "a\nc", False),
        ("(?s)a.c", "a\nc", True),
        ("(?i)straSSe", "STRASSE", True),
        (r"^\d+$", "١٢", False),
        (r"\bfoo\b", "a foo b", True),
        (r"^[[:alpha:]_]+$", "ab_", True),
        (r"^\pL+$", "äö", True),
        (r"^\Q.*\E$", ".*", True),
        ("a{,2}", "a{,2}", True),
        ("^(a+)+$", "a" * 40 + "!", False),
        ("(x+x+)+y", "x" * 60, False),
        (r"^([a-z]+\.)*[a-z]+$", "a.b.c", True),
        (r"^([a-z]+\.)*[a-z]+$", "a..c", False),
        (r"(\b\w+\b ?)+$", "some words here", True),
        ("", "", True),
    ],
)
def test_matches_as_re2_does(pattern: str, text: str, matches: bool) -> None:
    assert regexes.compiled(pattern).matches(text) is matches


def test_a_pattern_made_to_explode_stays_linear() -> None:
    before = time.process_time()
    assert not regexes.compiled("^(([a-z])+.)+[A-Z]([a-z])+$").matches("a" * 20_000)
    assert regexes.compiled("(a*)*(b*)*c?").find("a" * 300 + "b") == "a" * 300 + "b"
    assert time.process_time() - before < 3


def test_find_prefers_the_leftmost_and_the_first_way() -> None:
    pattern = regexes.compiled("a|ab")
    assert pattern.find("xab") == "a"
    assert regexes.compiled("[0-9]+").find_all("1 22 333", 2) == ["1", "22"]
    assert regexes.compiled("a*").find_all("baac") == ["", "aa", ""]
    assert regexes.compiled("(a+)+").find_all("aab aaa") == ["aa", "aaa"]


def test_a_machine_that_never_repeats_itself_is_stopped() -> None:
    text = "".join(random.Random(1).choices("ab", k=400_000))
    before = time.process_time()
    with pytest.raises(CostExceeded):
        regexes.compiled("^((a|b)*)*a(a|b){22}c").matches(text)
    assert time.process_time() - before < 8
