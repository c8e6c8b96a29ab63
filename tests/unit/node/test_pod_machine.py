"""What a pod needs next: every row is a situation and the plan a kubelet would make."""

from __future__ import annotations

import datetime
import random

import pytest
from tests.unit.node.pods import START, container, pod, report, state

from anynode.node import pod_machine
from anynode.node.pod_machine import Backoff, KillReason, Kind, Plan, PodState
from anynode.provider import ContainerState

INIT = (container("i1"), container("i2"))
SIDECAR = container("s", restartPolicy="Always")


def starts(plan: Plan) -> list[str]:
    return [each.container["name"] for each in plan.starts]


def kills(plan: Plan) -> list[str]:
    return [each.container["name"] for each in plan.kills]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        pytest.param(state(pod(container("a"), container("b"))), ["a", "b"], id="a new pod"),
        pytest.param(state(pod(init=INIT)), ["i1"], id="init containers go first"),
        pytest.param(state(pod(init=INIT), report("i1")), [], id="one init container at a time"),
        pytest.param(state(pod(init=INIT), report("i1", code=0)), ["i2"], id="then the next"),
        pytest.param(state(pod(init=INIT), report("i1", code=0), report("i2", code=0)), ["main"], id="then main"),
        pytest.param(state(pod(init=INIT), report("i1", code=1)), ["i1"], id="a failed one again"),
        pytest.param(state(pod(init=(SIDECAR,)), report("s")), ["main"], id="main starts beside a sidecar"),
        pytest.param(state(pod(init=(SIDECAR,)), report("s", code=0), report("main")), ["s"], id="a sidecar again"),
        pytest.param(state(pod(), report("main", code=0)), ["main"], id="Always: again after success"),
        pytest.param(state(pod(restartPolicy="OnFailure"), report("main", code=1)), ["main"], id="OnFailure"),
        pytest.param(
            state(pod(container("a"), container("b"), restartPolicy="OnFailure"), report("a", code=0), report("b")),
            [],
            id="OnFailure: what succeeded rests",
        ),
        pytest.param(
            state(
                pod(container("a", restartPolicy="OnFailure"), container("b"), restartPolicy="Never"),
                report("a", code=1),
                report("b", code=1),
            ),
            ["a"],
            id="a container's own policy goes before the pod's",
        ),
        pytest.param(
            state(pod(init=INIT), report("i1", code=0), report("i2", code=0), report("main", code=1)),
            ["main"],
            id="init containers are not run again",
        ),
    ],
)
def test_starts(made: PodState, wanted: list[str]) -> None:
    plan = pod_machine.plan(made)
    assert starts(plan) == wanted
    assert not plan.kill_pod


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(state(pod(restartPolicy="Never"), report("main", code=1)), id="all ended, Never"),
        pytest.param(state(pod(restartPolicy="OnFailure"), report("main", code=0)), id="all succeeded, OnFailure"),
        pytest.param(state(pod(init=INIT, restartPolicy="Never"), report("i1", code=1)), id="init failed, Never"),
        pytest.param(
            state(pod(init=(SIDECAR,), restartPolicy="Never"), report("s"), report("main", code=0)),
            id="only a sidecar is left",
        ),
    ],
)
def test_the_pod_is_over(made: PodState) -> None:
    plan = pod_machine.plan(made)
    assert plan.kill_pod
    assert not plan.starts


@pytest.mark.parametrize(("policy", "again"), [("Always", ["main"]), ("OnFailure", ["main"]), ("Never", [])])
def test_a_failed_liveness_probe_kills_and_restarts_by_policy(policy: str, again: list[str]) -> None:
    made = state(pod(restartPolicy=policy), report("main"))
    made.record("main").liveness_failed = True
    plan = pod_machine.plan(made)
    assert plan.kill_pod is (not again)
    if again:
        assert (kills(plan), starts(plan)) == (["main"], again)
        assert plan.kills[0].reason is KillReason.LIVENESS_PROBE
        assert plan.kills[0].message == "Container main failed liveness probe, will be restarted"


def test_a_changed_image_restarts_whatever_the_policy() -> None:
    made = state(pod(container("a"), container("b"), restartPolicy="Never"), report("a"), report("b"))
    made.pod = pod(container("a"), container("b", image="example:2"), restartPolicy="Never")
    plan = pod_machine.plan(made)
    assert (kills(plan), starts(plan)) == (["b"], ["b"])
    assert plan.kills[0].message == "Container b definition changed, will be restarted"


def test_a_sidecar_that_does_not_start_up_holds_main_back() -> None:
    made = state(pod(init=(SIDECAR,)), report("s"))
    made.record("s").started = False
    assert starts(pod_machine.plan(made)) == []
    made.record("s").startup_failed = True
    plan = pod_machine.plan(made)
    assert (kills(plan), starts(plan)) == (["s"], ["s"])


def test_ephemeral_containers_start_once() -> None:
    made = state(pod(ephemeralContainers=[container("debug")]), report("main"))
    assert [(each.container["name"], each.kind) for each in pod_machine.plan(made).starts] == [
        ("debug", Kind.EPHEMERAL)
    ]
    made.observe(report("debug", code=1), 1.0)
    assert starts(pod_machine.plan(made)) == []


@pytest.mark.parametrize(
    ("rules", "code", "action"),
    [
        ([], 42, ""),
        ([{"action": "Restart", "exitCodes": {"operator": "In", "values": [1, 42]}}], 42, "Restart"),
        ([{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}], 42, ""),
        ([{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0]}}], 42, "Restart"),
        ([{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [42]}}], 42, ""),
    ],
)
def test_restart_rules(rules: list[dict[str, object]], code: int, action: str) -> None:
    assert pod_machine.matching_rule(container("c", restartPolicyRules=rules), code) == action


def test_restart_all_containers_begins_anew() -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}
    spec = pod(container("a"), container("b", restartPolicy="Never", restartPolicyRules=[rule]), init=INIT)
    made = state(spec, report("i1", code=0), report("i2", code=0), report("a"), report("b", code=88))
    assert pod_machine.plan(made).restart_all
    made.observe(report("a", code=137), 1.0)
    pod_machine.forget_all(made)
    assert starts(pod_machine.plan(made)) == ["i1"]
    assert made.record("a").next_attempt == 1


def test_back_off_doubles_to_its_limit_and_is_forgotten_after_a_long_run() -> None:
    made = state(pod())
    record = made.record("main")
    now, waits = 0.0, []
    for attempt in range(8):
        made.observe(report("main", attempt, code=1), now)
        held = pod_machine.held_back(record, now, after_kill=False)
        waits.append(0.0 if held is None else held - now)
        if held is not None:
            now = held
            assert pod_machine.held_back(record, now, after_kill=False) is None
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    now += 601  # it ran that long
    made.observe(report("main", 8, code=1), now)
    assert pod_machine.held_back(record, now, after_kill=False) is None
    assert record.crashes.seconds == 10


def test_back_off_counts_from_the_end_of_the_last_run() -> None:
    backoff = Backoff(10, 300)
    backoff.next(0, 0)
    assert backoff.waits(5, 14.9)
    assert not backoff.waits(5, 15)


@pytest.mark.parametrize(
    ("spec", "meta", "reason", "seconds"),
    [
        ({}, {}, KillReason.OTHER, 30),
        ({"terminationGracePeriodSeconds": 5}, {}, KillReason.OTHER, 5),
        ({"terminationGracePeriodSeconds": 5}, {"deletionGracePeriodSeconds": 2}, KillReason.OTHER, 2),
        ({"terminationGracePeriodSeconds": 5}, {}, KillReason.LIVENESS_PROBE, 7),
        ({"terminationGracePeriodSeconds": 5}, {}, KillReason.STARTUP_PROBE, 5),
    ],
)
def test_grace(spec: dict[str, object], meta: dict[str, object], reason: KillReason, seconds: int) -> None:
    main = container("main", livenessProbe={"terminationGracePeriodSeconds": 7}, startupProbe={})
    obj = pod(main, **spec)
    obj["metadata"].update(meta)
    assert pod_machine.grace_seconds(obj, main, reason) == seconds


def test_the_deadline_counts_from_the_pods_start() -> None:
    made = state(pod(activeDeadlineSeconds=10))
    assert pod_machine.deadline_left(made, START + datetime.timedelta(seconds=4)) == 6
    assert pod_machine.deadline_left(state(pod()), START) is None


def test_main_containers_end_before_sidecars_and_those_backwards() -> None:
    spec = pod(container("a"), container("b"), init=(container("i"), SIDECAR, container("t", restartPolicy="Always")))
    assert list(pod_machine.termination_order(spec)) == [["i", "a", "b"], ["t"], ["s"]]


def test_old_reports_change_nothing() -> None:
    made = state(pod(), report("main", 1))
    assert not made.observe(report("main", 0, code=1), 1.0)
    assert not made.observe(report("main", 1), 1.0)
    assert made.observe(report("main", 1, code=0), 1.0)
    assert not made.observe(report("main", 1), 2.0)
    assert made.record("main").terminated


@pytest.mark.parametrize("seed", range(30))
def test_random_walks_keep_the_invariants(seed: int) -> None:
    """No container is started while it runs, main never before init, attempts only grow, and a Never pod ends."""
    chance = random.Random(seed)
    policy = chance.choice(["Always", "OnFailure", "Never"])
    init = tuple(
        container(f"i{n}", **({"restartPolicy": "Always"} if chance.random() < 0.4 else {}))
        for n in range(chance.randrange(3))
    )
    spec = pod(container("a"), container("b"), init=init, restartPolicy=policy)
    made = state(spec)
    attempts: dict[str, int] = {}
    now = 0.0
    for _ in range(200):
        now += 1000.0  # beyond every back-off
        plan = pod_machine.plan(made)
        if plan.kill_pod:
            break
        for start in plan.starts:
            name = start.container["name"]
            record = made.record(name)
            assert not record.running
            if start.kind is Kind.MAIN:
                done = [made.record(each["name"]) for each in init]
                assert all(each.running or each.terminated for each in done)
            number = record.next_attempt
            assert number > attempts.get(name, -1)
            attempts[name] = number
            made.observe(report(name, number), now)
            record.started = record.ready = True
            record.image = "example:1"
        running = [each.name for each in made.records.values() if each.report and each.running]
        for name in running:
            if chance.random() < 0.3:
                found = made.record(name).report
                assert found is not None
                made.observe(report(name, found.attempt, code=chance.choice([0, 0, 1])), now)
    else:
        assert policy != "Never" or any(
            each.report is not None and each.report.state is ContainerState.RUNNING for each in made.records.values()
        )
    if policy == "Never":
        assert all(count == 0 for name, count in attempts.items() if name in ("a", "b"))
