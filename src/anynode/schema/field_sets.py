"""Sets of paths into objects, kept in the form the wire has them: ``FieldsV1``.

A node is a dict from path elements (``f:name``, ``k:{"name":"c"}``, ``v:"x"``, ``i:0``) to nodes. A node is a member
itself when it is empty or holds ``.``. Nodes are shared and never changed; where nothing changes, the node that came
in goes out. Source: structured-merge-diff v6 ``fieldpath/{set,serialize,element}.go``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from anynode.api.go_text import go_value
from anynode.api.remembering import is_short, remembered

Node = dict[str, Any]

LEAF: Node = {}
"""A member without anything below it."""


def is_member(node: Node) -> bool:
    return not node or "." in node


def has_children(node: Node) -> bool:
    return bool(node) and (len(node) > 1 or "." not in node)


def is_set(value: Any) -> bool:
    """Whether a client's ``FieldsV1`` is one."""
    return isinstance(value, dict) and all(
        (key == "." or key[:2] in ("f:", "k:", "v:", "i:")) and is_set(below) for key, below in value.items()
    )


def union(left: Node, right: Node) -> Node:
    """What is in either; both are sets (roots), not members."""
    result: Node | None = None
    for key, node in right.items():
        mine = left.get(key)
        merged = node if mine is None else _joined(mine, node)
        if merged is mine:
            continue
        if result is None:
            result = dict(left)
        result[key] = merged
    return left if result is None else result


def _joined(left: Node, right: Node) -> Node:
    if left is right:
        return left
    if not has_children(left):
        return right if is_member(right) else {".": LEAF, **right}
    joined = union(left, {key: node for key, node in right.items() if key != "."} if "." in right else right)
    if is_member(right) and "." not in joined:
        return {".": LEAF, **joined}
    return joined


def difference(left: Node, right: Node) -> Node:
    """What is in ``left`` and not in ``right``; a path is removed without what lies below it."""
    result: Node | None = None
    for key, node in right.items():
        mine = left.get(key)
        if mine is None or key == ".":
            continue
        rest = _reduced(mine, node)
        if rest is mine:
            continue
        if result is None:
            result = dict(left)
        if rest is None:
            del result[key]
        else:
            result[key] = rest
    return left if result is None else result


def _reduced(left: Node, right: Node) -> Node | None:
    """``left`` without ``right``; None when nothing is left of it."""
    member = is_member(left) and not is_member(right)
    if not has_children(left):
        return left if member else None
    below = difference(left, right) if right else left
    if not member and "." in below:
        below = {key: node for key, node in below.items() if key != "."}
    if not has_children(below):
        return LEAF if member else None
    return below


def intersection(left: Node, right: Node) -> Node:
    """What is in both."""
    result: Node = {}
    for key, node in right.items():
        mine = left.get(key)
        if mine is None or key == ".":
            continue
        member = is_member(mine) and is_member(node)
        below = intersection(mine, node) if has_children(mine) and has_children(node) else LEAF
        if below:
            result[key] = {".": LEAF, **below} if member else below
        elif member:
            result[key] = LEAF
    return result


def without_paths(node: Node, paths: Sequence[tuple[str, ...]]) -> Node:
    """``node`` without these paths (of field names) and all below them."""
    for path in paths:
        node = _without_path(node, path)
    return node


def _without_path(node: Node, path: tuple[str, ...]) -> Node:
    key = f"f:{path[0]}"
    below = node.get(key)
    if below is None:
        return node
    rest = _without_path(below, path[1:]) if len(path) > 1 and below else LEAF
    if rest is below and len(path) > 1:
        return node
    if rest:
        return {**node, key: rest}
    return {name: each for name, each in node.items() if name != key}


def sorted_set(node: Node) -> Node:
    """``node`` with its path elements in order, as upstream writes them."""
    return {key: sorted_set(node[key]) if node[key] else LEAF for key in sorted(node)}


def key_element(name: str, value: Any) -> str:
    """The path element of a list-map item with one key."""
    return _key_element(name, value) if is_short(value) else keys_element([(name, value)])


@functools.lru_cache(maxsize=8192)
def _key_element(name: str, value: Any) -> str:
    return f"k:{orjson.dumps({name: value}).decode()}"


def keys_element(pairs: Sequence[tuple[str, Any]]) -> str:
    """The path element of a list-map item with several keys."""
    return f"k:{orjson.dumps(dict(sorted(pairs))).decode()}"


@remembered(8192)
def value_element(value: Any) -> str:
    """The path element of an item of a set."""
    return f"v:{orjson.dumps(value).decode()}"


# For people


def shown_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else go_value(value)


def shown(element: str) -> str:
    """A path element as messages print it: ``.name``, ``[name="c"]``, ``[="x"]``, ``[0]``."""
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return f".{text}"
    if kind == "i:":
        return f"[{text}]"
    try:
        value = json.loads(text)
    except ValueError:  # made up by a client
        return f"[{text}]"
    if kind == "k:" and isinstance(value, dict):
        return f"[{','.join(f'{name}={shown_value(value[name])}' for name in sorted(value))}]"
    return f"[={shown_value(value)}]"


def _order(element: str) -> tuple[int, str]:
    return "fkvi".find(element[:1]), element


def paths(node: Node, prefix: str = "") -> Iterator[str]:
    """Every member as messages print it: at each level the members first, then what lies below."""
    keys = sorted((key for key in node if key != "."), key=_order)
    for key in keys:
        if is_member(node[key]):
            yield prefix + shown(key)
    for key in keys:
        if has_children(node[key]):
            yield from paths(node[key], prefix + shown(key))
