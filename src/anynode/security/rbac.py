"""Role-based access control: who may do what, decided from roles and bindings alone.

Objects of rbac.authorization.k8s.io/v1 come in one by one (``Policy.put``, ``Policy.remove``); ``decide`` looks only at
the bindings that name the user or one of his groups. Pure. Source: kubernetes ``plugin/pkg/auth/authorizer/rbac`` and
``pkg/registry/rbac/validation/rule.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from anynode.api import objects
from anynode.api.objects import Object, ObjectKey
from anynode.api.wire import User

GROUP = "rbac.authorization.k8s.io"
MASTERS = "system:masters"
"""Members may everything, whatever the policy says."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is asked for: a verb on a resource, or (``path`` set) on a URL that is no resource."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    """Fields that a field selector requires to have one value: (field, value)."""


class Decision(NamedTuple):
    """``reason`` in upstream's words; empty when there is nothing to say."""

    allowed: bool
    reason: str = ""


class Subject(NamedTuple):
    """A user (service accounts too, by their user name) or a group."""

    is_group: bool
    name: str


class Rule:
    """One PolicyRule, ready for matching."""

    __slots__ = ("_any_name", "_any_resource", "_groups", "_names", "_resources", "_urls", "_verbs", "wire")

    def __init__(self, wire: Object) -> None:
        self.wire = wire
        self._verbs = frozenset(wire.get("verbs") or ())
        self._groups = frozenset(wire.get("apiGroups") or ())
        self._resources = frozenset(wire.get("resources") or ())
        self._names = frozenset(wire.get("resourceNames") or ())
        self._urls = tuple(wire.get("nonResourceURLs") or ())
        self._any_resource = "*" in self._resources
        self._any_name = not self._names

    def allows(self, asked: Attributes) -> bool:
        verbs = self._verbs
        if asked.verb not in verbs and "*" not in verbs:
            return False
        if asked.path:
            return any(_url_matches(url, asked.path) for url in self._urls)
        if asked.group not in self._groups and "*" not in self._groups:
            return False
        return (self._any_resource or self._names_resource(asked)) and (self._any_name or asked.name in self._names)

    def _names_resource(self, asked: Attributes) -> bool:
        if not asked.subresource:
            return asked.resource in self._resources
        return f"{asked.resource}/{asked.subresource}" in self._resources or f"*/{asked.subresource}" in self._resources


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """One RoleBinding (``namespace`` set) or ClusterRoleBinding."""

    name: str
    namespace: str
    role_kind: str
    role_name: str
    subjects: tuple[Object, ...]

    def describe(self, user: User) -> str:
        """The binding as upstream names it when it allows something."""
        title = f"RoleBinding {_quoted(f'{self.name}/{self.namespace}')}"
        if not self.namespace:
            title = f"ClusterRoleBinding {_quoted(self.name)}"
        said = f"{title} of {self.role_kind} {_quoted(self.role_name)} to "
        for subject in self.subjects:
            found = _subject(subject, self.namespace)
            if found is not None and (found.name in user.groups if found.is_group else found.name == user.name):
                kind, name = subject.get("kind", ""), subject.get("name", "")
                if kind == "ServiceAccount":
                    name = f"{name}/{subject.get('namespace') or self.namespace}"
                return f"{said}{kind} {_quoted(name)}"
        return said


class Policy:
    """Roles by name and bindings by whom they name."""

    def __init__(self) -> None:
        self._roles: dict[ObjectKey, tuple[Rule, ...]] = {}
        self._bindings: dict[ObjectKey, Binding] = {}
        self._by_subject: dict[str, dict[Subject, dict[str, Binding]]] = {}
        """namespace ("": cluster-wide) -> subject -> binding name -> binding"""

    def put(self, obj: Object) -> None:
        """Take in a Role, ClusterRole, RoleBinding or ClusterRoleBinding, new or changed."""
        key = objects.key_of(obj)
        if obj.get("kind") in ("Role", "ClusterRole"):
            self._roles[key] = tuple(Rule(rule) for rule in obj.get("rules") or ())
            return
        self._unbind(key)
        reference = obj.get("roleRef") or {}
        subjects = tuple(obj.get("subjects") or ())
        binding = Binding(key.name, key.namespace, reference.get("kind", ""), reference.get("name", ""), subjects)
        self._bindings[key] = binding
        by_subject = self._by_subject.setdefault(key.namespace, {})
        for subject in binding.subjects:
            found = _subject(subject, key.namespace)
            if found is not None:
                by_subject.setdefault(found, {})[key.name] = binding

    def remove(self, obj: Object) -> None:
        """Forget an object of one of the four kinds."""
        key = objects.key_of(obj)
        if obj.get("kind") in ("Role", "ClusterRole"):
            self._roles.pop(key, None)
        else:
            self._unbind(key)

    def _unbind(self, key: ObjectKey) -> None:
        binding = self._bindings.pop(key, None)
        if binding is None:
            return
        by_subject = self._by_subject[key.namespace]
        for subject in binding.subjects:
            found = _subject(subject, key.namespace)
            if found is not None and found in by_subject:
                by_subject[found].pop(key.name, None)
                if not by_subject[found]:
                    del by_subject[found]
        if not by_subject:
            del self._by_subject[key.namespace]

    def bindings_of(self, user: User, namespace: str) -> Iterator[Binding]:
        """Cluster-wide bindings that apply to ``user``, then those in ``namespace``; each once."""
        subjects = [Subject(False, user.name), *(Subject(True, group) for group in user.groups)]
        for place in ("", namespace) if namespace else ("",):
            by_subject = self._by_subject.get(place)
            if by_subject is None:
                continue
            seen: set[str] = set()
            for subject in subjects:
                for name, binding in by_subject.get(subject, _NO_BINDINGS).items():
                    if name not in seen:
                        seen.add(name)
                        yield binding

    def rules_of(self, binding: Binding) -> tuple[Rule, ...] | None:
        """The rules of the role a binding names; None when there is no such role."""
        return self.role_rules(binding.role_kind, binding.role_name, binding.namespace)

    def role_rules(self, kind: str, name: str, namespace: str) -> tuple[Rule, ...] | None:
        """The rules of a Role in ``namespace``, or of a ClusterRole; None when there is no such role."""
        return self._roles.get(ObjectKey(namespace if kind == "Role" else "", name))


_NO_BINDINGS: Mapping[str, Binding] = {}


def decide(user: User, asked: Attributes, policy: Policy) -> Decision:
    """Whether ``user`` may do what is ``asked``, and why, or what was wrong with the bindings looked at."""
    if MASTERS in user.groups:
        return Decision(True)
    missing: list[str] = []
    for binding in policy.bindings_of(user, asked.namespace):
        rules = policy.rules_of(binding)
        if rules is None:
            missing.append(_missing_role(binding))
            continue
        for rule in rules:
            if rule.allows(asked):
                return Decision(True, f"RBAC: allowed by {binding.describe(user)}")
    return Decision(False, _aggregated(missing))


def rules_for(user: User, namespace: str, policy: Policy) -> tuple[list[Object], str]:
    """Every rule that applies to ``user`` in ``namespace``, and what was wrong with some bindings."""
    rules: list[Object] = []
    missing: list[str] = []
    for binding in policy.bindings_of(user, namespace):
        found = policy.rules_of(binding)
        if found is None:
            missing.append(_missing_role(binding))
        else:
            rules.extend(rule.wire for rule in found)
    return rules, _aggregated(missing).removeprefix("RBAC: ")


def refusal(user: User, asked: Attributes, reason: str = "") -> str:
    """What a refused user is told, without the resource's name in front."""
    who = f"User {_quoted(user.name)} cannot {asked.verb}"
    if asked.path:
        said = f"{who} path {_quoted(asked.path)}"
    else:
        resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        where = f"in the namespace {_quoted(asked.namespace)}" if asked.namespace else "at the cluster scope"
        said = f"{who} resource {_quoted(resource)} in API group {_quoted(asked.group)} {where}"
    said = html.escape(said, quote=False)
    return f"{said}: {reason}" if reason else said


def escalation(user: User, wanted: Iterable[Object], namespace: str, policy: Policy) -> str | None:
    """Why ``user`` may not hand out the rules ``wanted`` in ``namespace``, or None: he holds all of them himself."""
    held, wrong = rules_for(user, namespace, policy)
    missing = uncovered(wanted, held)
    if not missing:
        return None
    who = f"user {_quoted(user.name)} (groups={_listed(user.groups)})"
    rights = "\n".join(sorted({_described(rule) for rule in _compacted(missing)}))
    said = f"{who} is attempting to grant RBAC permissions not currently held:\n{rights}"
    return f"{said}; resolution errors: [{wrong}]" if wrong else said


def uncovered(wanted: Iterable[Object], held: Iterable[Object]) -> list[Object]:
    """Of the rules ``wanted``, broken down to single rights, those that no rule ``held`` grants."""
    grants = [Rule(rule) for rule in held]
    return [single for rule in wanted for single in _singles(rule) if not any(_grants(each, single) for each in grants)]


def _compacted(singles: Iterable[Object]) -> list[Object]:
    """Single rights on the same resource as one rule of several verbs."""
    found: dict[tuple[str, ...], Object] = {}
    for single in singles:
        if "nonResourceURLs" in single:
            slot: tuple[str, ...] = ("url", *single["nonResourceURLs"], *single["verbs"])
        else:
            slot = ("resource", *single["apiGroups"], *single["resources"], *single.get("resourceNames", ()))
        known = found.get(slot)
        found[slot] = single if known is None else {**known, "verbs": [*known["verbs"], *single["verbs"]]}
    return list(found.values())


def _described(rule: Object) -> str:
    parts = ("apiGroups", "resources", "nonResourceURLs", "resourceNames", "verbs")
    said = [f"{part[:1].upper()}{part[1:]}:{_listed(rule[part])}" for part in parts if rule.get(part)]
    return f"{{{', '.join(said)}}}".replace("ApiGroups", "APIGroups")


def _listed(words: Iterable[str]) -> str:
    """Strings as Go prints a quoted slice: ``["a" "b"]``."""
    return f"[{' '.join(_quoted(word) for word in words)}]"


def _singles(rule: Object) -> Iterator[Object]:
    """A rule as rules of one verb, one group, one resource, one name each."""
    verbs = rule.get("verbs") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                single = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                names = rule.get("resourceNames") or ()
                yield from ({**single, "resourceNames": [name]} for name in names) if names else (single,)
    for url in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield {"verbs": [verb], "nonResourceURLs": [url]}


def _grants(held: Rule, single: Object) -> bool:
    verb = single["verbs"][0]
    if "nonResourceURLs" in single:
        return held.allows(Attributes(verb=verb, path=single["nonResourceURLs"][0]))
    if "resourceNames" not in single and held.wire.get("resourceNames"):
        return False
    resource, _, subresource = single["resources"][0].partition("/")
    name = (single.get("resourceNames") or [""])[0]
    return held.allows(
        Attributes(verb=verb, group=single["apiGroups"][0], resource=resource, subresource=subresource, name=name)
    )


def _subject(subject: Object, namespace: str) -> Subject | None:
    kind, name = subject.get("kind"), subject.get("name") or ""
    if kind == "User":
        return Subject(False, name)
    if kind == "Group":
        return Subject(True, name)
    home = subject.get("namespace") or namespace
    if kind == "ServiceAccount" and home:
        return Subject(False, f"system:serviceaccount:{home}:{name}")
    return None


def _url_matches(allowed: str, path: str) -> bool:
    return allowed in ("*", path) or (allowed.endswith("*") and path.startswith(allowed.rstrip("*")))


def _missing_role(binding: Binding) -> str:
    kind = binding.role_kind
    if kind not in ("Role", "ClusterRole"):
        return f"unsupported role reference kind: {_quoted(kind)}"
    return f"{kind.lower()}.{GROUP} {_quoted(binding.role_name)} not found"


def _aggregated(errors: list[str]) -> str:
    """Several errors as upstream joins them, each once."""
    said = list(dict.fromkeys(errors))
    if not said:
        return ""
    return f"RBAC: {said[0]}" if len(said) == 1 else f"RBAC: [{', '.join(said)}]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
