"""The CEL type of a schema: what rules may ask of a value, and how large it can be.

None where CEL does not see a value: lists without items, maps of what it does not see, nodes without a type. Source:
apiserver ``pkg/cel/common/schemas.go``, ``pkg/cel/limits.go``, 1.36.
"""

from __future__ import annotations

from typing import Any

from anynode.cel import types as cel
from anynode.cel.escaping import escape
from anynode.schema.custom.structural import Structural

MOST_REQUEST_BYTES = 3 * 1024 * 1024
_DATE_BYTES, _LEAST_TIME_BYTES, _MOST_TIME_BYTES = 12, 21, 32
_LEAST_DURATION_BYTES, _MOST_DURATION_BYTES = 3, 32
_STRING = Structural({"type": "string"}).settled()
_NAMES = {"name": _STRING, "generateName": _STRING}


def with_type_and_metadata(node: Structural) -> Structural:
    """The node of a whole object as rules see it: apiVersion, kind and the names are always there."""
    given = node.properties
    metadata = given.get("metadata")
    complete = all(name in given and given[name].type == "string" for name in ("kind", "apiVersion"))
    if complete and metadata is not None and metadata.type == "object":
        inner = metadata.properties
        if all(name in inner and inner[name].type == "string" for name in _NAMES):
            return node
    named = Structural({"type": "object"}).replaced(properties=_NAMES)
    return node.replaced(properties={**given, "kind": _STRING, "apiVersion": _STRING, "metadata": named})


def declared(node: Structural, *, root: bool, name: str = "self") -> cel.Type | None:
    """The type of the values of ``node``; ``root``: they are whole objects. ``name`` makes names of types unique."""
    if node.int_or_string:
        most = node.raw.get("maxLength")
        size = MOST_REQUEST_BYTES - 2 if most is None else max(most, 0) * 4
        return cel.DYN.sized(size, min_serialized_size=1)
    if root:
        node = with_type_and_metadata(node)
    if node.type == "array":
        return _list(node, name)
    if node.type == "object":
        return _object(node, name)
    if node.type == "string":
        return _string(node.raw)
    return {"boolean": cel.BOOL, "number": cel.DOUBLE, "integer": cel.INT}.get(node.type)


def _list(node: Structural, name: str) -> cel.Type | None:
    if node.items is None:
        return None
    element = declared(node.items, root=node.items.embedded, name=f"{name}.@idx")
    if element is None:
        return None
    most = node.raw.get("maxItems")
    size = (MOST_REQUEST_BYTES - 2) // (element.min_serialized_size + 1) if most is None else max(most, 0)
    return cel.list_of(element, size, list_type=node.list_type or "", list_map_keys=node.list_keys)


def _object(node: Structural, name: str) -> cel.Type | None:
    if node.additional is not None:
        value = declared(node.additional, root=node.additional.embedded, name=f"{name}.@elem")
        if value is None:
            return None
        most = node.raw.get("maxProperties")
        size = (MOST_REQUEST_BYTES - 2) // (value.min_serialized_size + 6) if most is None else max(most, 0)
        return cel.map_of(cel.STRING, value, size)
    required = set(node.raw.get("required") or ())
    fields: dict[str, cel.Type] = {}
    least = 2
    for key, each in node.properties.items():
        found = declared(each, root=each.embedded, name=f"{name}.{key}")
        if found is None:
            continue
        escaped = escape(key)
        if escaped is not None:
            fields[escaped] = found
        if key in required and each.default is None:
            least += len(key.encode()) + found.min_serialized_size + 4
    return cel.ObjectType(name, fields, min_serialized_size=least)


def _string(raw: dict[str, Any]) -> cel.Type:
    format_, most = raw.get("format"), raw.get("maxLength")
    if format_ == "byte":
        return cel.BYTES.sized(MOST_REQUEST_BYTES - 2 if most is None else max(most, 0), min_serialized_size=2)
    if format_ == "duration":
        return cel.DURATION.sized(_MOST_DURATION_BYTES, min_serialized_size=_LEAST_DURATION_BYTES)
    if format_ == "date":
        return cel.TIMESTAMP.sized(_DATE_BYTES, min_serialized_size=_DATE_BYTES)
    if format_ == "date-time":
        return cel.TIMESTAMP.sized(_MOST_TIME_BYTES, min_serialized_size=_LEAST_TIME_BYTES)
    if most is not None:
        return cel.STRING.sized(max(most, 0) * 4, min_serialized_size=2)
    if raw.get("enum"):
        longest = max((len(each.encode()) for each in raw["enum"] if isinstance(each, str)), default=0)
        return cel.STRING.sized(longest, min_serialized_size=2)
    return cel.STRING.sized(MOST_REQUEST_BYTES - 2, min_serialized_size=2)
