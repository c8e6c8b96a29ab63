"""Conditions and statuses: compared, changed by copying, printed without the fields Go leaves out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from anynode.api.objects import Object, find_condition


def compact(fields: Mapping[str, Any], *, always: Collection[str] = ()) -> Object:
    """``fields`` as Go prints a struct of ``omitempty`` fields: zero and empty ones only if in ``always``, no nulls."""
    return {key: value for key, value in fields.items() if value or (value is not None and key in always)}


def same(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> bool:
    """Whether two statuses say the same; an absent field says zero."""
    return _filled(old) == _filled(new)


def _filled(status: Mapping[str, Any] | None) -> Object:
    return {key: value for key, value in (status or {}).items() if value or value is False}


def without(conditions: Iterable[Object], kind: str) -> list[Object]:
    return [each for each in conditions if each.get("type") != kind]


def with_condition(conditions: Sequence[Object], new: Object) -> list[Object]:
    """``conditions`` with ``new`` at the end; unchanged where the present one has its status and reason already.

    The transition time of a condition whose status stays is kept.
    """
    current = find_condition(conditions, new["type"])
    if current is not None and current.get("status") == new["status"]:
        if current.get("reason") == new.get("reason"):
            return list(conditions)
        if "lastTransitionTime" in current:
            new = {**new, "lastTransitionTime": current["lastTransitionTime"]}
    return [*without(conditions, new["type"]), new]
