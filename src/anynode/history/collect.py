"""A cluster's state, asked of its API: every listable resource at one and the same revision.

Lists use ``resourceVersion`` with ``resourceVersionMatch=Exact``, so the state is consistent although it comes in many
answers, and it works against any Kubernetes as long as the revision is not compacted.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions.
"""

from __future__ import annotations

from collections.abc import Collection

from anynode.api.errors import BadRequest, MethodNotAllowed, NotFound
from anynode.api.objects import Object, name_of, namespace_of
from anynode.api.resources import Resource, known
from anynode.client.api_client import ApiClient
from anynode.client.discovery import discover
from anynode.history.state import ClusterState, ObjectId

PAGE = 500
FLEETING = frozenset({"events", "events.events.k8s.io", "leases.coordination.k8s.io"})
"""What comes and goes by itself."""
UNSTORED = frozenset({"componentstatuses"})
TWICE = frozenset({"events.events.k8s.io"})
"""The same objects as those of another group."""


async def collect(
    client: ApiClient, *, revision: str = "", namespace: str = "", left_out: Collection[str] = FLEETING
) -> ClusterState:
    """The state at ``revision`` (now, when empty), of one namespace or of all.

    Raises ``Expired`` when the revision is no longer kept, ``BadRequest`` when it is yet to come (the server would have
    every list wait for it), ``ApiError`` for anything else the server refuses.
    """
    newest = await current_revision(client)
    if int(revision or 0) > int(newest):
        raise BadRequest(f"revision {revision} is yet to come, the newest is {newest}")
    revision = revision or newest
    objects: dict[ObjectId, Object] = {}
    for resource in await discover(client, ignore_stale=True):
        if "list" not in resource.verbs or resource.qualified in (*left_out, *UNSTORED, *TWICE):
            continue
        if namespace and not resource.namespaced:
            continue
        for obj in await _all(client, resource, namespace, revision):
            objects[ObjectId(resource.group, resource.kind, namespace_of(obj), name_of(obj))] = obj
    return ClusterState(revision=revision, objects=objects)


async def current_revision(client: ApiClient) -> str:
    """The newest revision a reader can see."""
    return str((await client.list(known("namespaces"), limit=1)).resource_version)


async def _all(client: ApiClient, resource: Resource, namespace: str, revision: str) -> list[Object]:
    found: list[Object] = []
    token = ""
    while True:
        try:
            page = await client.list(
                resource,
                namespace,
                limit=PAGE,
                continue_token=token,
                resource_version=None if token else revision,
                resource_version_match="" if token else "Exact",
            )
        except (NotFound, MethodNotAllowed):
            return found  # went away since discovery told of it
        found.extend(page.items)
        token = page.continue_token
        if not token:
            return found
