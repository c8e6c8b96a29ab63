"""Custom resources as readers see them, where that differs from built-in kinds.

Upstream keeps them without Go types: each item of a list says its kind, a list always has ``continue``.
Source: apimachinery ``pkg/apis/meta/v1/unstructured``, apiextensions-apiserver
``pkg/registry/customresource/tableconvertor``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anynode.api.objects import Object
from anynode.apiserver.forms import WholeForm
from anynode.registry.items import Item
from anynode.schema.custom.columns import Columns


class CustomPrinter:
    """The ``Printer`` of a custom resource."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def columns(self) -> list[Any]:
        return list(self._columns.definitions)

    def cells(self, obj: Object, now: datetime.datetime) -> list[Any]:
        return self._columns.cells(obj, now)

    def conditions(self, obj: Object) -> list[Object] | None:
        return None

    def no_rows(self) -> list[Any] | None:
        return []


class CustomForm(WholeForm):
    """Whole objects, each saying its kind in a list too."""

    def join(self, items: Sequence[Item], metadata: Mapping[str, Any]) -> bytes:
        resource = self._resource
        told = orjson.dumps({"continue": "", **metadata})
        head = b'{"apiVersion":"%b","kind":"%b","metadata":%b,"items":[' % (
            resource.api_version.encode(), resource.list_kind.encode(), told,
        )  # fmt: skip
        return b"".join([head, b",".join([item.encoded for item in items]), b"]}\n"])
