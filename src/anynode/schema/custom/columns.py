"""The columns of a custom resource's Table: the name, then what the definition lists, or else the age.

Source: apiextensions-apiserver ``pkg/registry/customresource/tableconvertor``, ``pkg/apiserver/helpers.go``, 1.36.
"""

from __future__ import annotations

import datetime
import functools
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

from anynode.api import formats
from anynode.api.objects import Object, name_of
from anynode.schema.custom.jsonpath import JsonPath, JsonPathError, printed

_WHOLE = float(1 << 63)


class Columns:
    """Column definitions (``definitions``, shared, never to be changed) and the cells of an object."""

    def __init__(self, listed: Sequence[Object]) -> None:
        described = _descriptions()
        if not listed:
            said = described["creationTimestamp"]
            listed = [{"name": "Age", "type": "date", "description": said, "jsonPath": ".metadata.creationTimestamp"}]
        self.definitions: list[Mapping[str, Any]] = [_definition("Name", "string", "name", described["name"], 0)]
        self._paths: list[tuple[str, JsonPath]] = []
        for each in listed:
            path, kind = str(each.get("jsonPath") or ""), str(each.get("type") or "")
            try:
                self._paths.append((kind, JsonPath(f"{{{path}}}")))
            except JsonPathError:
                break  # upstream shows the columns before one it cannot read
            said = each.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
            name, priority = str(each.get("name") or ""), int(each.get("priority") or 0)
            self.definitions.append(_definition(name, kind, str(each.get("format") or ""), said, priority))

    def cells(self, obj: Object, now: datetime.datetime) -> list[Any]:
        """The row of ``obj`` as it is shown at ``now``."""
        return [name_of(obj), *(_cell(kind, path, obj, now) for kind, path in self._paths)]


def _definition(name: str, kind: str, format_: str, description: str, priority: int) -> Mapping[str, Any]:
    return {"name": name, "type": kind, "format": format_, "description": description, "priority": priority}


@functools.cache
def _descriptions() -> Mapping[str, str]:
    """What Kubernetes' documentation says of an object's name and creation time."""
    text = importlib.resources.files("anynode.schema").joinpath("data/custom-columns.json").read_text()
    found: Mapping[str, str] = json.loads(text)
    return found


def _cell(kind: str, path: JsonPath, obj: Object, now: datetime.datetime) -> Any:
    try:
        found = path.results(obj)
    except JsonPathError:
        return None
    if not found or not found[0]:
        return None
    value = found[0][0]
    if value.__class__ is float and value.is_integer() and abs(value) < _WHOLE:
        value = int(value)  # as it comes back from the store
    if kind == "string":
        return printed(value)
    if kind == "date":
        return _age(value, now) if isinstance(value, str) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else float(value) if kind == "number" else None


def _age(text: str, now: datetime.datetime) -> str:
    if text in ("", "null"):
        return "<unknown>"
    try:
        moment = formats.parse_time(text)
    except ValueError:
        return "<invalid>"
    return formats.human_duration((now - moment).total_seconds())
