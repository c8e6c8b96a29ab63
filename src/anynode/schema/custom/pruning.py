"""What a custom object keeps of what was sent: known fields, metadata that can be read, values its schema defaults.

Objects come in shared and go out as copies along the changed path. Source: apiextensions-apiserver
``pkg/apiserver/schema/{pruning,objectmeta,defaulting}``, ``pkg/apiserver/customresource_handler.go``, 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from anynode.api.errors import RequestEntityTooLarge
from anynode.api.objects import Object
from anynode.schema import typed, types
from anynode.schema.custom.structural import META_FIELDS, Structural
from anynode.schema.custom.wording import NOWHERE, child, invalid

MOST_DEFAULTED_BYTES = 8 * 1024 * 1024
_OBJECT_META = f"{types.META}ObjectMeta"
_OWNER_FIELDS = frozenset(("manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"))


class _Findings:
    """Unknown fields met on the way, and whether there was a null to look at again."""

    __slots__ = ("nulls", "unknown")

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.nulls = False


def pruned(obj: Any, node: Structural | None, *, whole: bool, keep_nulls: bool = False) -> tuple[Any, Sequence[str]]:
    """``(obj without the fields its schema does not know, their paths)``; ``whole``: it has metadata of its own.

    Members that are null and may not be go, too, unless ``keep_nulls``.
    """
    if whole and node is not None:
        node = node.as_embedded()
    elif whole:
        node = Structural({}).as_embedded()
    findings = _Findings()
    found = _pruned(obj, node, "", findings)
    if findings.nulls and not keep_nulls:
        found = _without_nulls(found, node)
    return found, sorted(findings.unknown)


def _pruned(value: Any, node: Structural | None, path: str, findings: _Findings) -> Any:
    if value.__class__ is dict:
        return _pruned_dict(value, node, path, findings)
    if value.__class__ is list:
        items = None if node is None else node.items
        if node is not None and node.preserve:
            if items is None:
                return value
            items = node.items_that_keep()  # lists hand on that what is unknown stays, objects do not
        new = [_pruned(each, items, f"{path}[{index}]", findings) for index, each in enumerate(value)]
        if None in value:
            findings.nulls = True
        return value if all(one is other for one, other in zip(new, value, strict=True)) else new
    return _whole(value, node) if value.__class__ is float else value


_DEEP = frozenset({dict, list})
_EXACT = 2**53


def _whole(value: float, node: Structural | None) -> float:
    """A number of an integer's field without the ``.0`` it may have come with: that is how Go writes it."""
    is_whole = node is not None and node.type == "integer" and value.is_integer() and abs(value) < _EXACT
    return int(value) if is_whole else value


def _pruned_dict(value: Object, node: Structural | None, path: str, findings: _Findings) -> Object:
    if node is None:
        findings.unknown.extend(child(path, key) for key in value)
        return {} if value else value
    result: Object | None = None
    properties, additional = node.properties, node.additional
    for key, item in value.items():
        if node.embedded and key in META_FIELDS:
            findings.nulls = findings.nulls or item is None
            continue
        inner = properties.get(key)
        if inner is None:
            if not node.open:
                if node.preserve:
                    continue
                if path or key not in META_FIELDS:
                    findings.unknown.append(child(path, key))
                result = dict(value) if result is None else result
                del result[key]
                continue
            inner = additional
        if item.__class__ in _DEEP:
            new = _pruned(item, inner, child(path, key), findings)
            if new is not item:
                result = dict(value) if result is None else result
                result[key] = new
        elif item is None:
            findings.nulls = True
        elif item.__class__ is float and item.is_integer():
            result = dict(value) if result is None else result
            result[key] = _whole(item, inner)
    return value if result is None else result


def _without_nulls(value: Any, node: Structural | None) -> Any:
    """``value`` without members that are null though they may not be and have no default."""
    if isinstance(value, dict):
        kept = {}
        for key, item in value.items():
            inner = None if node is None else node.member(key)
            if item is None and inner is not None and not inner.nullable and inner.default is None:
                continue
            kept[key] = item if inner is None else _without_nulls(item, inner)
        return kept
    if isinstance(value, list):
        items = None if node is None else node.items
        return value if items is None else [_without_nulls(each, items) for each in value]
    return value


# Metadata


def read_metadata(metadata: Any, *, lenient: bool) -> tuple[Object, list[str]]:
    """``(metadata as Go reads and writes it, unknown fields)``; raises ``DecodeError``.

    ``lenient``: what cannot be read is left out, as for objects that are stored already.
    """
    check = typed.compiled(types.builtin()).struct(_OBJECT_META)
    unknown: list[str] = []
    if metadata is None:
        return {}, []
    try:
        found: Object = check(metadata, unknown)
    except typed.DecodeError:
        if not lenient or not isinstance(metadata, dict):
            raise
        found = {}
        for name, value in metadata.items():
            found.update(_readable(name, value))
    if unknown or "managedFields" in found:
        unknown = sorted([*unknown, *_strange_owners(found.get("managedFields"))], key=_steps)
        if found.get("managedFields") == []:  # which is as good as not said
            found = {name: value for name, value in found.items() if name != "managedFields"}
    return found, [path[1:] for path in unknown]


def _strange_owners(entries: Any) -> list[str]:
    return [
        f".managedFields[{at}].{name}"
        for at, entry in enumerate(entries or ())
        for name in entry or ()
        if name not in _OWNER_FIELDS
    ]


def _steps(path: str) -> list[int | str]:
    return [int(step) if step.isdecimal() else step for step in re.split(r"[.\[\]]+", path)]


def _readable(name: str, value: Any) -> Object:
    check = typed.compiled(types.builtin()).struct(_OBJECT_META)
    try:
        found: Object = check({name: value}, [])
    except typed.DecodeError:
        return {}
    return found


def coerced(value: Any, node: Structural | None, path: str, unknown: list[str], *, lenient: bool) -> Any:
    """``value`` with the metadata of embedded objects as Go reads it; raises ``DecodeError`` for what it cannot."""
    if node is None or not node.embeds:
        return value
    if isinstance(value, list):
        items = node.items
        return [coerced(each, items, f"{path}[{at}]", unknown, lenient=lenient) for at, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for key, item in value.items():
        if node.embedded and key in META_FIELDS:
            if not _coerce_meta(result, key, item, path, unknown, lenient=lenient):
                continue
            item = result[key]
        inner = node.properties.get(key)
        if inner is not None:
            result[key] = coerced(item, inner, child(path, key), unknown, lenient=lenient)
        elif node.additional is not None:
            result[key] = coerced(item, node.additional, f"{path}[{key}]", unknown, lenient=lenient)
    return result


def _coerce_meta(result: Object, key: str, item: Any, path: str, unknown: list[str], *, lenient: bool) -> bool:
    """Put the readable form of a field of an embedded object into ``result``; False: it is dropped."""
    if key != "metadata":
        if isinstance(item, str):
            return True
        if not lenient:
            raise _refused(child(path, key), item, "must be a string")
        del result[key]
        return False
    try:
        result[key], strangers = read_metadata(item, lenient=lenient)
    except typed.DecodeError as error:
        if lenient:
            return True
        raise _refused(child(path, key), item, str(error)) from None
    unknown.extend(f"{child(path, key)}.{each}" for each in strangers)
    return True


def _refused(path: str, value: Any, why: str) -> typed.DecodeError:
    error = invalid(path, value, why)
    return typed.DecodeError(f"{error.field if error.field != NOWHERE else NOWHERE}: {error.message}")


# Defaults


class _Growth:
    """How much defaults may still add to one object: a short list of empty items can call for gigabytes."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_DEFAULTED_BYTES

    def add(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise RequestEntityTooLarge(f"Request entity too large: defaults add more than {MOST_DEFAULTED_BYTES}")


def defaulted(value: Any, node: Structural | None) -> Any:
    """``value`` with what its schema says for members that are missing, or null where they may not be.

    Raises ``RequestEntityTooLarge`` where defaults add more than ``MOST_DEFAULTED_BYTES``."""
    return value if node is None or not node.defaults else _defaulted(value, node, _Growth())


def _defaulted(value: Any, node: Structural, growth: _Growth) -> Any:
    if value.__class__ is dict:
        return _defaulted_dict(value, node, growth)
    if value.__class__ is list and node.items is not None:
        items = node.items
        new = [_defaulted_item(each, items, growth) for each in value]
        return value if all(one is other for one, other in zip(new, value, strict=True)) else new
    return value


def _defaulted_item(value: Any, node: Structural, growth: _Growth) -> Any:
    if value is None and not node.nullable:
        value = node.default
        growth.add(node.default_bytes)
    return _defaulted(value, node, growth) if node.defaults else value


def _defaulted_dict(value: Object, node: Structural, growth: _Growth) -> Object:
    result: Object | None = None
    for name, default, nullable, size in node.defaulted:
        if name not in value or (value[name] is None and not nullable):
            result = dict(value) if result is None else result
            result[name] = default
            growth.add(size + len(name))
    source = value if result is None else result
    changes: Object = {}
    properties, additional = node.properties, node.additional
    for key, item in source.items():
        inner = properties.get(key)
        if inner is not None:
            if inner.defaults and item is not None:
                new = _defaulted(item, inner, growth)
                if new is not item:
                    changes[key] = new
        elif additional is not None:
            new = _defaulted_item(item, additional, growth)
            if new is not item:
                changes[key] = new
    return {**source, **changes} if changes else source
