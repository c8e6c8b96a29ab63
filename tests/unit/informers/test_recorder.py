"""Events: what is written, counted up, combined, left out, tried again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from anynode.api import errors
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.correlation import SPAM_BURST
from anynode.informers.recorder import EventRecorder
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

EVENTS = known("events")
POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"namespace": "default", "name": "web", "uid": "u1", "resourceVersion": "7"},
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def recorder(api: FakeApi, clock: FakeClock) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(ApiClient(api), component="kubelet", host="n1", clock=clock, chance=random.Random(1))
    task = asyncio.create_task(recorder.run())
    yield recorder
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_an_event_says_who_what_and_when(recorder: EventRecorder, api: FakeApi, clock: FakeClock) -> None:
    recorder.event(POD, "Normal", "Pulled", "Image is there", field_path="spec.containers{web}")
    await clock.settle()
    event = api.objects(EVENTS)[0]
    assert event["involvedObject"] == {
        "kind": "Pod",
        "namespace": "default",
        "name": "web",
        "uid": "u1",
        "apiVersion": "v1",
        "resourceVersion": "7",
        "fieldPath": "spec.containers{web}",
    }
    assert event["source"] == {"component": "kubelet", "host": "n1"}
    assert (event["count"], event["type"], event["reason"]) == (1, "Normal", "Pulled")
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["metadata"]["name"].startswith("web.")
    assert event["reportingComponent"] == "kubelet"


async def test_cluster_scoped_objects_speak_in_default(recorder: EventRecorder, api: FakeApi, clock: FakeClock) -> None:
    recorder.event({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n1"}}, "Normal", "Starting", "")
    await clock.settle()
    assert api.objects(EVENTS)[0]["metadata"]["namespace"] == "default"


async def test_repetition_is_counted(recorder: EventRecorder, api: FakeApi, clock: FakeClock) -> None:
    for _ in range(3):
        recorder.event(POD, "Warning", "BackOff", "again")
        await clock.advance(5)
    [event] = api.objects(EVENTS)
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T00:00:10Z"


async def test_a_counted_event_that_expired_is_written_anew(
    recorder: EventRecorder, api: FakeApi, clock: FakeClock
) -> None:
    recorder.event(POD, "Warning", "BackOff", "again")
    await clock.settle()
    first = api.objects(EVENTS)[0]["metadata"]
    api.remove(EVENTS, ObjectKey("default", first["name"]))
    recorder.event(POD, "Warning", "BackOff", "again")
    await clock.settle()
    assert api.objects(EVENTS)[0]["count"] == 2


async def test_many_similar_events_are_combined(recorder: EventRecorder, api: FakeApi, clock: FakeClock) -> None:
    for number in range(15):
        recorder.event(POD, "Warning", "Failed", f"message {number}")
        await clock.settle()
    events = api.objects(EVENTS)
    assert len(events) == 10
    assert events[-1]["message"] == "(combined from similar events): message 14"
    assert events[-1]["count"] == 6


async def test_a_chatty_source_is_cut_off_and_recovers(recorder: EventRecorder, api: FakeApi, clock: FakeClock) -> None:
    for _ in range(SPAM_BURST + 10):
        recorder.event(POD, "Warning", "BackOff", "again")
    await clock.settle()
    assert api.objects(EVENTS)[0]["count"] == SPAM_BURST
    await clock.advance(301)
    recorder.event(POD, "Warning", "BackOff", "again")
    await clock.settle()
    assert api.objects(EVENTS)[0]["count"] == SPAM_BURST + 11


async def test_waits_while_the_server_is_away(recorder: EventRecorder, api: FakeApi, clock: FakeClock) -> None:
    api.refuse(ConnectionRefusedError(), times=2)
    recorder.event(POD, "Normal", "Started", "x")
    await clock.advance(25)
    assert len(api.objects(EVENTS)) == 1


async def test_what_ends_with_its_namespace_is_no_news(
    recorder: EventRecorder, api: FakeApi, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    ends = errors.Cause(reason=errors.NAMESPACE_TERMINATING, message="namespace default is being terminated")
    api.refuse(errors.forbidden(EVENTS, "web.1", "it ends", [ends]))
    api.refuse(errors.not_found(known("namespaces"), "default"))
    api.refuse(errors.forbidden(EVENTS, "web.1", "you may not"))
    for reason in ("A", "B", "C"):
        recorder.event(POD, "Normal", reason, "x")
    await clock.advance(1)
    assert [record.levelname for record in caplog.records if record.msg == "event refused"] == ["WARNING"]
