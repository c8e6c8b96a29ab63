"""Job: indexes, policies, back-off, and whole lives over a fake API server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.api.objects import Object, ObjectKey, annotations_of, condition_of, get_path, labels_of, meta, name_of
from anynode.controllers import job_rules
from anynode.controllers.job import JobController
from anynode.controllers.job_indexes import INDEX, Indexes
from anynode.controllers.job_plan import TRACKING_FINALIZER
from anynode.controllers.job_step import JOBS
from anynode.controllers.job_ttl import JobTtlController
from anynode.controllers.pods import PODS

KEY = ObjectKey("default", "work")


def job(**spec: Any) -> Object:
    return {
        "metadata": {"name": "work", "namespace": "default"},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 6,
            "selector": {"matchLabels": {"job": "work"}},
            "template": {
                "metadata": {"labels": {"job": "work"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]},
            },
            **spec,
        },
    }


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(0, 70), st.integers(0, 10))
def test_indexes_are_sets(one: set[int], two: set[int], completions: int, count: int) -> None:
    left, right = Indexes().with_added(one), Indexes().with_added(two)
    assert set(left) == one
    assert len(left) == len(one)
    assert [each for each in range(62) if each in left] == sorted(one)
    assert Indexes.parse(str(left), 100) == left
    assert set(Indexes.parse(str(left), completions)) == {each for each in one if each < completions}
    assert left.overlap(right) == len(one & two)
    assert set(left.union(right)) == one | two
    missing = [each for each in range(completions) if each not in one]
    assert left.first_missing(count, completions) == missing[:count]


def test_indexes_print_as_upstream() -> None:
    assert str(Indexes().with_added([0, 1, 3, 4, 5, 7])) == "0,1,3-5,7"


@pytest.mark.parametrize(("failures", "wait"), [(0, 0), (1, 10), (2, 20), (3, 40), (7, 600), (100, 600)])
def test_back_off_doubles(failures: int, wait: float) -> None:
    record = job_rules.FailureRecord(failures, 1000.0 if failures else None)
    assert record.wait_seconds(1000.0) == wait
    assert record.wait_seconds(1000.0 + wait) == 0


def exited(code: int, name: str = "main") -> Object:
    status = {"containerStatuses": [{"name": name, "state": {"terminated": {"exitCode": code}}}], "phase": "Failed"}
    return {"metadata": {"name": "p", "namespace": "default"}, "status": status}


@pytest.mark.parametrize(
    ("rule", "pod", "expected"),
    [
        ({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}}, exited(3), (False, "Ignore", "")),
        ({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}}, exited(4), (True, "", "")),
        ({"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [3]}}, exited(4), (True, "Count", "")),
        ({"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [3]}}, exited(0), (True, "", "")),
        (
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            exited(42),
            (
                True,
                "FailJob",
                "Container main for pod default/p failed with exit code 42 matching FailJob rule at index 0",
            ),
        ),
        (
            {"action": "FailJob", "onExitCodes": {"containerName": "other", "operator": "In", "values": [42]}},
            exited(42),
            (True, "", ""),
        ),
    ],
)
def test_failure_policy(rule: Object, pod: Object, expected: tuple[bool, str, str]) -> None:
    found = job_rules.verdict({"rules": [rule]}, pod)
    assert (found.counts, found.action, found.fails_job) == expected


def test_success_policy() -> None:
    policy = {"rules": [{"succeededIndexes": "0-2", "succeededCount": 2}, {"succeededCount": 4}]}
    assert job_rules.success(policy, 10, Indexes().with_added([1, 5, 6])) == ""
    assert job_rules.success(policy, 10, Indexes().with_added([1, 2])) == "Matched rules at index 0"
    assert job_rules.success(policy, 10, Indexes().with_added([5, 6, 7, 8])) == "Matched rules at index 1"


async def start(cluster: Any, **spec: Any) -> None:
    controller = JobController(cluster.context)
    cluster.start(controller.run, controller.run_orphans, JobTtlController(cluster.context).run)
    cluster.api.add(JOBS, job(**spec))
    await cluster.settle()


def conditions(cluster: Any) -> list[tuple[str, str]]:
    found = get_path(cluster.get(JOBS, "work"), "status", "conditions", default=())
    return [(each["type"], each["reason"]) for each in found if each["status"] == "True"]


def unfinished(cluster: Any) -> list[Object]:
    return [each for each in cluster.pods() if get_path(each, "status", "phase") in (None, "Pending", "Running")]


async def test_runs_to_completion(cluster: Any) -> None:
    await start(cluster, completions=3, parallelism=2)
    assert len(cluster.pods()) == 2
    assert meta(cluster.pods()[0])["finalizers"] == [TRACKING_FINALIZER]
    cluster.run_pods()
    await cluster.settle()
    status = cluster.get(JOBS, "work")["status"]
    assert (status["active"], status["ready"], "startTime" in status) == (2, 2, True)
    for _ in range(3):
        for each in unfinished(cluster):
            cluster.finish_pod(each, "Succeeded")
        await cluster.settle()
    status = cluster.get(JOBS, "work")["status"]
    assert status["succeeded"] == 3
    assert status["uncountedTerminatedPods"] == {}
    assert "active" not in status
    assert conditions(cluster) == [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]
    assert status["completionTime"]
    assert all(not meta(each).get("finalizers") for each in cluster.pods())
    assert len(cluster.pods()) == 3
    assert "Normal Completed: Job completed" in cluster.events.said


async def test_every_pod_is_noted_before_its_finalizer_goes(cluster: Any) -> None:
    await start(cluster)
    before = len(cluster.api.requests)
    cluster.finish_pod(cluster.pods()[0], "Succeeded")
    await cluster.settle()
    writes = [each for each in cluster.api.requests[before:] if each.method in ("PUT", "PATCH")]
    assert writes[0].path.endswith("/status")
    assert writes[0].obj["status"]["uncountedTerminatedPods"]["succeeded"]
    assert "/pods/" in writes[1].path
    assert writes[2].obj["status"]["succeeded"] == 1
    assert len(writes) == 3


async def test_backs_off_and_gives_up(cluster: Any) -> None:
    await start(cluster, backoffLimit=1)
    cluster.run_pods()
    cluster.finish_pod(cluster.pods()[0], "Failed", exit_code=1)
    await cluster.settle(5)
    assert len(cluster.pods()) == 1
    await cluster.settle(6)
    assert len(cluster.pods()) == 2
    cluster.finish_pod(unfinished(cluster)[0], "Failed", exit_code=1)
    await cluster.settle()
    assert conditions(cluster) == [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]
    assert cluster.get(JOBS, "work")["status"]["failed"] == 2
    text = "Warning BackoffLimitExceeded: Job has reached the specified backoff limit"
    assert cluster.events.said[-1] == text


async def test_deadline_ends_running_pods(cluster: Any) -> None:
    await start(cluster, activeDeadlineSeconds=30)
    cluster.run_pods()
    await cluster.settle(28)
    assert conditions(cluster) == []
    await cluster.settle(3)
    assert conditions(cluster) == [("FailureTarget", "DeadlineExceeded")]
    assert meta(cluster.pods()[0])["deletionTimestamp"]
    cluster.run_pods()
    await cluster.settle()
    assert conditions(cluster)[-1] == ("Failed", "DeadlineExceeded")
    assert cluster.get(JOBS, "work")["status"]["failed"] == 1


async def test_indexed(cluster: Any) -> None:
    await start(cluster, completions=3, parallelism=2, completionMode="Indexed")
    first, second = cluster.pods()
    assert {annotations_of(first)[INDEX], annotations_of(second)[INDEX]} == {"0", "1"}
    assert labels_of(first)[INDEX] == "0"
    assert name_of(first).startswith("work-0-")
    assert first["spec"]["hostname"] == "work-0"
    assert first["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"
    cluster.finish_pod(first, "Succeeded")
    cluster.finish_pod(second, "Failed", exit_code=1)
    await cluster.settle()
    assert cluster.get(JOBS, "work")["status"]["completedIndexes"] == "0"
    await cluster.settle(11)
    assert {annotations_of(each)[INDEX] for each in unfinished(cluster)} == {"1", "2"}
    for each in unfinished(cluster):
        cluster.finish_pod(each, "Succeeded")
    await cluster.settle()
    status = cluster.get(JOBS, "work")["status"]
    assert (status["completedIndexes"], status["succeeded"], status["failed"]) == ("0-2", 3, 1)
    assert conditions(cluster)[-1][0] == "Complete"


async def test_each_index_has_its_own_limit(cluster: Any) -> None:
    await start(
        cluster, completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=1, backoffLimit=2**31 - 1
    )
    for _ in range(2):
        for each in unfinished(cluster):
            failed = annotations_of(each)[INDEX] == "0"
            cluster.finish_pod(each, "Failed" if failed else "Succeeded", exit_code=int(failed))
        await cluster.settle(25)
    status = cluster.get(JOBS, "work")["status"]
    assert (status["failedIndexes"], status["completedIndexes"], status["failed"]) == ("0", "1", 2)
    assert conditions(cluster) == [("FailureTarget", "FailedIndexes"), ("Failed", "FailedIndexes")]


async def test_failure_policy_ends_the_job_at_once(cluster: Any) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    await start(cluster, parallelism=2, completions=2, podFailurePolicy={"rules": [rule]})
    cluster.run_pods()
    await cluster.settle()
    cluster.finish_pod(cluster.pods()[0], "Failed", exit_code=42)
    await cluster.settle()
    cluster.run_pods()
    await cluster.settle()
    assert conditions(cluster)[0] == ("FailureTarget", "PodFailurePolicy")
    assert conditions(cluster)[-1] == ("Failed", "PodFailurePolicy")


async def test_success_policy_stops_the_rest(cluster: Any) -> None:
    policy = {"rules": [{"succeededIndexes": "0"}]}
    await start(cluster, completions=2, parallelism=2, completionMode="Indexed", successPolicy=policy)
    cluster.run_pods()
    await cluster.settle()
    cluster.finish_pod(cluster.pods()[0], "Succeeded")
    await cluster.settle()
    cluster.run_pods()
    await cluster.settle()
    assert conditions(cluster) == [("SuccessCriteriaMet", "SuccessPolicy"), ("Complete", "SuccessPolicy")]


async def test_suspends_and_resumes(cluster: Any) -> None:
    await start(cluster, suspend=True)
    assert cluster.pods() == []
    assert conditions(cluster) == [("Suspended", "JobSuspended")]
    assert "startTime" not in cluster.get(JOBS, "work")["status"]
    await cluster.client.patch(JOBS, KEY, {"spec": {"suspend": False}})
    await cluster.settle()
    assert len(cluster.pods()) == 1
    assert conditions(cluster) == []
    assert cluster.get(JOBS, "work")["status"]["startTime"]
    cluster.run_pods()
    await cluster.client.patch(JOBS, KEY, {"spec": {"suspend": True}})
    await cluster.settle()
    assert meta(cluster.pods()[0])["deletionTimestamp"]
    cluster.run_pods()
    await cluster.settle()
    assert "failed" not in cluster.get(JOBS, "work")["status"]
    assert [each for each in cluster.events.said if "Suspended" in each or "Resumed" in each] == [
        "Normal Suspended: Job suspended",
        "Normal Resumed: Job resumed",
        "Normal Suspended: Job suspended",
    ]


async def test_finished_jobs_go_after_their_time(cluster: Any) -> None:
    await start(cluster, ttlSecondsAfterFinished=100)
    cluster.finish_pod(cluster.pods()[0], "Succeeded")
    await cluster.settle(90)
    assert condition_of(cluster.get(JOBS, "work"), "Complete")
    await cluster.settle(20)
    assert cluster.api.objects(JOBS) == []


async def test_a_vanished_job_leaves_no_finalizer(cluster: Any) -> None:
    await start(cluster)
    cluster.api.remove(JOBS, KEY)
    await cluster.settle()
    assert not meta(cluster.get(PODS, name_of(cluster.pods()[0]))).get("finalizers")
