"""CronJob: schedules, missed strikes, policies, history."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.api.formats import parse_time
from anynode.api.objects import Object, ObjectKey, get_path, name_of
from anynode.controllers.cron_schedule import ScheduleError, parse
from anynode.controllers.cronjob import CRON_JOBS, CronJobController, strikes
from anynode.controllers.job_step import JOBS

KEY = ObjectKey("default", "tick")


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
        ("*/15 * * * *", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"),
        ("0 0 1 * *", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("30 4 1,15 * 5", "2026-01-01T05:00:00Z", "2026-01-02T04:30:00Z"),
        ("0 0 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 12 * * mon-fri", "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"),
        ("5/20 * * * *", "2026-01-01T00:05:00Z", "2026-01-01T00:25:00Z"),
        ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
        ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"),
        ("0 0 31 12 ?", "2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z"),
    ],
)
def test_schedules(text: str, after: str, expected: str) -> None:
    assert parse(text).next(parse_time(after)) == parse_time(expected)


def test_a_day_that_never_comes() -> None:
    assert parse("0 0 30 2 *").next(parse_time("2026-01-01T00:00:00Z")) is None


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *", "@often"])
def test_wrong_schedules(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse(text)


@given(st.integers(1_700_000_000, 1_800_000_000), st.integers(0, 23))
def test_a_daily_schedule_strikes_at_its_local_hour(seconds: int, hour: int) -> None:
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    after = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    found = parse(f"15 {hour} * * *", zone).next(after)
    assert found is not None
    assert found > after
    assert (found.astimezone(zone).hour, found.astimezone(zone).minute) == (hour, 15)
    assert found - after <= datetime.timedelta(hours=49)  # 25 hours, and a day without 2:15


def cron_job(schedule: str = "* * * * *", **spec: Any) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {"containers": []}}}}
    return {
        "metadata": {"name": "tick", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"schedule": schedule, "jobTemplate": template, "concurrencyPolicy": "Allow", **spec},
    }


def test_only_the_last_missed_strike_is_due() -> None:
    told = strikes(cron_job(), parse("* * * * *"), parse_time("2026-01-01T03:00:30Z"))
    assert told.due == parse_time("2026-01-01T03:00:00Z")
    assert told.missed == 180
    late = strikes(cron_job(startingDeadlineSeconds=120), parse("* * * * *"), parse_time("2026-01-01T03:00:30Z"))
    assert (late.due, late.missed) == (parse_time("2026-01-01T03:00:00Z"), 2)
    assert strikes(cron_job(), parse("0 4 * * *"), parse_time("2026-01-01T03:00:30Z")).due is None


async def start(cluster: Any, **spec: Any) -> None:
    cluster.start(CronJobController(cluster.context).run)
    cluster.api.add(CRON_JOBS, cron_job(**spec))
    await cluster.settle()


def jobs(cluster: Any) -> list[str]:
    return sorted(name_of(each) for each in cluster.api.objects(JOBS))


def end(cluster: Any, name: str, kind: str = "Complete") -> None:
    job = cluster.get(JOBS, name)
    moment = f"2026-01-01T00:0{len(jobs(cluster))}:30Z"
    condition = {"type": kind, "status": "True", "lastTransitionTime": moment}
    ended = {"completionTime": moment} if kind == "Complete" else {}
    cluster.set_status(job, JOBS, conditions=[condition], startTime=moment, **ended)


async def test_starts_a_job_a_minute(cluster: Any) -> None:
    await start(cluster)
    assert jobs(cluster) == []
    await cluster.settle(60)
    first = int(parse_time("2026-01-01T00:01:00Z").timestamp()) // 60
    assert jobs(cluster) == [f"tick-{first}"]
    status = cluster.get(CRON_JOBS, "tick")["status"]
    assert status["lastScheduleTime"] == "2026-01-01T00:01:00Z"
    assert [each["name"] for each in status["active"]] == jobs(cluster)
    annotations = cluster.get(JOBS, jobs(cluster)[0])["metadata"]["annotations"]
    assert annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"] == "2026-01-01T00:01:00Z"
    await cluster.settle(60)
    assert len(jobs(cluster)) == 2
    end(cluster, jobs(cluster)[0])
    await cluster.settle()
    status = cluster.get(CRON_JOBS, "tick")["status"]
    assert [each["name"] for each in status["active"]] == jobs(cluster)[1:]
    assert status["lastSuccessfulTime"]
    assert f"Normal SuccessfulCreate: Created job tick-{first}" in cluster.events.said
    assert f"Normal SawCompletedJob: Saw completed job: tick-{first}, condition: Complete" in cluster.events.said


@pytest.mark.parametrize(("policy", "count"), [("Allow", 3), ("Forbid", 1), ("Replace", 1)])
async def test_concurrency(cluster: Any, policy: str, count: int) -> None:
    await start(cluster, concurrencyPolicy=policy)
    for _ in range(3):
        await cluster.settle(60)
    assert len(jobs(cluster)) == count
    assert len(cluster.get(CRON_JOBS, "tick")["status"]["active"]) == count


async def test_suspended_and_history(cluster: Any) -> None:
    await start(cluster, successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    for _ in range(3):
        await cluster.settle(60)
    await cluster.client.patch(CRON_JOBS, KEY, {"spec": {"suspend": True}})
    one, two, three = jobs(cluster)
    end(cluster, one)
    end(cluster, two)
    end(cluster, three, "Failed")
    await cluster.settle(200)
    assert jobs(cluster) == [two]
    assert not get_path(cluster.get(CRON_JOBS, "tick"), "status", "active")
