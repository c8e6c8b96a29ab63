"""What storing does to an object: lists and maps that are always written come back as null when they are empty.

A kube-apiserver keeps built-in objects as protobuf, which cannot tell an empty list from none. Only the branches of a
type that can hold such a field are looked into. Source: apimachinery ``pkg/runtime/serializer/protobuf``, and the
``json`` tags without ``omitempty`` of Kubernetes 1.36.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from anynode.api.objects import Object
from anynode.schema.types import Types

_KEPT_AS_JSON = frozenset(("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",))


class _Branch(NamedTuple):
    """One field to look at: whether it becomes null when empty, and the type to look into (empty: none)."""

    name: str
    nullable: bool
    target: str
    is_map: bool


def as_stored(obj: Object, type_name: str, types: Types) -> Object:
    """``obj`` as it is read back: itself where nothing changes."""
    if type_name in _KEPT_AS_JSON:
        return obj
    found: Object = _settled(obj, type_name, _plans(types))
    return found


class _Plans:
    """Type name -> the branches that matter, found when first asked for."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._known: dict[str, tuple[_Branch, ...]] = {}
        self._holds: dict[str, bool] = {}

    def of(self, name: str) -> tuple[_Branch, ...]:
        found = self._known.get(name)
        if found is None:
            branches = []
            for field in self._types[name].fields.values():
                nullable = bool(field.shape) and not field.omitempty
                inside = field.kind == "m" and self._matters(field.target, frozenset((name,)))
                if nullable or inside:
                    branches.append(_Branch(field.name, nullable, field.target if inside else "", field.shape == "m"))
            found = self._known[name] = tuple(branches)
        return found

    def _matters(self, name: str, above: frozenset[str]) -> bool:
        """Whether the type, or one it holds, has such a field."""
        known = self._holds.get(name)
        if known is not None or name in above:
            return bool(known)
        fields = self._types[name].fields.values()
        found = any(field.shape and not field.omitempty for field in fields) or any(
            field.kind == "m" and self._matters(field.target, above | {name}) for field in fields
        )
        if found or not above:
            self._holds[name] = found
        return found


def _plans(types: Types) -> _Plans:
    memory = types.compiled("stored")
    found: _Plans | None = memory.get("plans")
    if found is None:
        found = memory["plans"] = _Plans(types)
    return found


def _settled(value: Any, type_name: str, plans: _Plans) -> Any:
    result: Object | None = None
    for branch in plans.of(type_name):
        item = value.get(branch.name)
        if item is None:
            continue
        if branch.nullable and not item:
            new: Any = None
        elif branch.target:
            new = _inside(item, branch, plans)
            if new is item:
                continue
        else:
            continue
        if result is None:
            result = dict(value)
        result[branch.name] = new
    return value if result is None else result


def _inside(item: Any, branch: _Branch, plans: _Plans) -> Any:
    if isinstance(item, list):
        items = [_settled(each, branch.target, plans) for each in item]
        return item if all(new is old for new, old in zip(items, item, strict=True)) else items
    if branch.is_map:
        settled = {key: _settled(each, branch.target, plans) for key, each in item.items()}
        return item if all(settled[key] is item[key] for key in item) else settled
    return _settled(item, branch.target, plans)
