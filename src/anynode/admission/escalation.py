"""Nobody hands out rights he does not hold, unless he may ``escalate`` roles or ``bind`` the role in question.

Upstream does this in the stores of the four RBAC kinds; here it is the chain's last station. Source: kubernetes
``pkg/registry/rbac/escalation_check.go`` and ``pkg/registry/rbac/*/policybased``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable

from anynode.admission.chain import Attributes, Plugin
from anynode.api import errors, objects
from anynode.api.objects import Object
from anynode.security import rbac

EVERYTHING: list[Object] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]
HOUSEKEEPING = frozenset({"ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"})
"""Metadata the garbage collector changes; such updates hand out nothing."""


class RoleEscalation(Plugin):
    name = "RoleEscalation"
    operations = frozenset({"CREATE", "UPDATE"})
    resources = frozenset(
        f"{plural}.{rbac.GROUP}" for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
    )

    def __init__(self, policy: rbac.Policy) -> None:
        self._policy = policy

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None or rbac.MASTERS in attributes.user.groups:
            return
        if attributes.old is not None and _only_housekeeping(obj, attributes.old):
            return
        if attributes.resource.plural in ("roles", "clusterroles"):
            self._check_role(attributes, obj)
        else:
            self._check_binding(attributes, obj)

    def _check_role(self, attributes: Attributes, role: Object) -> None:
        name = "" if attributes.operation == "CREATE" else attributes.name
        if self._may(attributes, "escalate", attributes.resource.plural, name):
            return
        self._confirm(attributes, role.get("rules") or ())
        if role.get("aggregationRule") and self._escalation(attributes, EVERYTHING) is not None:
            raise attributes.forbidden("must have cluster-admin privileges to use the aggregationRule")

    def _check_binding(self, attributes: Attributes, binding: Object) -> None:
        reference = binding.get("roleRef") or {}
        kind, name = reference.get("kind", ""), reference.get("name", "")
        plural = {"Role": "roles", "ClusterRole": "clusterroles"}.get(kind)
        if plural is None or self._may(attributes, "bind", plural, name):
            return  # another kind is refused by validation
        rules = self._policy.role_rules(kind, name, attributes.namespace)
        if rules is None:
            raise errors.not_found(attributes.resource, name)
        self._confirm(attributes, [rule.wire for rule in rules])

    def _may(self, attributes: Attributes, verb: str, plural: str, name: str) -> bool:
        asked = rbac.Attributes(verb=verb, group=rbac.GROUP, resource=plural, namespace=attributes.namespace, name=name)
        return rbac.decide(attributes.user, asked, self._policy).allowed

    def _confirm(self, attributes: Attributes, rules: Iterable[Object]) -> None:
        why = self._escalation(attributes, rules)
        if why is not None:
            raise attributes.forbidden(why)

    def _escalation(self, attributes: Attributes, rules: Iterable[Object]) -> str | None:
        return rbac.escalation(attributes.user, rules, attributes.namespace, self._policy)


def _only_housekeeping(new: Object, old: Object) -> bool:
    def rest(obj: Object) -> Object:
        kept = {key: value for key, value in objects.meta(obj).items() if key not in HOUSEKEEPING}
        return {**obj, "metadata": kept}

    return rest(new) == rest(old)
