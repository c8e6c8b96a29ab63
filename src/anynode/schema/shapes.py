"""How server-side apply sees a type: which values are taken as a whole, which maps and lists merge, and by which keys.

Made from the type table, one ``Shape`` per type, when first asked for. Source: kube-openapi
``pkg/schemaconv``, structured-merge-diff v6 ``schema/elements.go``, https://kubernetes.io/docs/reference/using-api/server-side-apply/.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from anynode.schema.field_sets import LEAF, Node, key_element, keys_element, value_element
from anynode.schema.types import REPEATED, Field, Types

SCALAR, STRUCT, MAP, LIST_MAP, SET, LIST, UNTYPED = range(7)

_SCALAR_NAMES = {
    "s": "string", "y": "string", "b": "boolean", "i": "numeric", "l": "numeric", "u": "numeric", "U": "numeric",
    "d": "numeric", "q": "untyped", "t": "untyped", "T": "untyped", "D": "string", "I": "untyped",
}  # fmt: skip
_STRIPPED = (
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
    "resourceVersion",
)  # fmt: skip


class ShapeError(ValueError):
    """A list item that cannot be told from the others."""


class Shape:
    """One kind of value.

    ``whole``: owned and compared as one. ``fields``: of a struct, name -> (path element, shape). ``element``: the
    shape of a map's values or a list's items. ``scalar``: string, numeric, boolean or untyped. ``repeated``: of
    values that come again and again, what comparing with an empty one found (see ``comparison``).
    """

    __slots__ = ("defaults", "element", "fields", "keys", "kind", "repeated", "scalar", "skipped", "whole")

    def __init__(self, kind: int, *, whole: bool = False, scalar: str = "", element: Shape | None = None) -> None:
        self.kind = kind
        self.whole = whole
        self.scalar = scalar
        self.element = element
        self.fields: Mapping[str, tuple[str, Shape]] = {}
        self.keys: tuple[str, ...] = ()
        self.defaults: Mapping[str, Any] = {}
        self.skipped: frozenset[str] = frozenset()
        self.repeated: dict[int, tuple[Any, Any, Any]] | None = None

    def member(self, name: str) -> tuple[str, Shape]:
        """``(path element, shape)`` of the member ``name`` of a struct or map."""
        found = self.fields.get(name)
        if found is not None:
            return found
        return f"f:{name}", self.element or UNTYPED_SHAPE

    def item_element(self, item: Any) -> str:
        """The path element of a list item; raises ``ShapeError`` in upstream's words where it has none."""
        if self.kind == SET:
            if isinstance(item, dict):
                raise ShapeError("associative list without keys has an element that's a map type")
            if isinstance(item, list):
                raise ShapeError("not supported: associative list with lists as elements")
            if item is None:
                raise ShapeError("associative list without keys has an element that's an explicit null")
            return value_element(item)
        if item is None:
            raise ShapeError("associative list with keys may not have a null element")
        if not isinstance(item, dict):
            raise ShapeError("associative list with keys may not have non-map elements")
        if len(self.keys) == 1:
            name = self.keys[0]
            value = item.get(name, self.defaults.get(name))
            if value.__class__ is str or value.__class__ is int:
                return key_element(name, value)
        pairs = [(name, item.get(name, self.defaults.get(name))) for name in self.keys]
        pairs = [(name, value) for name, value in pairs if name in item or value is not None]
        if not pairs:
            quoted = " ".join(f'"{name}"' for name in self.keys)
            raise ShapeError(
                f"associative list with keys has an element that omits all key fields [{quoted}] "
                "(and doesn't have default values for any key fields)"
            )
        return _pairs_element(tuple(pairs))


def _pairs_element(pairs: tuple[tuple[str, Any], ...]) -> str:
    if all(value.__class__ is str or value.__class__ is int for _, value in pairs):
        return _cached_pairs_element(pairs)
    return keys_element(pairs)


@functools.lru_cache(maxsize=4096)
def _cached_pairs_element(pairs: tuple[tuple[str, Any], ...]) -> str:
    return keys_element(pairs)


UNTYPED_SHAPE = Shape(UNTYPED, scalar="untyped")
_SCALARS = {name: Shape(SCALAR, whole=True, scalar=name) for name in ("string", "numeric", "boolean", "untyped")}
_FREE_FORM = Shape(UNTYPED, whole=True)


class Shapes:
    """The shapes of a type table."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._made: dict[str, Shape] = {}
        self._roots: dict[str, Shape] = {}

    def of(self, name: str) -> Shape:
        """The shape of one type; raises ``KeyError`` for a name that is not known."""
        found = self._made.get(name)
        if found is None:
            info = self._types[name]
            found = self._made[name] = Shape(
                STRUCT, whole=info.atomic
            )  # known before its fields: types hold themselves
            found.fields = {field.name: (f"f:{field.name}", self.of_field(field)) for field in info.fields.values()}
            if name in REPEATED and not found.whole:
                found.repeated = {}
        return found

    def root(self, name: str) -> Shape:
        """The shape of a whole object, without the metadata nobody owns."""
        found = self._roots.get(name)
        if found is None:
            found = self._roots[name] = without_server_fields(self.of(name))
        return found

    def of_field(self, field: Field) -> Shape:
        """The shape of the value of ``field``."""
        one = self._one(field)
        if field.shape == "":
            if field.map_type == "atomic" and one.kind == STRUCT and not one.whole:
                return self._whole(field.target)
            if field.map_type == "granular" and one.kind == STRUCT and one.whole:
                return self._in_parts(field.target)
            return one
        if field.shape in ("m", "M"):
            inner = Shape(LIST, whole=True, element=one) if field.shape == "M" else one
            return Shape(MAP, whole=field.map_type == "atomic", element=inner)
        if field.list_type == "map" and field.map_keys:
            found = Shape(LIST_MAP, element=one)
            found.keys = field.map_keys
            found.defaults = self._key_defaults(field)
            return found
        if field.list_type == "set":
            return Shape(SET, element=one)
        return Shape(LIST, whole=True, element=one)

    def _whole(self, name: str) -> Shape:
        """The shape of a struct that is taken as a whole where a field says so."""
        found = Shape(STRUCT, whole=True)
        found.fields = self.of(name).fields
        return found

    def _in_parts(self, name: str) -> Shape:
        """The shape of a struct that is taken field by field where a field says so."""
        found = Shape(STRUCT)
        found.fields = self.of(name).fields
        return found

    def _one(self, field: Field) -> Shape:
        if field.kind == "m":
            return self.of(field.target)
        if field.kind == "J":
            return UNTYPED_SHAPE
        if field.kind in "RF":
            return _FREE_FORM
        return _SCALARS[_SCALAR_NAMES[field.kind]]

    def _key_defaults(self, field: Field) -> Mapping[str, Any]:
        """What stands for a key an item leaves out: its default, or the zero value Go always writes."""
        defaults: dict[str, Any] = {}
        for name in field.map_keys:
            key = self._types[field.target].fields.get(name)
            if key is None:
                continue
            if key.default is not None:
                defaults[name] = key.default
            elif not key.pointer and not key.omitempty:
                defaults[name] = "" if key.kind == "s" else 0
        return defaults


def without_server_fields(plain: Shape) -> Shape:
    """The shape of a whole object, without its kind and the metadata nobody owns."""
    found = Shape(plain.kind, element=plain.element)
    found.skipped = frozenset(("apiVersion", "kind"))
    fields = dict(plain.fields)
    if "metadata" in fields:
        element, metadata = fields["metadata"]
        stripped = Shape(metadata.kind, element=metadata.element)
        stripped.fields = metadata.fields
        stripped.skipped = frozenset(_STRIPPED)
        fields["metadata"] = (element, stripped)
    found.fields = fields
    return found


def shapes(types: Types) -> Shapes:
    """The shapes of ``types``, made once."""
    memory = types.compiled("shapes")
    found: Shapes | None = memory.get("shapes")
    if found is None:
        found = memory["shapes"] = Shapes(types)
    return found


# What a value owns


def grown(shape: Shape, value: Any) -> Node:
    """The node of a value that was not there before: itself and everything in it, in order."""
    if shape.whole or not value:
        return LEAF
    if value.__class__ is dict:
        node: Node = {".": LEAF}
        fields, element = shape.fields, shape.element
        for name in sorted(value):
            item, found = value[name], fields.get(name)
            if found is None:
                node[f"f:{name}"] = grown(element or UNTYPED_SHAPE, item)
            elif found[1].whole or not item:
                node[found[0]] = LEAF
            else:
                node[found[0]] = grown(found[1], item)
        return node
    if value.__class__ is list and shape.kind in (LIST_MAP, SET):
        return _grown_list(shape, value)
    return LEAF


def _grown_list(shape: Shape, items: list[Any]) -> Node:
    node: Node = {".": LEAF}
    element = shape.element or UNTYPED_SHAPE
    for item in items:
        try:
            key = shape.item_element(item)
        except ShapeError:
            if shape.kind == SET:
                raise
            continue
        node[key] = LEAF if key in node else grown(element, item)
    return node if len(node) < 3 else dict(sorted(node.items()))


def field_set(shape: Shape, value: Any) -> Node:
    """The set of what a config says: leaves, list items, and map members; not the structs on the way."""
    if value.__class__ is dict:
        return _members_set(shape, value)
    if value.__class__ is list and shape.kind in (LIST_MAP, SET):
        return _items_set(shape, value)
    return LEAF


def _members_set(shape: Shape, value: dict[str, Any]) -> Node:
    node: Node = {}
    for name, item in value.items():
        if name in shape.skipped:
            continue
        key, inner = shape.member(name)
        if inner.whole or item is None or item == {} or not isinstance(item, dict | list):
            node[key] = LEAF
            continue
        if isinstance(item, list) and inner.kind not in (LIST_MAP, SET):
            node[key] = LEAF
            continue
        below = field_set(inner, item)
        if name not in shape.fields:
            node[key] = {".": LEAF, **below} if below else LEAF
        elif below:
            node[key] = below
    return node


def _items_set(shape: Shape, items: list[Any]) -> Node:
    node: Node = {}
    element = shape.element or UNTYPED_SHAPE
    for item in items:
        try:
            key = shape.item_element(item)
        except ShapeError:
            continue
        if key in node:
            node[key] = LEAF
            continue
        below = field_set(element, item) if not element.whole else LEAF
        node[key] = {".": LEAF, **below} if below else LEAF
    return node
