"""Strategic merge patch: an object and a patch in, the patched object out, neither of them changed.

Knows all directives (``$patch``, ``$deleteFromPrimitiveList/``, ``$setElementOrder/``, ``$retainKeys``); which lists
merge, and by which key, stands in the type table. Source: apimachinery ``pkg/util/strategicpatch/patch.go``, 1.36.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from anynode.api.go_text import go_value
from anynode.api.objects import Object
from anynode.schema.types import Field, Types

_DIRECTIVE = "$patch"
_DELETE_ITEMS = "$deleteFromPrimitiveList"
_ORDER = "$setElementOrder"
_RETAIN = "$retainKeys"

BAD_PRIMITIVE_LIST = "invalid patch format of primitive list"
BAD_RETAIN_KEYS = "invalid patch format of retainKeys"
BAD_ORDER = "invalid patch format of setElementOrder list"


class StrategicError(ValueError):
    """A patch that cannot be applied; ``code`` is the HTTP status upstream gives."""

    def __init__(self, message: str, code: int = 500) -> None:
        super().__init__(message)
        self.code = code


class _Schema(NamedTuple):
    """What is known of the value at hand: ``go_kind`` is struct, map, slice or the name of something else."""

    types: Types
    type_name: str
    go_kind: str
    struct: str

    def field(self, name: str) -> Field | None:
        """The field ``name`` of a struct; raises where upstream finds none."""
        if self.go_kind != "struct":
            raise StrategicError(f"merging an object in json but data type is not struct, instead is: {self.go_kind}")
        found = self.types[self.type_name].fields.get(name) if self.type_name else None
        if found is None:
            raise StrategicError(f'unable to find api field in struct {self.struct} for the json field "{name}"')
        return found

    def inside(self, field: Field, *, element: bool) -> _Schema:
        """The schema of the field's value, or of one of its elements."""
        if field.shape in ("m", "M") and not element:
            return _Schema(self.types, "", "map", "")
        if field.kind == "m":
            return _Schema(self.types, field.target, "struct", self.types[field.target].short_name)
        if field.kind in "RJqtTIF":
            return _Schema(self.types, "", "struct", field.element_go_type.rpartition(".")[2])
        return _Schema(self.types, "", field.element_go_type, "")


def merge(original: Object, patch: Object, type_name: str, types: Types) -> Object:
    """``original``, an object of the named type, with ``patch`` applied; raises ``StrategicError``."""
    schema = _Schema(types, type_name, "struct", types[type_name].short_name)
    return _merge_map(original, patch, schema)


def _strategy(field: Field) -> str:
    return next((each for each in field.patch_strategies if each != "retainKeys"), "")


def _bad_type(expected: str, value: Any) -> StrategicError:
    kinds = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", int: "int64"}
    return StrategicError(f"expected a {expected}, but received a {kinds.get(type(value), 'float64')}")


def _no_merge_key(item: Object, key: str) -> StrategicError:
    return StrategicError(f"map: {go_value(item)} does not contain declared merge key: {key}")


def _merge_map(original: Object, patch: Object, schema: _Schema) -> Object:
    directive = patch.get(_DIRECTIVE)
    if _DIRECTIVE in patch:
        if directive == "replace":
            return {key: value for key, value in patch.items() if key != _DIRECTIVE}
        if directive == "delete":
            return {}
        raise StrategicError(f"unknown patch type: {go_value(directive)} in map: {go_value(patch)}")
    result, rest = dict(original), patch
    if any(key[:1] == "$" for key in patch):
        rest = dict(patch)
        _retain_keys(result, rest)
        _set_order(result, rest, schema)
    for key, value in rest.items():
        if key.startswith(_DELETE_ITEMS):
            _delete_items(result, key, value, schema)
        elif value is None:
            result.pop(key, None)
        else:
            _merge_member(result, key, value, schema)
    return result


def _merge_member(result: Object, key: str, value: Any, schema: _Schema) -> None:
    """Put the patch's ``value`` into ``result``: merged where both are maps or both are lists."""
    current = result.get(key)
    if isinstance(value, dict) and isinstance(current, dict):
        field = schema.field(key)
        if field is not None and _strategy(field) == "replace":
            result[key] = value
        elif field is not None:
            result[key] = _merge_map(current, value, schema.inside(field, element=False))
    elif isinstance(value, list) and isinstance(current, list):
        field = schema.field(key)
        if field is not None:
            merged = _strategy(field) == "merge"
            result[key] = _merge_list(current, value, schema.inside(field, element=True), field) if merged else value
    else:
        kept, cleaned = _without_directives(_without_nulls(value))
        if kept:
            result[key] = cleaned
        else:
            result.pop(key, None)


def _delete_items(result: Object, key: str, value: Any, schema: _Schema) -> None:
    prefix, slash, name = key.partition("/")
    if not slash or prefix != _DELETE_ITEMS:
        raise StrategicError(BAD_PRIMITIVE_LIST, 400)
    if value is None:
        result.pop(name, None)
        return
    current = result.get(name)
    if not isinstance(current, list) or not isinstance(value, list):
        return
    schema.field(name)
    if not current and not value:
        return
    if _element_kind(current, value) is dict:
        field = schema.field(name)
        if field is not None:
            result[name] = _merge_list(current, value, schema.inside(field, element=True), field)
        return
    dropped = _Places(value)
    result[name] = [each for each in current if dropped.first(each) < 0]


def _retain_keys(result: Object, patch: Object) -> None:
    """Drop from ``result`` what the patch's ``$retainKeys`` does not name."""
    if _RETAIN not in patch:
        return
    kept = patch.pop(_RETAIN)
    if not isinstance(kept, list):
        raise StrategicError(BAD_RETAIN_KEYS, 400)
    for key, value in patch.items():
        if value is None or key.startswith((_DELETE_ITEMS, _ORDER)):
            continue
        if key not in kept:
            raise StrategicError(BAD_RETAIN_KEYS, 400)
    for key in [key for key in result if key not in kept]:
        del result[key]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _without_directives(value: Any) -> tuple[bool, Any]:
    """``(whether to keep it, value without the maps that carry a directive)``."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return False, None
        pairs = [(key, *_without_directives(each)) for key, each in value.items()]
        return True, {key: each for key, keep, each in pairs if keep}
    if isinstance(value, list):
        return True, [each for keep, each in map(_without_directives, value) if keep]
    return True, value


# Lists


def _element_kind(*lists: Sequence[Any]) -> type:
    """The one type of all elements; raises where they differ or there are none."""
    found: type | None = None
    for items in lists:
        for item in items:
            if found is None:
                found = type(item)
                if found is list:
                    raise StrategicError("lists of lists are not supported", 422)
            elif type(item) is not found:
                shown = " ".join(go_value(list(each)) for each in lists)
                raise StrategicError(f"list element types are not identical: [{shown}]")
    if found is None:
        raise StrategicError("no elements in any of the given slices")
    return found


def _merge_list(original: list[Any], patch: list[Any], schema: _Schema, field: Field) -> list[Any]:
    if not original and not patch:
        return original
    key = field.merge_key
    if _element_kind(original, patch) is not dict:
        merged = list(dict.fromkeys([*original, *patch]))
        wanted = set(patch)
        in_patch = [each for each in merged if each in wanted]
        server_only = [each for each in merged if each not in wanted]
        return _ordered(in_patch, server_only, patch, original, _itself)
    if not key:
        raise StrategicError(f"cannot merge lists without merge key for {schema.go_kind}")
    original, patch = _carry_out_directives(original, patch, key)
    merged = list(original)
    places = _Places(item.get(key, _ABSENT) for item in merged)
    for item in patch:
        if key not in item:
            raise _no_merge_key(item, key)
        place = places.first(item[key])
        if place >= 0:
            merged[place] = _merge_map(merged[place], item, schema)
        else:
            places.add(item[key], len(merged))
            merged.append(item)
    in_patch, server_only = _partition(merged, patch, key)
    return _ordered(in_patch, server_only, patch, original, operator.itemgetter(key))


def _carry_out_directives(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """``(list to merge into, elements to merge)`` after ``$patch: delete`` and ``$patch: replace`` elements."""
    plain: list[Any] = []
    deleted: list[Any] = []
    replace = False
    for item in patch:
        if _DIRECTIVE not in item:
            plain.append(item)
            continue
        directive = item[_DIRECTIVE]
        if directive == "delete":
            if key not in item:
                raise _no_merge_key(item, key)
            deleted.append(item[key])
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise StrategicError("merging lists cannot yet be specified in the patch")
        else:
            raise StrategicError(f"unknown patch type: {go_value(directive)} in map: {go_value(item)}")
    if deleted:
        gone = _Places(deleted)
        original = [item for item in original if gone.first(item.get(key, _ABSENT)) < 0]
    return (plain, []) if replace else (original, plain)


def _partition(items: list[Any], by: Sequence[Any], key: str) -> tuple[list[Any], list[Any]]:
    """``(items whose key value is among ``by``, the others)``."""
    present: list[Any] = []
    absent: list[Any] = []
    named = _Places(each[key] for each in by if isinstance(each, dict) and key in each)
    for item in items:
        if not isinstance(item, dict):
            raise _bad_type("map[string]interface {}", item)
        if key not in item:
            raise _no_merge_key(item, key)
        (present if named.first(item[key]) >= 0 else absent).append(item)
    return present, absent


class _Places:
    """Where values stand first in a list, found without a walk through it."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._scalars: dict[Any, int] = {}
        self._others: list[tuple[Any, int]] = []
        for index, value in enumerate(values):
            self.add(value, index)

    def add(self, value: Any, index: int) -> None:
        if isinstance(value, dict | list):
            self._others.append((value, index))
        else:
            self._scalars.setdefault(value, index)

    def first(self, value: Any) -> int:
        """The first place of an equal value, -1 when there is none."""
        if isinstance(value, dict | list):
            return next((index for other, index in self._others if other == value), -1)
        return self._scalars.get(value, -1)


_ABSENT = object()
"""Stands for the key of an item that has none: equal to nothing that was said."""


def _itself(item: Any) -> Any:
    return item


def _ordered(
    in_patch: list[Any],
    server_only: list[Any],
    patch_order: Sequence[Any],
    server_order: Sequence[Any],
    value_of: Callable[[Any], Any],
) -> list[Any]:
    """Both lists in one: each keeps its own order, and items the server knew keep theirs to each other."""
    patch_values = _Places(value_of(each) for each in patch_order)
    server_values = _Places(value_of(each) for each in server_order)

    def place(values: _Places, item: Any) -> int:
        return values.first(value_of(item))

    left = sorted(server_only, key=lambda item: place(server_values, item))
    right = sorted(in_patch, key=lambda item: place(patch_values, item))
    result: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        left_place, right_place = place(server_values, left[i]), place(server_values, right[j])
        if left_place >= 0 and right_place >= 0 and left_place < right_place:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return [*result, *left[i:], *right[j:]]


def _set_order(result: Object, patch: Object, schema: _Schema) -> None:
    """Carry out every ``$setElementOrder/<list>``, taking it and the list's own patch out of ``patch``."""
    for directive in [key for key in patch if key.startswith(_ORDER)]:
        order = patch.pop(directive)
        if not isinstance(order, list):
            raise _bad_type("[]interface {}", order)
        prefix, slash, name = directive.partition("/")
        if not slash or prefix != _ORDER:
            raise StrategicError(BAD_ORDER, 400)
        current, change = result.get(name), patch.get(name)
        for value in (current, change):
            if value is not None and not isinstance(value, list):
                raise _bad_type("[]interface {}", value)
        field = schema.field(name)
        if field is None:
            continue
        _check_order(change or [], order, field.merge_key)
        merged = _merged_for_order(current, change, schema, field)
        if merged is None:
            continue
        if field.merge_key:
            in_patch, server_only = _partition(merged, order, field.merge_key)
        else:
            named = _Places(order)
            in_patch = [each for each in merged if named.first(each) >= 0]
            server_only = [each for each in merged if named.first(each) < 0]
        is_map = _element_kind(current or [], change or []) is dict
        value_of = operator.itemgetter(field.merge_key) if is_map else _itself
        result[name] = _ordered(in_patch, server_only, order, current or [], value_of)
        patch.pop(name, None)


def _merged_for_order(current: Any, change: Any, schema: _Schema, field: Field) -> list[Any] | None:
    """The list before it is ordered; None where there is none."""
    if change is None:
        return current if isinstance(current, list) else None
    if current is None:
        cleaned: list[Any] = _without_directives(change)[1]
        return cleaned
    if _strategy(field) != "merge":
        found: list[Any] = change
        return found
    return _merge_list(current, change, schema.inside(field, element=True), field)


def _check_order(change: list[Any], order: list[Any], key: str) -> None:
    """Raise unless the patch's elements stand in the order that ``$setElementOrder`` gives."""
    if not order or not change:
        return
    listed = change
    if key:
        for item in change:
            if not isinstance(item, dict):
                raise _bad_type("map[string]interface {}", item)
        listed = [item for item in change if item.get(_DIRECTIVE) != "delete"]
    at = place = 0
    while at < len(listed) and place < len(order):
        item = listed[at]
        if isinstance(item, dict) and _DIRECTIVE in item:
            at += 1
            continue
        if _same_key(item, order[place], key):
            at += 1
        place += 1
    if at < len(listed):
        raise StrategicError(
            f"The order in patch list:\n{go_value(change)}\n doesn't match {_ORDER} list:\n{go_value(order)}\n"
        )


def _same_key(left: Any, right: Any, key: str) -> bool:
    if not key:
        return bool(left == right)
    for item in (left, right):
        if not isinstance(item, dict):
            raise _bad_type("map[string]interface {}", item)
        if key not in item:
            raise _no_merge_key(item, key)
    return bool(left[key] == right[key])
