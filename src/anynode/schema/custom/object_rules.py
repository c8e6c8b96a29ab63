"""Rules beside the plain keywords: lists without doubles, and the type and metadata of embedded objects.

Source: apiextensions-apiserver ``pkg/apiserver/schema/{listtype,objectmeta}/validation.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from anynode.api import names
from anynode.api.go_text import go_json
from anynode.api.objects import Object
from anynode.schema import metadata, typed
from anynode.schema.custom.pruning import read_metadata
from anynode.schema.custom.structural import Structural
from anynode.schema.custom.wording import child, duplicate, invalid, required
from anynode.schema.fields import FieldError, FieldPath

MOST_DOUBLED = 1_000
"""Enough is said of one list."""

# Lists of the types set and map


def list_errors(obj: Any, node: Structural | None, path: str = "") -> list[FieldError]:
    """Items that stand twice in a set, or under the same keys in a list of the type map."""
    if node is None or not node.lists or not isinstance(obj, dict):
        return []
    errors: list[FieldError] = []
    if node.additional is not None and node.additional.lists:
        for key in sorted(obj):
            errors += _list_errors(obj[key], node.additional, f"{path}[{key}]")
    for key in node.properties:
        if key in obj:
            errors += _list_errors(obj[key], node.properties[key], child(path, key))
    return errors


def _list_errors(value: Any, node: Structural, path: str) -> list[FieldError]:
    if not node.lists:
        return []
    if isinstance(value, dict):
        return list_errors(value, node, path)
    if not isinstance(value, list):
        return []
    errors: list[FieldError] = []
    if node.list_type == "set":
        errors += [duplicate(f"{path}[{at}]", value[at]) for at in _doubled(value)]
    elif node.list_type == "map":
        errors += _map_errors(value, node, path)
    if node.items is not None and node.items.lists:
        for at, item in enumerate(value):
            errors += _list_errors(item, node.items, f"{path}[{at}]")
    return errors


def _map_errors(items: list[Any], node: Structural, path: str) -> list[FieldError]:
    for at, item in enumerate(items):
        if item is not None and not isinstance(item, dict):
            return [invalid(f"{path}[{at}]", item, "must be an object for an array of list-type map")]
    keys = [{name: item[name] for name in node.list_keys if name in item} if item else {} for item in items]
    return [duplicate(f"{path}[{at}]", keys[at]) for at in _doubled(keys)]


def _doubled(items: Sequence[Any]) -> list[int]:
    """Positions of each value's second occurrence, one for each value."""
    if len(items) <= 1:
        return []
    seen: dict[Hashable, int] = {}
    found: list[int] = []
    for at, item in enumerate(items):
        key = go_json(item) if isinstance(item, dict | list) else (item.__class__, item)
        times = seen.get(key, 0)
        seen[key] = times + 1
        if times == 1:
            found.append(at)
            if len(found) >= MOST_DOUBLED:
                break
    return found


# Embedded objects


def embedded_errors(value: Any, node: Structural | None, path: str = "") -> list[FieldError]:
    """What is wrong with apiVersion, kind and metadata of embedded objects."""
    if node is None or not node.embeds:
        return []
    errors: list[FieldError] = []
    if isinstance(value, list):
        for at, item in enumerate(value):
            errors += embedded_errors(item, node.items, f"{path}[{at}]")
    elif isinstance(value, dict):
        if node.embedded:
            errors += _resource_errors(value, path)
        for key in sorted(value):
            inner = node.properties.get(key)
            if inner is not None:
                errors += embedded_errors(value[key], inner, child(path, key))
            elif node.additional is not None:
                errors += embedded_errors(value[key], node.additional, f"{path}[{key}]")
    return errors


def _resource_errors(obj: Object, path: str) -> list[FieldError]:
    errors = [required(child(path, field)) for field in ("apiVersion", "kind") if field not in obj]
    if "apiVersion" in obj:
        errors += _version_errors(obj["apiVersion"], child(path, "apiVersion"))
    if "kind" in obj:
        errors += _kind_errors(obj["kind"], child(path, "kind"))
    if "metadata" in obj:
        errors += metadata_errors(obj["metadata"], child(path, "metadata"))
    return errors


def _version_errors(value: Any, path: str) -> list[FieldError]:
    if not isinstance(value, str):
        return [invalid(path, value, "must be a string")]
    if not value:
        return [invalid(path, value, "must not be empty")]
    if value.count("/") > 1:
        return [invalid(path, value, f"unexpected GroupVersion string: {value}")]
    return []


def _kind_errors(value: Any, path: str) -> list[FieldError]:
    if not isinstance(value, str):
        return [invalid(path, value, "must be a string")]
    if not value:
        return [invalid(path, value, "must not be empty")]
    wrong = names.dns1035_label(value.lower())
    if wrong:
        return [invalid(path, value, f"may have mixed case, but should otherwise match: {','.join(wrong)}")]
    return []


def metadata_errors(value: Any, path: str) -> list[FieldError]:
    """What is wrong with the metadata of an embedded object; it may go without a name."""
    try:
        found, _ = read_metadata(value, lenient=False)
    except typed.DecodeError as error:
        return [invalid(path, value, str(error))]
    named = {**found, "name": found.get("name") or "fakename"}
    return metadata.validate_create(
        {"metadata": named},
        namespaced=bool(named.get("namespace")),
        valid_name=metadata.path_segment_name,
        path=FieldPath(path),
    )
