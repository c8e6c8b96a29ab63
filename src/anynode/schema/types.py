"""The type table: what every built-in type's fields are in JSON, in protobuf and to patches and server-side apply.

``data/types.txt`` (made by ``tools/gen_types.py``) is split into lines when the table is loaded; a line is read when
its type is first asked for. Source: protobuf struct tags and OpenAPI markers of Kubernetes 1.36.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

_LOCAL = ("LocalObjectReference",)
EMBEDDED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("ConfigMapEnvSource", "ConfigMapKeySelector", "ConfigMapProjection"), _LOCAL),
    **dict.fromkeys(("SecretEnvSource", "SecretKeySelector", "SecretProjection", "ConfigMapVolumeSource"), _LOCAL),
    "EphemeralContainer": ("EphemeralContainerCommon",),
    "PersistentVolumeSpec": ("PersistentVolumeSource",),
    "Probe": ("ProbeHandler",),
    "Volume": ("VolumeSource",),
    "IngressRule": ("IngressRuleValue",),
    "NamedRuleWithOperations": ("RuleWithOperations", "Rule"),
    "RuleWithOperations": ("Rule",),
    **dict.fromkeys(
        ("DeviceAllocationConfiguration", "DeviceClaimConfiguration", "DeviceClassConfiguration"),
        ("DeviceConfiguration",),
    ),
}
"""Type -> the structs embedded in it, one in the other, whose names stand in Go's messages before their fields'."""

META = "io.k8s.apimachinery.pkg.apis.meta.v1."

REPEATED = frozenset(("io.k8s.api.core.v1.PodSpec",))
"""Types of which many objects hold equal values: those made from one template."""

SCALARS: Mapping[str, str] = {
    "s": "string", "b": "bool", "y": "[]uint8", "i": "int32", "l": "int64",
    "u": "uint32", "U": "uint64", "d": "float64",
}  # fmt: skip
"""Kinds of plain values -> Go's name of the type."""


class Field(NamedTuple):
    """One field of a type.

    ``kind``: one of ``SCALARS``, or ``q`` Quantity, ``t`` Time, ``T`` MicroTime, ``D`` Duration, ``I`` IntOrString,
    ``F`` FieldsV1, ``R`` RawExtension, ``J`` any JSON, ``m`` the message ``target``.
    ``shape``: empty for one value, ``l`` a list, ``m`` a map from strings, ``M`` a map from strings to lists.
    ``number``: the protobuf field, a path of numbers for a field of an inlined message, 0 where there is none.
    """

    name: str
    number: int | tuple[int, ...]
    kind: str
    shape: str
    pointer: bool
    omitempty: bool
    omitzero: bool
    required: bool
    target: str
    list_type: str
    map_keys: tuple[str, ...]
    patch_strategies: tuple[str, ...]
    merge_key: str
    map_type: str
    default: Any

    @property
    def go_type(self) -> str:
        """How Go's messages name the type of the whole field."""
        element = self.element_go_type
        if element == "v1.ValidationRule":
            return "v1.ValidationRules"
        if self.kind == "q" and self.shape == "m":
            return "v1.ResourceList"
        return {"": "", "l": "[]", "m": "map[string]", "M": "map[string]"}[self.shape] + element

    @property
    def element_go_type(self) -> str:
        """How Go's messages name the type of one value."""
        if self.kind == "m":
            return ".".join(self.target.split(".")[-2:])
        return self.target or SCALARS.get(self.kind, "interface {}")


class TypeInfo:
    """One type: its fields by JSON name, and whether server-side apply takes it as a whole."""

    __slots__ = ("atomic", "fields", "name")

    def __init__(self, name: str, *, atomic: bool, fields: Mapping[str, Field]) -> None:
        self.name = name
        self.atomic = atomic
        self.fields = fields

    @property
    def go_type(self) -> str:
        return ".".join(self.name.split(".")[-2:])

    @property
    def embedding(self) -> Mapping[str, str]:
        """The fields of embedded structs -> how Go's messages name them."""
        around = EMBEDDED.get(self.short_name, ())
        return {
            field.name: ".".join((*around[: len(field.number) - 1], field.name))
            for field in self.fields.values()
            if isinstance(field.number, tuple)
        }

    @property
    def short_name(self) -> str:
        return self.name.rpartition(".")[2]


def _field(row: list[Any]) -> Field:
    name, number, kind, shape, flags, target = row[:6]
    markers: dict[str, Any] = row[6] if len(row) > 6 else {}
    return Field(
        name=name,
        number=tuple(number) if isinstance(number, list) else number,
        kind=kind,
        shape=shape,
        pointer="p" in flags,
        omitempty="o" in flags,
        omitzero="z" in flags,
        required="r" in flags,
        target=target,
        list_type=markers.get("lt", ""),
        map_keys=tuple(markers.get("mk", ())),
        patch_strategies=tuple(markers["ps"].split(",")) if "ps" in markers else (),
        merge_key=markers.get("pk", ""),
        map_type=markers.get("mt", ""),
        default=markers.get("df"),
    )


class Types:
    """All known types, read one by one when first asked for; also keeps what others compile from them."""

    def __init__(self, lines: Mapping[str, tuple[str, str]], kinds: Mapping[tuple[str, str, str], str]) -> None:
        """``lines``: name -> (atomic mark, fields as JSON); ``kinds``: (group, version, kind) -> name."""
        self._lines = lines
        self._kinds = kinds
        self._read: dict[str, TypeInfo] = {}
        self._compiled: dict[str, dict[Any, Any]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __getitem__(self, name: str) -> TypeInfo:
        """The type; raises ``KeyError`` for a name that is not known."""
        found = self._read.get(name)
        if found is None:
            atomic, text = self._lines[name]
            fields = [_field(row) for row in orjson.loads(text)]
            found = TypeInfo(name, atomic=atomic == "A", fields={field.name: field for field in fields})
            self._read[name] = found
        return found

    def of_kind(self, api_version: str, kind: str) -> str:
        """The name of the type whose objects say ``apiVersion`` and ``kind``; empty when there is none.

        The options, ``Status`` and the like belong to every group and version.
        """
        group, _, version = api_version.rpartition("/")
        found = self._kinds.get((group, version, kind))
        if found is not None:
            return found
        shared = META + kind
        return shared if shared in self._lines and kind not in ("Condition", "ObjectMeta", "ListMeta") else ""

    def compiled(self, purpose: str) -> dict[Any, Any]:
        """A dict that lives as long as the table, for what ``purpose`` derives from it."""
        return self._compiled.setdefault(purpose, {})


@functools.cache
def builtin() -> Types:
    """The types of Kubernetes 1.36."""
    text = importlib.resources.files("anynode.schema").joinpath("data/types.txt").read_text()
    lines: dict[str, tuple[str, str]] = {}
    kinds: dict[tuple[str, str, str], str] = {}
    for line in text.splitlines():
        name, kind, atomic, fields = line.split("\t")
        lines[name] = (atomic, fields)
        if kind != "-":
            group, version, plain = kind.split("/")
            kinds[group, version, plain] = name
    return Types(lines, kinds)
