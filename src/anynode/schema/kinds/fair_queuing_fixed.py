"""The flow schemas and priority levels every server has, whose contents nobody changes. Pure.

In: such an object. Out: the complaint when it says something else, with the contents as Go prints them. Source:
apiserver ``pkg/apis/flowcontrol/bootstrap/default.go``, kubernetes ``pkg/apis/flowcontrol/validation``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anynode.api.objects import Object, name_of
from anynode.schema.fields import FieldError, FieldPath, invalid

_SPEC = FieldPath("spec")


def _everything(*groups: str) -> Object:
    every = ["*"]
    return {
        "subjects": [{"kind": "Group", "group": {"name": group}} for group in groups],
        "resourceRules": [
            {"verbs": every, "apiGroups": every, "resources": every, "clusterScope": True, "namespaces": every}
        ],
        "nonResourceRules": [{"verbs": every, "nonResourceURLs": every}],
    }


_SCHEMAS: Mapping[str, Object] = {
    "exempt": {
        "priorityLevelConfiguration": {"name": "exempt"},
        "matchingPrecedence": 1,
        "rules": [_everything("system:masters")],
    },
    "catch-all": {
        "priorityLevelConfiguration": {"name": "catch-all"},
        "matchingPrecedence": 10000,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [_everything("system:unauthenticated", "system:authenticated")],
    },
}
_LEVELS: Mapping[str, Object] = {
    "exempt": {"type": "Exempt"},
    "catch-all": {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0},
    },
}


def fixed_schema_errors(schema: Object) -> list[FieldError]:
    """What is wrong with a mandatory flow schema; nothing for others."""
    name, spec = name_of(schema), schema.get("spec") or {}
    fixed = _SCHEMAS.get(name)
    if fixed is None or _plain(spec) == _plain(fixed):
        return []
    return [invalid(_SPEC, _schema_in_go(spec), f"spec of '{name}' must equal the fixed value")]


def fixed_level_errors(level: Object) -> list[FieldError]:
    """What is wrong with a mandatory priority level; nothing for others."""
    name, spec = name_of(level), level.get("spec") or {}
    fixed = _LEVELS.get(name)
    if fixed is None:
        return []
    compared = {field: value for field, value in spec.items() if name != "exempt" or field != "exempt"}
    if _plain(compared) == _plain(fixed):
        return []
    but = " except the 'spec.exempt' field" if name == "exempt" else ""
    return [invalid(_SPEC, _level_in_go(spec), f"spec of '{name}'{but} must equal the fixed value")]


def _plain(value: Any) -> Any:
    """A value without what is empty, which counts as absent."""
    if isinstance(value, dict):
        found = {key: _plain(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each not in (None, [], {}, "")}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _schema_in_go(spec: Object) -> Object:
    method, rules = spec.get("distinguisherMethod"), spec.get("rules") or []  # none and empty are stored alike
    return {
        "PriorityLevelConfiguration": _named(spec.get("priorityLevelConfiguration") or {}),
        "MatchingPrecedence": spec.get("matchingPrecedence") or 0,
        "DistinguisherMethod": None if method is None else {"Type": method.get("type") or ""},
        "Rules": [_rule_in_go(each) for each in rules],
    }


def _named(subject: Object | None) -> Object | None:
    return None if subject is None else {"Name": subject.get("name") or ""}


def _rule_in_go(rule: Object) -> Object:
    subjects, resources, others = (rule.get(part) for part in ("subjects", "resourceRules", "nonResourceRules"))
    return {
        "Subjects": None if subjects is None else [_subject_in_go(each) for each in subjects],
        "ResourceRules": None
        if resources is None
        else [
            {
                "Verbs": each.get("verbs"),
                "APIGroups": each.get("apiGroups"),
                "Resources": each.get("resources"),
                "ClusterScope": bool(each.get("clusterScope")),
                "Namespaces": each.get("namespaces"),
            }
            for each in resources
        ],
        "NonResourceRules": None
        if others is None
        else [{"Verbs": each.get("verbs"), "NonResourceURLs": each.get("nonResourceURLs")} for each in others],
    }


def _subject_in_go(subject: Object) -> Object:
    account = subject.get("serviceAccount")
    return {
        "Kind": subject.get("kind") or "",
        "User": _named(subject.get("user")),
        "Group": _named(subject.get("group")),
        "ServiceAccount": None
        if account is None
        else {"Namespace": account.get("namespace") or "", "Name": account.get("name") or ""},
    }


def _level_in_go(spec: Object) -> Object:
    limited, exempt = spec.get("limited"), spec.get("exempt")
    return {
        "Type": spec.get("type") or "",
        "Limited": None if limited is None else _limited_in_go(limited),
        "Exempt": None
        if exempt is None
        else {
            "NominalConcurrencyShares": exempt.get("nominalConcurrencyShares"),
            "LendablePercent": exempt.get("lendablePercent"),
        },
    }


def _limited_in_go(limited: Object) -> Object:
    response = limited.get("limitResponse") or {}
    queuing = response.get("queuing")
    return {
        "NominalConcurrencyShares": limited.get("nominalConcurrencyShares") or 0,
        "LimitResponse": {
            "Type": response.get("type") or "",
            "Queuing": None
            if queuing is None
            else {
                "Queues": queuing.get("queues") or 0,
                "HandSize": queuing.get("handSize") or 0,
                "QueueLengthLimit": queuing.get("queueLengthLimit") or 0,
            },
        },
        "LendablePercent": limited.get("lendablePercent"),
        "BorrowingLimitPercent": limited.get("borrowingLimitPercent"),
    }
