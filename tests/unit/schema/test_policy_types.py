"""Type checking of policies against built-in kinds."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api import resources
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.cel.types import Type
from anynode.schema import types
from anynode.schema.policy_types import builtin_type, kinds_of, warnings

TYPES = types.builtin()


def at(group: str, version: str, plural: str) -> Resource | None:
    return resources.Catalogue(resources.builtin()).at(group, version, plural)


def type_of(api_version: str, kind: str) -> Type | None:
    return builtin_type(TYPES, api_version, kind)


def policy(*texts: str, **said: Any) -> Object:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": text} for text in texts]}
    return {"spec": {**spec, **said}}


@pytest.mark.parametrize(
    "text",
    [
        "object.spec.replicas > 1",
        "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
        "object.spec.template.spec.containers.all(c, c.name != '' && has(c.resources))",
        "object.spec.template.metadata.labels['a'] == 'b'",
        "authorizer.group('apps').resource('deployments').check('get').allowed()",
        "oldObject == null || oldObject.spec.paused",
        "object.spec.strategy.rollingUpdate.maxSurge == 1",
    ],
)
def test_what_is_right_is_not_warned_of(text: str) -> None:
    assert warnings(policy(text), at, type_of) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("object.spec.nothing == 1", "undefined field 'nothing'"),
        ("object.spec.replicas == 'x'", "found no matching overload for '_==_'"),
        ("params.x == 1", "undeclared reference to 'params'"),
    ],
)
def test_what_is_wrong_is_warned_of_with_the_kind(text: str, said: str) -> None:
    (found,) = warnings(policy(text), at, type_of)
    assert found["fieldRef"] == "spec.validations[0].expression"
    assert found["warning"].startswith("apps/v1, Kind=Deployment: ERROR: <input>:1:")
    assert said in found["warning"]


def test_params_are_typed_by_their_kind_and_variables_by_their_expression() -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    assert "undefined field 'dat'" in warnings(policy("params.dat == null", paramKind=kind), at, type_of)[0]["warning"]
    variables = [{"name": "n", "expression": "object.spec.replicas"}]
    assert warnings(policy("variables.n > 1", variables=variables), at, type_of) == []
    assert len(warnings(policy("variables.n > 'x'", variables=variables), at, type_of)) == 1


def test_only_kinds_that_are_named_are_checked() -> None:
    def kinds(**said: Any) -> list[str]:
        rule = {"apiGroups": ["", "apps"], "apiVersions": ["v1"], "resources": ["pods", "deployments"], **said}
        return [kind for _, _, kind in kinds_of({"matchConstraints": {"resourceRules": [rule]}}, at)]

    assert kinds() == ["Pod", "Deployment"]
    assert kinds(apiGroups=["*"]) == []
    assert kinds(apiVersions=["*"]) == []
    assert kinds(resources=["*", "pods/status", "pods", "nonsense"]) == ["Pod"]
