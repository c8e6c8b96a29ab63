"""Jobs and cron jobs: defaults and strategies.

Source: kubernetes ``pkg/apis/batch/v1/defaults.go``, ``pkg/registry/batch/{job,cronjob}/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object, meta, name_of, uid_of
from anynode.schema.fields import FieldPath
from anynode.schema.kinds import job_rules, job_status_rules, pod_warnings, strategy
from anynode.schema.kinds.pod_defaults import default_template
from anynode.schema.rules import KindRules

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
_LEGACY_CONTROLLER_UID, _LEGACY_JOB_NAME = "controller-uid", "job-name"
_MOST = 2**31 - 1


def default_job(job: Object) -> Object:
    spec = dict(job.get("spec") or {})
    spec["template"] = default_job_template(spec.get("template"))
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = _MOST if spec.get("backoffLimitPerIndex") is not None else 6
    if spec.get("completionMode") is None:
        spec["completionMode"] = "NonIndexed"
    if spec.get("suspend") is None:
        spec["suspend"] = False
    if spec.get("podReplacementPolicy") is None:
        spec["podReplacementPolicy"] = "Failed" if spec.get("podFailurePolicy") is not None else "TerminatingOrFailed"
    if spec.get("manualSelector") is None:
        spec["manualSelector"] = False
    if spec.get("podFailurePolicy"):
        spec["podFailurePolicy"] = _default_failure_policy(spec["podFailurePolicy"])
    return {**job, "spec": spec, "status": job.get("status") or {}}


def default_job_template(template: Object | None) -> Object:
    return default_template(template)


def _default_failure_policy(policy: Object) -> Object:
    rules = policy.get("rules")
    if not rules:
        return policy
    return {**policy, "rules": [_default_failure_rule(each) for each in rules]}


def _default_failure_rule(rule: Object) -> Object:
    patterns = rule.get("onPodConditions")
    if not patterns:
        return rule
    filled = [each if each.get("status") else {**each, "status": "True"} for each in patterns]
    return {**rule, "onPodConditions": filled}


def _create_job(job: Object) -> Object:
    """The job with its generated selector and the template labels that go with it; needs ``metadata.uid``."""
    job = {**strategy.with_generation(job, 1), "status": {}}
    spec = job.get("spec") or {}
    if not spec.get("manualSelector"):
        inherited = meta(job).get("labels")
        if inherited is meta(spec.get("template") or {}).get("labels"):  # upstream shares them, generated ones too
            job = {**job, "metadata": {key: value for key, value in meta(job).items() if key != "labels"}}
        spec = _with_generated_selector(spec, name_of(job), uid_of(job))
        job = {**job, "spec": spec}
    return job


def _with_generated_selector(spec: Object, name: str, uid: str) -> Object:
    template = spec.get("template") or {}
    labels = {
        _LEGACY_JOB_NAME: name,
        JOB_NAME: name,
        _LEGACY_CONTROLLER_UID: uid,
        CONTROLLER_UID: uid,
        **(meta(template).get("labels") or {}),
    }
    selector = spec.get("selector") or {}
    wanted = {CONTROLLER_UID: uid, **(selector.get("matchLabels") or {})}
    return {
        **spec,
        "selector": {**selector, "matchLabels": wanted},
        "template": {**template, "metadata": {**meta(template), "labels": labels}},
    }


def with_template_labels(job: Object) -> Object:
    """A job without labels of its own carries those of its template."""
    labels = meta((job.get("spec") or {}).get("template") or {}).get("labels")
    if not labels or meta(job).get("labels"):
        return job
    return {**job, "metadata": {**meta(job), "labels": labels}}


def _job_warnings(job: Object) -> list[str]:
    spec = job.get("spec") or {}
    warnings: list[str] = []
    many = (spec.get("completions") or 0) > 100_000 and (spec.get("parallelism") or 0) > 10_000
    if spec.get("completionMode") == "Indexed" and many:
        warnings.append(
            "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
            "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    return warnings + pod_warnings.template_warnings(spec.get("template"), FieldPath("spec.template"))


JOB = KindRules(
    validate=job_rules.validate_job,
    validate_update=job_rules.validate_job_update,
    validate_status=job_status_rules.validate_job_status,
    warnings=lambda job: pod_warnings.name_warnings(job) + _job_warnings(job),
    update_warnings=lambda new, old: (
        () if meta(new).get("generation") == meta(old).get("generation") else _job_warnings(new)
    ),
    default=lambda job: with_template_labels(default_job(job)),
    prepare_create=lambda job: with_template_labels(_create_job(job)),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(),
    field_labels=("status.successful",),
)


def default_cron_job(cron_job: Object) -> Object:
    spec = dict(cron_job.get("spec") or {})
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    if spec.get("suspend") is None:
        spec["suspend"] = False
    if spec.get("successfulJobsHistoryLimit") is None:
        spec["successfulJobsHistoryLimit"] = 3
    if spec.get("failedJobsHistoryLimit") is None:
        spec["failedJobsHistoryLimit"] = 1
    found = spec.get("jobTemplate") or {}
    inner = dict(found.get("spec") or {})
    inner["template"] = default_job_template(inner.get("template"))
    if inner.get("podFailurePolicy"):
        inner["podFailurePolicy"] = _default_failure_policy(inner["podFailurePolicy"])
    spec["jobTemplate"] = {**found, "metadata": found.get("metadata") or {}, "spec": inner}
    return {**cron_job, "spec": spec, "status": cron_job.get("status") or {}}


def _cron_job_warnings(cron_job: Object) -> list[str]:
    template = (((cron_job.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}).get("template")
    path = FieldPath("spec.jobTemplate.spec.template")
    return pod_warnings.name_warnings(cron_job) + pod_warnings.template_warnings(template, path)


CRON_JOB = KindRules(
    validate=job_rules.validate_cron_job,
    validate_update=job_rules.validate_cron_job_update,
    warnings=_cron_job_warnings,
    default=default_cron_job,
    prepare_create=strategy.created(status={}),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(),
)

RULES: Sequence[tuple[str, str, KindRules]] = (("batch", "Job", JOB), ("batch", "CronJob", CRON_JOB))
