"""Paths into objects and what is wrong there, worded as upstream words it.

Source: apimachinery ``pkg/util/validation/field`` (``path.go``, ``errors.go``), 1.36.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from anynode.api.errors import Cause


class FieldPath:
    """``spec.containers[0].name``: built by ``.child("spec", "containers")``, ``.index(0)``, ``.key("a")``."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def child(self, *names: str) -> FieldPath:
        tail = ".".join(names)
        return FieldPath(f"{self._text}.{tail}" if self._text else tail)

    def index(self, position: int) -> FieldPath:
        return FieldPath(f"{self._text}[{position}]")

    def key(self, name: str) -> FieldPath:
        return FieldPath(f"{self._text}[{name}]")

    def __str__(self) -> str:
        return self._text or "[]"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldPath) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclasses.dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong. ``reason`` is a CauseType; ``message`` is the text after ``<field>: ``."""

    reason: str
    field: str
    message: str

    def cause(self) -> Cause:
        return Cause(reason=self.reason, message=self.message, field=self.field)


def _shown(value: Any) -> str:
    """How Go prints a bad value: strings quoted, numbers and booleans plain, null as ``null``, the rest as JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def required(path: FieldPath, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", str(path), f"Required value: {detail}" if detail else "Required value")


def invalid(path: FieldPath, value: Any, detail: str) -> FieldError:
    tail = f": {detail}" if detail else ""
    return FieldError("FieldValueInvalid", str(path), f"Invalid value: {_shown(value)}{tail}")


def invalid_fact(path: FieldPath, detail: str) -> FieldError:
    """Invalid, where upstream leaves the value out of the message."""
    return FieldError("FieldValueInvalid", str(path), f"Invalid value: {detail}")


def type_invalid(path: FieldPath, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueTypeInvalid", str(path), f"Invalid value: {_shown(value)}: {detail}")


def not_supported(path: FieldPath, value: Any, supported: Iterable[str]) -> FieldError:
    listed = ", ".join(json.dumps(each) for each in supported)
    return FieldError(
        "FieldValueNotSupported", str(path), f"Unsupported value: {_shown(value)}: supported values: {listed}"
    )


def duplicate(path: FieldPath, value: Any, detail: str = "") -> FieldError:
    tail = f": {detail}" if detail else ""
    return FieldError("FieldValueDuplicate", str(path), f"Duplicate value: {_shown(value)}{tail}")


def forbidden(path: FieldPath, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", str(path), f"Forbidden: {detail}" if detail else "Forbidden")


def not_found(path: FieldPath, value: Any, detail: str = "") -> FieldError:
    tail = f": {detail}" if detail else ""
    return FieldError("FieldValueNotFound", str(path), f"Not found: {_shown(value)}{tail}")


def too_long(path: FieldPath, most: int) -> FieldError:
    return FieldError("FieldValueTooLong", str(path), f"Too long: may not be more than {most} bytes")


def too_many(path: FieldPath, actual: int, most: int) -> FieldError:
    noun = "item" if most == 1 else "items"
    return FieldError("FieldValueTooMany", str(path), f"Too many: {actual}: must have at most {most} {noun}")


def causes(errors: Sequence[FieldError]) -> list[Cause]:
    return [error.cause() for error in errors]
