"""Who owns ``spec.replicas``, told of an object and of its Scale.

A Scale is not stored: the entries of the object it stands for become its own, and go back after it was applied.
Source: apimachinery ``pkg/util/managedfields/scalehandler.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.schema import field_sets
from anynode.schema.field_sets import LEAF, Node
from anynode.schema.managed_fields import Entry, identity

SCALE_VERSION = "autoscaling/v1"
_REPLICAS: Node = {"f:spec": {"f:replicas": LEAF}}


def path_of(steps: Sequence[str]) -> Node:
    """Where an object keeps its replicas, as owned fields: ``("spec", "replicas")``."""
    node: Node = LEAF
    for step in reversed(steps):
        node = {f"f:{step}": node}
    return node


def of_scale(entries: Sequence[Entry], api_version: str, replicas: Node = _REPLICAS) -> list[Entry]:
    """The Scale's entries, given those of the object, which is of ``api_version`` and keeps its ``replicas`` there."""
    return [
        {**each, "apiVersion": SCALE_VERSION, "fieldsV1": _REPLICAS}
        for each in entries
        if each["apiVersion"] == api_version and _owns(each, replicas)
    ]


def of_object(
    entries: Sequence[Entry], scale_entries: Sequence[Entry], api_version: str, replicas: Node = _REPLICAS
) -> list[Entry]:
    """The object's entries after its Scale came to have ``scale_entries``."""
    owners = {identity({**each, "apiVersion": api_version}): each for each in scale_entries if _owns(each, _REPLICAS)}
    kept: list[Entry] = []
    for each in entries:
        owner = owners.pop(identity(each), None)
        if owner is not None or each["apiVersion"] != api_version or not _owns(each, replicas):
            kept.append(each if owner is None else _joined(each, replicas))
            continue
        rest = field_sets.difference(each.get("fieldsV1") or LEAF, replicas)
        if rest:
            kept.append({**each, "fieldsV1": rest})
    for each in owners.values():  # upstream gives them no time
        timeless = {key: value for key, value in each.items() if key != "time"}
        kept.append({**timeless, "apiVersion": api_version, "fieldsV1": replicas})
    return kept


def _owns(entry: Entry, replicas: Node) -> bool:
    return bool(field_sets.intersection(entry.get("fieldsV1") or LEAF, replicas))


def _joined(entry: Entry, replicas: Node) -> Entry:
    return {**entry, "fieldsV1": field_sets.sorted_set(field_sets.union(entry.get("fieldsV1") or LEAF, replicas))}
