"""What makes a schema structural: types everywhere, and only value rules inside logical junctors.

Complaints come sorted, as upstream sorts them. Source: apiextensions-apiserver
``pkg/apiserver/schema/{validation,complete}.go``, 1.36; https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from anynode.api import patterns
from anynode.api.objects import Object
from anynode.schema.custom.structural import Structural
from anynode.schema.custom.wording import forbidden, invalid, required
from anynode.schema.fields import FieldError

Level = Literal["root", "item", "field"]
_NO_TYPE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def validate(node: Structural, path: str) -> list[FieldError]:
    """What keeps the schema at ``path`` from being structural."""
    errors = [*_invariants(node, "root", path), *_complete(node.raw, node, path, path)]
    return sorted(errors, key=lambda each: f"{each.field}: {each.message}")


def _invariants(node: Structural, level: Level, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if node.type == "array" and node.items is None:
        errors.append(required(f"{path}.items", "must be specified"))
    if node.items is not None:
        errors += _invariants(node.items, "item", f"{path}.items")
    for name, each in node.properties.items():
        errors += _invariants(each, "field", f"{path}.properties[{name}]")
    if node.open:
        if level == "root":
            errors.append(forbidden(f"{path}.additionalProperties", "must not be used at the root"))
        if node.additional is not None:
            errors += _invariants(node.additional, "field", f"{path}.additionalProperties")
    errors += _extensions(node, path)
    errors += _value_rules(node.raw, path, any_of=_is_int_or_string(node.raw), first=_is_wrapped(node.raw))
    errors += _types(node, level, path)
    return errors + _meta_fields(node, level, path)


def _extensions(node: Structural, path: str) -> list[FieldError]:
    errors = []
    for marker, held in (("preserve-unknown-fields", node.preserve), ("embedded-resource", node.embedded)):
        if node.int_or_string and held:
            text = "must be false if x-kubernetes-int-or-string is true"
            errors.append(invalid(f"{path}.x-kubernetes-{marker}", True, text))
    return errors


def _types(node: Structural, level: Level, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if node.embedded and node.type != "object":
        text, where = "must be object if x-kubernetes-embedded-resource is true", f"{path}.type"
        errors.append(invalid(where, node.type, text) if node.type else required(where, text))
    elif not node.type and not node.int_or_string and not node.preserve:
        errors.append(required(f"{path}.type", _NO_TYPE[level]))
    if node.embedded and node.open:
        text = "must not be used if x-kubernetes-embedded-resource is set"
        errors.append(forbidden(f"{path}.additionalProperties", text))
    if level == "root" and node.type and node.type != "object":
        errors.append(invalid(f"{path}.type", node.type, "must be object at the root"))
    return errors


def _meta_fields(node: Structural, level: Level, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    whole = level == "root" or node.embedded
    for field in ("kind", "apiVersion"):
        found = node.properties.get(field)
        if found is not None and whole and found.type != "string":
            errors.append(invalid(f"{path}.properties[{field}].type", found.type, "must be string"))
    metadata = node.properties.get("metadata")
    if metadata is not None:
        where = f"{path}.properties[metadata]"
        if whole and metadata.type != "object":
            errors.append(invalid(f"{where}.type", metadata.type, "must be object"))
        if level == "root" and _says_more(metadata.raw):
            text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            errors.append(forbidden(where, text))
    if node.embedded and not node.preserve and not node.properties:
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        errors.append(required(f"{path}.properties", text))
    return errors


def _says_more(metadata: Object) -> bool:
    """Whether a root's metadata schema says more than that there are names."""
    names = set(metadata.get("properties") or {})
    rest = {key: value for key, value in metadata.items() if key not in ("type", "default")}
    if names and names <= {"name", "generateName"}:
        rest.pop("properties")
    return any(value not in (None, "", [], {}, False) for value in rest.values())


def _is_int_or_string(raw: Object) -> bool:
    return raw.get("anyOf") == _INT_OR_STRING


def _is_wrapped(raw: Object) -> bool:
    every: Sequence[Object] = raw.get("allOf") or ()
    return bool(every) and _is_int_or_string(every[0])


def _value_rules(raw: Object, path: str, *, any_of: bool = False, first: bool = False) -> list[FieldError]:
    """``any_of``: that junctor says integer or string and is allowed; ``first``: the same inside of ``allOf[0]``."""
    errors: list[FieldError] = []
    if not any_of:
        for at, each in enumerate(raw.get("anyOf") or ()):
            errors += _nested(each, f"{path}.anyOf[{at}]")
    for at, each in enumerate(raw.get("allOf") or ()):
        errors += _nested(each, f"{path}.allOf[{at}]", any_of=first and at == 0)
    for at, each in enumerate(raw.get("oneOf") or ()):
        errors += _nested(each, f"{path}.oneOf[{at}]")
    if raw.get("not") is not None:
        errors += _nested(raw["not"], f"{path}.not")
    pattern = raw.get("pattern")
    if pattern:
        try:
            patterns.compiled(pattern)
        except patterns.PatternError as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            errors.append(invalid(f"{path}.pattern", pattern, text))
    return errors


_NESTED: tuple[tuple[str, str], ...] = (
    ("type", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)
_EVEN_EMPTY = frozenset({"default", "x-kubernetes-list-type", "x-kubernetes-map-type"})


def _nested(raw: Object, path: str, *, any_of: bool = False) -> list[FieldError]:
    errors = _value_rules(raw, path, any_of=any_of)
    if isinstance(raw.get("items"), dict):
        errors += _nested(raw["items"], f"{path}.items")
    for name, each in sorted((raw.get("properties") or {}).items()):
        errors += _nested(each, f"{path}.properties[{name}]")
    for field, text in _NESTED:
        value = raw.get(field)
        if value if field not in _EVEN_EMPTY else value is not None:
            errors.append(forbidden(f"{path}.{field}", text))
    if raw.get("additionalProperties") not in (None, False):
        errors.append(forbidden(f"{path}.additionalProperties", "must be undefined to be structural"))
    if "metadata" in (raw.get("properties") or {}):
        errors.append(forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context"))
    return errors


def _complete(raw: Object, node: Structural | None, s_path: str, v_path: str) -> list[FieldError]:
    """Fields that junctors of ``raw`` speak of and the schema itself does not have."""
    errors: list[FieldError] = []
    if raw.get("not") is not None:
        errors += _nested_complete(raw["not"], node, s_path, f"{v_path}.not")
    for junctor in ("allOf", "anyOf", "oneOf"):
        for at, each in enumerate(raw.get(junctor) or ()):
            errors += _nested_complete(each, node, s_path, f"{v_path}.{junctor}[{at}]")
    return errors


def _nested_complete(raw: Any, node: Structural | None, s_path: str, v_path: str) -> list[FieldError]:
    if node is None:
        return [required(s_path, f"because it is defined in {v_path}")]
    errors = _complete(raw, node, s_path, v_path)
    if isinstance(raw.get("items"), dict):
        errors += _nested_complete(raw["items"], node.items, f"{s_path}.items", f"{v_path}.items")
    for name, each in sorted((raw.get("properties") or {}).items()):
        where, said = f"{s_path}.properties[{name}]", f"{v_path}.properties[{name}]"
        errors += _nested_complete(each, node.properties.get(name), where, said)
    return errors
