"""Objects as protobuf, for clients that ask for it: client-go's typed clients do first of all.

An object is written once per revision for everybody who gets or lists it, within ``MOST_KEPT_BYTES`` per resource, and
once per event for everybody who watches. Tables have no such form. Source: apimachinery
``pkg/runtime/serializer/protobuf``, apiserver ``pkg/endpoints/handlers/{response,watch}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.registry.items import BINARY, Item
from anynode.schema import protobuf_writing
from anynode.schema.types import Types
from anynode.storage.types import Revision

MOST_KEPT_BYTES = 8 * 1024 * 1024
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class _Kept:
    """Messages by object and revision; the oldest go first.

    What left a selector is shown as it was, with the revision at which it left: its message is nobody else's, so a
    message counts for the stored bytes it was made of alone.
    """

    def __init__(self) -> None:
        self._messages: dict[tuple[str, Revision], tuple[bytes, bytes]] = {}
        self._size = 0

    def get(self, item: Item, make: Callable[[Item], bytes]) -> bytes:
        slot = (item.key, item.revision)
        kept = self._messages.get(slot)
        if kept is not None and kept[0] == item.value:
            return kept[1]
        made = make(item)
        self._messages[slot] = item.value, made
        self._size += len(made) - (0 if kept is None else len(kept[1]))
        while self._size > MOST_KEPT_BYTES:
            self._size -= len(self._messages.pop(next(iter(self._messages)))[1])
        return made


class ProtobufForm:
    """Objects whole, or their metadata alone."""

    special_first = False

    def __init__(
        self, resource: Resource, served: Callable[[Item], Object], types: Types, *, metadata_version: str = ""
    ) -> None:
        """``metadata_version``: of ``meta.k8s.io``, when nothing but metadata is shown."""
        self._served = served
        self._types = types
        self._metadata = bool(metadata_version)
        self._api_version, self._kind = resource.api_version, resource.kind
        self._list_kind = resource.list_kind
        self._name = types.of_kind(resource.api_version, resource.kind)
        if metadata_version:
            self._api_version, self._kind = f"meta.k8s.io/{metadata_version}", "PartialObjectMetadata"
            self._list_kind = "PartialObjectMetadataList"
        self.key = f"{BINARY}{self._api_version}"
        self._kept = _Kept()

    def _made(self, item: Item) -> bytes:
        served, writer = self._served(item), protobuf_writing.writer(self._types)
        if not self._metadata:
            return writer.message(served, self._name)
        return protobuf_writing.delimited(1, writer.message(served["metadata"], f"{protobuf_writing.META}ObjectMeta"))

    def message(self, item: Item) -> bytes:
        """The object's message, as it stands in a list."""
        return self._kept.get(item, self._made)

    def item(self, item: Item) -> bytes:
        return protobuf_writing.envelope(self._api_version, self._kind, self.message(item))

    def first_event(self, item: Item) -> bytes:
        return self.item(item)

    def bookmark(self, revision: Revision, *, initial_events_end: bool) -> bytes:
        metadata: Object = {"resourceVersion": str(revision)}
        if initial_events_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        said = protobuf_writing.writer(self._types).message(metadata, f"{protobuf_writing.META}ObjectMeta")
        return protobuf_writing.envelope(self._api_version, self._kind, protobuf_writing.delimited(1, said))

    def status(self, status: Object) -> bytes:
        """A ``Status``, which says its kind: how a watch is told of an error."""
        return protobuf_writing.encode_protobuf(status, self._types)

    def element(self, item: Item) -> bytes:
        """An object as it stands in a list, its key and length included."""
        return protobuf_writing.delimited(2, self.message(item))

    def list_start(self, length: int) -> bytes:
        """What stands before a list whose content is ``length`` bytes long."""
        return protobuf_writing.envelope_start(self._api_version, self._list_kind, length)

    def list_head(self, metadata: Mapping[str, Any]) -> bytes:
        """What a list's content begins with."""
        said = protobuf_writing.writer(self._types).message(dict(metadata), f"{protobuf_writing.META}ListMeta")
        return protobuf_writing.delimited(1, said)

    def join(self, items: Sequence[Item], metadata: Mapping[str, Any]) -> bytes:
        content = b"".join([self.list_head(metadata), *(self.element(item) for item in items)])
        return self.list_start(len(content)) + content
