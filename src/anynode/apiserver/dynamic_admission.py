"""Webhooks and policies in the server: their configurations followed as they are committed, their plugins built.

In: the stored configurations. Out: the four plugins of the chain that users program. What is committed holds for the
next write. Source: apiserver ``pkg/admission/initializer``, 1.36.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from anynode.admission.chain import Lookup, Plugin
from anynode.admission.expressions import Decide, Evaluator
from anynode.admission.policies import Judge, Policies
from anynode.admission.policies_access import PolicyParamAccess
from anynode.admission.policies_mutating import MutatingPolicies, MutatingPolicy
from anynode.admission.policies_params import Params
from anynode.admission.policies_validating import ValidatingPolicies, ValidatingPolicy
from anynode.admission.webhooks import MutatingWebhooks, ValidatingWebhooks, Webhooks
from anynode.admission.webhooks_client import Caller
from anynode.api.objects import Object
from anynode.api.resources import GroupVersion, Resource
from anynode.apiserver.bodies import Bodies
from anynode.apiserver.policy_status import Apply, PolicyStatus
from anynode.apiserver.served import Served
from anynode.apiserver.shapes import Find, ServedShapes
from anynode.cel.types import Type
from anynode.registry.items import CacheEvent
from anynode.registry.watch_cache import ResourceCache
from anynode.schema.custom.cel_types import declared
from anynode.schema.custom.custom_type import CustomType
from anynode.schema.policy_types import builtin_type

GROUP = ("admissionregistration.k8s.io", "v1")
ResourceOf = Callable[[str, str], Resource | None]
"""(apiVersion, kind) -> the resource served now."""
_Take = Callable[[Object], None]


class ServedParams:
    """Parameters of policies, from the caches of what is served."""

    def __init__(self, find: Find, resource_of: ResourceOf) -> None:
        self._find = find
        self._resource_of = resource_of

    def resource_of(self, api_version: str, kind: str) -> Resource | None:
        return self._resource_of(api_version, kind)

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        served = self._find(resource.group, resource.version, resource.plural)
        if served is None:
            return None
        item = served.store.find(f"{namespace}/{name}" if namespace else name)
        return None if item is None else served.forms.served(item)

    def all_in(self, resource: Resource, namespace: str) -> Iterable[Object]:
        served = self._find(resource.group, resource.version, resource.plural)
        if served is None:
            return
        for item in served.store.cache.scan(f"{namespace}/" if namespace else ""):
            yield served.forms.served(item)


class DynamicAdmission:
    """The plugins users program. ``follow`` when the caches are filled."""

    def __init__(
        self,
        served: Mapping[tuple[str, str, str], Served],
        *,
        find: Find,
        resource_of: ResourceOf,
        bodies: Bodies,
        lookup: Lookup,
        caller: Caller,
        decide: Decide,
        chance: random.Random,
    ) -> None:
        """``served``: the built-in resources, before any custom one entered."""
        builtin = tuple(served.values())
        shapes = ServedShapes(find, lambda: builtin, bodies, lookup)
        self._served = served
        self._find = find
        self._resource_of = resource_of
        self._bodies = bodies
        self._mutating = Webhooks(shapes)
        self._validating = Webhooks(shapes)
        self._mutating_policies: Policies[MutatingPolicy] = Policies(shapes, MutatingPolicy)
        self._validating_policies: Policies[ValidatingPolicy] = Policies(shapes, ValidatingPolicy)
        evaluator = Evaluator(decide)
        judge = Judge(lookup=lookup, shapes=shapes, params=Params(ServedParams(find, resource_of)))
        self.plugins: Sequence[Plugin] = (
            PolicyParamAccess(lookup, resource_of, decide),
            MutatingPolicies(self._mutating_policies, judge, evaluator, shapes),
            MutatingWebhooks(
                self._mutating, caller=caller, lookup=lookup, shapes=shapes, evaluator=evaluator, chance=chance
            ),
            ValidatingPolicies(self._validating_policies, judge, evaluator),
            ValidatingWebhooks(
                self._validating, caller=caller, lookup=lookup, shapes=shapes, evaluator=evaluator, chance=chance
            ),
        )

    def follow(self) -> None:
        """Take what is stored, and from now on what is committed."""
        validating, mutating = self._validating_policies, self._mutating_policies
        ways: Mapping[str, tuple[_Take, _Take]] = {
            "mutatingwebhookconfigurations": (self._mutating.put, self._mutating.remove),
            "validatingwebhookconfigurations": (self._validating.put, self._validating.remove),
            "validatingadmissionpolicies": (validating.put_policy, validating.remove_policy),
            "validatingadmissionpolicybindings": (validating.put_binding, validating.remove_binding),
            "mutatingadmissionpolicies": (mutating.put_policy, mutating.remove_policy),
            "mutatingadmissionpolicybindings": (mutating.put_binding, mutating.remove_binding),
        }
        for plural, (put, remove) in ways.items():
            _follow(self._served[(*GROUP, plural)].store.cache, put, remove)

    def policy_status(self, apply: Apply) -> PolicyStatus:
        """What checks policies against the types they name; ``apply`` answers a request."""
        cache = self._served[(*GROUP, "validatingadmissionpolicies")].store.cache
        return PolicyStatus(cache, at=self._resource_at, type_of=self._type_of, apply=apply)

    def _resource_at(self, group: str, version: str, plural: str) -> Resource | None:
        found = self._find(group, version, plural)
        return None if found is None else found.resource

    def _type_of(self, api_version: str, kind: str) -> Type | None:
        """What expressions may ask of a kind's objects."""
        resource = self._resource_of(api_version, kind)
        custom = self._bodies.custom.get((api_version, kind)) if resource is not None else None
        if isinstance(custom, CustomType):
            return None if custom.node is None else declared(custom.node, root=True, name=kind)
        return builtin_type(self._bodies.types, api_version, kind)

    def forget(self) -> None:
        """The resources served have changed: rules may name other versions now."""
        self._mutating.index.forget()
        self._validating.index.forget()
        self._mutating_policies.forget()
        self._validating_policies.forget()


def _follow(cache: ResourceCache, put: _Take, remove: _Take) -> None:
    for item in cache.items.values():
        put(item.object)

    def changed(events: Sequence[CacheEvent]) -> None:
        for event in events:
            if event.deleted:
                remove(event.item.object)
            else:
                put(event.item.object)

    cache.listeners.append(changed)


def custom_resource(definitions: Iterable[Object], find: Find, api_version: str, kind: str) -> Resource | None:
    """The custom resource of a kind, if a definition has it served."""
    group, version = GroupVersion.parse(api_version)
    for crd in definitions:
        spec = crd.get("spec") or {}
        names = spec.get("names") or {}
        if spec.get("group") == group and names.get("kind") == kind:
            served = find(group, version, str(names.get("plural") or ""))
            if served is not None:
                return served.resource
    return None
