"""Conditions of the common form (``metav1.Condition``).

Source: apimachinery ``pkg/apis/meta/v1/validation/validation.go`` (ValidateConditions), 1.36.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, duplicate, invalid, not_supported, required, too_long
from anynode.schema.metadata import validate_label_key

_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"


@functools.lru_cache(maxsize=1)
def _reason() -> re.Pattern[str]:
    return re.compile(_REASON)


def validate_conditions(conditions: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, condition in enumerate(conditions):
        kind = condition.get("type") or ""
        if kind in seen:
            errors.append(duplicate(path.index(at).child("type"), kind))
        seen.add(kind)
        errors += _validate_condition(condition, path.index(at))
    return errors


def _validate_condition(condition: Object, path: FieldPath) -> list[FieldError]:
    errors = validate_label_key(condition.get("type") or "", path.child("type"))
    status, observed = condition.get("status") or "", condition.get("observedGeneration") or 0
    reason = condition.get("reason") or ""
    if status not in ("False", "True", "Unknown"):
        errors.append(not_supported(path.child("status"), status, ("False", "True", "Unknown")))
    if observed < 0:
        errors.append(invalid(path.child("observedGeneration"), observed, "must be greater than or equal to zero"))
    if not condition.get("lastTransitionTime"):
        errors.append(required(path.child("lastTransitionTime")))
    if not reason:
        errors.append(required(path.child("reason")))
    elif not _reason().fullmatch(reason):
        text = "a condition reason must start with alphabetic character, optionally followed by a string of "
        text += "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'"
        errors.append(
            invalid(
                path.child("reason"),
                reason,
                names.regex_error(text, _REASON, "my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"),
            )
        )
    if len(reason) > 1024:
        errors.append(too_long(path.child("reason"), 1024))
    if len((condition.get("message") or "").encode()) > 32 * 1024:
        errors.append(too_long(path.child("message"), 32 * 1024))
    return errors
