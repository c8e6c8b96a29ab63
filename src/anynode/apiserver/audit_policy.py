"""Which requests are audited, and how much of them: an ``audit.k8s.io/v1`` Policy as rules. Pure.

In: the policy's text; then user and target of a request. Out: a level, stages to leave out. The first rule that matches
decides; no rule, no event. Source: apiserver ``pkg/audit/policy/checker.go`` and ``pkg/apis/audit/validation``, 1.36.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from anynode.api.objects import Object
from anynode.api.wire import User
from anynode.apiserver.requestinfo import RequestInfo

STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")


class PolicyError(ValueError):
    """The policy cannot be used; one sentence."""


class Level(enum.IntEnum):
    """How much of a request is told."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def word(self) -> str:
        return _WORDS[self]


_WORDS = {
    Level.NONE: "None",
    Level.METADATA: "Metadata",
    Level.REQUEST: "Request",
    Level.REQUEST_RESPONSE: "RequestResponse",
}
_LEVELS = {word: level for level, word in _WORDS.items()}


class Verdict(NamedTuple):
    """What the policy wants to know of one request."""

    level: Level
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


SILENT = Verdict(Level.NONE)


@dataclasses.dataclass(frozen=True, slots=True)
class _Rule:
    wire: Object
    verdict: Verdict

    def matches(self, user: User, info: RequestInfo) -> bool:
        wire = self.wire
        if wire.get("users") and user.name not in wire["users"]:
            return False
        if wire.get("userGroups") and not set(wire["userGroups"]) & set(user.groups):
            return False
        if wire.get("verbs") and info.verb not in wire["verbs"]:
            return False
        if wire.get("namespaces") or wire.get("resources"):
            return _matches_resource(wire, info)
        if wire.get("nonResourceURLs"):
            return not info.is_resource and any(_matches_path(each, info.path) for each in wire["nonResourceURLs"])
        return True


def _matches_resource(wire: Object, info: RequestInfo) -> bool:
    if not info.is_resource:
        return False
    if wire.get("namespaces") and info.namespace not in wire["namespaces"]:
        return False
    groups = wire.get("resources")
    return not groups or any(_matches_group(each, info) for each in groups)


def _matches_group(group: Object, info: RequestInfo) -> bool:
    if (group.get("group") or "") != info.group:
        return False
    if group.get("resources") and not any(_matches_name(each, info) for each in group["resources"]):
        return False
    names = group.get("resourceNames")
    return not names or info.name in names


def _matches_name(pattern: str, info: RequestInfo) -> bool:
    if pattern in ("*", info.resource_path):
        return True
    resource, slash, subresource = pattern.partition("/")
    if not slash or not info.subresource:
        return False
    return (resource == "*" and subresource == info.subresource) or (subresource == "*" and resource == info.plural)


def _matches_path(pattern: str, path: str) -> bool:
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern[:-1]))


class AuditPolicy:
    """Rules in order."""

    def __init__(self, wire: Object) -> None:
        """Raises ``PolicyError``."""
        _check(wire)
        everywhere = frozenset(wire.get("omitStages") or ())
        managed = bool(wire.get("omitManagedFields"))
        self._rules = tuple(_Rule(each, _verdict(each, everywhere, managed)) for each in wire["rules"])

    @classmethod
    def parse(cls, text: str) -> AuditPolicy:
        """The policy in a file's text (YAML or JSON); raises ``PolicyError``."""
        try:
            wire = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise PolicyError(f"the audit policy cannot be read: {error}") from error
        if not isinstance(wire, dict):
            raise PolicyError("the audit policy is no object")
        return cls(wire)

    def verdict(self, user: User, info: RequestInfo) -> Verdict:
        for rule in self._rules:
            if rule.matches(user, info):
                return rule.verdict
        return SILENT


def _verdict(rule: Object, everywhere: frozenset[str], managed: bool) -> Verdict:
    own = rule.get("omitManagedFields")
    omit = everywhere | frozenset(rule.get("omitStages") or ())
    return Verdict(_LEVELS[rule["level"]], omit, managed if own is None else bool(own))


def _check(wire: Object) -> None:
    if wire.get("apiVersion") != "audit.k8s.io/v1" or wire.get("kind") != "Policy":
        raise PolicyError("the audit policy is not of apiVersion audit.k8s.io/v1 and kind Policy")
    rules = wire.get("rules")
    if not isinstance(rules, list) or not rules:
        raise PolicyError("the audit policy has no rules")
    _check_stages(wire.get("omitStages"), "omitStages")
    for index, rule in enumerate(rules):
        if not isinstance(rule, dict):
            raise PolicyError(f"rules[{index}] is no object")
        _check_rule(rule, f"rules[{index}]")


def _check_rule(rule: Object, where: str) -> None:
    if rule.get("level") not in _LEVELS:
        raise PolicyError(f'{where}.level: Unsupported value: "{rule.get("level", "")}": {", ".join(_LEVELS)}')
    for field in ("users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs"):
        if not isinstance(rule.get(field) or [], list):
            raise PolicyError(f"{where}.{field} is no list")
    _check_stages(rule.get("omitStages"), f"{where}.omitStages")
    urls = rule.get("nonResourceURLs")
    if urls and (rule.get("resources") or rule.get("namespaces")):
        why = "rules cannot apply to both regular resources and non-resource URLs"
        raise PolicyError(f"{where}.nonResourceURLs: {why}")
    for url in urls or ():
        if url != "*" and not url.startswith("/"):
            raise PolicyError(f'{where}.nonResourceURLs: "{url}" must begin with a "/"')
        if "*" in url[:-1]:
            raise PolicyError(f'{where}.nonResourceURLs: wildcards "*" must be the last character of "{url}"')


def _check_stages(stages: Any, where: str) -> None:
    found: Sequence[str] = stages or ()
    for stage in found:
        if stage not in STAGES:
            raise PolicyError(f'{where}: Unsupported value: "{stage}": {", ".join(STAGES)}')
