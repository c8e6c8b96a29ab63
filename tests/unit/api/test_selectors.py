"""Label and field selectors: what they match, how they print, how they are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.api import selectors
from anynode.api.selectors import SelectorError, of_label_selector, parse_fields, parse_labels


@pytest.mark.parametrize(
    ("text", "labels", "matched"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a in (b, c)", {"a": "c"}, True),
        ("a notin (b,c)", {"a": "c"}, False),
        ("a notin (b,c)", {}, True),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("a>1,b<3", {"a": "2", "b": "2"}, True),
        ("a>1", {"a": "x"}, False),
        ("a=", {"a": ""}, True),
        ("in=1", {"in": "1"}, True),
        ("a in ()", {"a": ""}, True),
        ("a in (,b)", {"a": ""}, True),
    ],
)
def test_matching(text: str, labels: dict[str, str], matched: bool) -> None:
    assert parse_labels(text).matches(labels) is matched


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,,b", "found ',', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, "
                "the value must be an integer"),
    ],
)  # fmt: skip
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_labels(text)
    assert str(caught.value) == message


def test_a_bad_key_and_a_bad_value_name_their_path() -> None:
    with pytest.raises(SelectorError, match=r'^unable to parse requirement: <nil>: Invalid value: "a@": name part'):
        parse_labels("a@=b")
    with pytest.raises(SelectorError, match=r'^unable to parse requirement: values\[0\]\[a\]: Invalid value: "@"'):
        parse_labels("a=@")


def test_printing_is_sorted_by_key() -> None:
    assert str(parse_labels("b in (y,x),a!=1,!c,d")) == "a!=1,b in (x,y),!c,d"


@given(st.text(alphabet="ab=!,()<> in/", max_size=14))
def test_a_selector_is_read_or_refused_and_its_print_means_the_same(text: str) -> None:
    try:
        selector = parse_labels(text)
    except SelectorError:
        return
    again = parse_labels(str(selector))
    for labels in ({}, {"a": "b"}, {"a": ""}, {"b": "a", "in": "1"}):
        assert selector.matches(labels) == again.matches(labels)


def test_label_selectors_of_objects() -> None:
    assert not of_label_selector(None).matches({})
    assert of_label_selector({}).matches({"x": "y"})
    selector = of_label_selector(
        {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}]}
    )
    assert selector.matches({"a": "b"})
    assert not selector.matches({"a": "b", "c": "d"})
    assert selector.required_value("a") == "b"
    with pytest.raises(SelectorError, match='"Odd" is not a valid label selector operator'):
        of_label_selector({"matchExpressions": [{"key": "c", "operator": "Odd"}]})


def test_field_selectors() -> None:
    selector = parse_fields("spec.nodeName=n1,status.phase!=Running")
    assert selector.matches({"spec.nodeName": "n1", "status.phase": "Pending"})
    assert not selector.matches({"spec.nodeName": "n1", "status.phase": "Running"})
    assert selector.required_value("spec.nodeName") == "n1"
    assert parse_fields("a=x\\,y").terms[0].value == "x,y"
    assert str(parse_fields("a=x\\,y")) == "a=x\\,y"
    assert selectors.parse_fields("").empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
    ],
)
def test_field_refusals(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_fields(text)
    assert str(caught.value) == message
