"""May they: one decision per (user, attributes), remembered until a rule changes.

``decide`` is ``security.rbac``'s; here stands only the memory and the wording of refusals. A permission that holds
without a name holds for every name, so decisions are remembered without names first.
Source: apiserver ``pkg/endpoints/filters/authorization.go`` and ``pkg/endpoints/handlers/responsewriters``, 1.36.
"""

from __future__ import annotations

import dataclasses

from anynode.api.errors import Forbidden
from anynode.api.wire import User
from anynode.apiserver.requestinfo import RequestInfo
from anynode.security import rbac
from anynode.security.node_authorizer import NODE_USER, NodeAuthorizer
from anynode.security.rbac import MASTERS, Attributes, Decision, Policy

MOST_REMEMBERED = 50_000


class Authorizer:
    """Remembers decisions. ``forget`` is called whenever a role or binding in ``policy`` changed."""

    def __init__(self, policy: Policy, nodes: NodeAuthorizer | None = None) -> None:
        """``nodes`` is asked first about users that are nodes, and never remembered: it changes with every pod."""
        self.policy = policy
        self._nodes = nodes
        self._remembered: dict[tuple[str, ...], Decision] = {}

    def forget(self) -> None:
        self._remembered.clear()

    def decision(self, user: User, target: Attributes) -> Decision:
        if MASTERS in user.groups:
            return Decision(True)
        if self._nodes is not None and user.name.startswith(NODE_USER):
            own = self._nodes.decide(user, target)
            if own.allowed:
                return own
            other = self._by_rules(user, target)
            if other.allowed or not own.reason:
                return other
            return Decision(False, f"{own.reason}\n{other.reason}" if other.reason else own.reason)
        return self._by_rules(user, target)

    def _by_rules(self, user: User, target: Attributes) -> Decision:
        if target.name:
            wide = self._of(user, dataclasses.replace(target, name=""))
            if wide.allowed:
                return wide
        return self._of(user, target)

    def _of(self, user: User, target: Attributes) -> Decision:
        slot = (
            user.name, *user.groups, "|", target.verb, target.group, target.resource, target.subresource,
            target.namespace, target.name, target.path,
        )  # fmt: skip
        found = self._remembered.get(slot)
        if found is None:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[slot] = rbac.decide(user, target, self.policy)
        return found

    def permit(self, info: RequestInfo, user: User) -> None:
        """Raises ``Forbidden`` when they may not make this request."""
        if MASTERS in user.groups:
            return
        slot = (
            user.name, *user.groups, "|", info.verb, info.group, info.plural, info.subresource, info.namespace, "", "",
        )  # fmt: skip
        wide = self._remembered.get(slot)
        if wide is None or not wide.allowed:
            self.require(user, attributes_of(info))

    def require(self, user: User, target: Attributes) -> None:
        """Raises ``Forbidden`` when they may not."""
        if MASTERS in user.groups:
            return
        decision = self.decision(user, target)
        if not decision.allowed:
            raise refusal(user, target, decision.reason)


def attributes_of(info: RequestInfo) -> Attributes:
    """What a resource request wants to do."""
    return Attributes(
        verb=info.verb,
        group=info.group,
        version=info.version,
        resource=info.plural,
        subresource=info.subresource,
        namespace=info.namespace,
        name=info.name,
        fields=info.fields,
    )


def refusal(user: User, target: Attributes, reason: str = "") -> Forbidden:
    """The refusal in upstream's words."""
    tail = f": {reason}" if reason else ""
    if target.path:
        said = f'forbidden: User "{user.name}" cannot {target.verb} path "{target.path}"{tail}'
        return Forbidden(said, details={})
    qualified = f"{target.resource}.{target.group}" if target.group else target.resource
    head = f'{qualified} "{target.name}" is forbidden' if target.name else f"{qualified} is forbidden"
    resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    said = (
        f'{head}: User "{user.name}" cannot {target.verb} resource "{resource}" in API group "{target.group}" '
        f"{where}{tail}"
    )
    details = {"name": target.name, "group": target.group, "kind": target.resource}
    return Forbidden(said, details={key: value for key, value in details.items() if value})
