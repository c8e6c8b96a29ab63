"""The types of CEL: what variables, fields and results are, and how large they may be.

Built by whoever knows the shape of the data (a CRD's schema, an API's OpenAPI); used by the checker, the cost
estimate and, for typed objects, by the evaluator to find fields. Two types are equal when kind, name and parameters
are: sizes never count. Source: cel-go ``common/types/types.go``, apiserver ``pkg/cel/types.go``, 1.36.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anynode.cel.escaping import RESERVED


class Kind(enum.IntEnum):
    UNSPECIFIED = 0
    ERROR = 1
    DYN = 2
    BOOL = 3
    BYTES = 4
    DOUBLE = 5
    DURATION = 6
    INT = 7
    LIST = 8
    MAP = 9
    NULL = 10
    OPAQUE = 11
    STRING = 12
    STRUCT = 13
    TIMESTAMP = 14
    TYPE = 15
    TYPE_PARAM = 16
    UINT = 17


SCALARS = frozenset({Kind.BOOL, Kind.DOUBLE, Kind.DURATION, Kind.INT, Kind.TIMESTAMP, Kind.UINT})
"""Kinds whose size is always one."""


class Type:
    """One type. ``max_size`` is the most elements, bytes or entries a value can have, -1 where nothing is known.

    ``min_serialized_size`` is the fewest bytes a value takes in JSON; a schema's reader needs it to bound lists.
    ``list_type`` (``set`` or ``map``, with ``list_map_keys``) makes equality and ``+`` of a list ignore the order.
    """

    __slots__ = ("kind", "list_map_keys", "list_type", "max_size", "min_serialized_size", "name", "parameters")

    def __init__(
        self,
        kind: Kind,
        name: str,
        parameters: tuple[Type, ...] = (),
        *,
        max_size: int = -1,
        min_serialized_size: int = 0,
        list_type: str = "",
        list_map_keys: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.name = name
        self.parameters = parameters
        self.max_size = max_size
        self.min_serialized_size = min_serialized_size
        self.list_type = list_type
        self.list_map_keys = list_map_keys

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Type):
            return NotImplemented
        return self.kind == other.kind and self.name == other.name and self.parameters == other.parameters

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.parameters))

    def __repr__(self) -> str:
        return f"Type({self})"

    def __str__(self) -> str:
        """As error texts name it: ``map(string, int)``."""
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(str(each) for each in self.parameters)})"

    def sized(self, max_size: int, *, min_serialized_size: int = 0) -> Type:
        """The same type with a known bound, for strings and bytes of a schema."""
        return Type(
            self.kind,
            self.name,
            self.parameters,
            max_size=max_size,
            min_serialized_size=min_serialized_size or self.min_serialized_size,
            list_type=self.list_type,
            list_map_keys=self.list_map_keys,
        )


class ObjectType(Type):
    """A type with named fields. ``fields`` maps CEL names (escaped, see ``escaping``) to types, or looks one up.

    A lookup may build types when asked, so recursive schemas need no end. Names must be unique in an environment:
    the type's identity is its name. ``open_fields`` marks objects that are plain maps at run time (an admission
    request, policy variables): no unescaping, null stays a value.
    """

    __slots__ = ("_fields", "_lookup", "open_fields", "readers")

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Type] | Callable[[str], Type | None],
        *,
        max_size: int = 0,
        min_serialized_size: int = 2,
        open_fields: bool = False,
    ) -> None:
        super().__init__(Kind.STRUCT, name, max_size=max_size, min_serialized_size=min_serialized_size)
        self._fields: dict[str, Type | None] = dict(fields) if isinstance(fields, Mapping) else {}
        self._lookup = None if isinstance(fields, Mapping) else fields
        self.open_fields = open_fields
        self.readers: dict[str, tuple[str, Callable[[Any], Any] | None] | None] = {}
        """How the evaluator reads a field, filled as fields are read."""

    def field(self, name: str) -> Type | None:
        """The type of a field by its CEL name, or None if there is none."""
        found = self._fields.get(name)
        if found is None and self._lookup is not None and name not in self._fields:
            found = self._fields[name] = self._lookup(name)
        if found is None and name in RESERVED:
            return self.field(f"__{name}__")
        return found


ERROR = Type(Kind.ERROR, "!error!")
DYN = Type(Kind.DYN, "dyn", min_serialized_size=1)
BOOL = Type(Kind.BOOL, "bool", max_size=0, min_serialized_size=4)
BYTES = Type(Kind.BYTES, "bytes", min_serialized_size=2)
DOUBLE = Type(Kind.DOUBLE, "double", max_size=0, min_serialized_size=1)
DURATION = Type(Kind.DURATION, "duration", min_serialized_size=3)
INT = Type(Kind.INT, "int", max_size=0, min_serialized_size=1)
NULL = Type(Kind.NULL, "null", max_size=0, min_serialized_size=4)
STRING = Type(Kind.STRING, "string", min_serialized_size=2)
TIMESTAMP = Type(Kind.TIMESTAMP, "timestamp", min_serialized_size=12)
UINT = Type(Kind.UINT, "uint", max_size=0, min_serialized_size=1)
TYPE = Type(Kind.TYPE, "type")


def list_of(
    element: Type, max_size: int = -1, *, list_type: str = "", list_map_keys: Sequence[str] = (), min_size: int = 2
) -> Type:
    """A list; ``list_type`` and ``list_map_keys`` are ``x-kubernetes-list-type`` and ``x-kubernetes-list-map-keys``."""
    return Type(
        Kind.LIST,
        "list",
        (element,),
        max_size=max_size,
        min_serialized_size=min_size,
        list_type=list_type,
        list_map_keys=tuple(list_map_keys),
    )


def map_of(key: Type, value: Type, max_size: int = -1) -> Type:
    return Type(Kind.MAP, "map", (key, value), max_size=max_size, min_serialized_size=2)


def optional_of(value: Type) -> Type:
    return Type(Kind.OPAQUE, "optional_type", (value,))


def type_of(value: Type) -> Type:
    """The type of an expression that names a type."""
    return Type(Kind.TYPE, "type", (value,))


def opaque(name: str, *parameters: Type) -> Type:
    return Type(Kind.OPAQUE, name, parameters)


def type_param(name: str) -> Type:
    return Type(Kind.TYPE_PARAM, name)


def message(name: str) -> Type:
    """A type with a name and functions but no fields."""
    return Type(Kind.STRUCT, name)


URL = message("kubernetes.URL")
IP = opaque("net.IP")
CIDR = opaque("net.CIDR")
QUANTITY = Type(Kind.STRUCT, "kubernetes.Quantity", min_serialized_size=8)
SEMVER = message("kubernetes.Semver")
FORMAT = message("kubernetes.NamedFormat")
AUTHORIZER = message("kubernetes.authorization.Authorizer")
PATH_CHECK = message("kubernetes.authorization.PathCheck")
GROUP_CHECK = message("kubernetes.authorization.GroupCheck")
RESOURCE_CHECK = message("kubernetes.authorization.ResourceCheck")
DECISION = message("kubernetes.authorization.Decision")


def is_dyn(of: Type) -> bool:
    return of.kind == Kind.DYN


def is_optional(of: Type) -> bool:
    return of.kind == Kind.OPAQUE and of.name == "optional_type"


def is_scalar(of: Type) -> bool:
    """Whether a value's size is one whatever it is."""
    return of.kind in SCALARS or (is_optional(of) and is_scalar(of.parameters[0]))
