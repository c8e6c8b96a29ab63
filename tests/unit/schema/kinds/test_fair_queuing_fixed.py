"""The flow schemas and priority levels whose contents nobody changes."""

from __future__ import annotations

import pytest

from anynode.api.objects import Object
from anynode.schema.kinds.fair_queuing_fixed import fixed_level_errors, fixed_schema_errors
from anynode.security import bootstrap

SHIPPED = [each.obj for each in bootstrap.objects() if each.resource.group == "flowcontrol.apiserver.k8s.io"]


def shipped(kind: str, name: str) -> Object:
    return next(each for each in SHIPPED if each["kind"] == kind and each["metadata"]["name"] == name)


@pytest.mark.parametrize("obj", SHIPPED)
def test_what_ships_is_as_it_should_be(obj: Object) -> None:
    assert fixed_schema_errors(obj) == [] if obj["kind"] == "FlowSchema" else fixed_level_errors(obj) == []


def test_a_changed_schema_is_told_as_go_prints_it() -> None:
    schema = shipped("FlowSchema", "catch-all")
    (error,) = fixed_schema_errors({**schema, "spec": {**schema["spec"], "rules": []}})
    assert error.message == (
        'Invalid value: {"PriorityLevelConfiguration":{"Name":"catch-all"},"MatchingPrecedence":10000,'
        '"DistinguisherMethod":{"Type":"ByUser"},"Rules":[]}: spec of \'catch-all\' must equal the fixed value'
    )


def test_of_the_exempt_level_its_shares_may_change() -> None:
    level = shipped("PriorityLevelConfiguration", "exempt")
    shares = {**level["spec"], "exempt": {"nominalConcurrencyShares": 7, "lendablePercent": 5}}
    assert fixed_level_errors({**level, "spec": shares}) == []
    (error,) = fixed_level_errors({**level, "spec": {**level["spec"], "type": "Limited"}})
    assert "except the 'spec.exempt' field must equal the fixed value" in error.message


def test_others_are_free() -> None:
    schema = shipped("FlowSchema", "global-default")
    assert fixed_schema_errors({**schema, "spec": {}}) == []
