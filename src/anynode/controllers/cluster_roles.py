"""ClusterRoles with an ``aggregationRule`` have the rules of the roles it selects.

Source: kubernetes ``pkg/controller/clusterroleaggregation``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable

from anynode.api.objects import Object, ObjectKey, key_of, labels_of, name_of
from anynode.api.resources import known
from anynode.api.selectors import of_label_selector
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

ROLES = known("clusterroles", "rbac.authorization.k8s.io")


def aggregated(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules of all roles that ``role`` selects, each once, by the selectors' order and the roles' names."""
    ordered = sorted(roles, key=name_of)
    found: list[Object] = []
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        matches = of_label_selector(selector).matches
        for each in ordered:
            if name_of(each) != name_of(role) and matches(labels_of(each)):
                found.extend(rule for rule in each.get("rules") or () if rule not in found)
    return found


class ClusterRoleAggregation:
    """Keeps aggregated roles as what they aggregate."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._roles = context.informers.informer(ROLES)
        self._controller = context.controller("clusterrole-aggregation", self.reconcile, workers=1)
        self._roles.subscribe(self._changed)

    def _changed(self, delta: Delta) -> None:
        if delta.kind == "added" and delta.obj.get("aggregationRule"):
            self._controller.queue.add(key_of(delta.obj))
        if not labels_of(delta.obj) and not (delta.old and labels_of(delta.old)) and delta.kind != "modified":
            return  # selected by nothing that selects by labels
        for role in self._roles.store.list():
            if role.get("aggregationRule"):
                self._controller.queue.add(key_of(role))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._roles,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        role = self._roles.store.get(key)
        if role is None or not role.get("aggregationRule"):
            return Done()
        rules = aggregated(role, self._roles.store.list())
        if rules != (role.get("rules") or []):
            await self._client.update(ROLES, {**role, "rules": rules})
        return Done()
