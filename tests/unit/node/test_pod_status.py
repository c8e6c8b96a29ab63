"""The status a kubelet would write for what is known of a pod."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from tests.unit.node.pods import START, container, pod, report, state

from anynode.api.objects import Object, find_condition
from anynode.node import pod_status
from anynode.node.pod_machine import PodState

SIDECAR = container("s", restartPolicy="Always")
LATER = START + datetime.timedelta(seconds=60)


def status_of(made: PodState, old: Object | None = None, **options: Any) -> Object:
    return pod_status.generate(made, old or {}, LATER, host_ip="127.0.0.1", **options)


@pytest.mark.parametrize(
    ("made", "stopped", "phase"),
    [
        pytest.param(state(pod()), False, "Pending", id="nothing started"),
        pytest.param(state(pod(), report("main")), False, "Running", id="runs"),
        pytest.param(state(pod(container("a"), container("b")), report("a")), False, "Pending", id="one of two"),
        pytest.param(state(pod(), report("main", code=1)), False, "Running", id="will be restarted"),
        pytest.param(state(pod(), report("main", code=0)), True, "Succeeded", id="ended for good"),
        pytest.param(state(pod(), report("main", code=1)), True, "Failed", id="ended for good, badly"),
        pytest.param(state(pod(restartPolicy="Never"), report("main", code=0)), False, "Succeeded", id="Never, 0"),
        pytest.param(state(pod(restartPolicy="Never"), report("main", code=2)), False, "Failed", id="Never, 2"),
        pytest.param(state(pod(restartPolicy="OnFailure"), report("main", code=0)), False, "Succeeded", id="OnFailure"),
        pytest.param(
            state(pod(init=(container("i"),), restartPolicy="Never"), report("i", code=1)), False, "Failed", id="init"
        ),
        pytest.param(state(pod(init=(container("i"),)), report("i", code=1)), False, "Pending", id="init again"),
        pytest.param(state(pod(init=(SIDECAR,)), report("s")), False, "Pending", id="main not started"),
        pytest.param(
            state(pod(init=(SIDECAR,), restartPolicy="Never"), report("s"), report("main", code=0)),
            False,
            "Running",
            id="a sidecar is left",
        ),
    ],
)
def test_phase(made: PodState, stopped: bool, phase: str) -> None:
    assert status_of(made, stopped=stopped)["phase"] == phase


def test_a_terminal_phase_waits_until_everything_has_stopped() -> None:
    made = state(pod(), report("main"))
    made.failure = ("DeadlineExceeded", "too long")
    running = status_of(made, {"phase": "Running"})
    assert (running["phase"], running.get("reason")) == ("Running", None)
    made.observe(report("main", code=137), 1.0)
    ended = status_of(made, running, stopped=True)
    assert (ended["phase"], ended["reason"], ended["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_a_terminal_phase_is_never_left() -> None:
    assert status_of(state(pod(), report("main")), {"phase": "Succeeded"})["phase"] == "Succeeded"


def test_a_waiting_container_says_why() -> None:
    made = state(pod(), report("main", 2, code=1))
    made.record("main").trouble = ("CrashLoopBackOff", "back-off 20s restarting failed container=main pod=p")
    (main,) = status_of(made)["containerStatuses"]
    assert main["state"] == {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container=main pod=p"}
    }
    assert main["lastState"]["terminated"]["exitCode"] == 1
    assert main["restartCount"] == 2


def test_a_succeeded_sidecar_shows_its_end_while_it_waits() -> None:
    made = state(pod(init=(SIDECAR,)), report("main"), report("s", 1, code=0))
    made.record("s").trouble = ("CrashLoopBackOff", "")
    (sidecar,) = status_of(made)["initContainerStatuses"]
    assert "terminated" in sidecar["state"]


@pytest.mark.parametrize(
    ("made", "kind", "status", "reason", "message"),
    [
        (state(pod()), "Ready", "False", "ContainersNotReady", "containers with unready status: [main]"),
        (state(pod()), "ContainersReady", "False", "ContainersNotReady", "containers with unready status: [main]"),
        (state(pod(), report("main")), "Ready", "True", None, None),
        (state(pod(), report("main")), "Initialized", "True", None, None),
        (
            state(pod(init=(container("i"), container("j")))),
            "Initialized",
            "False",
            "ContainersNotInitialized",
            "containers with incomplete status: [i j]",
        ),
        (state(pod(restartPolicy="Never"), report("main", code=0)), "Ready", "False", "PodCompleted", None),
        (state(pod(restartPolicy="Never"), report("main", code=0)), "Initialized", "True", "PodCompleted", None),
        (state(pod(restartPolicy="Never"), report("main", code=1)), "Ready", "False", "PodFailed", None),
        (
            state(pod(readinessGates=[{"conditionType": "x/y"}]), report("main")),
            "Ready",
            "False",
            "ReadinessGatesNotReady",
            'corresponding condition of pod readiness gate "x/y" does not exist.',
        ),
    ],
)
def test_conditions(made: PodState, kind: str, status: str, reason: str | None, message: str | None) -> None:
    found = find_condition(status_of(made)["conditions"], kind)
    assert found is not None
    assert (found["status"], found.get("reason"), found.get("message")) == (status, reason, message)
    assert found["observedGeneration"] == 1


def test_transition_times_stay_while_nothing_changes() -> None:
    made = state(pod(), report("main"))
    first = pod_status.generate(made, {}, START)
    assert pod_status.generate(made, first, LATER) == first


def test_readiness_gates_are_read_from_the_api() -> None:
    obj = pod(readinessGates=[{"conditionType": "x/y"}])
    obj["status"] = {"conditions": [{"type": "x/y", "status": "True"}]}
    found = status_of(state(obj, report("main")))
    assert find_condition(found["conditions"], "x/y") == {"type": "x/y", "status": "True"}
    assert find_condition(found["conditions"], "Ready")["status"] == "True"  # type: ignore[index]


def test_readiness_of_a_container_follows_its_probes() -> None:
    made = state(pod(), report("main"))
    made.record("main").ready = False
    (main,) = status_of(made)["containerStatuses"]
    assert (main["started"], main["ready"]) == (True, False)
    made.record("main").started = False
    (main,) = status_of(made)["containerStatuses"]
    assert (main["started"], main["ready"]) == (False, False)


def test_a_pod_ended_before_it_ran_has_failed() -> None:
    made = state(pod())
    last = pod_status.finished(status_of(made, stopped=True), made.pod, {})
    assert last["phase"] == "Failed"
    assert last["containerStatuses"][0]["state"]["terminated"] == {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
    }


def test_containers_behind_an_interrupted_init_container_never_ran() -> None:
    made = state(pod(init=(container("i"),)), report("i"))
    before = status_of(made)
    made.observe(report("i", code=0), 1.0)
    last = pod_status.finished(status_of(made, before, stopped=True), made.pod, before)
    assert last["phase"] == "Failed"
    assert last["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_a_refused_pod_says_only_that() -> None:
    made = PodState(pod=pod(), failure=("NodeAffinity", "Pod was rejected: no"))
    found = status_of(made)
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "NodeAffinity", "Pod was rejected: no")
    assert "containerStatuses" not in found


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "0"}}], "BestEffort"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
    ],
)
def test_qos(resources: list[dict[str, dict[str, str]]], qos: str) -> None:
    specs = [container(f"c{number}", resources=each) for number, each in enumerate(resources)]
    assert pod_status.qos_class(pod(*specs)) == qos


def test_pod_requests_take_the_larger_of_init_and_main() -> None:
    def asks(name: str, cpu: str, **more: Any) -> Object:
        return container(name, resources={"requests": {"cpu": cpu}}, **more)

    spec = pod(asks("a", "1"), asks("b", "500m"), init=(asks("s", "1", restartPolicy="Always"), asks("i", "2")))
    assert pod_status.pod_requests(spec) == {"cpu": "3"}
    assert pod_status.pod_requests(pod(asks("a", "1"), asks("b", "500m"), init=(asks("i", "1200m"),))) == {
        "cpu": "1500m"
    }
