"""What valid jobs and cron jobs are, and what may change in one.

Source: kubernetes ``pkg/apis/batch/validation/validation.go``, ``pkg/registry/batch/job/strategy.go``, 1.36.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from anynode.api import names
from anynode.api.objects import Object, condition_of, labels_of, meta, name_of, uid_of
from anynode.schema import metadata
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    invalid,
    invalid_fact,
    not_supported,
    required,
    too_long,
    too_many,
)
from anynode.schema.kinds import cron_schedule
from anynode.schema.kinds.internal_form import internal, selector_form
from anynode.schema.kinds.pod_rules import validate_template
from anynode.schema.kinds.references import validate_domain_path
from anynode.schema.kinds.selection import is_selector, matches_labels, validate_label_selector
from anynode.schema.kinds.strategy import same_value, with_field
from anynode.schema.metadata import validate_nonnegative

_SPEC = FieldPath("spec")
_CONTROLLER_UID, _JOB_NAME = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
_LEGACY_CONTROLLER_UID, _LEGACY_JOB_NAME = "controller-uid", "job-name"
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_INDEXED_ONLY = "requires indexed completion mode"


def validate_job(job: Object) -> list[FieldError]:
    spec = job.get("spec") or {}
    errors = _validate_generated(job, spec)
    errors += validate_job_spec(spec, _SPEC) + _validate_selector(spec)
    completions = spec.get("completions")
    if spec.get("completionMode") == "Indexed" and completions is not None and completions > 0:
        hostname = f"{name_of(job)}-{completions - 1}"
        if names.dns1123_label(hostname):
            text = f"will not able to create pod with invalid DNS label: {hostname}"
            errors.append(invalid(FieldPath("metadata.name"), name_of(job), text))
    return errors


def _validate_generated(job: Object, spec: Object) -> list[FieldError]:
    """The selector the server makes and the labels that go with it must be what the server would make."""
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    uid, name = uid_of(job), name_of(job)
    expected = {_LEGACY_CONTROLLER_UID: uid, _LEGACY_JOB_NAME: name, _CONTROLLER_UID: uid, _JOB_NAME: name}
    template, path = spec.get("template") or {}, FieldPath("spec.template.metadata.labels")
    labels = labels_of(template)
    errors: list[FieldError] = []
    for key, value in expected.items():
        if key not in labels:
            errors.append(required(path.key(key), f"must be '{value}'"))
        elif labels[key] != value:
            shown = dict(sorted(labels.items()))
            errors.append(invalid(path.key(key), shown, f"must be '{value}'"))
    selector = spec["selector"]
    if is_selector(selector) and not matches_labels(selector, expected):
        errors.append(invalid(_SPEC.child("selector"), selector_form(selector), "`selector` not auto-generated"))
    return errors


def _validate_selector(spec: Object) -> list[FieldError]:
    selector, template = spec.get("selector"), spec.get("template") or {}
    errors: list[FieldError] = []
    if selector is None:
        errors.append(required(_SPEC.child("selector")))
    else:
        errors += validate_label_selector(selector, _SPEC.child("selector"))
    if selector is None or (is_selector(selector) and not matches_labels(selector, labels_of(template))):
        labels = meta(template).get("labels")
        shown = dict(sorted(labels.items())) if labels else None
        path = FieldPath("spec.template.metadata.labels")
        errors.append(invalid(path, shown, "`selector` does not match template `labels`"))
    return errors


_COUNTS = (
    "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
    "backoffLimitPerIndex", "maxFailedIndexes",
)  # fmt: skip


def validate_job_spec(spec: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about a job's spec without its selector, which a job template does not have."""
    errors = [error for field in _COUNTS for error in validate_nonnegative(spec.get(field), path.child(field))]
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errors.append(required(path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
    manager = spec.get("managedBy")
    if manager is not None:
        errors += validate_domain_path(manager, path.child("managedBy"))
        if len(manager) > 63:
            errors.append(too_long(path.child("managedBy"), 63))
    errors += _validate_mode(spec, path)
    if spec.get("podFailurePolicy") is not None:
        errors += _validate_failure_policy(spec, path.child("podFailurePolicy"))
    if spec.get("successPolicy") is not None:
        where = path.child("successPolicy")
        if spec.get("completionMode") != "Indexed":
            errors.append(invalid(where, internal("SuccessPolicy", spec["successPolicy"]), _INDEXED_ONLY))
        else:
            errors += _validate_success_policy(spec, where)
    errors += _validate_replacement(spec, path.child("podReplacementPolicy"))
    errors += validate_template(spec.get("template"), path.child("template"))
    return errors + _validate_restart(spec, path.child("template", "spec", "restartPolicy"))


def _validate_mode(spec: Object, path: FieldPath) -> list[FieldError]:
    mode = spec.get("completionMode")
    if mode == "Indexed":
        return _validate_indexed(spec, path)
    if mode not in (None, "NonIndexed"):
        return [not_supported(path.child("completionMode"), mode, ("NonIndexed", "Indexed"))]
    given = (field for field in ("backoffLimitPerIndex", "maxFailedIndexes") if spec.get(field) is not None)
    return [invalid(path.child(field), spec[field], _INDEXED_ONLY) for field in given]


def _validate_indexed(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    failed, per_index = spec.get("maxFailedIndexes"), spec.get("backoffLimitPerIndex")
    if completions is None:
        errors.append(required(path.child("completions"), "when completion mode is Indexed"))
    if parallelism > 100_000:
        text = "must be less than or equal to 100000 when completion mode is Indexed"
        errors.append(invalid(path.child("parallelism"), parallelism, text))
    if failed is not None and completions is not None and failed > completions:
        errors.append(invalid(path.child("maxFailedIndexes"), failed, "must be less than or equal to completions"))
    if failed is not None and failed > 100_000:
        errors.append(invalid(path.child("maxFailedIndexes"), failed, "must be less than or equal to 100000"))
    if completions is None or completions <= 100_000 or per_index is None:
        return errors
    text = "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index"
    if failed is None:
        errors.append(required(path.child("maxFailedIndexes"), "must be specified when completions is above 100000"))
    if parallelism > 10_000:
        errors.append(invalid(path.child("parallelism"), parallelism, text))
    if failed is not None and failed > 10_000:
        errors.append(invalid(path.child("maxFailedIndexes"), failed, text))
    return errors


def _quoted(values: Sequence[str]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


def _validate_failure_policy(spec: Object, path: FieldPath) -> list[FieldError]:
    rules = spec["podFailurePolicy"].get("rules") or ()
    errors = [too_many(path.child("rules"), len(rules), 20)] if len(rules) > 20 else []
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = {each.get("name") for kind in ("containers", "initContainers") for each in pod.get(kind) or ()}
    for at, rule in enumerate(rules):
        where, action = path.child("rules").index(at), rule.get("action") or ""
        if not action:
            errors.append(required(where.child("action"), f"valid values: {_quoted(_ACTIONS)}"))
        elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            errors.append(invalid(where.child("action"), action, "requires the backoffLimitPerIndex to be set"))
        elif action not in _ACTIONS:
            errors.append(not_supported(where.child("action"), action, _ACTIONS))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or ()
        if codes is not None:
            errors += _validate_exit_codes(codes, containers, where.child("onExitCodes"))
        if conditions:
            errors += _validate_conditions(conditions, where.child("onPodConditions"))
        if codes is not None and conditions:
            text = "specifying both OnExitCodes and OnPodConditions is not supported"
            errors.append(invalid_fact(where, text))
        if codes is None and not conditions:
            errors.append(invalid_fact(where, "specifying one of OnExitCodes and OnPodConditions is required"))
    return errors


def _validate_exit_codes(codes: Object, containers: set[str | None], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, container, values = codes.get("operator") or "", codes.get("containerName"), codes.get("values") or []
    where = path.child("values")
    if not operator:
        errors.append(required(path.child("operator"), f"valid values: {_quoted(('In', 'NotIn'))}"))
    elif operator not in ("In", "NotIn"):
        errors.append(not_supported(path.child("operator"), operator, ("In", "NotIn")))
    if container is not None and container not in containers:
        text = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(path.child("containerName"), container, text))
    if not values:
        errors.append(invalid(where, values, "at least one value is required"))
    elif len(values) > 255:
        errors.append(too_many(where, len(values), 255))
    for at, value in enumerate(values):
        if operator == "In" and value == 0:
            errors.append(invalid(where.index(at), value, "must not be 0 for the In operator"))
        if value in values[:at]:
            errors.append(duplicate(where.index(at), value))
    if any(before > after for before, after in itertools.pairwise(values)):
        errors.append(invalid(where, values, "must be ordered"))
    return errors


def _validate_conditions(conditions: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors = [too_many(path, len(conditions), 20)] if len(conditions) > 20 else []
    known = ("False", "True", "Unknown")
    for at, pattern in enumerate(conditions):
        errors += metadata.validate_label_key(pattern.get("type") or "", path.index(at).child("type"))
        status, where = pattern.get("status") or "", path.index(at).child("status")
        if not status:
            errors.append(required(where, f"valid values: {_quoted(known)}"))
        elif status not in known:
            errors.append(not_supported(where, status, known))
    return errors


def _validate_success_policy(spec: Object, path: FieldPath) -> list[FieldError]:
    rules, where = spec["successPolicy"].get("rules") or (), path.child("rules")
    errors: list[FieldError] = []
    if not rules:
        errors.append(required(where, "at least one rules must be specified when the successPolicy is specified"))
    if len(rules) > 20:
        errors.append(too_many(where, len(rules), 20))
    for at, rule in enumerate(rules):
        errors += _validate_success_rule(rule, spec.get("completions") or 0, where.index(at))
    return errors


def _validate_success_rule(rule: Object, completions: int, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    count, indexes, total = rule.get("succeededCount"), rule.get("succeededIndexes"), 0
    if count is None and indexes is None:
        errors.append(required(path, "at least one of succeededCount or succeededIndexes must be specified"))
    if indexes is not None:
        where = path.child("succeededIndexes")
        if len(indexes) > 64 * 1024:
            errors.append(too_long(where, 64 * 1024))
        try:
            total = count_indexes(indexes, completions)
        except ValueError as error:
            errors.append(invalid(where, indexes, f"error parsing succeededIndexes: {error}"))
    if count is not None:
        where = path.child("succeededCount")
        errors += validate_nonnegative(count, where)
        if count > completions:
            text = f"must be less than or equal to {completions} (the number of specified completions)"
            errors.append(invalid(where, count, text))
        if indexes is not None and count > total:
            noun = "the number of indexes in the specified succeededIndexes field"
            errors.append(invalid(where, count, f"must be less than or equal to {total} ({noun})"))
    return errors


def count_indexes(text: str, completions: int) -> int:
    """How many indexes ``0-3,5`` names; raises ``ValueError`` with upstream's words."""
    if not text:
        return 0
    total, last = 0, None
    for interval in text.split(","):
        limits = interval.split("-")
        if len(limits) > 2:
            rule = "an index interval can have at most two parts separated by '-'"
            raise ValueError(f'the fragment "{interval}" violates the requirement that {rule}')
        numbers = [_index(each, interval, completions) for each in limits]
        if len(numbers) == 2 and numbers[0] >= numbers[1]:
            raise ValueError(f"non-increasing order, previous: {numbers[0]}, current: {numbers[1]}")
        if last is not None and last >= numbers[0]:
            raise ValueError(f"non-increasing order, previous: {last}, current: {numbers[0]}")
        total += numbers[-1] - numbers[0] + 1
        last = numbers[-1]
    return total


def _index(text: str, interval: str, completions: int) -> int:
    if not text.isdigit():
        raise ValueError(f'cannot convert string to integer for index: "{text}"')
    if int(text) >= completions:
        raise ValueError(f'too large index: "{text}"')
    return int(text)


def _validate_replacement(spec: Object, path: FieldPath) -> list[FieldError]:
    policy = spec.get("podReplacementPolicy")
    known = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    return [] if policy is None or policy in known else [not_supported(path, policy, known)]


def _validate_restart(spec: Object, path: FieldPath) -> list[FieldError]:
    policy = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy") or ""
    if policy in ("Always", ""):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [not_supported(path, policy, ("OnFailure", "Never"))]
    if policy != "Never" and spec.get("podFailurePolicy") is not None:
        return [invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def validate_job_update(new: Object, old: Object) -> list[FieldError]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    errors = validate_job(new) + validate_job_spec(after, _SPEC) + _validate_selector(after)
    errors += _validate_completions(after, before)
    errors += _fixed(after, before, "selector")
    errors += _validate_template_change(after, before, old)
    fields = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
    for field in fields:
        errors += _fixed(after, before, field)
    return errors


_FORMS = {"podFailurePolicy": "*PodFailurePolicy", "successPolicy": "*SuccessPolicy"}


def _fixed(after: Object, before: Object, field: str) -> list[FieldError]:
    value = after.get(field)
    if same_value(value, before.get(field)):
        return []
    if field == "selector":
        value = selector_form(value)
    elif field in _FORMS:
        value = internal(_FORMS[field], value)
    return [invalid(_SPEC.child(field), value, metadata.IMMUTABLE)]


def _validate_completions(after: Object, before: Object) -> list[FieldError]:
    new, old, path = after.get("completions"), before.get("completions"), _SPEC.child("completions")
    if new == old:
        return []
    if after.get("completionMode") != "Indexed":
        return [invalid(path, new, metadata.IMMUTABLE)]
    if new is None or new == after.get("parallelism"):
        return []
    return [invalid(path, new, "can only be modified in tandem with spec.parallelism")]


def has_condition(job: Object, kind: str, status: str = "True") -> bool:
    return (condition_of(job, kind) or {}).get("status") == status


def _validate_template_change(after: Object, before: Object, old: Object) -> list[FieldError]:
    """The template is fixed, but for scheduling and resources while the job is suspended and has no pods."""
    new, was = after.get("template") or {}, before.get("template") or {}
    status = old.get("status") or {}
    loose = before.get("suspend") and not status.get("active")
    if loose and (not status.get("startTime") or has_condition(old, "Suspended")):
        was = _loosened(new, was)
    if same_value(new, was):
        return []
    return [invalid(_SPEC.child("template"), internal("PodTemplateSpec", new), metadata.IMMUTABLE)]


def _loosened(new: Object, was: Object) -> Object:
    """``was`` with everything taken from ``new`` that a suspended job may change."""
    spec, found = was.get("spec") or {}, new.get("spec") or {}
    for field in ("nodeSelector", "tolerations", "schedulingGates"):
        spec = with_field(spec, field, found.get(field))
    node = (found.get("affinity") or {}).get("nodeAffinity")
    affinity = with_field(spec.get("affinity") or {}, "nodeAffinity", node)
    spec = with_field(spec, "affinity", affinity or found.get("affinity"))
    for kind in ("containers", "initContainers"):
        ours, theirs = spec.get(kind) or [], found.get(kind) or []
        if len(ours) == len(theirs):
            pairs = zip(ours, theirs, strict=True)
            spec = with_field(
                spec, kind, [with_field(one, "resources", other.get("resources")) for one, other in pairs] or None
            )
    metadata_ = {**meta(was)}
    for field in ("labels", "annotations"):
        metadata_ = with_field(metadata_, field, meta(new).get(field))
    return {**was, "metadata": metadata_, "spec": spec}


def validate_cron_job_spec(cron_job: Object, *, old: Object | None = None) -> list[FieldError]:
    spec = cron_job.get("spec") or {}
    errors: list[FieldError] = []
    schedule, zone = spec.get("schedule") or "", spec.get("timeZone")
    if not schedule:
        errors.append(required(_SPEC.child("schedule")))
    else:
        tolerated = "TZ" in (((old or {}).get("spec") or {}).get("schedule") or "")
        errors += _validate_schedule(schedule, zone, tolerated=tolerated)
    errors += validate_nonnegative(spec.get("startingDeadlineSeconds"), _SPEC.child("startingDeadlineSeconds"))
    if old is None or (old.get("spec") or {}).get("timeZone") != zone:
        errors += _validate_time_zone(zone)
    policy, known = spec.get("concurrencyPolicy") or "", ("Allow", "Forbid", "Replace")
    path = _SPEC.child("concurrencyPolicy")
    if policy not in known:
        errors.append(not_supported(path, policy, known) if policy else required(path))
    errors += _validate_job_template((spec.get("jobTemplate") or {}).get("spec") or {})
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += validate_nonnegative(spec.get(field), _SPEC.child(field))
    return errors


def _validate_job_template(spec: Object) -> list[FieldError]:
    path = _SPEC.child("jobTemplate", "spec")
    errors = validate_job_spec(spec, path)
    if spec.get("selector") is not None:
        shown = selector_form(spec["selector"])
        errors.append(invalid(path.child("selector"), shown, "`selector` will be auto-generated"))
    if spec.get("manualSelector"):
        errors.append(not_supported(path.child("manualSelector"), True, ("nil", "false")))
    return errors


def _validate_schedule(schedule: str, zone: str | None, *, tolerated: bool) -> list[FieldError]:
    path = _SPEC.child("schedule")
    wrong = cron_schedule.complaint(schedule)
    errors = [invalid(path, schedule, wrong)] if wrong else []
    if "TZ" in schedule:
        if not tolerated:
            text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            errors.append(invalid(path, schedule, text))
        elif zone is not None:
            text = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
            errors.append(invalid(path, schedule, text))
    return errors


_zone_part = re.compile(r"[A-Za-z.\-_0-9+]{1,14}").fullmatch


def _validate_time_zone(zone: str | None) -> list[FieldError]:
    path = _SPEC.child("timeZone")
    if zone is None:
        return []
    if not zone:
        return [invalid(path, zone, "timeZone must be nil or non-empty string")]
    for part in zone.split("/"):
        if part in (".", "..") or part.startswith("-") or not _zone_part(part):
            return [invalid(path, zone, f"unknown time zone {zone}")]
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid(path, zone, text)]
    return [] if cron_schedule.is_time_zone(zone) else [invalid(path, zone, f"unknown time zone {zone}")]


def validate_cron_job(cron_job: Object) -> list[FieldError]:
    errors = validate_cron_job_spec(cron_job)
    if len(name_of(cron_job)) > 52:
        errors.append(invalid(FieldPath("metadata.name"), name_of(cron_job), "must be no more than 52 characters"))
    return errors


def validate_cron_job_update(new: Object, old: Object) -> list[FieldError]:
    return validate_cron_job_spec(new, old=old)
