"""What a job's status may say, and what a finished job may no longer unsay.

Rules about a field hold when a write changes it, so that other writes are not stuck behind an older fault. Source:
kubernetes ``pkg/apis/batch/validation/validation.go`` (ValidateJobUpdateStatus),
``pkg/registry/batch/job/strategy.go`` (getStatusValidationOptions), 1.36.
"""

from __future__ import annotations

from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, duplicate, invalid, invalid_fact, required
from anynode.schema.kinds.job_rules import count_indexes, has_condition
from anynode.schema.metadata import validate_nonnegative

_STATUS = FieldPath("status")
_CONDITIONS = FieldPath("status.conditions")


def _finished(job: Object) -> bool:
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def _flipped(new: Object, old: Object, *kinds: str) -> bool:
    return any(has_condition(new, kind) != has_condition(old, kind) for kind in kinds)


def validate_job_status(new: Object, old: Object) -> list[FieldError]:
    after, before = new.get("status") or {}, old.get("status") or {}
    errors: list[FieldError] = []
    for field in ("active", "succeeded", "failed", "ready", "terminating"):
        errors += validate_nonnegative(after.get(field), _STATUS.child(field))
    errors += _validate_uncounted(after)
    errors += _validate_conditions(new, old)
    errors += _validate_times(new, old, after, before)
    errors += _validate_finished(new, old, after, before)
    errors += _validate_indexes(new, after, before)
    return errors + _validate_transitions(new, old, after, before)


def _validate_uncounted(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for kind in ("succeeded", "failed"):
        for at, uid in enumerate((status.get("uncountedTerminatedPods") or {}).get(kind) or ()):
            path = _STATUS.child("uncountedTerminatedPods", kind).index(at)
            if not uid:
                errors.append(invalid(path, uid, "must not be empty"))
            elif uid in seen:
                errors.append(duplicate(path, uid))
            seen.add(uid)
    return errors


def _validate_conditions(new: Object, old: Object) -> list[FieldError]:
    facts: list[str] = []
    complete, failed = has_condition(new, "Complete"), has_condition(new, "Failed")
    target, criteria = has_condition(new, "FailureTarget"), has_condition(new, "SuccessCriteriaMet")
    if complete and failed and _flipped(new, old, "Complete", "Failed"):
        facts.append("cannot set Complete=True and Failed=true conditions")
    if complete and target and _flipped(new, old, "Complete", "FailureTarget"):
        facts.append("cannot set Complete=True and FailureTarget=true conditions")
    if failed and not target and _flipped(new, old, "Failed"):
        facts.append("cannot set Failed=True condition without the FailureTarget=true condition")
    if complete and not criteria and _flipped(new, old, "Complete", "SuccessCriteriaMet"):
        facts.append("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
    if criteria and failed:
        facts.append("cannot set SuccessCriteriaMet=True and Failed=true conditions")
    if criteria and target:
        facts.append("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
    if (new.get("spec") or {}).get("successPolicy") is not None and complete and not criteria:
        facts.append("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
    return [invalid_fact(_CONDITIONS, text) for text in facts]


def _validate_times(new: Object, old: Object, after: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    start, end = after.get("startTime"), after.get("completionTime")
    moved = end != before.get("completionTime")
    path, complete = _STATUS.child("completionTime"), has_condition(new, "Complete")
    if moved or _flipped(new, old, "Complete"):
        if end is not None and not complete:
            text = "cannot set completionTime when there is no Complete=True condition"
            errors.append(invalid(path, end, text))
        if end is None and complete:
            errors.append(required(path, "completionTime is required for Complete jobs"))
    if (moved or start != before.get("startTime")) and start and end and end < start:
        errors.append(invalid(path, end, "must be equal to or after `startTime`"))
    return errors


def _validate_finished(new: Object, old: Object, after: Object, before: Object) -> list[FieldError]:
    if not _finished(new):
        return _validate_ready(after, before)
    errors: list[FieldError] = []
    flipped = _finished(new) != _finished(old)
    spec = new.get("spec") or {}

    def touched(field: str) -> bool:
        return flipped or after.get(field) != before.get(field)

    active = after.get("active") or 0
    if active > 0 and touched("active"):
        errors.append(invalid(_STATUS.child("active"), active, "active>0 is invalid for finished job"))
    idle = spec.get("suspend") and spec.get("completions") == 0
    if after.get("startTime") is None and touched("startTime") and not idle:
        errors.append(required(_STATUS.child("startTime"), "startTime is required for finished job"))
    pods = after.get("uncountedTerminatedPods") or {}
    if (pods.get("failed") or pods.get("succeeded")) and touched("uncountedTerminatedPods"):
        shown = {"Succeeded": pods.get("succeeded"), "Failed": pods.get("failed")}
        errors.append(invalid(_STATUS.child("uncountedTerminatedPods"), shown, "must be empty for finished job"))
    terminating = after.get("terminating") or 0
    if terminating > 0 and touched("terminating"):
        text = "terminating>0 is invalid for finished job"
        errors.append(invalid(_STATUS.child("terminating"), terminating, text))
    return errors + _validate_ready(after, before)


def _validate_ready(after: Object, before: Object) -> list[FieldError]:
    ready, active = after.get("ready"), after.get("active") or 0
    same = ready == before.get("ready") and active == (before.get("active") or 0)
    if ready is None or ready <= active or same:
        return []
    return [invalid(_STATUS.child("ready"), ready, "cannot set more ready pods than active")]


def _validate_indexes(new: Object, after: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    spec = new.get("spec") or {}
    completions, per_index = spec.get("completions"), spec.get("backoffLimitPerIndex")
    done, failed = after.get("completedIndexes") or "", after.get("failedIndexes")
    done_moved, failed_moved = done != (before.get("completedIndexes") or ""), failed != before.get("failedIndexes")
    at_done, at_failed = _STATUS.child("completedIndexes"), _STATUS.child("failedIndexes")
    if done_moved and completions is not None:
        errors += _parsed(done, completions, at_done, "completedIndexes")
    if failed_moved and completions is not None and per_index is not None and failed is not None:
        errors += _parsed(failed, completions, at_failed, "failedIndexes")
    if done_moved and done and spec.get("completionMode") != "Indexed":
        text = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errors.append(invalid(at_done, done, text))
    if failed_moved and failed is not None and per_index is None:
        text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errors.append(invalid(at_failed, failed, text))
    if (done_moved or failed_moved) and failed and done:
        common = _indexes(done) & _indexes(failed)
        if common:
            text = f"failedIndexes and completedIndexes overlap at index: {min(common)}"
            errors.append(invalid(at_failed, failed, text))
    return errors


def _parsed(text: str, completions: int, path: FieldPath, name: str) -> list[FieldError]:
    try:
        count_indexes(text, completions)
    except ValueError as error:
        return [invalid(path, text, f"error parsing {name}: {error}")]
    return []


def _indexes(text: str) -> set[int]:
    found: set[int] = set()
    for interval in text.split(","):
        first, _, last = interval.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def _validate_transitions(new: Object, old: Object, after: Object, before: Object) -> list[FieldError]:
    errors = [
        invalid_fact(_CONDITIONS, f"cannot disable the terminal {kind}=True condition")
        for kind in ("Failed", "Complete", "FailureTarget")
        if has_condition(old, kind) and not has_condition(new, kind)
    ]
    spec = new.get("spec") or {}
    scalable = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    for field in ("failed",) if scalable else ("failed", "succeeded"):
        count = after.get(field) or 0
        if count < (before.get(field) or 0):
            errors.append(invalid(_STATUS.child(field), count, f"cannot decrease the {field} counter"))
    start, end = after.get("startTime"), after.get("completionTime")
    if end and before.get("completionTime") and end != before["completionTime"]:
        errors.append(invalid(_STATUS.child("completionTime"), end, "field is immutable"))
    resuming = has_condition(old, "Suspended") and has_condition(new, "Suspended", "False")
    if before.get("startTime") and start != before["startTime"] and not spec.get("suspend") and not resuming:
        text = "field is immutable for unsuspended job once set"
        errors.append(invalid(_STATUS.child("startTime"), start, text))
    met, was_met = has_condition(new, "SuccessCriteriaMet"), has_condition(old, "SuccessCriteriaMet")
    if was_met and not met:
        errors.append(invalid_fact(_CONDITIONS, "cannot disable the SuccessCriteriaMet=True condition"))
    if has_condition(old, "Complete") and not was_met and met:
        text = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        errors.append(invalid_fact(_CONDITIONS, text))
    return errors
