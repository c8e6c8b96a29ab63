"""ControllerRevisions: the templates a DaemonSet or StatefulSet had, numbered.

In: an owner and the revisions it owns. Out: which one is current (made when missing), which are old. The payload is
upstream's, a patch that replaces ``spec.template``, because ``kubectl rollout undo`` applies it.
Source: kubernetes ``pkg/controller/history`` and ``pkg/controller/daemon/update.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from anynode.api.errors import AlreadyExists, Conflict, NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    annotations_of,
    get_path,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from anynode.api.resources import Resource, known
from anynode.client.api_client import ApiClient
from anynode.controllers.ownership import controller_reference
from anynode.controllers.pods import created_at
from anynode.controllers.scaling import equal_templates, template_hash

CONTROLLER_REVISIONS = known("controllerrevisions", "apps")
HASH_LABEL = "controller-revision-hash"
"""On pods: the revision they were made from. On revisions of DaemonSets: their own hash."""
_PREFIX_MOST = 223


class RevisionCollision(Conflict):
    """The name for the new revision is taken by another template; the owner's collision count was raised."""


def payload(owner: Mapping[str, Any]) -> Object:
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


def hash_of(revision: Object) -> str:
    return labels_of(revision).get(HASH_LABEL, "")


def number_of(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def by_number(revisions: Iterable[Object]) -> list[Object]:
    """Oldest first."""
    return sorted(revisions, key=lambda each: (number_of(each), created_at(each), name_of(each)))


def is_current(owner: Object, revision: Object) -> bool:
    """Whether ``revision`` holds the owner's template."""
    return equal_templates(revision.get("data"), payload(owner))


def split(owner: Object, revisions: Sequence[Object]) -> tuple[Object | None, list[Object]]:
    """The newest revision with the owner's template, and those with another one."""
    current = [each for each in revisions if is_current(owner, each)]
    old = [each for each in revisions if not is_current(owner, each)]
    return max(current, key=number_of, default=None), old


def next_number(old: Iterable[Object]) -> int:
    return max((number_of(each) for each in old), default=0) + 1


def template_of(revision: Object) -> Object:
    """The pod template that ``revision`` holds."""
    template = get_path(revision, "data", "spec", "template", default={})
    return {key: value for key, value in template.items() if key != "$patch"}


def wished(owner: Object, resource: Resource, number: int, hash_label: str = HASH_LABEL) -> Object:
    """The revision to POST for the owner's template."""
    template = owner["spec"]["template"]
    name_hash = template_hash(payload(owner), get_path(owner, "status", "collisionCount"))
    labels = {**(get_path(template, "metadata", "labels", default={})), hash_label: name_hash}
    metadata: Object = {
        "name": f"{name_of(owner)[:_PREFIX_MOST]}-{name_hash}",
        "namespace": namespace_of(owner),
        "labels": labels,
        "ownerReferences": [controller_reference(owner, resource)],
    }
    if annotations_of(owner):
        metadata["annotations"] = annotations_of(owner)
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": _in_key_order(payload(owner)),
        "revision": number,
    }


def _in_key_order(data: Object) -> Object:
    """``data`` as Go prints a map: clients tell the current revision by comparing bytes."""
    ordered: Object = orjson.loads(orjson.dumps(data, option=orjson.OPT_SORT_KEYS))
    return ordered


class RevisionHistory:
    """Writes the revisions of owners of one kind."""

    def __init__(self, client: ApiClient, resource: Resource, *, hash_label: str = HASH_LABEL) -> None:
        self._client = client
        self._resource = resource
        self._hash_label = hash_label

    async def current(self, owner: Object, revisions: Sequence[Object]) -> tuple[Object, list[Object]]:
        """The revision of the owner's template, made or renumbered as needed, and the old ones.

        Raises ``RevisionCollision`` when the next try has to use another name.
        """
        current, old = split(owner, revisions)
        number = next_number(old)
        if current is None:
            return await self._create(owner, number), old
        if number_of(current) < number:
            current = await self._client.update(CONTROLLER_REVISIONS, {**current, "revision": number})
        return current, old

    async def _create(self, owner: Object, number: int) -> Object:
        revision = wished(owner, self._resource, number, self._hash_label)
        try:
            return await self._client.create(CONTROLLER_REVISIONS, revision)
        except AlreadyExists as error:
            found = await self._client.get(CONTROLLER_REVISIONS, key_of(revision))
            if is_current(owner, found):
                return found
            fresh = await self._client.get(self._resource, ObjectKey(namespace_of(owner), name_of(owner)))
            status = fresh.get("status") or {}
            count = (status.get("collisionCount") or 0) + 1
            collided = {**fresh, "status": {**status, "collisionCount": count}}
            await self._client.update(self._resource, collided, subresource="status")
            raise RevisionCollision(f"another revision is named {key_of(revision)}") from error

    async def prune(self, old: Sequence[Object], keep: int, live: frozenset[str]) -> None:
        """Delete the oldest of ``old`` beyond ``keep``, but none in use (``live``: hashes or names)."""
        surplus = len(old) - keep
        for each in by_number(old):
            if surplus <= 0:
                return
            if hash_of(each) in live or name_of(each) in live:
                continue
            surplus -= 1
            try:
                await self._client.delete(CONTROLLER_REVISIONS, key_of(each), uid=uid_of(each))
            except NotFound:
                continue
