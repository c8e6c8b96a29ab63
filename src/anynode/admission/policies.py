"""Admission policies and their bindings, compiled and kept by name; which of them concern a write.

``Policies`` takes policies and bindings as they are stored and offers those with at least one binding. A policy is
compiled when a write first needs it. Source: apiserver ``pkg/admission/plugin/policy/generic``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from anynode.admission.chain import Attributes, Lookup
from anynode.admission.expressions import Conditions, Variables
from anynode.admission.matching import POLICY_KINDS, Criteria, Index, Shapes, is_namespace, namespace_of
from anynode.admission.policies_params import Params
from anynode.api.objects import Object, name_of
from anynode.api.resources import Resource


class Binding:
    """One binding of a policy."""

    def __init__(self, wire: Object) -> None:
        spec = wire.get("spec") or {}
        self.name = name_of(wire)
        self.policy = str(spec.get("policyName") or "")
        self.param_ref: Object | None = spec.get("paramRef")
        self.actions: Sequence[str] = spec.get("validationActions") or ()
        self.criteria = Criteria(spec.get("matchResources") or {}, all_without_rules=True)


class Policy:
    """What all policies have; what they do is the plugins' own."""

    def __init__(self, wire: Object) -> None:
        spec = wire.get("spec") or {}
        self.name = name_of(wire)
        self.spec: Object = spec
        self.criteria = Criteria(spec.get("matchConstraints") or {}, all_without_rules=True)
        self.ignores_failure = spec.get("failurePolicy") == "Ignore"
        self.param_kind: Object | None = spec.get("paramKind")
        self._variables: Variables | None = None
        self._conditions: Conditions | None = None

    @property
    def variables(self) -> Variables:
        if self._variables is None:
            self._variables = Variables(self.spec.get("variables") or (), params=self.param_kind is not None)
        return self._variables

    @property
    def conditions(self) -> Conditions | None:
        wires = self.spec.get("matchConditions") or ()
        if self._conditions is None and wires:
            self._conditions = Conditions(
                wires,
                ignores_failure=self.ignores_failure,
                params=self.param_kind is not None,
                variables=self.variables,
            )
        return self._conditions


P = TypeVar("P", bound=Policy)


class Hook(Generic[P]):
    """A policy with its bindings."""

    def __init__(self, policy: P, bindings: Sequence[Binding], shapes: Shapes) -> None:
        self.policy = policy
        self.bindings: Index[Binding] = Index(shapes)
        self.bindings.replace(bindings)

    @property
    def criteria(self) -> Criteria:
        return self.policy.criteria


class Policies(Generic[P]):
    """All policies of one kind and their bindings, in the order of their names."""

    def __init__(self, shapes: Shapes, make: Callable[[Object], P]) -> None:
        self.index: Index[Hook[P]] = Index(shapes, POLICY_KINDS)
        self._shapes = shapes
        self._make = make
        self._policies: dict[str, P] = {}
        self._bindings: dict[str, Binding] = {}

    def put_policy(self, wire: Object) -> None:
        """Take a policy, new or changed; a change of its status alone changes nothing."""
        known = self._policies.get(name_of(wire))
        if known is not None and known.spec == (wire.get("spec") or {}):
            return
        self._policies[name_of(wire)] = self._make(wire)
        self._arrange()

    def remove_policy(self, wire: Object) -> None:
        self._policies.pop(name_of(wire), None)
        self._arrange()

    def put_binding(self, wire: Object) -> None:
        self._bindings[name_of(wire)] = Binding(wire)
        self._arrange()

    def remove_binding(self, wire: Object) -> None:
        self._bindings.pop(name_of(wire), None)
        self._arrange()

    def forget(self) -> None:
        """The resources served have changed."""
        self._arrange()

    def _arrange(self) -> None:
        bound: dict[str, list[Binding]] = {}
        for name in sorted(self._bindings):
            binding = self._bindings[name]
            bound.setdefault(binding.policy, []).append(binding)
        self.index.replace(
            Hook(self._policies[name], bound[name], self._shapes) for name in sorted(self._policies) if name in bound
        )


class Invocation(NamedTuple, Generic[P]):
    """A policy that concerns a write, seen as one of ``resource``."""

    hook: Hook[P]
    resource: Resource


class Judge:
    """What both plugins ask: which policies and bindings match, with which parameters, in which namespace."""

    def __init__(self, *, lookup: Lookup, shapes: Shapes, params: Params) -> None:
        self._lookup = lookup
        self._shapes = shapes
        self._params = params

    def invocations(self, policies: Policies[P], attributes: Attributes) -> Iterator[Invocation[P]]:
        """The policies whose constraints a write meets. Raises ``NotFound`` for its namespace."""
        for hook, targets in policies.index.concerned(attributes):
            resource = hook.criteria.chosen(targets, attributes, self._lookup)
            if resource is not None:
                yield Invocation(hook, resource)

    def bindings(self, hook: Hook[P], attributes: Attributes) -> Iterator[Binding]:
        """The policy's bindings that match the write, too."""
        for binding, targets in hook.bindings.concerned(attributes):
            if binding.criteria.chosen(targets, attributes, self._lookup) is not None:
                yield binding

    def param_resource(self, policy: Policy) -> Resource | None:
        """What parameters are. Raises ``ConfigurationError``."""
        return None if policy.param_kind is None else self._params.resource_of(policy.param_kind)

    def params(self, resource: Resource | None, binding: Binding, attributes: Attributes) -> Sequence[Object | None]:
        """Raises ``ConfigurationError``."""
        return self._params.of(resource, binding.param_ref, attributes.request_namespace)

    async def objects(self, attributes: Attributes, resource: Resource) -> tuple[Object | None, Object | None]:
        """The new and the old object as clients of ``resource`` see them."""
        own = (attributes.resource.group, attributes.resource.version, attributes.resource.kind)
        obj, old = attributes.obj, attributes.old
        if attributes.kind != own:
            return obj, old
        have = attributes.resource
        return (
            None if obj is None else await self._shapes.shown(obj, have, resource),
            None if old is None else await self._shapes.shown(old, have, resource),
        )

    def namespace(self, attributes: Attributes) -> Object | None:
        """The namespace of what is written; None for what belongs to the cluster. Raises ``NotFound``."""
        if not attributes.namespace or is_namespace(attributes.resource):
            return None
        return namespace_of(attributes, self._lookup)
