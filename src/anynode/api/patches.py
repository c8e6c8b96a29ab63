"""JSON Patch and JSON Merge Patch on plain values: a patched copy along the changed paths, the document untouched.

Messages are those a kube-apiserver gives, which come from evanphx/json-patch v4. Source: RFC 6902, RFC 7386,
apiserver ``pkg/endpoints/handlers/patch.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from anynode.api.objects import Object

MOST_OPERATIONS = 10_000
MOST_COPIED_BYTES = 3 * 1024 * 1024


class PatchError(ValueError):
    """A patch that does not apply (422 upstream)."""


class BadPatch(PatchError):
    """A patch that is none (400 upstream)."""


class TestFailed(PatchError):
    """A ``test`` operation that found another value."""

    __test__ = False


class TooManyOperations(PatchError):
    """A JSON Patch longer than the server takes (413 upstream)."""


class _Missing:
    """Stands where a container could not be found."""


_MISSING = _Missing()


def merge_patch(document: Any, patch: Any) -> Any:
    """``document`` with a JSON Merge Patch applied; raises ``BadPatch`` where ``patch`` is no object."""
    if not isinstance(patch, dict):
        raise BadPatch("Invalid JSON Patch")
    return _merged(document, patch)


def _merged(current: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return _pruned(patch) if not isinstance(current, dict) else patch
    if not isinstance(current, dict):
        return _pruned(patch)
    result = dict(current)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif result.get(key) is None:
            result[key] = _pruned(value)
        else:
            result[key] = _merged(result[key], value)
    return {key: result[key] for key in sorted(result)}  # as Go prints what it has taken apart


def _pruned(value: Any) -> Any:
    """``value`` without the members that are null; nulls in lists stay."""
    if isinstance(value, dict):
        return {key: _pruned(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_pruned(each) for each in value]
    return value


def json_patch(document: Object, operations: Sequence[Mapping[str, Any]]) -> Any:
    """``document`` with the operations applied in order; raises ``PatchError`` at the first that does not apply."""
    if len(operations) > MOST_OPERATIONS:
        raise TooManyOperations(
            f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(operations)}"
        )
    work = _Work(document)
    for operation in operations:
        kind = operation.get("op")
        action = _ACTIONS.get(kind) if isinstance(kind, str) else None
        if action is None:
            raise PatchError(f"Unexpected kind: {kind if isinstance(kind, str) else 'unknown'}")
        action(work, operation)
    work.sort()
    return work.document


class _Work:
    """The document under change. A container is copied the first time it is written to, and only then."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.copied_bytes = 0
        self._own: dict[int, Any] = {}  # keeps what was copied alive, so that an id stays one object's

    def _owned(self, container: Any) -> Any:
        if id(container) in self._own:
            return container
        copy = container.copy()
        self._own[id(copy)] = copy
        return copy

    def sort(self) -> None:
        """Sort the keys of what was taken apart, as Go prints it."""
        for each in self._own.values():
            if isinstance(each, dict):
                pairs = sorted(each.items())
                each.clear()
                each.update(pairs)

    def container(self, path: str, *, write: bool) -> tuple[Any, str]:
        """The container ``path`` ends in, and the last step; ``_MISSING`` where there is none."""
        steps = path.split("/")
        if len(steps) < 2:
            return _MISSING, ""
        keys = [step.replace("~1", "/").replace("~0", "~") for step in steps[1:]]
        if write:
            self.document = self._owned(self.document)
        here = self.document
        for key in keys[:-1]:
            try:
                inner, place = _get(here, key)
            except PatchError:
                return _MISSING, ""
            if not isinstance(inner, dict | list):
                return _MISSING, ""
            if write:
                inner = here[place] = self._owned(inner)
            here = inner
        return here, keys[-1]


def _index(key: str) -> int:
    digits = key[1:] if key[:1] in ("-", "+") else key
    if not (digits.isascii() and digits.isdigit()):
        raise PatchError(f'strconv.Atoi: parsing "{key}": invalid syntax')
    return int(key)


def _bounded(index: int, size: int) -> int:
    """The place ``index`` means in a list of ``size``; negative counts from the end."""
    if index >= size or index < -size:
        raise PatchError(f"Unable to access invalid index: {index}: invalid index referenced")
    return index + size if index < 0 else index


def _get(container: Any, key: str) -> tuple[Any, Any]:
    """``(value, place)``; the value of an absent member is None."""
    if isinstance(container, dict):
        return container.get(key), key
    place = _bounded(_index(key), len(container))
    return container[place], place


def _insert(container: Any, key: str, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        try:
            index = _index(key)
        except PatchError as error:
            raise PatchError(f"value was not a proper array index: '{key}': {error}") from None
        container.insert(_bounded(index, len(container) + 1), value)


def _delete(container: Any, key: str) -> None:
    if isinstance(container, dict):
        if key not in container:
            raise PatchError(f"Unable to remove nonexistent key: {key}: missing value")
        del container[key]
    else:
        del container[_bounded(_index(key), len(container))]


def _path(operation: Mapping[str, Any], kind: str, *, bare: bool) -> str:
    path = operation.get("path")
    if isinstance(path, str):
        return path
    why = "missing value" if bare else "operation missing path field: missing value"
    raise PatchError(f"{kind} operation failed to decode path: {why}")


def _from(operation: Mapping[str, Any], kind: str) -> str:
    source = operation.get("from")
    if isinstance(source, str):
        return source
    raise PatchError(f"{kind} operation failed to decode from: operation, missing from field: missing value")


def _wrapped(action: Callable[[Any, str], Any], container: Any, key: str, words: str) -> Any:
    try:
        return action(container, key)
    except PatchError as error:
        raise PatchError(f"{words}: {error}") from None


def _add(work: _Work, operation: Mapping[str, Any]) -> None:
    path = _path(operation, "add", bare=True)
    container, key = work.container(path, write=True)
    if container is _MISSING:
        raise PatchError(f'add operation does not apply: doc is missing path: "{path}": missing value')
    value = operation.get("value")
    _wrapped(lambda where, last: _insert(where, last, value), container, key, f"error in add for path: '{path}'")


def _remove(work: _Work, operation: Mapping[str, Any]) -> None:
    path = _path(operation, "remove", bare=True)
    container, key = work.container(path, write=True)
    if container is _MISSING:
        raise PatchError(f'remove operation does not apply: doc is missing path: "{path}": missing value')
    _wrapped(_delete, container, key, f"error in remove for path: '{path}'")


def _replace(work: _Work, operation: Mapping[str, Any]) -> None:
    path = _path(operation, "replace", bare=False)
    value = operation.get("value")
    if path == "":
        if not isinstance(value, dict | list):
            raise PatchError("replace operation value must be object or array: %!w(<nil>)")
        work.document = value
        return
    container, key = work.container(path, write=True)
    if container is _MISSING:
        raise PatchError(f"replace operation does not apply: doc is missing path: {path}: missing value")
    try:
        _, place = _get(container, key)
    except PatchError:
        raise PatchError(f"replace operation does not apply: doc is missing key: {path}: missing value") from None
    container[place] = value


def _move(work: _Work, operation: Mapping[str, Any]) -> None:
    source = _from(operation, "move")
    container, key = work.container(source, write=True)
    if container is _MISSING:
        raise PatchError(f"move operation does not apply: doc is missing from path: {source}: missing value")
    value, _ = _wrapped(_get, container, key, f"error in move for path: '{key}'")
    _wrapped(_delete, container, key, f"error in move for path: '{key}'")
    path = _path(operation, "move", bare=False)
    container, key = work.container(path, write=True)
    if container is _MISSING:
        raise PatchError(f"move operation does not apply: doc is missing destination path: {path}: missing value")
    _wrapped(lambda where, last: _insert(where, last, value), container, key, f"error in move for path: '{path}'")


def _copy(work: _Work, operation: Mapping[str, Any]) -> None:
    source = _from(operation, "copy")
    container, key = work.container(source, write=False)
    if container is _MISSING:
        raise PatchError(f"copy operation does not apply: doc is missing from path: {source}: missing value")
    value, _ = _wrapped(_get, container, key, f"error in copy for from: '{source}'")
    path = _path(operation, "copy", bare=True)
    container, key = work.container(path, write=True)
    if container is _MISSING:
        raise PatchError(f"copy operation does not apply: doc is missing destination path: {path}: missing value")
    encoded = orjson.dumps(value)
    work.copied_bytes += len(encoded)
    if work.copied_bytes > MOST_COPIED_BYTES:
        raise PatchError(
            f"Unable to complete the copy, the accumulated size increase of copy is {work.copied_bytes}, "
            f"exceeding the limit {MOST_COPIED_BYTES}"
        )
    copied = orjson.loads(encoded)
    _wrapped(lambda where, last: _insert(where, last, copied), container, key, "error while adding value during copy")


def _check(work: _Work, operation: Mapping[str, Any]) -> None:
    path = _path(operation, "test", bare=False)
    expected = operation.get("value")
    if path == "":
        found = work.document
    else:
        container, key = work.container(path, write=False)
        if container is _MISSING:
            raise PatchError(f"test operation does not apply: is missing path: {path}: missing value")
        found, _ = _wrapped(_get, container, key, f"error in test for path: '{path}'")
    if not _equal(found, expected):
        raise TestFailed(f"testing value {path} failed: test failed")


def _equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: unlike Python's, true is not 1."""
    if isinstance(left, dict):
        if not isinstance(right, dict) or left.keys() != right.keys():
            return False
        return all(_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        if not isinstance(right, list) or len(left) != len(right):
            return False
        return all(_equal(one, other) for one, other in zip(left, right, strict=True))
    return type(left) is type(right) and bool(left == right)


_ACTIONS: Mapping[str, Callable[[_Work, Mapping[str, Any]], None]] = {
    "add": _add, "remove": _remove, "replace": _replace, "move": _move, "copy": _copy, "test": _check,
}  # fmt: skip
