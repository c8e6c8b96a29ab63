"""Objects with their fields in the order Go writes them, for messages that show whole objects.

A checked object comes in, an equal one goes out: fields of structs as they are declared, keys of maps sorted. That is
the order of the protobuf numbers but for the types in ``data/field-order.json``. Source: kubernetes
``staging/src/k8s.io/api``, 1.36.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

from anynode.api.objects import Object
from anynode.schema.types import Field, Types

_FIRST = {"kind": -2, "apiVersion": -1}


@functools.cache
def _declared() -> Mapping[str, Sequence[str]]:
    text = importlib.resources.files("anynode.schema").joinpath("data/field-order.json").read_text()
    found: dict[str, Sequence[str]] = json.loads(text)
    return found


def _ranks(name: str, types: Types) -> Mapping[str, Any]:
    memory = types.compiled("go order")
    found: Mapping[str, Any] | None = memory.get(name)
    if found is None:
        declared = _declared().get(name)
        if declared is not None:
            found = {field: at for at, field in enumerate(declared)}
        else:
            by_number = sorted(types[name].fields.values(), key=_number)
            found = {
                field.name: at if field.number else _FIRST.get(field.name, at) for at, field in enumerate(by_number)
            }
        memory[name] = found
    return found


def _number(field: Field) -> tuple[int, ...]:
    return field.number if isinstance(field.number, tuple) else (field.number,)


def in_go_order(obj: Any, name: str, types: Types) -> Any:
    """``obj``, of the type ``name``, in Go's order."""
    if not isinstance(obj, dict):
        return obj
    ranks, fields = _ranks(name, types), types[name].fields
    ordered: Object = {}
    for key in sorted(obj, key=lambda each: ranks.get(each, len(ranks))):
        field = fields.get(key)
        ordered[key] = obj[key] if field is None else _whole(obj[key], field, types)
    return ordered


def _whole(value: Any, field: Field, types: Types) -> Any:
    if field.shape == "l" and isinstance(value, list):
        return value if field.kind != "m" else [in_go_order(each, field.target, types) for each in value]
    if field.shape and isinstance(value, dict):
        one = field.kind == "m" and field.shape == "m"
        return {key: in_go_order(value[key], field.target, types) if one else value[key] for key in sorted(value)}
    return in_go_order(value, field.target, types) if field.kind == "m" else value
