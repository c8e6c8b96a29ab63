"""Which webhooks and policies a write concerns: rules, match policy, selectors, names.

A ``Criteria`` is made once per webhook or policy; ``targets`` answers what can be told from the sort of write alone
(and is remembered by ``Index``), ``chosen`` the rest. Source: apiserver ``pkg/admission/plugin/webhook/predicates``,
``pkg/admission/plugin/policy/matching/matching.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from anynode.admission.chain import Attributes, Lookup, Operation
from anynode.api import errors, objects, resources
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.schema.kinds.selection import matches_labels

GROUP = "admissionregistration.k8s.io"


class Shapes(Protocol):
    """The versions objects are served in, and the way between them."""

    def equivalents(self, resource: Resource, subresource: str) -> Sequence[Resource]:
        """The other resources that serve the same objects."""
        ...

    async def shown(self, obj: Object, have: Resource, want: Resource) -> Object:
        """An object of the request (as admission has it) as clients of ``want`` see it. Raises ``ApiError``."""
        ...

    async def taken(
        self, obj: Object, have: Resource, want: Resource, kind: tuple[str, str, str], *, strict: bool = False
    ) -> Object:
        """An object somebody made of what ``shown`` gave, typed, defaulted, and back as admission of ``want`` has it.

        Raises ``ValueError`` when it is no object of ``kind`` (``strict``: or has fields that are none), ``ApiError``
        when it cannot be converted.
        """
        ...

    def merged(self, live: Object, config: Object, kind: tuple[str, str, str]) -> Object:
        """``live`` with an apply configuration merged in; raises ``ValueError`` in upstream's words."""
        ...


class Sort(NamedTuple):
    """What rules look at: one sort of write."""

    operation: Operation
    resource: Resource
    subresource: str
    in_namespace: bool

    @classmethod
    def of(cls, attributes: Attributes) -> Sort:
        namespaced = bool(attributes.namespace) and not is_namespace(attributes.resource)
        return cls(attributes.operation, attributes.resource, attributes.subresource, namespaced)


def is_namespace(resource: Resource) -> bool:
    return resource.plural == "namespaces" and not resource.group


POLICY_KINDS = frozenset({
    "validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
})  # fmt: skip
ALL_KINDS = POLICY_KINDS | {"validatingwebhookconfigurations", "mutatingwebhookconfigurations"}


class Rule:
    """One rule with operations."""

    __slots__ = ("_groups", "_names", "_operations", "_resources", "_scope", "_versions")

    def __init__(self, wire: Object) -> None:
        self._operations = frozenset(wire.get("operations") or ())
        self._groups = frozenset(wire.get("apiGroups") or ())
        self._versions = frozenset(wire.get("apiVersions") or ())
        self._resources = tuple(each.partition("/")[::2] for each in wire.get("resources") or ())
        self._scope = wire.get("scope") or "*"
        self._names = frozenset(wire.get("resourceNames") or ())

    @property
    def names(self) -> frozenset[str]:
        """Objects meant; empty: all."""
        return self._names

    def takes(self, sort: Sort, resource: Resource) -> bool:
        """Whether the rule names this sort of write, were it one of ``resource``."""
        if self._scope != "*" and (self._scope == "Namespaced") != sort.in_namespace:
            return False
        return (
            (sort.operation in self._operations or "*" in self._operations)
            and (resource.group in self._groups or "*" in self._groups)
            and (resource.version in self._versions or "*" in self._versions)
            and any(
                name in ("*", resource.plural) and subresource in ("*", sort.subresource)
                for name, subresource in self._resources
            )
        )


class Target(NamedTuple):
    """A resource the write is seen as, for the objects of these names (empty: all)."""

    resource: Resource
    names: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Targets:
    """What rules made of one sort of write, in the order they are tried."""

    included: Sequence[Target]
    excluded: Sequence[Target]


class Criteria:
    """What one webhook, policy or binding matches."""

    def __init__(self, wire: Object, *, rules: str = "resourceRules", all_without_rules: bool = False) -> None:
        """``rules``: the field they are in; ``all_without_rules``: whether none means all."""
        self._rules = [Rule(each) for each in wire.get(rules) or ()]
        self._excluded = [Rule(each) for each in wire.get("excludeResourceRules") or ()]
        self._equivalent = wire.get("matchPolicy") == "Equivalent"
        self._all = all_without_rules and not self._rules
        self._namespaces: Object = wire.get("namespaceSelector") or {}
        self._objects: Object = wire.get("objectSelector") or {}

    def targets(self, sort: Sort, shapes: Shapes) -> Targets | None:
        """None when no object of this sort of write is meant."""
        others = shapes.equivalents(sort.resource, sort.subresource) if self._equivalent else ()
        if self._all:
            included = [Target(sort.resource, frozenset())]
        else:
            included = _targets(self._rules, sort, others)
        return Targets(included, _targets(self._excluded, sort, others)) if included else None

    def chosen(self, targets: Targets, attributes: Attributes, lookup: Lookup) -> Resource | None:
        """The resource as which the write matches; None when it does not. Raises ``NotFound`` for its namespace."""
        if self._objects and not self._selects_object(attributes):
            return None
        name = attributes.request_name
        if any(not target.names or name in target.names for target in targets.excluded):
            return None
        resource = next((each.resource for each in targets.included if not each.names or name in each.names), None)
        if resource is None or not self._namespaces or self._selects_namespace(attributes, lookup):
            return resource
        return None

    def _selects_object(self, attributes: Attributes) -> bool:
        return any(
            each is not None and matches_labels(self._objects, objects.labels_of(each))
            for each in (attributes.obj, attributes.old)
        )

    def _selects_namespace(self, attributes: Attributes, lookup: Lookup) -> bool:
        if is_namespace(attributes.resource):
            if not attributes.subresource and attributes.operation in ("CREATE", "UPDATE"):
                return matches_labels(self._namespaces, objects.labels_of(attributes.obj or {}))
        elif not attributes.namespace:
            return True
        found = namespace_of(attributes, lookup)
        return matches_labels(self._namespaces, objects.labels_of(found))


def namespace_of(attributes: Attributes, lookup: Lookup) -> Object:
    """The namespace a write is in; raises ``NotFound``."""
    kind, name = resources.known("namespaces"), attributes.request_namespace
    found = lookup(kind, ObjectKey("", name))
    if found is None:
        raise errors.not_found(kind, name)
    return found


def _targets(rules: Sequence[Rule], sort: Sort, others: Sequence[Resource]) -> list[Target]:
    """As itself first, then, rule by rule, as what is equivalent."""
    found = [Target(sort.resource, rule.names) for rule in rules if rule.takes(sort, sort.resource)]
    found += [Target(each, rule.names) for rule in rules for each in others if rule.takes(sort, each)]
    return found


class Matched(Protocol):
    """What an ``Index`` finds."""

    @property
    def criteria(self) -> Criteria: ...


T = TypeVar("T", bound=Matched)


class Index(Generic[T]):
    """Webhooks or policies by the sort of write they concern; ``replace`` whenever one of them changed."""

    def __init__(self, shapes: Shapes, exempt: frozenset[str] = frozenset()) -> None:
        """``exempt``: the kinds of configuration that are not judged by what they configure."""
        self._shapes = shapes
        self._exempt = exempt
        self._all: tuple[T, ...] = ()
        self._found: dict[tuple[str | bool, ...], tuple[tuple[T, Targets], ...]] = {}

    def replace(self, everything: Iterable[T]) -> None:
        self._all = tuple(everything)
        self._found.clear()

    def forget(self) -> None:
        """The resources served have changed."""
        self._found.clear()

    def __bool__(self) -> bool:
        return bool(self._all)

    def concerned(self, attributes: Attributes) -> Sequence[tuple[T, Targets]]:
        """Who may concern a write, in order, with what the rules made of it."""
        resource, inside = attributes.resource, bool(attributes.namespace)
        if not self._all or (resource.group == GROUP and resource.plural in self._exempt):
            return ()
        slot = (
            attributes.operation, resource.group, resource.version, resource.plural, attributes.subresource, inside
        )  # fmt: skip
        found = self._found.get(slot)
        if found is None:
            sort = Sort.of(attributes)
            pairs = ((each, each.criteria.targets(sort, self._shapes)) for each in self._all)
            found = self._found[slot] = tuple((each, targets) for each, targets in pairs if targets is not None)
        return found
