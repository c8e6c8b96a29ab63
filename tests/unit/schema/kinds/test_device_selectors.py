"""Expressions that select devices: what a kube-apiserver said of each."""

from __future__ import annotations

import pytest

from anynode.schema.fields import FieldPath
from anynode.schema.kinds.device_selectors import validate_expression

PATH = FieldPath("spec.selectors[0].cel.expression")
GOOD = (
    'device.driver == "a"',
    'device.attributes["a.b"].c == 3',
    'device.attributes["a"].b',
    'device.attributes["a"].b.contains("x") && device.attributes["a"].c.matches("^a.*b$")',
    'device.capacity["a"].m.compareTo(quantity("1Gi")) >= 0',
    'cel.bind(d, device.attributes["a.b"], d.x && d.y)',
    "device.allowMultipleAllocations",
)
BAD = (
    ("1", "must evaluate to bool or the unknown type, not int"),
    (
        'device.attributes["a"]',
        "must evaluate to bool or the unknown type, not map(string, google.protobuf.Any)",
    ),
    ("device.x", "compilation failed: ERROR: <input>:1:7: undefined field 'x'\n | device.x\n | ......^"),
)
COSTLY = "device.attributes.all(k, device.attributes.all(l, device.attributes.all(m, device.attributes.all(n, k==l))))"


@pytest.mark.parametrize("expression", GOOD)
def test_what_selects_is_taken(expression: str) -> None:
    assert validate_expression(expression, PATH) == []


@pytest.mark.parametrize(("expression", "why"), BAD)
def test_what_does_not_is_refused_in_upstreams_words(expression: str, why: str) -> None:
    (error,) = validate_expression(expression, PATH)
    assert error.reason == "FieldValueInvalid"
    assert error.message.endswith(f": {why}")


def test_what_costs_or_weighs_too_much_is_refused() -> None:
    (error,) = validate_expression(COSTLY, PATH)
    assert (error.reason, error.message) == (
        "FieldValueForbidden",
        "Forbidden: too complex, exceeds cost limit",
    )
    (error,) = validate_expression("x" * 10_241, PATH)
    assert error.reason == "FieldValueTooLong"
