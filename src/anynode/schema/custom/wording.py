"""Complaints about custom objects and definitions, with values printed as Go prints them.

Paths are plain text (``spec.a[0]``); the empty one is the object itself. Source: apimachinery
``pkg/util/validation/field/errors.go``, Go's ``encoding/json`` and ``fmt``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anynode.api.go_text import go_float, go_json, go_quoted
from anynode.schema.fields import FieldError

NOWHERE = "<nil>"
"""How upstream prints the path of the object itself."""


class Omitted:
    """Stands for a value that is left out of its complaint."""


OMITTED = Omitted()


def child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


class Pointer(str):
    """A text behind a pointer: printed as JSON prints it."""

    __slots__ = ()


def shown(value: Any) -> str:
    if isinstance(value, Pointer):
        return go_json(value)
    if isinstance(value, str):
        return go_quoted(value)
    if isinstance(value, float):
        return go_float(value)
    return go_json(value)


def _error(reason: str, head: str, path: str, value: Any, detail: str) -> FieldError:
    printed = "" if isinstance(value, Omitted) else f": {shown(value)}"
    return FieldError(reason, path or NOWHERE, f"{head}{printed}{f': {detail}' if detail else ''}")


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return _error("FieldValueInvalid", "Invalid value", path, value, detail)


def type_invalid(path: str, value: Any, detail: str) -> FieldError:
    return _error("FieldValueTypeInvalid", "Invalid value", path, value, detail)


def duplicate(path: str, value: Any) -> FieldError:
    return _error("FieldValueDuplicate", "Duplicate value", path, value, "")


def required(path: str, detail: str = "") -> FieldError:
    return _error("FieldValueRequired", "Required value", path, OMITTED, detail)


def forbidden(path: str, detail: str) -> FieldError:
    return _error("FieldValueForbidden", "Forbidden", path, OMITTED, detail)


def not_supported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    listed = ", ".join(go_quoted(each) for each in supported)
    detail = f"supported values: {listed}" if listed else ""
    return _error("FieldValueNotSupported", "Unsupported value", path, value, detail)


def too_long(path: str, most: int) -> FieldError:
    text = f"may not be more than {most} {'byte' if most == 1 else 'bytes'}" if most >= 0 else "value is too long"
    return _error("FieldValueTooLong", "Too long", path, OMITTED, text)


def too_many(path: str, actual: int, most: int) -> FieldError:
    text = f"must have at most {most} {'item' if most == 1 else 'items'}" if most >= 0 else "has too many items"
    head = "Too many"
    return _error("FieldValueTooMany", head, path, actual if actual >= 0 else OMITTED, text)


def internal(path: str, detail: str) -> FieldError:
    return _error("InternalError", "Internal error", path, OMITTED, detail)
