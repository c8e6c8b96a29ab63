"""What changed between two objects of one type, as sets of paths: added, removed, modified.

Parts that both objects share are not looked into, so comparing costs what the change is worth. Source:
structured-merge-diff v6 ``typed/compare.go``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from anynode.schema.field_sets import LEAF, Node
from anynode.schema.recent import MOST_REMEMBERED
from anynode.schema.shapes import LIST_MAP, SET, UNTYPED_SHAPE, Shape, ShapeError, grown


class Change(NamedTuple):
    """Nodes below the value compared; None where there is nothing, ``LEAF`` in ``modified`` for the value itself."""

    added: Node | None
    removed: Node | None
    modified: Node | None


_ALMOST_EMPTY = 1
"""As many fields has what a new object is compared with: those that are always written."""
SAME = Change(None, None, None)
MODIFIED = Change(None, None, LEAF)


def compare(shape: Shape, left: Any, right: Any) -> Change:
    """The change from ``left`` to ``right``, both present; null counts as present."""
    if left is right:
        return SAME
    if shape.whole:
        return SAME if left == right else MODIFIED
    if not left and not right:
        return SAME if left == right and left.__class__ is right.__class__ else MODIFIED
    left_map, right_map = left.__class__ is dict, right.__class__ is dict
    if shape.kind in (LIST_MAP, SET):
        return _compare_lists(shape, left or [], right or [])
    if (left_map or left is None) and (right_map or right is None):
        if shape.repeated is not None and len(left or ()) <= _ALMOST_EMPTY:
            return _compare_repeated(shape, shape.repeated, left, right)
        return _compare_maps(shape, left or {}, right or {})
    return SAME if left == right else MODIFIED


def _compare_repeated(
    shape: Shape, known: dict[int, tuple[Any, Any, Change]], left: Any, right: dict[str, Any] | None
) -> Change:
    """The same for values of which ``right`` may have been compared with that very ``left`` before."""
    found = known.get(id(right))
    if found is not None and found[0] is left and found[1] is right:
        return found[2]
    change = _compare_maps(shape, left or {}, right or {})
    if len(known) >= MOST_REMEMBERED:
        known.clear()
    known[id(right)] = (left, right, change)
    return change


def _compare_maps(shape: Shape, left: dict[str, Any], right: dict[str, Any]) -> Change:
    added: Node = {}
    removed: Node = {}
    modified: Node = {}
    fields, skipped = shape.fields, shape.skipped
    element = shape.element or UNTYPED_SHAPE
    for name, value in right.items():
        if name in skipped:
            continue
        old = left.get(name)
        if old is value and (old is not None or name in left):
            continue
        found = fields.get(name)
        key, inner = found if found is not None else (f"f:{name}", element)
        if old is None and name not in left:
            added[key] = LEAF if inner.whole or not value else grown(inner, value)
        elif inner.whole:
            if old != value:
                modified[key] = LEAF
        else:
            _collect(added, removed, modified, key, compare(inner, old, value))
    for name, old in left.items():
        if name not in right and name not in skipped:
            found = fields.get(name)
            key, inner = found if found is not None else (f"f:{name}", element)
            removed[key] = grown(inner, old)
    return Change(_ordered(added), removed or None, _ordered(modified))


def _ordered(node: Node) -> Node | None:
    """``node`` with its keys sorted, so that it can stand in an entry as it is; None for none."""
    return dict(sorted(node.items())) if len(node) > 1 else node or None


def _collect(added: Node, removed: Node, modified: Node, key: str, change: Change) -> None:
    if change.added is not None:
        added[key] = change.added
    if change.removed is not None:
        removed[key] = change.removed
    if change.modified is not None:
        modified[key] = change.modified


def _compare_lists(shape: Shape, left: list[Any], right: list[Any]) -> Change:
    if left.__class__ is not list or right.__class__ is not list:
        return SAME if left == right else MODIFIED
    added: Node = {}
    removed: Node = {}
    modified: Node = {}
    element = shape.element or UNTYPED_SHAPE
    old_items, new_items = _indexed(shape, left), _indexed(shape, right)
    for key, new in new_items.items():
        old = old_items.get(key)
        if old is None:
            added[key] = grown(element, new[0]) if len(new) == 1 else LEAF
        elif len(old) == 1 and len(new) == 1:
            _collect(added, removed, modified, key, compare(element, old[0], new[0]))
        elif len(old) > 1 and len(new) > 1:
            if old != new:
                modified[key] = LEAF
        elif len(old) > 1:
            added[key] = grown(element, new[0])
            removed[key] = LEAF
        else:
            removed[key] = grown(element, old[0])
            added[key] = LEAF
    for key, old in old_items.items():
        if key not in new_items:
            removed[key] = grown(element, old[0]) if len(old) == 1 else LEAF
    return Change(_ordered(added), removed or None, _ordered(modified))


def _indexed(shape: Shape, items: list[Any]) -> dict[str, list[Any]]:
    """Path element -> the items that have it."""
    found: dict[str, list[Any]] = {}
    for item in items:
        try:
            key = shape.item_element(item)
        except ShapeError:
            continue
        if key in found:
            found[key].append(item)
        else:
            found[key] = [item]
    return found
