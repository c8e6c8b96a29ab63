"""How upstream prints its own form of an object inside a message: Go field names, every field, in Go's order.

A wire value comes in, nested dicts and lists in the server's internal form come out; ``json.dumps`` of them is what
stands in upstream's messages and diffs. The table ``data/internal-forms.json`` lists per struct ``[Go name, wire name,
type]``, the type being ``s`` text, ``b`` boolean, ``i`` integer, ``q`` quantity, ``x`` int-or-string, ``t`` time,
``raw`` (printed as on the wire), a struct's name, or one of these after ``*`` (pointer), ``[]`` (list), ``{}`` (map).
Source: kubernetes ``pkg/apis/{core,apps,batch}/types.go``, 1.36.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

from anynode.api.objects import Object

_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")
_METADATA = (
    "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
)  # fmt: skip
_ZERO: Mapping[str, Any] = {"s": "", "b": False, "i": 0, "q": "0", "x": 0, "t": None, "raw": None, "bytes": None}


@functools.cache
def _forms() -> Mapping[str, Sequence[tuple[str, str, str]]]:
    text = importlib.resources.files("anynode.schema").joinpath("data/internal-forms.json").read_text()
    return {name: [(go, wire, kind) for go, wire, kind in rows] for name, rows in json.loads(text).items()}


def internal(kind: str, value: Any) -> Any:
    """``value`` of the struct or type ``kind`` in the internal form."""
    if kind[0] == "*":
        return None if value is None else internal(kind[1:], value)
    if kind[:2] == "[]":
        return None if value is None else [internal(kind[2:], each) for each in value]
    if kind[:2] == "{}":
        return None if value is None else {key: internal(kind[2:], value[key]) for key in sorted(value)}
    if kind in _ZERO:
        return _ZERO[kind] if value is None else value
    value = value or {}
    if kind == "PodSpec":
        value = _with_host_fields(value)
    shown = {go: internal(type_name, value.get(wire)) for go, wire, type_name in _forms()[kind]}
    if kind.endswith("TemplateSpec"):  # its metadata stand among its own fields, as on the wire
        metadata = value.get("metadata") or {}
        said = {field: metadata[field] for field in _METADATA if metadata.get(field)}
        sorted_maps = {field: dict(sorted(said[field].items())) for field in ("labels", "annotations") if field in said}
        return {**said, **sorted_maps, **shown}
    return shown


def _with_host_fields(spec: Object) -> Object:
    """The internal form keeps what a pod shares with its host in the security context."""
    shared = {field: spec[field] for field in _HOST_FIELDS if spec.get(field) is not None}
    context = spec.get("securityContext")
    return {**spec, "securityContext": {**(context or {}), **shared}} if shared or context is not None else spec


def difference(kind: str, old: Any, new: Any) -> str:
    """The unified diff upstream appends to messages about fields that may not change."""
    before, after = (
        json.dumps(internal(kind, each), indent=1, ensure_ascii=False).splitlines(keepends=True) for each in (old, new)
    )
    if before == after:
        return ""
    if len(before) + len(after) > _MOST_COMPARED_LINES:
        return _coarse_difference(before, after)
    rows = [row if row.endswith("\n") else f"{row}\n" for row in difflib.unified_diff(before, after, n=3)]
    return "".join(rows[2:])


_MOST_COMPARED_LINES, _MOST_SHOWN_LINES = 6_000, 1_000


def _coarse_difference(before: list[str], after: list[str]) -> str:
    """The same for texts too long to be compared line with line, which takes time by the square of their length: all
    between the first and the last line that differ, or the beginning of that."""
    most = min(len(before), len(after))
    head = next((at for at in range(most) if before[at] != after[at]), most)
    tail = next((at for at in range(most - head) if before[-1 - at] != after[-1 - at]), most - head)
    start, end = max(0, head - 3), min(3, tail)
    gone, come = before[head : len(before) - tail], after[head : len(after) - tail]
    counts = f"@@ -{start + 1},{head - start + len(gone) + end} +{start + 1},{head - start + len(come) + end} @@\n"
    rows = [f" {row}" for row in before[start:head]]
    rows += [f"-{row}" for row in gone[:_MOST_SHOWN_LINES]] + [f"+{row}" for row in come[:_MOST_SHOWN_LINES]]
    rows += [f" {row}" for row in before[len(before) - tail :][:end]]
    return counts + "".join(row if row.endswith("\n") else f"{row}\n" for row in rows)


def sorted_map(value: Any) -> Any:
    """A map as it is printed; what is no map stays as it is."""
    return dict(sorted(value.items())) if isinstance(value, dict) else value


def selector_form(selector: Object | None) -> Object | None:
    """A label selector as it is printed: known fields, empty ones left out, maps sorted."""
    if selector is None:
        return None
    shown: Object = {}
    if selector.get("matchLabels"):
        shown["matchLabels"] = dict(sorted(selector["matchLabels"].items()))
    if selector.get("matchExpressions"):
        shown["matchExpressions"] = [_requirement_form(each) for each in selector["matchExpressions"]]
    return shown


def _requirement_form(requirement: Object) -> Object:
    shown = {"key": requirement.get("key") or "", "operator": requirement.get("operator") or ""}
    if requirement.get("values"):
        shown["values"] = requirement["values"]
    return shown
