"""The small texts tables are made of: ages, selectors, label lists, shortened lists.

Source: kubernetes ``pkg/printers/internalversion/printers.go`` and apimachinery ``pkg/labels``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anynode.api import formats, selectors
from anynode.api.objects import Object

NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"
LISTED = 3


def since(time: str | None, now: datetime.datetime) -> str:
    """How long ago ``time`` was, as kubectl prints ages."""
    if not time:
        return UNKNOWN
    return formats.human_duration((now - formats.parse_time(time)).total_seconds())


def age(obj: Object, now: datetime.datetime) -> str:
    """How long ago an object was created."""
    return since(obj["metadata"].get("creationTimestamp"), now)


def between(start: str, end: str) -> str:
    return formats.human_duration((formats.parse_time(end) - formats.parse_time(start)).total_seconds())


def label_list(labels: Mapping[str, str] | None) -> str:
    """``a=b,c=d``, or ``<none>``."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def selector(label_selector: Object | None, *, none: str = NONE, wrong: str = "<error>") -> str:
    """A ``metav1.LabelSelector`` in the words of ``-l``."""
    try:
        return str(selectors.of_label_selector(label_selector)) or none
    except selectors.SelectorError:
        return wrong


def shortened(items: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    said = ",".join(items[:LISTED])
    return f"{said} + {len(items) - LISTED} more..." if len(items) > LISTED else said


def containers_and_images(pod_spec: Object | None) -> list[Any]:
    """Two cells: the names and the images of a pod's containers."""
    containers = (pod_spec or {}).get("containers") or ()
    return [",".join(each.get(field, "") for each in containers) for field in ("name", "image")]


def template_cells(spec: Object) -> list[Any]:
    """``containers_and_images`` of a workload's pod template."""
    return containers_and_images((spec.get("template") or {}).get("spec"))


def sorted_set(items: Iterable[str]) -> list[str]:
    return sorted({each for each in items if each})


def boolean(value: bool | None) -> str:
    """``True``, ``False`` or ``<unset>``, as text."""
    return UNSET if value is None else str(bool(value))
