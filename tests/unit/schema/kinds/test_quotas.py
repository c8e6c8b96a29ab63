"""Limit ranges and resource quotas."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

RANGE, QUOTA = rules_of("", "LimitRange"), rules_of("", "ResourceQuota")


def limits(**given: Any) -> list[str]:
    body = {"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", **given}]}}
    return [f"{each.field}: {each.message}" for each in RANGE.validate(RANGE.default(body))]


def quota(**spec: Any) -> list[str]:
    body = QUOTA.prepare_create(QUOTA.default({"metadata": {"name": "q"}, "spec": spec}))
    return [f"{each.field}: {each.message}" for each in QUOTA.validate(body)]


def test_limits_of_containers_fill_one_another() -> None:
    limit = {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "defaultRequest": {"cpu": "1"}}
    [filled] = RANGE.default({"spec": {"limits": [limit]}})["spec"]["limits"]
    assert filled["default"] == {"cpu": "2"}
    assert filled["defaultRequest"] == {"cpu": "1", "memory": "1Mi"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max": {"cpu": "1"}, "min": {"cpu": "500m"}}, []),
        ({"max": {"cpu": "1"}, "min": {"cpu": "2"}},
            ['spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
             'spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request '
             "value 1",
             'spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1']),
        ({"min": {"cpu": "1m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "1e400"}},
            ['spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "10e399": '
             "ratio 10e399 is greater than max/min = 1000.000000"]),
        ({"maxLimitRequestRatio": {"cpu": "500m"}},
            ['spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1']),
        ({"type": "Pod", "default": {"cpu": "1"}},
            ["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]),
        ({"type": "Odd"},
            ['spec.limits[0].type: Invalid value: "Odd": must be a standard limit type or fully qualified']),
    ],
)  # fmt: skip
def test_bad_limits(given: dict[str, Any], expected: list[str]) -> None:
    assert limits(**given) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"hard": {"pods": "1", "requests.cpu": "1", "count/jobs.batch": "2"}}, []),
        ({"hard": {"pods": "-1"}},
            ['spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0']),
        ({"hard": {"pods": "1500m"}}, ['spec.hard[pods]: Invalid value: "1500m": must be an integer']),
        ({"scopes": ["BestEffort", "NotBestEffort"]},
            ['spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes']),
        ({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]},
            ['spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource']),
    ],
)  # fmt: skip
def test_bad_quotas(spec: dict[str, Any], expected: list[str]) -> None:
    assert quota(**spec) == expected


def test_scopes_of_a_quota_stay() -> None:
    old = {"spec": {"scopes": ["Terminating"]}}
    assert [each.field for each in QUOTA.validate_update({"spec": {"scopes": []}}, old)] == ["spec.scopes"]
    assert list(QUOTA.validate_update(old, old)) == []
