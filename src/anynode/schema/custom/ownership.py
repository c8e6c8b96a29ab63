"""A custom resource's type as server-side apply and ``managedFields`` see it.

What the schema leaves open is deduced from the values: maps merge, lists are taken as a whole. Source: kube-openapi
``pkg/schemaconv/openapi.go``, apiextensions-apiserver ``pkg/controller/openapi/builder``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable

from anynode.schema import types
from anynode.schema.custom.structural import Structural
from anynode.schema.managed_fields import OwnedType, Paths
from anynode.schema.shapes import (
    LIST,
    LIST_MAP,
    MAP,
    SCALAR,
    SET,
    STRUCT,
    UNTYPED,
    UNTYPED_SHAPE,
    Shape,
    shapes,
    without_server_fields,
)

_OBJECT_META = f"{types.META}ObjectMeta"
_STATUS: Paths = (("status",),)
_ALL_BUT_STATUS: Paths = (("metadata",), ("spec",))
_PLAIN_FORMATS = ("", "byte")


def owned_type(
    node: Structural | None,
    *,
    kind: str,
    preserves: bool,
    status: bool,
    sibling: Callable[[str], OwnedType | None] | None = None,
) -> OwnedType:
    """The type of whole objects; ``status``: there is a status subresource."""
    reset = {"": _STATUS if status else (), "status": _ALL_BUT_STATUS if status else (), "scale": ()}
    builtin = shapes(types.builtin())
    if node is None:
        plain = Shape(MAP, element=UNTYPED_SHAPE)
        plain.fields = {"metadata": ("f:metadata", builtin.of(_OBJECT_META))}
    else:
        plain = _shape(node, preserves=preserves, embedded=True)
    return OwnedType(kind=kind, plain=plain, root=without_server_fields(plain), reset=reset, sibling=sibling)


def _shape(node: Structural, *, preserves: bool, embedded: bool = False) -> Shape:
    preserves = preserves or node.preserve
    if node.type == "array":
        return _list(node, preserves=preserves)
    if node.type in ("integer", "number", "boolean"):
        return Shape(SCALAR, whole=True, scalar="boolean" if node.type == "boolean" else "numeric")
    if node.type == "string":
        plain = (node.raw.get("format") or "") in _PLAIN_FORMATS
        return Shape(SCALAR, whole=True, scalar="string" if plain else "untyped")
    if node.type != "object" and not node.properties and not node.open:
        return UNTYPED_SHAPE
    return _map(node, preserves=preserves, embedded=embedded or node.embedded)


def _map(node: Structural, *, preserves: bool, embedded: bool) -> Shape:
    element: Shape | None = None
    if node.additional is not None:
        element = _shape(node.additional, preserves=preserves)
    elif node.raw.get("additionalProperties") is True or (
        not node.open and (preserves or (not node.properties and not embedded))
    ):
        element = UNTYPED_SHAPE
    kind = UNTYPED if node.type != "object" else STRUCT if element is None else MAP
    found = Shape(kind, whole=node.map_type == "atomic", element=element)
    fields = {name: (f"f:{name}", _shape(each, preserves=preserves)) for name, each in node.properties.items()}
    if embedded:
        text = Shape(SCALAR, whole=True, scalar="string")
        fields["apiVersion"], fields["kind"] = ("f:apiVersion", text), ("f:kind", text)
        fields["metadata"] = ("f:metadata", shapes(types.builtin()).of(_OBJECT_META))
    found.fields = fields
    return found


def _list(node: Structural, *, preserves: bool) -> Shape:
    element = UNTYPED_SHAPE if node.items is None else _shape(node.items, preserves=preserves)
    if node.list_type == "map" and node.list_keys:
        found = Shape(LIST_MAP, element=element)
        found.keys = node.list_keys
        given = {} if node.items is None else node.items.properties
        found.defaults = {
            name: given[name].default for name in node.list_keys if name in given and given[name].default is not None
        }
        return found
    return Shape(SET, element=element) if node.list_type == "set" else Shape(LIST, whole=True, element=element)
