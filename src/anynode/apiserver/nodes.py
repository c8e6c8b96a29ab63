"""The node authorizer on this server's own caches: filled when a node first asks, then kept by their changes.

In: the served pods and persistent volumes. Out: ``node_authorizer``. Source: kubernetes
``plugin/pkg/auth/authorizer/node/graph_populator.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anynode.api.objects import Object, ObjectKey
from anynode.apiserver.served import Served
from anynode.registry.items import CacheEvent
from anynode.security import bootstrap
from anynode.security.node_authorizer import Lookup, NodeAuthorizer, Relations


def node_authorizer(pods: Served, volumes: Served, lookup: Lookup) -> NodeAuthorizer:
    """Decides for nodes from here on. Before ``pods`` and ``volumes`` are filled nobody may ask."""

    def homes() -> Iterable[tuple[ObjectKey, str]]:
        for item in pods.store.cache.items.values():
            node = item.fields(pods.kind.read_fields)["spec.nodeName"]
            if node:
                yield ObjectKey(item.namespace, item.name), node

    def all_volumes() -> Iterable[Object]:
        return (item.object for item in volumes.store.cache.items.values())

    relations = Relations(homes, all_volumes, lookup)

    def pods_changed(events: Sequence[CacheEvent]) -> None:
        if relations.active:
            for event in events:
                key = ObjectKey(event.item.namespace, event.item.name)
                relations.pod_changed(key, None if event.deleted else event.item.object)

    def volumes_changed(events: Sequence[CacheEvent]) -> None:
        if relations.active:
            for event in events:
                relations.volume_changed(event.item.name, None if event.deleted else event.item.object)

    pods.store.cache.listeners.append(pods_changed)
    volumes.store.cache.listeners.append(volumes_changed)
    return NodeAuthorizer(relations, lookup, bootstrap.rules_of_role("system:node"))
