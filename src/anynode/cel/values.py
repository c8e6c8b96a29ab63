"""Values of expressions: plain Python ones, and thin views of bound data that know its type.

Bound JSON goes in as it is and is never copied: objects, lists and maps whose type says more than the JSON does (a
timestamp, an escaped field name, a set) are looked at through a view made when they are read. Source: cel-go
``common/types``, apiserver ``pkg/cel/common/valuesunstructured.go``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from anynode.cel import types
from anynode.cel.errors import CelEvaluationError
from anynode.cel.escaping import escape, unescape
from anynode.cel.times import Duration, Timestamp, parse_date_time, parse_worded_duration
from anynode.cel.types import Kind, ObjectType, Type

Adapter = Callable[[Any], Any]
MISSING: Any = object()


class Uint(int):
    """An unsigned number; arithmetic on it gives plain ints, so results are wrapped anew."""

    __slots__ = ()


class Optional:
    """A value or none: ``NONE`` is the one without."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Optional) and (
            self.value is other.value or (MISSING not in (self.value, other.value) and equal(self.value, other.value))
        )

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "optional.none()" if self.value is MISSING else f"optional({self.value!r})"

    @property
    def has_value(self) -> bool:
        return self.value is not MISSING


NONE = Optional(MISSING)


class Fields(Mapping[str, Any]):
    """Named values made when first asked for, as the variables of a policy are; a failure is raised each time."""

    __slots__ = ("_made", "_makers")

    def __init__(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        self._makers = makers
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self._made:
            made = self._made[name]
        else:
            try:
                made = self._makers[name]()
            except CelEvaluationError as error:
                made = error
            self._made[name] = made
        if isinstance(made, CelEvaluationError):
            raise made
        return made

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default`` if there is no such name; a failure to make it is raised."""
        return self[name] if name in self._makers else default

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


class ObjectView:
    """A dict seen through its object type: names unescaped, null fields absent, unknown fields hidden."""

    __slots__ = ("raw", "type")

    def __init__(self, raw: dict[str, Any], of: ObjectType) -> None:
        self.raw = raw
        self.type = of

    def __len__(self) -> int:
        return len(self.raw)

    def find(self, name: str) -> Any:
        """The value of a field, ``MISSING`` if absent."""
        reader = reader_of(self.type, name)
        if reader is None:
            return MISSING
        value = self.raw.get(reader[0])
        if value is None:
            return MISSING
        return value if reader[1] is None else reader[1](value)

    def __iter__(self) -> Iterator[str]:
        for name in self.raw:
            escaped = escape(name)
            if escaped is not None and self.type.field(escaped) is not None:
                yield escaped


class MapView:
    """A dict whose values need adapting."""

    __slots__ = ("adapt", "raw")

    def __init__(self, raw: dict[str, Any], adapt: Adapter) -> None:
        self.raw = raw
        self.adapt = adapt

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def find(self, name: str) -> Any:
        value = self.raw.get(name, MISSING)
        return value if value is MISSING or value is None else self.adapt(value)


class ListView:
    """A list whose elements need adapting, or whose order does not count (``set`` and ``map`` lists)."""

    __slots__ = ("adapt", "raw", "type")

    def __init__(self, raw: Sequence[Any], of: Type) -> None:
        self.raw = raw
        self.type = of
        self.adapt = adapter_of(of.parameters[0])

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> Any:
        return self.raw[index] if self.adapt is None else self.adapt(self.raw[index])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.raw) if self.adapt is None else map(self.adapt, self.raw)

    def key_of(self, element: Any) -> Any:
        """What tells an element from others: itself, or its keys."""
        if self.type.list_type == "set" or not isinstance(element, dict):
            return element if not isinstance(element, dict | list) else id(element)
        return tuple(element.get(name) for name in self.type.list_map_keys)


class StructValue:
    """An object built by an expression (``Object.spec{replicas: 1}``); ``fields`` maps names to values."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name = name
        self.fields = fields

    def __len__(self) -> int:
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StructValue) and other.name == self.name and equal(self.fields, other.fields)

    def __hash__(self) -> int:
        return hash(self.name)

    def find(self, name: str) -> Any:
        return self.fields.get(name, MISSING)


LISTS = (list, ListView, tuple)
MAPS = (dict, MapView, ObjectView, Fields)


# --- adapting --------------------------------------------------------------------------------------------------------


def _timestamp(value: Any) -> Any:
    if type(value) is not str:
        return value
    try:
        return parse_date_time(value if len(value) > 10 else f"{value}T00:00:00Z")
    except ValueError as error:
        raise CelEvaluationError(str(error)) from None


def _duration(value: Any) -> Any:
    if type(value) is not str:
        return value
    try:
        return parse_worded_duration(value)
    except ValueError as error:
        raise CelEvaluationError(f"Invalid duration {value}: {error}") from None


def _bytes(value: Any) -> Any:
    if type(value) is not str:
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CelEvaluationError(f"Invalid byte formatted string {value}: {error}") from None


def _double(value: Any) -> Any:
    return float(value) if type(value) is int else value


_SIMPLE: dict[Kind, Adapter] = {
    Kind.TIMESTAMP: _timestamp,
    Kind.DURATION: _duration,
    Kind.BYTES: _bytes,
    Kind.DOUBLE: _double,
    Kind.UINT: lambda value: Uint(value) if type(value) is int else value,
}


def adapter_of(of: Type) -> Adapter | None:
    """What makes a value of JSON, None where it is one already."""
    simple = _SIMPLE.get(of.kind)
    if simple is not None:
        return simple
    if isinstance(of, ObjectType):
        if of.open_fields:
            return None
        return lambda value: ObjectView(value, of) if type(value) is dict else value
    if of.kind == Kind.LIST:
        if not of.list_type and adapter_of(of.parameters[0]) is None:
            return None
        return lambda value: ListView(value, of) if type(value) is list else value
    if of.kind == Kind.MAP:
        inner = adapter_of(of.parameters[1])
        if inner is None:
            return None
        return lambda value: MapView(value, inner) if type(value) is dict else value
    if types.is_optional(of):
        wrapped = adapter_of(of.parameters[0])
        if wrapped is None:
            return None
        return lambda value: (
            Optional(wrapped(value.value)) if isinstance(value, Optional) and value.value is not MISSING else value
        )
    return None


def reader_of(of: ObjectType, name: str) -> tuple[str, Adapter | None] | None:
    """The property a field name means and how its value is adapted; None if there is no such field."""
    try:
        return of.readers[name]
    except KeyError:
        pass
    field = of.field(name)
    reader = None
    if field is not None:
        written = unescape(name)
        if written is not None:
            reader = (written, adapter_of(field))
    of.readers[name] = reader
    return reader


def plain(value: Any) -> Any:
    """The value with the views taken off: what a caller gets."""
    kind = type(value)
    if kind is ObjectView or kind is MapView:
        return value.raw
    if kind is ListView:
        return value.raw
    if kind is list:
        return [plain(each) for each in value] if any(type(each) in _VIEWED for each in value) else value
    if kind is dict:
        return {key: plain(each) for key, each in value.items()}
    if kind is StructValue:
        return StructValue(value.name, {key: plain(each) for key, each in value.fields.items()})
    if kind is Optional:
        return value if value.value is MISSING else Optional(plain(value.value))
    return value


_VIEWED = frozenset({ObjectView, MapView, ListView, list, dict, StructValue, Optional})


# --- kinds -----------------------------------------------------------------------------------------------------------

_NAMES: dict[type, str] = {
    bool: "bool", int: "int", Uint: "uint", float: "double", str: "string", bytes: "bytes", type(None): "null_type",
    Timestamp: "google.protobuf.Timestamp", Duration: "google.protobuf.Duration", list: "list", tuple: "list",
    ListView: "list", dict: "map", MapView: "map", ObjectView: "map", Fields: "map", Type: "type", ObjectType: "type",
    Optional: "optional_type",
}  # fmt: skip


def kind_name(value: Any) -> str:
    """The name of a value's type at run time."""
    found = _NAMES.get(type(value))
    if found is not None:
        return found
    if isinstance(value, StructValue):
        return value.name
    return str(getattr(value, "type_name", type(value).__name__))


def size_of(value: Any) -> int:
    """Elements, entries, code points or bytes; one for what has no size."""
    kind = type(value)
    if kind is str or kind is list or kind is dict or kind is bytes or kind is ListView:
        return len(value)
    if kind is int or kind is bool or value is None:
        return 1
    if kind is Optional:
        return size_of(value.value) if value.value is not MISSING else 1
    if kind in (tuple, MapView, ObjectView, Fields):
        return len(value)
    size = getattr(value, "cel_size", None)
    return size if isinstance(size, int) else 1


def find(container: Any, key: Any) -> Any:
    """The value at a key of any map, ``MISSING`` if there is none."""
    kind = type(container)
    if kind is dict:
        if type(key) is float and not key.is_integer():
            return MISSING
        try:
            found = container.get(key, MISSING)
        except TypeError:
            return MISSING
        if found is not MISSING and (type(key) is bool or key in (0, 1)):  # True is 1 in Python only
            bools = type(key) is bool
            return found if any(each == key and (type(each) is bool) is bools for each in container) else MISSING
        return found
    if type(key) is not str:
        raise CelEvaluationError("no such overload")
    if kind is Fields:
        return container.get(key, MISSING)
    return container.find(key)


# --- equality --------------------------------------------------------------------------------------------------------

_BY_VALUE = frozenset({str, bool, bytes, type(None), Timestamp, Duration})


def equal(left: Any, right: Any) -> bool:
    """Whether two values are equal, whatever their types."""
    kind, other = type(left), type(right)
    if kind is other and (kind is str or kind is int or kind in _BY_VALUE):
        return bool(left == right)
    if kind in _NUMBERS and other in _NUMBERS:
        if kind is float or other is float:
            return _double_equal(left, right)
        return bool(left == right)
    if kind in _LIST_KINDS:
        return other in _LIST_KINDS and _lists_equal(left, right)
    if kind in _MAP_KINDS:
        return other in _MAP_KINDS and _maps_equal(left, right)
    if kind is not other and not (kind in (Type, ObjectType) and other in (Type, ObjectType)):
        return False
    if kind in (Type, ObjectType):
        return type_name(left) == type_name(right)
    return bool(left == right)


_NUMBERS = frozenset({int, Uint, float})
_LIST_KINDS = frozenset({list, tuple, ListView})
_MAP_KINDS = frozenset({dict, MapView, ObjectView, Fields})


def type_name(of: Type) -> str:
    """A type's name as a value: two list types are the same one."""
    return of.name


def _double_equal(left: Any, right: Any) -> bool:
    if type(left) is not float:
        left, right = right, left
    if type(right) is int and not -(2.0**63) <= left <= 2.0**63:
        return False
    if type(right) is Uint and not 0 <= left <= 2.0**64:
        return False
    return bool(left == float(right))


def _lists_equal(left: Any, right: Any) -> bool:
    if len(left) != len(right):
        return False
    if type(left) is ListView and left.type.list_type in ("set", "map"):
        return _unordered_equal(left, right)
    return all(map(equal, left, right))


def _unordered_equal(left: ListView, right: Any) -> bool:
    mine = {left.key_of(each): each for each in left.raw}
    others = right.raw if type(right) is ListView else [plain(each) for each in right]
    for raw in others:
        found = mine.get(left.key_of(raw), MISSING)
        if found is MISSING:
            return False
        if left.type.list_type == "map" and not equal(_adapted(left, found), _adapted(left, raw)):
            return False
    return True


def _adapted(view: ListView, raw: Any) -> Any:
    return raw if view.adapt is None else view.adapt(raw)


def _maps_equal(left: Any, right: Any) -> bool:
    if len(left) != len(right):
        return False
    if type(left) is ObjectView:
        return _objects_equal(left, right)
    for key in left:
        mine, other = find(left, key), find(right, key)
        if other is MISSING or not equal(mine, other):
            return False
    return True


def _objects_equal(left: ObjectView, right: Any) -> bool:
    for key, raw in left.raw.items():
        escaped = escape(key)
        if escaped is not None and left.type.field(escaped) is not None:
            mine, other = left.find(escaped), find(right, escaped)
            if (mine is MISSING) != (other is MISSING) or (mine is not MISSING and not equal(mine, other)):
                return False
        elif type(right) is ObjectView and key in right.raw and raw != right.raw[key]:
            return False
    return True


def is_zero(value: Any) -> bool:
    """Whether a value is its type's empty one."""
    kind = type(value)
    if value is None:
        return True
    if kind in _NUMBERS or kind is bool:
        return not value
    if kind is str or kind is bytes or kind in _LIST_KINDS or kind is dict or kind is MapView:
        return len(value) == 0
    if kind is Duration:
        return bool(value.nanos == 0)
    if kind is Timestamp:
        return bool(value.nanos == -62135596800 * 10**9)
    if kind is StructValue:
        return not value.fields
    return False
