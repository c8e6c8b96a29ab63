"""Jobs and cron jobs: generated selectors, refusals, and what may change."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of
from anynode.schema.kinds.job_rules import count_indexes

JOB, CRON_JOB = rules_of("batch", "Job"), rules_of("batch", "CronJob")
TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}
METADATA = {"name": "j", "namespace": "d", "uid": "u-1"}


def job(**spec: Any) -> dict[str, Any]:
    whole = {"template": TEMPLATE, **spec}
    return dict(JOB.prepare_create(JOB.default({"metadata": METADATA, "spec": whole})))


def told(**spec: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in JOB.validate(job(**spec))]


def changed(old: dict[str, Any], **spec: Any) -> list[str]:
    new = JOB.prepare_update(JOB.default({**old, "spec": {**old["spec"], **spec}}), old)
    return [f"{each.field}: {each.message}" for each in JOB.validate_update(new, old)]


def test_a_new_job_is_selected_by_its_uid() -> None:
    made = job()
    labels = {
        "batch.kubernetes.io/controller-uid": "u-1",
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u-1",
        "job-name": "j",
    }
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert made["spec"]["template"]["metadata"]["labels"] == labels
    assert made["metadata"]["labels"] == labels
    assert made["status"] == {}


def test_a_bare_job_is_filled() -> None:
    spec = job()["spec"]
    names = ("completions", "parallelism", "backoffLimit", "completionMode", "suspend", "manualSelector")
    assert [spec[name] for name in names] == [1, 1, 6, "NonIndexed", False, False]
    assert spec["podReplacementPolicy"] == "TerminatingOrFailed"
    assert "completions" not in job(parallelism=2)["spec"]


def test_a_manual_selector_is_left_alone() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, **TEMPLATE}
    made = job(manualSelector=True, selector={"matchLabels": {"a": "b"}}, template=template)
    assert made["spec"]["selector"] == {"matchLabels": {"a": "b"}}
    assert list(JOB.validate(made)) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"parallelism": -1}, ["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"]),
        ({"completionMode": "Indexed", "parallelism": 1},
            ['spec.completions: Required value: when completion mode is Indexed']),
        ({"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Always"}}},
            ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"']),
        ({"backoffLimitPerIndex": 1},
            ["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"]),
        ({"managedBy": "me"},
            ['spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")']),
        ({"ttlSecondsAfterFinished": -1},
            ["spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0"]),
    ],
)  # fmt: skip
def test_bad_jobs(spec: dict[str, Any], expected: list[str]) -> None:
    assert told(**spec) == expected


def test_what_may_change_in_a_job() -> None:
    assert changed(job(), parallelism=5) == []
    assert changed(job(), suspend=True) == []
    assert changed(job(), completions=2) == ["spec.completions: Invalid value: 2: field is immutable"]
    other = {"spec": {**TEMPLATE["spec"], "containers": [{"name": "c", "image": "i:2"}]}}
    fields = {text.partition(": ")[0] for text in changed(job(), template=other)}
    assert "spec.template" in fields


def test_an_elastic_job_scales_both_numbers() -> None:
    old = job(completionMode="Indexed", completions=2, parallelism=2)
    assert changed(old, completions=3, parallelism=3) == []
    assert changed(old, completions=3) != []


def test_a_suspended_job_may_be_placed_anew() -> None:
    old = job(suspend=True)
    spec = old["spec"]["template"]["spec"]
    placed = {**old["spec"]["template"], "spec": {**spec, "nodeSelector": {"a": "b"}}}
    assert changed(old, template=placed) == []
    assert changed({**old, "status": {"active": 1}}, template=placed) != []


@pytest.mark.parametrize(("text", "count"), [("", 0), ("0", 1), ("0,2-4", 4)])
def test_indexes_are_counted(text: str, count: int) -> None:
    assert count_indexes(text, 5) == count


@pytest.mark.parametrize("text", ["a", "5", "2-1", "1,1", "1-2-3"])
def test_bad_indexes(text: str) -> None:
    with pytest.raises(ValueError):
        count_indexes(text, 5)


def status_told(old: dict[str, Any], **status: Any) -> list[str]:
    new = JOB.prepare_status({**old, "status": {**old["status"], **status}}, old)
    return [f"{each.field}: {each.message}" for each in JOB.validate_status(new, old)]


def test_job_status_is_judged() -> None:
    running = {"startTime": "2026-01-01T00:00:00Z", "active": 1}
    assert status_told(job(), **running) == []
    assert status_told(job(), active=-1) == ["status.active: Invalid value: -1: must be greater than or equal to 0"]
    complete = [{"type": "Complete", "status": "True"}, {"type": "SuccessCriteriaMet", "status": "True"}]
    old = {**job(), "status": running}
    found = status_told(old, conditions=complete, completionTime="2026-01-01T00:00:01Z")
    assert found == ["status.active: Invalid value: 1: active>0 is invalid for finished job"]


def cron_told(**spec: Any) -> list[str]:
    whole = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": TEMPLATE}}, **spec}
    made = CRON_JOB.prepare_create(CRON_JOB.default({"metadata": METADATA, "spec": whole}))
    return [f"{each.field}: {each.message}" for each in CRON_JOB.validate(made)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"timeZone": "Europe/Berlin"}, []),
        ({"schedule": ""}, ["spec.schedule: Required value"]),
        ({"schedule": "x"}, ['spec.schedule: Invalid value: "x": expected exactly 5 fields, found 1: [x]']),
        ({"concurrencyPolicy": "Odd"},
            ['spec.concurrencyPolicy: Unsupported value: "Odd": supported values: "Allow", "Forbid", "Replace"']),
        ({"timeZone": "Nowhere"}, ['spec.timeZone: Invalid value: "Nowhere": unknown time zone Nowhere']),
        ({"jobTemplate": {"spec": {"template": TEMPLATE, "manualSelector": True}}},
            ["spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\""]),
    ],
)  # fmt: skip
def test_bad_cron_jobs(spec: dict[str, Any], expected: list[str]) -> None:
    assert cron_told(**spec) == expected


def test_long_names_leave_no_room_for_job_names() -> None:
    spec = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": TEMPLATE}}}
    made = CRON_JOB.default({"metadata": {**METADATA, "name": "a" * 53}, "spec": spec})
    assert [each.message for each in CRON_JOB.validate(made)] == [
        f'Invalid value: "{"a" * 53}": must be no more than 52 characters'
    ]


def test_a_template_is_shown_with_its_metadata() -> None:
    old = job()
    other = {**old["spec"]["template"], "metadata": {"labels": {"a": "b"}}}
    [said] = [text for text in changed(old, template=other) if text.startswith("spec.template: ")]
    assert said.startswith('spec.template: Invalid value: {"labels":{"a":"b"},"Spec":{"Volumes":')


def test_a_job_without_labels_shares_those_of_its_template() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, **TEMPLATE}
    bare = {"metadata": {"name": "j", "uid": "u"}, "spec": {"template": template}}
    made = JOB.prepare_create(JOB.default(bare))
    assert made["metadata"]["labels"] == made["spec"]["template"]["metadata"]["labels"]
    assert made["metadata"]["labels"]["job-name"] == "j"
    own = {**bare, "metadata": {**bare["metadata"], "labels": {"a": "b"}}}
    assert JOB.prepare_create(JOB.default(own))["metadata"]["labels"] == {"a": "b"}
