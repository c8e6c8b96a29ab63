"""The shapes most kinds' strategies have: status kept apart, generations counted.

Each function returns a rule for ``KindRules``. Source: kubernetes ``pkg/registry/<group>/<kind>/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynode.api.objects import Object, meta

Prepare = Callable[[Object], Object]
PrepareUpdate = Callable[[Object, Object], Object]


def with_generation(obj: Object, generation: int) -> Object:
    """``obj`` with ``metadata.generation``; 0 removes it."""
    metadata = meta(obj)
    if generation:
        return {**obj, "metadata": {**metadata, "generation": generation}}
    if "generation" not in metadata:
        return obj
    return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "generation"}}


def with_field(obj: Object, field: str, value: Any) -> Object:
    """``obj`` with ``field``; None removes it."""
    if value is None:
        return without_fields(obj, (field,))
    return obj if obj.get(field) == value and field in obj else {**obj, field: value}


def put(target: Object, field: str, value: Any) -> None:
    """Set a field of a dict that is not shared yet; None removes it."""
    if value is None:
        target.pop(field, None)
    else:
        target[field] = value


def without_fields(obj: Object, fields: Sequence[str]) -> Object:
    if not any(field in obj for field in fields):
        return obj
    return {key: value for key, value in obj.items() if key not in fields}


def created(*, status: Object | None = None, generation: bool = True) -> Prepare:
    """For a create: ``status`` becomes this (None: is left alone), the generation 1 (or what it is)."""

    def prepare(obj: Object) -> Object:
        prepared = with_generation(obj, 1) if generation else obj
        return prepared if status is None else {**prepared, "status": status}

    return prepare


def same_value(one: Any, other: Any) -> bool:
    """Upstream's semantic equality: missing, null and empty are alike."""
    return bool(one == other or (not one and not other))


def changed(new: Object, old: Object, fields: Sequence[str]) -> bool:
    """Whether one of the fields differs; ``annotations`` are those of the metadata."""
    for field in fields:
        if field == "annotations":
            if not same_value(meta(new).get(field), meta(old).get(field)):
                return True
        elif not same_value(new.get(field), old.get(field)):
            return True
    return False


def updated(*, keep: Sequence[str] = ("status",), counted: Sequence[str] = ("spec",)) -> PrepareUpdate:
    """For an update: the fields of ``keep`` stay as they were, a change of ``counted`` counts the generation up."""

    def prepare(new: Object, old: Object) -> Object:
        for field in keep:
            new = with_field(new, field, old.get(field))
        if not counted:
            return new
        generation = meta(old).get("generation") or 0
        return with_generation(new, generation + 1 if changed(new, old, counted) else generation)

    return prepare


STATUS_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
"""What a write of the status leaves alone of the metadata, for kinds that do so."""


def status_only(*, keep: Sequence[str] = ("spec",), keep_metadata: Sequence[str] = ()) -> PrepareUpdate:
    """For ``/status``: the fields of ``keep`` and the metadata fields named stay as they were."""

    def prepare(new: Object, old: Object) -> Object:
        for field in keep:
            new = with_field(new, field, old.get(field))
        metadata, before = meta(new), meta(old)
        for field in keep_metadata:
            metadata = with_field(metadata, field, before.get(field))
        if metadata.get("generation") != before.get("generation"):
            metadata = with_field(metadata, "generation", before.get("generation"))
        return new if metadata is meta(new) else {**new, "metadata": metadata}

    return prepare
