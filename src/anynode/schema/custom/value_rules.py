"""What is wrong with a value by its schema, in upstream's words and order; slow, and asked only when something is.

Checks run as upstream's do: type, junctors, text, format, number, list, enum, members; each counts what it matched,
because of several failed branches of ``anyOf`` and ``oneOf`` the one that matched most is reported. With a
``Correlated`` what was the same before is let pass (KEP-4008). Source: kube-openapi
``pkg/validation/{validate,errors}``, apiextensions-apiserver
``pkg/apiserver/validation/{validation,ratcheting}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from anynode.api import patterns
from anynode.api.go_text import go_float, go_json, go_quoted
from anynode.schema.custom import formats, value_schema, wording
from anynode.schema.custom.correlation import Correlated
from anynode.schema.custom.value_schema import ValueSchema
from anynode.schema.fields import FieldError

Reason = Literal["type", "required", "enum", "long", "items", "properties", "invalid", "plain"]


@dataclasses.dataclass(frozen=True, slots=True)
class Complaint:
    """One thing wrong: ``plain`` ones name no field. ``limit`` and ``actual`` are those of sizes."""

    text: str
    path: str = ""
    reason: Reason = "plain"
    value: Any = None
    limit: int = -1
    enum: Sequence[Any] = ()


MOST_COMPLAINTS = 1_000
"""Enough is said of one list or map: a body can give cause for a million, each longer than what caused it."""


class Outcome:
    """What a check found, each sentence once, and how much it matched."""

    __slots__ = ("complaints", "matches", "texts")

    def __init__(self, *complaints: Complaint) -> None:
        self.complaints: list[Complaint] = []
        self.texts: set[str] = set()
        self.matches = 0
        self.add(*complaints)

    @property
    def valid(self) -> bool:
        return not self.complaints

    def add(self, *complaints: Complaint) -> None:
        for each in complaints:
            if each.text not in self.texts:
                self.texts.add(each.text)
                self.complaints.append(each)

    def merge(self, other: Outcome) -> None:
        self.add(*other.complaints)
        self.matches += other.matches


def errors(
    schema: ValueSchema | None, value: Any, *, path: str = "", correlated: Correlated | None = None
) -> list[FieldError]:
    """What is wrong with ``value``, which stands at ``path`` of its object."""
    if schema is None or schema.fits(value):
        return []
    found = _judged(schema, value, "", correlated) if correlated is None else _ratcheted(schema, value, "", correlated)
    return [_worded(each, path) for each in found.complaints]


def _worded(complaint: Complaint, root: str) -> FieldError:
    if complaint.reason == "plain":
        return wording.invalid(root, "", complaint.text)
    path = root
    if complaint.path and complaint.path != ".":
        path = wording.child(root, complaint.path.removeprefix("."))
    if complaint.reason == "required":
        return wording.required(path)
    if complaint.reason == "enum":
        listed = [each if isinstance(each, str) else go_json(each) for each in complaint.enum]
        return wording.not_supported(path, complaint.value, listed)
    if complaint.reason == "long":
        return wording.too_long(path, complaint.limit)
    if complaint.reason in ("items", "properties"):
        return wording.too_many(path, complaint.value, complaint.limit)
    value = "" if complaint.value is None else complaint.value
    if complaint.reason == "type":
        return wording.type_invalid(path, value, complaint.text)
    return wording.invalid(path, value, complaint.text)


def _ratcheted(schema: ValueSchema, value: Any, path: str, correlated: Correlated) -> Outcome:
    found = _judged(schema, value, path, correlated)
    return Outcome() if not found.valid and correlated.same() else found


def _field(schema: ValueSchema, name: str, value: Any, where: tuple[str, str], parent: Correlated | None) -> Outcome:
    """``where``: the path of the object and that of its member ``name``."""
    child = None if parent is None else parent.key(name)
    if child is None or (where[0] == "" and name in ("kind", "apiVersion")):
        return _judged(schema, value, where[1], None)
    return _ratcheted(schema, value, where[1], child)


def _judged(schema: ValueSchema, value: Any, path: str, correlated: Correlated | None) -> Outcome:
    result = Outcome()
    if value is None:
        result.merge(_type(schema, value, path))
        result.merge(_enum(schema, value, path))
        return result
    checks = [_type(schema, value, path)] if schema.types or schema.format else []
    checks.append(_junctors(schema, value, path))
    if isinstance(value, str):
        checks.append(_text(schema, value, path))
        if schema.format and formats.check(schema.format) is not None:
            checks.append(_format(schema, value, path))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        checks.append(_number(schema, value, path))
    elif isinstance(value, list):
        checks.append(_array(schema, value, path, correlated))
    checks.append(_enum(schema, value, path))
    if isinstance(value, dict):
        checks.append(_members(schema, value, path, correlated))
    for found in checks:
        result.merge(found)
        result.matches += 1
    result.matches += 1
    return result


def _matched(outcome: Outcome) -> Outcome:
    outcome.matches += 1
    return outcome


def _type(schema: ValueSchema, value: Any, path: str) -> Outcome:
    if value_schema.has_type(schema, value):
        return _matched(Outcome())
    found = value_schema.type_of(value) or "null"
    wanted = ",".join(schema.types)
    if found in ("integer", "number", "boolean", "object") and schema.format:
        wanted, found = schema.format, {"integer": "int64", "number": "float64"}.get(found, "")
    text = f"{path} in body must be of type {wanted}: {go_quoted(found)}"
    return Outcome(Complaint(text, path, "type", found))


def _enum(schema: ValueSchema, value: Any, path: str) -> Outcome:
    if not schema.enum or value_schema.in_enum(schema, value):
        return Outcome()
    text = f"{path} in body should be one of {list(schema.enum)}"
    return Outcome(Complaint(text, path, "enum", value, enum=schema.enum))


def _text(schema: ValueSchema, value: str, path: str) -> Outcome:
    most, least = schema.raw.get("maxLength"), schema.raw.get("minLength")
    if most is not None and len(value) > most:
        text = f"{path} in body should be at most {most} chars long"
        return Outcome(Complaint(text, path, "long", value, limit=most))
    if least is not None and len(value) < least:
        return Outcome(Complaint(f"{path} in body should be at least {least} chars long", path, "invalid", value))
    if schema.pattern and not patterns.searcher(schema.pattern)(value):
        return Outcome(Complaint(f"{path} in body should match '{schema.pattern}'", path, "invalid", value))
    return Outcome()


def _format(schema: ValueSchema, value: str, path: str) -> Outcome:
    check = formats.check(schema.format)
    if check is None or check(value):
        return Outcome()
    text = f"{path} in body must be of type {schema.format}: {go_quoted(value)}"
    return Outcome(Complaint(text, path, "type", value))


_BOUNDS = {
    ("minimum", False): "greater than or equal to", ("minimum", True): "greater than",
    ("maximum", False): "less than or equal to", ("maximum", True): "less than",
}  # fmt: skip


def _number(schema: ValueSchema, value: float, path: str) -> Outcome:
    result = Outcome()
    value = value if value_schema.type_of(value) == "integer" else float(value)
    kind = schema.types[0] if len(schema.types) == 1 and schema.types[0] in ("integer", "number") else ""
    for keyword, how in value_schema.number_complaints(schema, value):
        if keyword == "range":
            known = schema.format if kind and formats.recognized(schema.format, schema.types) else ""
            tail = f"with format {known}" if known else "(default format)"
            result.add(Complaint(f"{how} value must be of type {kind} {tail} in {path}"))
            continue
        bound, shown = schema.raw[keyword], value
        limit: float = int(bound) if how == "whole" else float(bound)
        printed = str(int(bound)) if how == "whole" else go_float(float(bound))
        if keyword == "multipleOf":
            text = f"{path} in body should be a multiple of {printed}"
            if limit <= 0:
                text, shown = f"factor MultipleOf declared for {path} must be positive: {printed}", limit
        else:
            exclusive = bool(schema.raw.get(f"exclusive{keyword.capitalize()}"))
            text = f"{path} in body should be {_BOUNDS[keyword, exclusive]} {printed}"
        result.add(Complaint(text, path, "invalid", shown))
    return _matched(result)


def _array(schema: ValueSchema, items: list[Any], path: str, correlated: Correlated | None) -> Outcome:
    result, raw = Outcome(), schema.raw
    if schema.items is not None:
        for index, item in enumerate(items):
            where = f"{path}[{index}]"
            child = None if correlated is None else correlated.index(index)
            result.merge(_item(schema.items, item, where, child))
            if len(result.complaints) >= MOST_COMPLAINTS:
                break
    least, most = raw.get("minItems"), raw.get("maxItems")
    if least is not None and len(items) < least:
        result.add(Complaint(f"{path} in body should have at least {least} items", path, "invalid", len(items)))
    if most is not None and len(items) > most:
        text = f"{path} in body should have at most {most} items"
        result.add(Complaint(text, path, "items", len(items), limit=most))
    if raw.get("uniqueItems") and value_schema.has_duplicates(items):
        result.add(Complaint(f"{path} in body shouldn't contain duplicates", path, "invalid"))
    return _matched(result)


def _item(schema: ValueSchema, item: Any, path: str, child: Correlated | None) -> Outcome:
    return _judged(schema, item, path, None) if child is None else _ratcheted(schema, item, path, child)


def _members(schema: ValueSchema, obj: dict[str, Any], path: str, correlated: Correlated | None) -> Outcome:
    result, raw, size = Outcome(), schema.raw, len(obj)
    least, most = raw.get("minProperties"), raw.get("maxProperties")
    if least is not None and size < least:
        result.add(Complaint(f"{path} in body should have at least {least} properties", path, "invalid", size))
    if most is not None and size > most:
        text = f"{path} in body should have at most {most} properties"
        result.add(Complaint(text, path, "properties", size, limit=most))
    for name in sorted(obj):
        if name in schema.properties:
            continue
        where = f"{path}.{name}"
        if schema.additional is False:
            result.add(Complaint(f"{where} in body is a forbidden property", path, "invalid", name))
        elif isinstance(schema.additional, ValueSchema):
            result.merge(_field(schema.additional, name, obj[name], (path, where), correlated))
        if len(result.complaints) >= MOST_COMPLAINTS:
            break
    for name, inner in schema.properties.items():
        if name in obj:
            where = f"{path}.{name}" if path else name
            result.merge(_field(inner, name, obj[name], (path, where), correlated))
    for name in schema.required:
        if name not in obj:
            where = f"{path}.{name}"
            result.add(Complaint(f"{where} in body is required", where, "required"))
    return result


# Junctors


def _junctors(schema: ValueSchema, value: Any, path: str) -> Outcome:
    result = Outcome()
    shown = go_quoted(path)
    if schema.any_of:
        _any_of(schema, value, path, result)
    if schema.one_of:
        _one_of(schema, value, path, result)
    if schema.all_of:
        found = [_judged(each, value, path, None) for each in schema.all_of]
        for each in found:
            result.merge(each)
        valid = sum(1 for each in found if each.valid)
        if valid != len(found):
            tail = "" if valid else ". None validated"
            result.add(Complaint(f"{shown} must validate all the schemas (allOf){tail}"))
    if schema.negated is not None and _judged(schema.negated, value, path, None).valid:
        result.add(Complaint(f"{shown} must not validate the schema (not)"))
    return _matched(result)


def _any_of(schema: ValueSchema, value: Any, path: str, result: Outcome) -> None:
    best: Outcome | None = None
    for each in schema.any_of:
        found = _judged(each, value, path, None)
        if found.valid:
            result.merge(found)
            return
        if best is None or found.matches > best.matches:
            best = found
    result.add(Complaint(f"{go_quoted(path)} must validate at least one schema (anyOf)"))
    if best is not None:
        result.merge(best)


def _one_of(schema: ValueSchema, value: Any, path: str, result: Outcome) -> None:
    best: Outcome | None = None
    first: Outcome | None = None
    valid = 0
    for each in schema.one_of:
        found = _judged(each, value, path, None)
        if found.valid:
            valid, best, first = valid + 1, None, first or found
        elif not valid and (best is None or found.matches > best.matches):
            best = found
    if valid == 1 and first is not None:
        result.merge(first)
        return
    said = f"Found {valid} valid alternatives" if valid else "Found none valid"
    text = f"{go_quoted(path)} must validate one and only one schema (oneOf). {said}"
    result.add(Complaint(text))
    if best is not None:
        result.merge(best)
