"""A version's schema as a tree of nodes, each knowing at once what its subtree asks of objects.

In goes ``openAPIV3Schema`` as it is stored (decoded, so without empty fields); out comes a ``Structural``, or
``StructuralError`` for what can never be one. Source: apiextensions-apiserver ``pkg/apiserver/schema/convert.go``,
1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from anynode.api.objects import Object

META_FIELDS = frozenset({"apiVersion", "kind", "metadata"})
_UNSUPPORTED = (
    ("id", "id"), ("$schema", "schema"), ("$ref", "$ref"), ("patternProperties", "patternProperties"),
    ("dependencies", "dependencies"), ("additionalItems", "additionalItems"), ("definitions", "definitions"),
)  # fmt: skip


class StructuralError(ValueError):
    """A schema with something no structural schema has; the text is upstream's."""


class Structural:
    """One node. ``additional`` is the schema of ``additionalProperties``, ``open`` whether that field is there at all.

    ``defaults``, ``embeds``, ``lists``: whether the subtree has default values, embedded objects, or lists of the types
    set and map.
    """

    __slots__ = (
        "additional",
        "default",
        "default_bytes",
        "defaulted",
        "defaults",
        "embedded",
        "embeds",
        "int_or_string",
        "items",
        "list_keys",
        "list_type",
        "lists",
        "map_type",
        "nullable",
        "open",
        "open_items",
        "preserve",
        "properties",
        "raw",
        "rules",
        "type",
    )

    def __init__(self, raw: Object) -> None:
        self.raw = raw
        self.type: str = raw.get("type") or ""
        self.nullable = bool(raw.get("nullable"))
        self.default: Any = raw.get("default")
        self.embedded = bool(raw.get("x-kubernetes-embedded-resource"))
        self.int_or_string = bool(raw.get("x-kubernetes-int-or-string"))
        self.preserve = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        self.list_type: str | None = raw.get("x-kubernetes-list-type")
        self.list_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str | None = raw.get("x-kubernetes-map-type")
        self.rules: Sequence[Object] = raw.get("x-kubernetes-validations") or ()
        self.items: Structural | None = None
        self.open_items: Structural | None = None
        self.properties: dict[str, Structural] = {}
        self.additional: Structural | None = None
        self.open = False
        self.default_bytes = 0
        self.defaulted: tuple[tuple[str, Any, bool, int], ...] = ()
        self.defaults = self.embeds = self.lists = False

    def below(self) -> Iterator[Structural]:
        """The nodes directly below."""
        yield from self.properties.values()
        if self.items is not None:
            yield self.items
        if self.additional is not None:
            yield self.additional

    def settled(self) -> Structural:
        """This node, its summary made from itself and from the nodes below, which are settled already."""
        if self.default is not None and not self.default_bytes:
            self.default_bytes = len(orjson.dumps(self.default))
        self.defaulted = tuple(
            (name, node.default, node.nullable, node.default_bytes)
            for name, node in self.properties.items()
            if node.default is not None
        )
        below = tuple(self.below())
        self.defaults = any(node.defaults or node.default is not None for node in below)
        self.embeds = self.embedded or any(node.embeds for node in below)
        self.lists = self.list_type in ("set", "map") or any(node.lists for node in below)
        return self

    def member(self, name: str) -> Structural | None:
        """The node of a member, be it a property or an additional one."""
        return self.properties.get(name) or self.additional

    def as_embedded(self) -> Structural:
        """This node as that of a whole object, which has metadata of its own."""
        return self if self.embedded else self.replaced(embedded=True)

    def replaced(self, **changes: Any) -> Structural:
        copy = Structural.__new__(Structural)
        for slot in Structural.__slots__:
            setattr(copy, slot, changes.get(slot, getattr(self, slot)))
        copy.open_items = None
        return copy.settled()

    def items_that_keep(self) -> Structural | None:
        """The node of items, keeping unknown fields; made once."""
        if self.open_items is None and self.items is not None:
            self.open_items = self.items.replaced(preserve=True)
        return self.open_items

    def with_defaults(self, change: Callable[[Structural, tuple[str, ...]], Any]) -> Structural:
        """This tree with each default replaced by ``change(node, path)``; ``[]`` and ``*`` stand for any item."""
        return self._mapped(change, ())

    def _mapped(self, change: Callable[[Structural, tuple[str, ...]], Any], path: tuple[str, ...]) -> Structural:
        if not self.defaults and self.default is None:
            return self
        return self.replaced(
            default=None if self.default is None else change(self, path),
            default_bytes=0,
            properties={name: node._mapped(change, (*path, name)) for name, node in self.properties.items()},
            items=None if self.items is None else self.items._mapped(change, (*path, "[]")),
            additional=None if self.additional is None else self.additional._mapped(change, (*path, "*")),
        )


def structural(raw: Object) -> Structural:
    """The tree of a schema; raises ``StructuralError``."""
    check_supported(raw)
    for branch in ("not", "allOf", "anyOf", "oneOf"):
        for nested in _listed(raw.get(branch)):
            _check_nested(nested)
    if raw.get("x-kubernetes-preserve-unknown-fields") is False:
        raise StructuralError("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")
    node = Structural(raw)
    items = raw.get("items")
    if isinstance(items, list) and items:
        raise StructuralError("OpenAPIV3Schema 'items' must be a schema, but is an array")
    if isinstance(items, dict):
        node.items = structural(items)
    node.properties = {name: structural(each) for name, each in sorted((raw.get("properties") or {}).items())}
    additional = raw.get("additionalProperties")
    if additional is not None:
        node.open = True
        if isinstance(additional, dict):
            node.additional = structural(additional)
    return node.settled()


def check_supported(raw: Object) -> None:
    """Raise ``StructuralError`` for a keyword no structural schema has."""
    for field, said in _UNSUPPORTED:
        if raw.get(field) or (field == "additionalItems" and field in raw):
            raise StructuralError(f"OpenAPIV3Schema '{said}' is not supported")


def _check_nested(raw: Object) -> None:
    check_supported(raw)
    for branch in ("not", "allOf", "anyOf", "oneOf"):
        for nested in _listed(raw.get(branch)):
            _check_nested(nested)
    if raw.get("x-kubernetes-preserve-unknown-fields") is False:
        raise StructuralError("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")
    items, additional = raw.get("items"), raw.get("additionalProperties")
    if isinstance(items, list) and items:
        raise StructuralError("OpenAPIV3Schema 'items' must be a schema, but is an array")
    if isinstance(items, dict):
        _check_nested(items)
    for each in (raw.get("properties") or {}).values():
        _check_nested(each)
    if isinstance(additional, dict):
        _check_nested(additional)


def _listed(value: Any) -> Sequence[Object]:
    if isinstance(value, dict):
        return (value,)
    return value or ()


def subschemas(raw: Object) -> Iterator[Object]:
    """A schema and every schema in it, in the order upstream visits them."""
    yield raw
    items = raw.get("items")
    for each in items if isinstance(items, list) else (items,):
        if isinstance(each, dict):
            yield from subschemas(each)
    for field in ("allOf", "anyOf", "oneOf", "not"):
        for each in _listed(raw.get(field)):
            yield from subschemas(each)
    yield from _mapped_schemas(raw.get("properties"))
    if isinstance(raw.get("additionalProperties"), dict):
        yield from subschemas(raw["additionalProperties"])
    yield from _mapped_schemas(raw.get("patternProperties"))
    if isinstance(raw.get("additionalItems"), dict):
        yield from subschemas(raw["additionalItems"])
    yield from _mapped_schemas(raw.get("definitions"))
    yield from _mapped_schemas(raw.get("dependencies"))


def _mapped_schemas(schemas: Mapping[str, Any] | None) -> Iterator[Object]:
    for _, each in sorted((schemas or {}).items()):
        if isinstance(each, dict):
            yield from subschemas(each)
