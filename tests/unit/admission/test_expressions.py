"""Expressions at work: values, failures, variables, budgets and match conditions."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.admission.chain import Attributes
from anynode.admission.expressions import (
    OUT_OF_BUDGET,
    BudgetSpent,
    Conditions,
    Expression,
    Inputs,
    Variables,
    aggregate,
)
from anynode.api import resources
from anynode.api.wire import User
from anynode.cel.environment import Budget
from anynode.schema import admission_expressions as expressions
from anynode.security import rbac

PODS = resources.known("pods")


def decide(user: User, wanted: rbac.Attributes) -> rbac.Decision:
    return rbac.Decision(user.name == "ann" and wanted.verb == "get", f"{user.name} {wanted.verb} {wanted.resource}")


def inputs(obj: Any = None) -> Inputs:
    write = Attributes(operation="CREATE", resource=PODS, namespace="ns", name="p", user=User(name="ann"))
    return Inputs(write, PODS, obj, None, decide, namespace={"metadata": {"name": "ns", "ownerReferences": []}})


def result(text: str, obj: Any = None, *, budget: int = 10_000_000) -> Any:
    made = Expression(expressions.environment(params=False, authorizer=True), text, expressions.ANYTHING)
    return made.result(inputs(obj).bindings(), Budget(budget))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("object.a + 1", 2),
        ("request.name + request.namespace + request.operation", "pnsCREATE"),
        ("namespaceObject.metadata.name", "ns"),
        ("oldObject == null", True),
        ("authorizer.requestResource.check('get').allowed()", True),
        ("authorizer.requestResource.check('delete').reason()", "ann delete pods"),
        ("authorizer.serviceAccount('ns', 'sa').group('').resource('nodes').check('get').reason()",
         "system:serviceaccount:ns:sa get nodes"),
    ],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    assert result(text, {"a": 1}).value == value


def test_failures_say_which_expression_and_why() -> None:
    assert result("object.b", {"a": 1}).error == "expression 'object.b' resulted in error: no such key: b"
    assert result("object.").error.startswith("compilation error: compilation failed: ERROR: <input>:1:8: Syntax error")


def test_a_spent_budget_ends_the_list() -> None:
    with pytest.raises(BudgetSpent, match=OUT_OF_BUDGET):
        result("[1, 2, 3].all(x, x > 0)", budget=3)


def test_variables_are_made_when_they_are_named_and_fail_by_name() -> None:
    wires = [{"name": "a", "expression": "object.a"}, {"name": "b", "expression": "variables.a / 0"}]
    variables = Variables(wires, params=False)
    budget = Budget()
    bindings = variables.bound(inputs({"a": 1}).bindings(), budget)

    def value(text: str) -> Any:
        return Expression(variables.environment(), text, expressions.ANYTHING).result(bindings, budget)

    assert value("variables.a + 1").value == 2
    why = 'composited variable "b" fails to evaluate: division by zero'
    assert value("variables.b").error == f"expression 'variables.b' resulted in error: {why}"


def conditions(*texts: str, ignores: bool = False) -> Any:
    wires = [{"name": f"c{at}", "expression": text} for at, text in enumerate(texts)]
    return Conditions(wires, ignores_failure=ignores, params=False).met(inputs({"a": 1}))


def test_a_false_condition_wins_over_failed_ones() -> None:
    assert conditions("true", "object.a == 1").matches
    assert conditions("1/0 == 1", "false") == (False, "")
    assert conditions("1/0 == 1", ignores=True) == (False, "")
    why = "expression '1/0 == 1' resulted in error: division by zero"
    assert conditions("true", "1/0 == 1") == (False, why)


def test_errors_are_joined_as_upstream_does() -> None:
    assert aggregate(["a"]) == "a"
    assert aggregate(["a", "b", "a"]) == "[a, b]"
