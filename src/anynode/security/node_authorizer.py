"""What a node may do: its own objects, and what the pods bound to it name.

Users ``system:node:<name>`` in group ``system:nodes`` are nodes. Which objects a node's pods name is kept only for
nodes that have asked, one index fed by changes of pods and persistent volumes: a cluster without such users pays a
lookup per change. Source: kubernetes ``plugin/pkg/auth/authorizer/node`` and ``pkg/auth/nodeidentifier``, 1.36.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence

from anynode.api import objects, resources
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.security import pod_references
from anynode.security.pod_references import CLAIM, SECRET, Named
from anynode.security.rbac import Attributes, Decision, Rule

NODES_GROUP = "system:nodes"
NODE_USER = "system:node:"
LEASES = "kube-node-lease"
DRA = "resource.k8s.io"

Lookup = Callable[[Resource, ObjectKey], Object | None]
_PODS = resources.known("pods")
_DIRECT: Mapping[str, Resource] = {
    "pods": _PODS,
    "volumeattachments": resources.known("volumeattachments", "storage.k8s.io"),
    "resourceslices": resources.known("resourceslices", DRA),
}
"""Resources that say themselves which node they belong to."""
_READS = frozenset({"get", "list", "watch"})
_LEASE_VERBS = frozenset({"get", "create", "update", "patch", "delete"})
_SLICE_COLLECTION = frozenset({"watch", "list", "deletecollection"})
_ALLOWED, _SILENT = Decision(True), Decision(False)


def node_of(user: User) -> str | None:
    """The name of the node a user is, possibly empty; None for users that are no nodes."""
    if not user.name.startswith(NODE_USER) or NODES_GROUP not in user.groups:
        return None
    return user.name[len(NODE_USER) :]


class Relations:
    """Which objects the pods of a node name.

    ``homes``: every pod bound to a node and that node, now; ``volumes``: all persistent volumes. Both are asked once,
    when a node asks for the first time; from then on changes are told.
    """

    def __init__(
        self,
        homes: Callable[[], Iterable[tuple[ObjectKey, str]]],
        volumes: Callable[[], Iterable[Object]],
        lookup: Lookup,
    ) -> None:
        self._all_homes = homes
        self._volumes = volumes
        self._lookup = lookup
        self.active = False
        """Whether changes have to be told."""
        self._home: dict[ObjectKey, str] = {}
        self._pods: dict[str, dict[ObjectKey, None]] = {}
        self._named: dict[str, collections.Counter[Named]] = {}
        """node -> how many of its pods name an object, for nodes that have asked"""
        self._of_pod: dict[ObjectKey, tuple[Object, frozenset[Named]]] = {}
        self._by_claim: dict[Named, dict[str, None]] = {}
        self._by_secret: dict[Named, dict[str, None]] = {}
        self._of_volume: dict[str, tuple[Named, frozenset[Named]]] = {}

    def pod_changed(self, key: ObjectKey, pod: Object | None) -> None:
        """A pod came or changed (``pod``), or went (None)."""
        node = "" if pod is None else (pod.get("spec") or {}).get("nodeName") or ""
        before = self._home.get(key, "")
        if before and before != node:
            del self._home[key]
            self._pods[before].pop(key, None)
            self._forget(before, key)
        if pod is None or not node:
            return
        if before != node:
            self._home[key] = node
            self._pods.setdefault(node, {})[key] = None
        if node in self._named:
            self._remember(node, key, pod)

    def volume_changed(self, name: str, volume: Object | None) -> None:
        """A persistent volume came or changed, or went (None)."""
        known = self._of_volume.pop(name, None)
        if known is not None:
            _drop(self._by_claim, known[0], name)
            for secret in known[1]:
                _drop(self._by_secret, secret, name)
        claim = ((volume or {}).get("spec") or {}).get("claimRef")
        if volume is None or not claim:
            return
        bound = Named(CLAIM, claim.get("namespace") or "", claim.get("name") or "")
        secrets = pod_references.of_volume(volume)
        self._of_volume[name] = (bound, secrets)
        self._by_claim.setdefault(bound, {})[name] = None
        for secret in secrets:
            self._by_secret.setdefault(secret, {})[name] = None

    def names(self, node: str, wanted: Named) -> bool:
        """Whether a pod of ``node`` names the object, itself or by a volume it has."""
        named = self._named_by(node)
        if wanted in named:
            return True
        if wanted.plural != SECRET:
            return False
        return any(self._of_volume[volume][0] in named for volume in self._by_secret.get(wanted, ()))

    def has_volume(self, node: str, volume: str) -> bool:
        """Whether a pod of ``node`` has a claim bound to the persistent volume."""
        named = self._named_by(node)  # fills the index of volumes, too
        known = self._of_volume.get(volume)
        return known is not None and known[0] in named

    def _named_by(self, node: str) -> Mapping[Named, int]:
        named = self._named.get(node)
        if named is not None:
            return named
        if not self.active:
            self._begin()
        keys = self._pods.get(node)
        if not keys:
            return _NOTHING  # kept for no name that anybody may make up
        named = self._named[node] = collections.Counter()
        for key in keys:
            pod = self._lookup(_PODS, key)
            if pod is not None:
                self._remember(node, key, pod)
        return named

    def _begin(self) -> None:
        self.active = True
        for key, node in self._all_homes():
            self._home[key] = node
            self._pods.setdefault(node, {})[key] = None
        for volume in self._volumes():
            self.volume_changed(objects.name_of(volume), volume)

    def _remember(self, node: str, key: ObjectKey, pod: Object) -> None:
        trace = _trace(pod)
        known = self._of_pod.get(key)
        if known is not None:
            if known[0] == trace:
                return
            self._subtract(node, known[1])
        named = pod_references.of_pod(pod)
        self._of_pod[key] = (trace, named)
        self._named[node].update(named)

    def _forget(self, node: str, key: ObjectKey) -> None:
        known = self._of_pod.pop(key, None)
        if known is not None and node in self._named:
            self._subtract(node, known[1])
        if not self._pods[node]:
            del self._pods[node]
            self._named.pop(node, None)

    def _subtract(self, node: str, named: Iterable[Named]) -> None:
        counts = self._named[node]
        for each in named:
            counts[each] -= 1
            if counts[each] <= 0:
                del counts[each]


_NOTHING: Mapping[Named, int] = {}


def _trace(pod: Object) -> Object:
    """What of a bound pod can change what it names."""
    status = pod.get("status") or {}
    return {
        "uid": objects.uid_of(pod),
        "ephemeral": len((pod.get("spec") or {}).get("ephemeralContainers") or ()),
        "claims": status.get("resourceClaimStatuses"),
        "extended": status.get("extendedResourceClaimStatus"),
    }


def _drop(index: dict[Named, dict[str, None]], named: Named, name: str) -> None:
    found = index[named]
    found.pop(name, None)
    if not found:
        del index[named]


class NodeAuthorizer:
    """Decides for nodes. ``rules``: what every node may, wherever nothing narrower is said."""

    def __init__(self, relations: Relations, lookup: Lookup, rules: Sequence[Object]) -> None:
        self._relations = relations
        self._lookup = lookup
        self._rules = tuple(Rule(rule) for rule in rules)
        self._narrow: Mapping[tuple[str, str], Callable[[str, Attributes], Decision]] = {
            ("", "secrets"): self._read_named,
            ("", "configmaps"): self._read_named,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get_only,
            (DRA, "resourceclaims"): self._get_only,
            ("storage.k8s.io", "volumeattachments"): self._get_only,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            (DRA, "resourceslices"): self._slice,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
        }

    def decide(self, user: User, asked: Attributes) -> Decision:
        """Whether a node may, and why not; neither allowed nor a reason for users that are no nodes."""
        node = node_of(user)
        if node is None:
            return _SILENT
        if not node:
            return Decision(False, f'unknown node for user "{user.name}"')
        if not asked.path:
            narrow = self._narrow.get((asked.group, asked.resource))
            if narrow is not None:
                return narrow(node, asked)
        return _ALLOWED if any(rule.allows(asked) for rule in self._rules) else _SILENT

    def _related(self, node: str, asked: Attributes) -> Decision:
        if not asked.name:
            return Decision(False, "No Object name found")
        if self._is_related(node, asked):
            return _ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _is_related(self, node: str, asked: Attributes) -> bool:
        resource, key = asked.resource, ObjectKey(asked.namespace, asked.name)
        if resource == "persistentvolumes":
            return self._relations.has_volume(node, asked.name)
        direct = _DIRECT.get(resource)
        if direct is not None:
            home: str = objects.get_path(self._lookup(direct, key) or {}, "spec", "nodeName", default="")
            return home == node
        return self._relations.names(node, Named(resource, asked.namespace, asked.name))

    def _get_only(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if asked.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, asked)

    def _read_named(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in _READS:
            return Decision(False, "can only read resources of this type")
        if asked.subresource:
            return Decision(False, "cannot read subresource")
        if not asked.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, asked)

    def _claim(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource != "status":
            return self._get_only(node, asked)
        if asked.verb not in ("update", "patch"):
            return Decision(False, "can only get/update/patch this type")
        return self._related(node, asked)

    def _account(self, node: str, asked: Attributes) -> Decision:
        if asked.verb == "get" and not asked.subresource:
            return self._read_named(node, asked)
        if asked.verb != "create" or not asked.name:
            return Decision(False, "can only create tokens for individual service accounts")
        if asked.subresource != "token":
            return Decision(False, "can only create token subresource of serviceaccount")
        return self._related(node, asked)

    def _lease(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in _LEASE_VERBS:
            return Decision(False, "can only get, create, update, patch, or delete a node lease")
        if asked.namespace != LEASES:
            return Decision(False, f'can only access leases in the "{LEASES}" system namespace')
        if asked.verb != "create" and asked.name != node:
            return Decision(False, "can only access node lease with the same name as the requesting node")
        return _ALLOWED

    def _csi_node(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in _LEASE_VERBS:
            return Decision(False, "can only get, create, update, patch, or delete a CSINode")
        if asked.subresource:
            return Decision(False, "cannot authorize CSINode subresources")
        if asked.verb != "create" and asked.name != node:
            return Decision(False, "can only access CSINode with the same name as the requesting node")
        return _ALLOWED

    def _slice(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource:
            return Decision(False, "cannot authorize ResourceSlice subresources")
        if asked.verb == "create":
            return _ALLOWED
        if asked.verb in ("get", "update", "patch", "delete"):
            return self._related(node, asked)
        if asked.verb in _SLICE_COLLECTION:
            if ("spec.nodeName", node) in asked.fields:
                return _ALLOWED
            return Decision(False, "can only list/watch/deletecollection resourceslices with nodeName field selector")
        return Decision(
            False,
            "only the following verbs are allowed for a ResourceSlice: "
            "get, watch, list, create, update, patch, delete, deletecollection",
        )

    def _node(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource == "status":
            return _ALLOWED if asked.verb in ("update", "patch") else _SILENT
        if asked.subresource:
            return _SILENT
        if asked.verb in ("create", "update", "patch"):
            return _ALLOWED
        if asked.verb not in _READS:
            return _SILENT
        if asked.name == node:
            return _ALLOWED
        what = f"'{asked.name}'" if asked.name else "all nodes"
        return Decision(False, f"node '{node}' cannot read {what}, only its own Node object")

    def _pod(self, node: str, asked: Attributes) -> Decision:
        verb = asked.verb
        if asked.subresource == "status":
            return _ALLOWED if verb in ("update", "patch") else _SILENT
        if asked.subresource == "eviction":
            return _ALLOWED if verb == "create" else _SILENT
        if asked.subresource:
            return _SILENT
        if verb == "get":
            return self._get_only(node, asked)
        if verb in ("list", "watch"):
            if ("spec.nodeName", node) in asked.fields:
                return _ALLOWED
            if asked.name:
                return self._related(node, asked)
            return Decision(False, "can only list/watch pods with spec.nodeName field selector")
        return _ALLOWED if verb in ("create", "delete") else _SILENT
