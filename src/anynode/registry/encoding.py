"""Objects as stored bytes: metadata in upstream's order, and a hole where the resource version belongs.

What is stored says ``"resourceVersion":""``; the revision a write got is put into that hole when the bytes are served,
once per event or answer: one copy in memory serves storage and readers. The hole is unmistakable: inside a JSON string
its quotation marks would be escaped, and nothing before ``metadata.resourceVersion`` is structured. Every object begins
with ``kind`` and ``apiVersion``, so that an item of a list is the object's bytes behind a head of fixed length.
"""

from __future__ import annotations

import orjson

from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.storage.types import Revision

HOLE = b'"resourceVersion":""'

METADATA_ORDER = (
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
    "managedFields",
)  # fmt: skip
_BEFORE = ("name", "generateName", "namespace", "uid")  # a selfLink is never stored
_AFTER = METADATA_ORDER[6:]


def canonical(obj: Object, resource: Resource) -> Object:
    """``obj`` as it is stored: ``kind``, ``apiVersion``, ordered ``metadata`` without a version, then the rest."""
    given = obj.get("metadata") or {}
    metadata: Object = {}
    for field in _BEFORE:
        value = given.get(field)
        if value:
            metadata[field] = value
    metadata["resourceVersion"] = ""
    for field in _AFTER:
        value = given.get(field)
        if value or (value == 0 and field == "deletionGracePeriodSeconds" and value is not None):
            metadata[field] = value
    kept: Object = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    for field, value in obj.items():
        if field not in kept:
            kept[field] = value
    return kept


def encode(stored: Object) -> bytes:
    """The bytes of a canonical object, in no more memory than they need: the encoder's own buffer may be twice that."""
    return bytes(memoryview(orjson.dumps(stored)))


def head_of(resource: Resource) -> bytes:
    """What every stored object of the resource begins with."""
    return b'{"kind":"%b","apiVersion":"%b",' % (resource.kind.encode(), resource.api_version.encode())


def with_revision(value: bytes, revision: Revision) -> bytes:
    """Stored bytes with the hole filled."""
    return value.replace(HOLE, b'"resourceVersion":"%d"' % revision, 1)


def pieces_behind(value: bytes, head: int, revision: Revision) -> tuple[bytes, memoryview]:
    """What ``with_revision`` gives from byte ``head`` on, for a join: its beginning, and the rest where it lies."""
    end = value.index(HOLE) + len(HOLE) - 1
    return b"%b%d" % (value[head:end], revision), memoryview(value)[end:]


def object_with_revision(stored: Object, revision: Revision) -> Object:
    """The canonical object with its version; shares everything but ``metadata``."""
    return {**stored, "metadata": {**stored["metadata"], "resourceVersion": str(revision)}}
