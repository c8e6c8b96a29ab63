"""Order, gates, back-off, waking and flushing."""

from __future__ import annotations

from typing import Any

from tests.unit.scheduler.objects import pod

from anynode.api.objects import Object
from anynode.scheduler.pods import Shapes
from anynode.scheduler.queue import Place, QueuedPod, SchedulingQueue, Wake

SHAPES = Shapes()


def add(queue: SchedulingQueue, each: Object, now: float = 0.0) -> bool:
    return queue.set(each, SHAPES.facts(each), now)


def names(queue: SchedulingQueue) -> list[str]:
    found = []
    while (queued := queue.pop()) is not None:
        found.append(queued.facts.key.name)
    return found


def pop(queue: SchedulingQueue) -> QueuedPod:
    queued = queue.pop()
    assert queued is not None
    return queued


def test_priority_then_age() -> None:
    queue = SchedulingQueue()
    add(queue, pod("late"), 2)
    add(queue, pod("early"), 1)
    add(queue, pod("important", priority=10), 3)
    assert names(queue) == ["important", "early", "late"]


def test_gates_hold_back() -> None:
    queue = SchedulingQueue()
    assert not add(queue, pod("p", schedulingGates=[{"name": "g"}]))
    assert names(queue) == []
    assert add(queue, pod("p"))
    assert names(queue) == ["p"]


def wake(queue: SchedulingQueue, what: Wake) -> int:
    return sum(queue.wake(group) for group, _ in queue.helped_by(what))


def test_an_unschedulable_pod_waits_for_what_helps() -> None:
    queue = SchedulingQueue()
    add(queue, pod("p", cpu="1"))
    queue.failed(pop(queue), frozenset({"NodeResourcesFit"}), 0)
    assert wake(queue, Wake.NODE_TAINTS) == 0
    assert not add(queue, pod("p", cpu="1"))  # our own condition came back: no reason to try again
    assert wake(queue, Wake.POD_GONE) == 1
    assert names(queue) == ["p"]


def test_other_reasons_are_told_and_waited_for() -> None:
    queue = SchedulingQueue()
    add(queue, pod("p", cpu="1"))
    queue.failed(pop(queue), frozenset({"NodeUnschedulable"}), 0)
    [(group, _)] = queue.helped_by(Wake.NODE_TAINTS)
    assert queue.helped_by(Wake.POD_GONE) == []
    assert queue.refused_by(group, frozenset({"NodeResourcesFit"})) == 1
    queue.failed(pop(queue), frozenset({"NodeResourcesFit"}), 0)
    assert len(queue.helped_by(Wake.POD_GONE)) == 1


def test_a_changed_pod_is_tried_again() -> None:
    queue = SchedulingQueue()
    add(queue, pod("p", cpu="1"))
    queue.failed(pop(queue), frozenset({"TaintToleration"}), 0)
    assert add(queue, pod("p", cpu="1", tolerations=[{"operator": "Exists"}]))
    assert names(queue) == ["p"]


def test_few_of_many_are_woken() -> None:
    queue = SchedulingQueue()
    for number in range(100):
        add(queue, pod(f"p{number}", cpu="1"))
    while (queued := queue.pop()) is not None:
        queue.failed(queued, frozenset({"NodeResourcesFit"}), 0)
    assert wake(queue, Wake.NODE_ADDED) == 64
    assert queue.count(Place.UNSCHEDULABLE) == 36


def test_everybody_gets_another_try_after_five_minutes() -> None:
    queue = SchedulingQueue()
    add(queue, pod("p"))
    queue.failed(pop(queue), frozenset({"NodeAffinity"}), 0)
    assert queue.flush(299) == 0
    assert queue.flush(301) == 1
    assert names(queue) == ["p"]


def test_errors_back_off_up_to_ten_seconds() -> None:
    queue = SchedulingQueue()
    add(queue, pod("p"))
    now = 0.0
    for wait in (1, 2, 4, 8, 10, 10):
        queue.errored(pop(queue), now)
        assert queue.flush(now + wait - 0.1) == 0
        now += wait
        assert queue.flush(now) == 1


def test_removed_pods_are_not_tried() -> None:
    queue = SchedulingQueue()
    states: list[Any] = []
    for name in ("a", "b", "c"):
        add(queue, pod(name))
        states.append(pop(queue))
    queue.failed(states[0], frozenset({"NodeAffinity"}), 0)
    queue.errored(states[1], 0)
    for each in states:
        queue.remove(each.facts.uid)
    queue.failed(states[2], frozenset(), 0)
    assert wake(queue, Wake.ANYTHING) == 0
    assert queue.flush(1000) == 0
    assert len(queue) == 0
