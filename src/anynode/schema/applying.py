"""The object side of server-side apply: checking a config, merging it into the live object, taking paths out again.

Values go in shared and come out shared where they did not change. Source: structured-merge-diff v6
``typed/{validate,merge,remove}.go``, ``fieldpath/set.go`` (EnsureNamedFieldsAreMembers).
"""

from __future__ import annotations

from typing import Any

from anynode.api.go_text import go_type, go_value
from anynode.schema.field_sets import LEAF, Node, has_children, is_member, shown
from anynode.schema.shapes import LIST, LIST_MAP, SET, STRUCT, UNTYPED, UNTYPED_SHAPE, Shape, ShapeError


class _Absent:
    """Stands for a value that is not there, as null is a value."""


ABSENT = _Absent()


# Checking


def validate(shape: Shape, value: Any, path: str = "") -> list[str]:
    """What is wrong with an applied config, each ``path: text`` in upstream's words."""
    if shape.kind == UNTYPED or value is None:
        return []
    if shape.scalar:
        return [_at(path, text) for text in _scalar_complaints(shape.scalar, value)]
    if shape.kind in (LIST, LIST_MAP, SET):
        return _validate_list(shape, value, path)
    if not isinstance(value, dict):
        return [_at(path, f"expected map, got {_pointer(value)}")]
    wrong: list[str] = []
    for name, item in value.items():
        if name in shape.skipped:
            continue
        if shape.kind == STRUCT and name not in shape.fields:
            return [*wrong, f"{path}.{name}: field not declared in schema"]
        wrong.extend(validate(shape.member(name)[1], item, f"{path}.{name}"))
    return wrong


def _at(path: str, text: str) -> str:
    return f"{path}: {text}" if path else text


def _pointer(value: Any) -> str:
    """How Go prints its wrapper of ``value`` with ``%v``."""
    return f"&{{{go_value(value)}}}"


def _go_syntax(value: Any) -> str:
    """A JSON value as Go's ``%#v`` prints it."""
    if isinstance(value, dict):
        inner = ", ".join(f'"{key}":{_go_syntax(value[key])}' for key in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(_go_syntax(each) for each in value)}}}"
    if value is None:
        return "interface {}(nil)"
    return f'"{value}"' if isinstance(value, str) else go_value(value)


def _scalar_complaints(scalar: str, value: Any) -> list[str]:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if scalar == "string" and not isinstance(value, str):
        return [f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"]
    if scalar == "numeric" and not numeric:
        return [f"expected numeric (int or float), got {go_type(value)}"]
    if scalar == "boolean" and not isinstance(value, bool):
        return [f"expected boolean, got {_pointer(value)}"]
    if scalar == "untyped" and isinstance(value, dict | list):
        return [f"expected any scalar, got {_pointer(value)}"]
    return []


def _validate_list(shape: Shape, value: Any, path: str) -> list[str]:
    if not isinstance(value, list):
        return [_at(path, f"expected list, got {_pointer(value)}")]
    wrong: list[str] = []
    seen: set[str] = set()
    element = shape.element or UNTYPED_SHAPE
    for index, item in enumerate(value):
        key = f"i:{index}"
        if shape.kind != LIST:
            try:
                key = shape.item_element(item)
            except ShapeError as error:
                return [*wrong, _at(path, f"element {index}: {error}")]
            if key in seen:
                wrong.append(_at(path, f"duplicate entries for key {shown(key)}"))
            seen.add(key)
        wrong.extend(validate(element, item, f"{path}{shown(key)}"))
    return wrong


# Merging


def merge(shape: Shape, live: Any, config: Any) -> Any:
    """``live`` with what ``config`` says; either may be ``ABSENT``, not both."""
    if config is ABSENT:
        return live
    if live is ABSENT or shape.whole or (not live and not config):
        return config
    if shape.kind in (LIST_MAP, SET):
        return _merge_lists(shape, live or [], config or [])
    if isinstance(live, dict | None) and isinstance(config, dict | None):
        merged = dict(live or {})
        for name, value in (config or {}).items():
            merged[name] = merge(shape.member(name)[1], merged.get(name, ABSENT), value)
        return merged
    return config


def _merge_lists(shape: Shape, live: list[Any], config: list[Any]) -> list[Any]:
    """The items of both: the config's order leads, the live list's own items stay at their place."""
    element = shape.element or UNTYPED_SHAPE
    live_keys = [shape.item_element(item) for item in live]
    config_keys = [shape.item_element(item) for item in config]
    live_items: dict[str, Any] = {}
    for key, item in zip(live_keys, live, strict=True):
        live_items[key] = None if key in live_items else item  # items said twice are not merged
    config_items = dict(zip(config_keys, config, strict=True))
    shared = [key for key in config_keys if key in live_items]
    result: list[Any] = []
    done: set[str] = set()
    at = place = turn = 0

    def take(key: str) -> None:
        done.add(key)
        result.append(merge(element, live_items.get(key, ABSENT), config_items[key]))

    while at < len(live) or place < len(config):
        upcoming = shared[turn] if turn < len(shared) else None
        if at < len(live) and place < len(config):
            key = live_keys[at]
            if key == config_keys[place]:
                take(key)
                at, place, turn = at + 1, place + 1, turn + 1
                continue
            if key in config_items and upcoming is not None and upcoming != key:
                at += 1
                continue
        if at < len(live):
            key = live_keys[at]
            if key not in config_items:
                result.append(live[at])
                at += 1
                continue
            if key in done:
                at += 1
        if place < len(config):
            key = config_keys[place]
            take(key)
            place += 1
            if upcoming == key:
                turn += 1
    return result


# Taking out


def remove(shape: Shape, value: Any, paths: Node) -> Any:
    """``value`` without ``paths``; a map or list that lost all it had stays, empty."""
    if not has_children(paths):
        return value
    if shape.whole or not value:
        return value
    if isinstance(value, dict):
        return _remove_members(shape, value, paths)
    if isinstance(value, list) and shape.kind in (LIST_MAP, SET):
        return _remove_items(shape, value, paths)
    return value


def _remove_members(shape: Shape, value: dict[str, Any], paths: Node) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, item in value.items():
        key, inner = shape.member(name)
        below = paths.get(key)
        if below is None:
            kept[name] = item
        elif not is_member(below):
            kept[name] = remove(inner, item, below)
    return kept


def _remove_items(shape: Shape, value: list[Any], paths: Node) -> list[Any]:
    kept: list[Any] = []
    element = shape.element or UNTYPED_SHAPE
    for item in value:
        try:
            below = paths.get(shape.item_element(item))
        except ShapeError:
            below = None
        if below is None:
            kept.append(item)
        elif not is_member(below):
            kept.append(remove(element, item, below))
    return kept


def with_named_fields(shape: Shape, node: Node) -> Node:
    """``node`` with every struct field on the way to a member made a member too."""
    result: Node = {}
    for key, below in node.items():
        if key == ".":
            result[key] = below
            continue
        inner, named = UNTYPED_SHAPE, False
        if key.startswith("f:"):
            name = key[2:]
            named = name in shape.fields
            inner = shape.member(name)[1]
        elif shape.element is not None:
            inner = shape.element
        if below:
            below = with_named_fields(inner, below)
            if named and "." not in below:
                below = {".": LEAF, **below}
        result[key] = below
    return result
