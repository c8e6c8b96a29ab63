"""Which old value stands behind each part of a changed object, and whether the part is still the same.

Members correlate by name, items of lists of the type map by their keys, items of other lists not at all. Source:
apiserver ``pkg/cel/common/{equality,maplist}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynode.api.go_text import go_quoted
from anynode.schema.custom.structural import Structural


def alike(one: Any, other: Any) -> bool:
    """Go's deep equality of JSON values: ``true`` is not 1, and 1 is not 1.0."""
    if one.__class__ is not other.__class__:
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(key in other and alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


class ItemIndex:
    """The old items of a list of the type map, found by their keys; empty for any other list."""

    __slots__ = ("_items", "_keys", "active")

    def __init__(self, node: Structural, items: Sequence[Any] | None) -> None:
        self.active = bool(node.type == "array" and node.list_type == "map" and node.list_keys and items)
        self._keys = node.list_keys
        self._items: dict[Any, Any] = {}
        if self.active:
            for item in items or ():
                key = self._key(item)
                if key is not None:
                    self._items.setdefault(key, item)

    def get(self, item: Any) -> Any:
        """The old item with the keys of ``item``, or None."""
        key = self._key(item) if self.active else None
        return None if key is None else self._items.get(key)

    def _key(self, item: Any) -> tuple[Any, ...] | None:
        if not isinstance(item, dict):
            return None
        found = []
        for name in self._keys:
            value = item.get(name)
            if value is None or isinstance(value, dict | list):
                return None
            found.append((value.__class__.__name__, go_quoted(value) if isinstance(value, str) else value))
        return tuple(found)


class Correlated:
    """A value and the one it replaces."""

    __slots__ = ("_children", "_index", "_node", "_same", "old", "value")

    def __init__(self, value: Any, old: Any, node: Structural | None) -> None:
        self.value = value
        self.old = old
        self._node = node
        self._same: bool | None = None
        self._index: ItemIndex | None = None
        self._children: dict[str | int, Correlated] = {}

    def same(self) -> bool:
        """Whether nothing changed; items of a list of the type map may have changed places."""
        if self._same is None:
            self._same = self._compare()
        return self._same

    def _compare(self) -> bool:
        value, old = self.value, self.old
        if isinstance(value, list) and isinstance(old, list):
            return self._compare_lists(value, old)
        if isinstance(value, dict) and isinstance(old, dict):
            if len(value) != len(old):
                return False
            for name in value:
                child = self.key(name)
                if child is None or not child.same():
                    return False
            return True
        return alike(value, old)

    def _compare_lists(self, value: list[Any], old: list[Any]) -> bool:
        if len(value) != len(old):
            return False
        for index in range(len(value)):
            child = self.index(index)
            if child is None:
                return self._index is None and alike(old, value)
            if not child.same():
                return False
        return True

    def key(self, name: str) -> Correlated | None:
        """The member ``name``, where both objects have it and the schema knows it."""
        if self._node is None:
            return None
        found = self._children.get(name)
        if found is not None:
            return found
        if not isinstance(self.value, dict) or not isinstance(self.old, dict):
            return None
        node = self._node.member(name)
        if name not in self.value or name not in self.old or node is None:
            return None
        found = self._children[name] = Correlated(self.value[name], self.old[name], node)
        return found

    def index(self, position: int) -> Correlated | None:
        """The item at ``position``, where an old item has its keys."""
        node = self._node
        if node is None:
            return None
        found = self._children.get(position)
        if found is not None:
            return found
        if not isinstance(self.value, list) or not isinstance(self.old, list) or position >= len(self.value):
            return None
        if node.list_type != "map":
            return None
        if self._index is None:
            self._index = ItemIndex(node, self.old)
        old = self._index.get(self.value[position])
        if old is None or node.items is None:
            return None
        found = self._children[position] = Correlated(self.value[position], old, node.items)
        return found
