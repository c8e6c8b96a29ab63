"""ClusterRoles with an aggregation rule hold the rules of all ClusterRoles they select.

Source: kubernetes ``pkg/controller/clusterroleaggregation``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable

from anynode.api.objects import Object, ObjectKey, get_path, key_of, labels_of, name_of
from anynode.api.resources import known
from anynode.api.selectors import of_label_selector
from anynode.client.api_client import PatchKind
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

CLUSTER_ROLES = known("clusterroles", "rbac.authorization.k8s.io")
MANAGER = "clusterrole-aggregation-controller"


def aggregated(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules of the roles that ``role`` selects, each once; raises ``SelectorError``."""
    ordered = sorted(roles, key=name_of)
    rules: list[Object] = []
    for written in get_path(role, "aggregationRule", "clusterRoleSelectors", default=()):
        selector = of_label_selector(written)
        for other in ordered:
            if name_of(other) != name_of(role) and selector.matches(labels_of(other)):
                rules.extend(rule for rule in other.get("rules") or () if rule not in rules)
    return rules


class ClusterRoleAggregationController:
    """Keeps the rules of aggregating roles."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._roles = context.informers.informer(CLUSTER_ROLES)
        self._controller = context.controller("clusterrole-aggregation", self.reconcile)
        self._roles.subscribe(self._role_changed)

    def _role_changed(self, delta: Delta) -> None:
        """Look at every aggregating role: they are few, and may build on each other."""
        for role in self._roles.store:
            if role.get("aggregationRule") is not None:
                self._controller.queue.add(key_of(role))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._roles,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        role = self._roles.store.get(key)
        if role is None or role.get("aggregationRule") is None:
            return Done()
        rules = aggregated(role, self._roles.store)
        if rules != (role.get("rules") or []):
            patch = {"apiVersion": CLUSTER_ROLES.api_version, "kind": CLUSTER_ROLES.kind}
            applied = {**patch, "metadata": {"name": key.name}, "rules": rules}
            await self._client.patch(
                CLUSTER_ROLES, key, applied, kind=PatchKind.APPLY, field_manager=MANAGER, force=True
            )
        return Done()
