"""Objects as readers see them: whole, converted, as a Table, as metadata only; one at a time or joined into lists.

Whole objects are served from the bytes made when they were written: a list is a join, nothing is decoded.
Source: apiserver ``pkg/endpoints/handlers/response.go``; the wire forms of ``meta.k8s.io/v1``.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from anynode.api.errors import BadRequest
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.apiserver import printers
from anynode.apiserver.binary_forms import INITIAL_EVENTS_END, ProtobufForm
from anynode.apiserver.negotiation import PROTOBUF, Accepted
from anynode.registry.encoding import head_of, pieces_behind
from anynode.registry.items import WHOLE, Form, Item
from anynode.registry.kinds import View
from anynode.schema.types import Types
from anynode.storage.types import Revision


class ListForm(Form, Protocol):
    """A form that also joins lists."""

    def join(self, items: Sequence[Item], metadata: Mapping[str, Any]) -> bytes:
        """The JSON of a list."""
        ...


def _bookmark(api_version: str, kind: str, revision: Revision, initial_events_end: bool) -> bytes:
    metadata: Object = {"resourceVersion": str(revision)}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})


class WholeForm:
    """Objects as they are stored."""

    key = WHOLE
    special_first = False

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._head = len(head_of(resource))

    def item(self, item: Item) -> bytes:
        return item.encoded

    def first_event(self, item: Item) -> bytes:
        return item.encoded

    def bookmark(self, revision: Revision, *, initial_events_end: bool) -> bytes:
        return _bookmark(self._resource.api_version, self._resource.kind, revision, initial_events_end)

    def join(self, items: Sequence[Item], metadata: Mapping[str, Any]) -> bytes:
        head = self._head
        pieces: list[bytes | memoryview] = []
        for item in items:
            pieces.append(b",{" if pieces else b"{")
            pieces.extend(pieces_behind(item.value, head, item.revision))
        return b"".join([_list_head(self._resource.api_version, self._resource.list_kind, metadata), *pieces, b"]}\n"])


class ConvertedForm:
    """Objects of a resource that is stored in another version's shape."""

    special_first = False

    def __init__(self, view: View) -> None:
        assert view.conversion is not None
        self._resource = view.resource
        self._to_served = view.conversion.to_served
        self.key = view.resource.api_version

    def served(self, item: Item) -> Object:
        return self._to_served(item.object)

    def item(self, item: Item) -> bytes:
        return orjson.dumps(self._to_served(item.peek()))

    def first_event(self, item: Item) -> bytes:
        return self.item(item)

    def bookmark(self, revision: Revision, *, initial_events_end: bool) -> bytes:
        return _bookmark(self._resource.api_version, self._resource.kind, revision, initial_events_end)

    def join(self, items: Sequence[Item], metadata: Mapping[str, Any]) -> bytes:
        rows = []
        for item in items:
            served = self._to_served(item.peek())
            rows.append(orjson.dumps({k: v for k, v in served.items() if k not in ("kind", "apiVersion")}))
        return _list_head(self._resource.api_version, self._resource.list_kind, metadata) + b",".join(rows) + b"]}\n"


def _list_head(api_version: str, kind: str, metadata: Mapping[str, Any]) -> bytes:
    return b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.encode(), api_version.encode(), orjson.dumps(metadata),
    )  # fmt: skip


_GENERATION = "deprecated.daemonset.template.generation"
"""An annotation upstream makes of a field: what shows metadata alone does not have it."""


def plain_metadata(obj: Object) -> Object:
    """The metadata of an object where nothing else is shown of it."""
    metadata: Object = obj["metadata"]
    annotations = metadata.get("annotations")
    if annotations is None or _GENERATION not in annotations or obj.get("kind") != "DaemonSet":
        return metadata
    kept = {key: value for key, value in annotations.items() if key != _GENERATION}
    if kept:
        return {**metadata, "annotations": kept}
    return {key: value for key, value in metadata.items() if key != "annotations"}


class MetadataForm:
    """``PartialObjectMetadata``: metadata only."""

    special_first = False

    def __init__(self, version: str) -> None:
        self._api_version = f"meta.k8s.io/{version}"
        self.key = f"metadata/{version}"

    def _partial(self, item: Item) -> Object:
        return {
            "kind": "PartialObjectMetadata",
            "apiVersion": self._api_version,
            "metadata": plain_metadata(item.peek()),
        }

    def item(self, item: Item) -> bytes:
        return orjson.dumps(self._partial(item))

    def first_event(self, item: Item) -> bytes:
        return self.item(item)

    def bookmark(self, revision: Revision, *, initial_events_end: bool) -> bytes:
        return _bookmark(self._api_version, "PartialObjectMetadata", revision, initial_events_end)

    def join(self, items: Sequence[Item], metadata: Mapping[str, Any]) -> bytes:
        return orjson.dumps(
            {
                "kind": "PartialObjectMetadataList",
                "apiVersion": self._api_version,
                "metadata": metadata,
                "items": [self._partial(item) for item in items] or None,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


class Printer(Protocol):
    """The columns of a kind's Table and its objects' rows."""

    def columns(self) -> list[Any]: ...

    def cells(self, obj: Object, now: datetime.datetime) -> list[Any]: ...

    def conditions(self, obj: Object) -> list[Object] | None: ...

    def no_rows(self) -> list[Any] | None:
        """What stands for rows where there are none."""
        ...


class BuiltinPrinter:
    """The ``Printer`` of a built-in kind."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def columns(self) -> list[Any]:
        return printers.columns(self._resource)

    def cells(self, obj: Object, now: datetime.datetime) -> list[Any]:
        return printers.cells(self._resource, obj, now)

    def conditions(self, obj: Object) -> list[Object] | None:
        return printers.conditions(self._resource, obj)

    def no_rows(self) -> list[Any] | None:
        return printers.no_rows(self._resource)


def _precedence(flow_schema: Object) -> int:
    found: int = (flow_schema.get("spec") or {}).get("matchingPrecedence") or 0
    return found


class TableForm:
    """A Table; ``include`` says what its rows' ``object`` holds: Metadata, Object or None."""

    special_first = True

    def __init__(
        self,
        resource: Resource,
        now: Callable[[], datetime.datetime],
        *,
        version: str,
        include: str,
        served: Callable[[Item], Object],
        printer: Printer,
    ) -> None:
        self._resource = resource
        self._printer = printer
        self._now = now
        self._api_version = f"meta.k8s.io/{version}"
        self._include = include
        self._served = served
        self.key = f"table/{version}/{include}/{resource.api_version}"

    def _row(self, item: Item, now: datetime.datetime) -> Object:
        served = self._served(item)
        row: Object = {"cells": self._printer.cells(served, now)}
        conditions = self._printer.conditions(served)
        if conditions:
            row["conditions"] = conditions
        if self._include == "Object":
            row["object"] = served
        elif self._include == "None":
            row["object"] = None
        else:
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": self._api_version,
                "metadata": plain_metadata(served),
            }
        return row

    def _table(self, rows: list[Object], metadata: Mapping[str, Any], columns: list[Any] | None) -> bytes:
        return orjson.dumps(
            {
                "kind": "Table",
                "apiVersion": self._api_version,
                "metadata": metadata,
                "columnDefinitions": columns,
                "rows": rows or self._printer.no_rows(),
            }
        )

    def _one(self, item: Item, columns: list[Any] | None) -> bytes:
        metadata = {"resourceVersion": str(item.revision)}
        return self._table([self._row(item, self._now())], metadata, columns)

    def item(self, item: Item) -> bytes:
        return self._one(item, None)

    def first_event(self, item: Item) -> bytes:
        return self._one(item, self._printer.columns())

    def bookmark(self, revision: Revision, *, initial_events_end: bool) -> bytes:
        row_object = _bookmark(f"{self._resource.api_version}", self._resource.kind, revision, initial_events_end)
        inner = orjson.loads(row_object)
        return self._table([{"cells": [], "object": inner}], {"resourceVersion": str(revision)}, None)

    def join(self, items: Sequence[Item], metadata: Mapping[str, Any]) -> bytes:
        now = self._now()
        if self._resource.kind == "FlowSchema":  # shown in the order in which they are asked
            items = sorted(items, key=lambda item: (_precedence(item.peek()), item.name))
        rows = [self._row(item, now) for item in items]
        return self._table(rows, metadata, self._printer.columns()) + b"\n"


class Forms:
    """The forms of one view."""

    def __init__(
        self,
        view: View,
        now: Callable[[], datetime.datetime],
        printer: Printer | None = None,
        whole: ListForm | None = None,
        *,
        types: Types | None = None,
    ) -> None:
        """``types``: of built-in resources, which are served as protobuf too."""
        self._view = view
        self._now = now
        self._printer = printer or BuiltinPrinter(view.resource)
        self._types = types
        self._binary: dict[str, ProtobufForm] = {}
        self.converted = ConvertedForm(view) if view.conversion is not None else None
        self.whole: ListForm = whole or self.converted or WholeForm(view.resource)

    def served(self, item: Item) -> Object:
        """The object as this view's clients see it."""
        return item.object if self.converted is None else self.converted.served(item)

    def _peeked(self, item: Item) -> Object:
        """The same for a table's row, which is made once."""
        conversion = self._view.conversion
        return item.peek() if conversion is None else conversion.to_served(item.peek())

    @property
    def binary(self) -> bool:
        """Whether there is a form in protobuf."""
        return self._types is not None

    def in_protobuf(self, metadata_version: str = "") -> ProtobufForm:
        """The form for who asked for protobuf, whole or (a version of ``meta.k8s.io``) metadata only."""
        found = self._binary.get(metadata_version)
        if found is None:
            assert self._types is not None
            found = self._binary[metadata_version] = ProtobufForm(
                self._view.resource, self._peeked, self._types, metadata_version=metadata_version
            )
        return found

    def of(self, accepted: Accepted, include: str = "") -> ListForm:
        """The form agreed on; raises ``BadRequest`` for an unknown ``includeObject``."""
        if accepted.media_type == PROTOBUF:
            return self.in_protobuf(accepted.version if accepted.target else "")
        if not accepted.target:
            return self.whole
        if accepted.target != "Table":
            return MetadataForm(accepted.version)
        if include not in ("", "Metadata", "Object", "None"):
            why = f"includeObject: Invalid value: \"{include}\": must be 'Metadata', 'Object', 'None', or empty"
            raise BadRequest(f"Unable to convert to Table as requested: {why}")
        return TableForm(
            self._view.resource,
            self._now,
            version=accepted.version,
            include=include or "Metadata",
            served=self._peeked,
            printer=self._printer,
        )
