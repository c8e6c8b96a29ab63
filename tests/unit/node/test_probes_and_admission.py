"""Probes' thresholds and times, and whether a node takes a pod at all."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.node.pods import UID, container, pod

from anynode.aio.tasks import Supervisor
from anynode.api.formats import Quantity
from anynode.api.objects import Object
from anynode.node.handlers import HandlerError, HandlerFailed, resolve_port
from anynode.node.pod_admission import HostPort, host_ports, refusal
from anynode.node.probes import ProbeKind, Prober, ProbeRun
from anynode.testing.clock import FakeClock


class Owner:
    """Probes answer as told; keeps when they were asked and what came of it."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, float]] = []
        self.answer: BaseException | None = None
        self.results: list[tuple[str, bool]] = []
        self.failures: list[str] = []

    @property
    def handlers(self) -> Any:
        return self

    async def probe(self, pod: Object, container: Object, probe: Object, pod_ip: str) -> None:
        self.asked.append((probe["name"], self.clock.monotonic()))
        if self.answer is not None:
            raise self.answer

    def probed(self, run: ProbeRun, success: bool) -> None:
        self.results.append((run.kind.value, success))

    def unhealthy(self, run: ProbeRun, message: str) -> None:
        self.failures.append(message)


def run_of(kind: ProbeKind, **spec: Any) -> ProbeRun:
    main = container("main", **{kind.field: spec})
    owner = Owner(FakeClock())
    return ProbeRun(
        owner=owner, uid=UID, pod=pod(main), container=main, kind=kind, attempt=0, pod_ip="127.1.1.1", started=True
    )


@pytest.mark.parametrize(
    ("kind", "spec", "tries", "counted"),
    [
        (ProbeKind.READINESS, {}, "FFFS", [None, None, False, True]),
        (ProbeKind.READINESS, {"failureThreshold": 1, "successThreshold": 2}, "FSSF", [False, None, True, False]),
        (ProbeKind.LIVENESS, {"failureThreshold": 2}, "FSFF", [None, True, None, False]),
        (ProbeKind.STARTUP, {"failureThreshold": 3}, "FFS", [None, None, True]),
    ],
)
def test_thresholds(kind: ProbeKind, spec: dict[str, int], tries: str, counted: list[bool | None]) -> None:
    run = run_of(kind, **spec)
    assert [run.judge(each == "S") for each in tries] == counted


@pytest.mark.parametrize(
    ("kind", "success", "rests"),
    [
        (ProbeKind.STARTUP, True, True),
        (ProbeKind.STARTUP, False, True),
        (ProbeKind.LIVENESS, False, True),
        (ProbeKind.LIVENESS, True, False),
        (ProbeKind.READINESS, False, False),
    ],
)
def test_what_decided_rests(kind: ProbeKind, success: bool, rests: bool) -> None:
    run = run_of(kind, failureThreshold=1)
    run.judge(success)
    assert run.stopped is rests


@pytest.mark.parametrize(
    ("kind", "spec", "age", "delay"),
    [
        (ProbeKind.READINESS, {}, 0, 0),
        (ProbeKind.READINESS, {"initialDelaySeconds": 5}, 2, 3),
        (ProbeKind.LIVENESS, {"periodSeconds": 7}, 0, 7),
        (ProbeKind.LIVENESS, {"initialDelaySeconds": 5}, 60, 0),
    ],
)
def test_the_first_try(kind: ProbeKind, spec: dict[str, int], age: float, delay: float) -> None:
    assert run_of(kind, **spec).first_delay(age) == delay


async def test_probes_run_when_due_and_wait_for_startup() -> None:
    clock = FakeClock()
    owner = Owner(clock)
    prober = Prober(clock=clock)
    main = container(
        "main",
        startupProbe={"name": "startup", "periodSeconds": 2, "failureThreshold": 5},
        readinessProbe={"name": "readiness", "periodSeconds": 3},
        livenessProbe={"name": "liveness", "periodSeconds": 4},
    )
    async with Supervisor("test", clock=clock) as tasks:
        tasks.start("probes", prober.run)
        owner.answer = HandlerFailed("not yet")
        prober.add(owner, pod(main), main, 0, pod_ip="", started=False, age=0.0)
        await clock.advance(3)
        assert [name for name, _ in owner.asked] == ["startup", "startup"]
        assert owner.failures == ["Startup probe failed: not yet"] * 2
        owner.answer = None
        await clock.advance(1)
        assert owner.results == [("Startup", True)]
        owner.asked.clear()
        prober.container_started(UID, "main", 4.0)
        await clock.advance(8.5)
        assert sorted(owner.asked, key=lambda each: each[1]) == [
            ("liveness", 4.0), ("readiness", 4.0), ("readiness", 7.0), ("liveness", 8.0),
            ("readiness", 10.0), ("liveness", 12.0),
        ]  # fmt: skip
        prober.remove(UID, "main")
        owner.asked.clear()
        await clock.advance(20)
        assert owner.asked == []


async def test_a_probe_that_cannot_be_tried_decides_nothing() -> None:
    clock = FakeClock()
    owner = Owner(clock)
    owner.answer = HandlerError("no way")
    prober = Prober(clock=clock)
    main = container("main", readinessProbe={"name": "r", "periodSeconds": 1, "failureThreshold": 1})
    async with Supervisor("test", clock=clock) as tasks:
        tasks.start("probes", prober.run)
        prober.add(owner, pod(main), main, 0, pod_ip="", started=True, age=0.0)
        await clock.advance(5)
    assert len(owner.asked) == 6
    assert owner.results == []


def test_ports_by_name_and_number() -> None:
    main = container("main", ports=[{"name": "web", "containerPort": 8080}])
    assert [resolve_port(each, main) for each in (80, "80", "web")] == [80, 80, 8080]
    with pytest.raises(HandlerError, match="couldn't find port: none"):
        resolve_port("none", main)


def term(operator: str, key: str = "zone", *values: str) -> Object:
    expression = {"key": key, "operator": operator, "values": list(values)}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def asking(**requests: str) -> Object:
    return pod(container("main", resources={"requests": requests}))


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        (pod(), None),
        (pod(os={"name": "linux"}), None),
        (pod(os={"name": "windows"}), "PodOSNotSupported"),
        (pod(nodeSelector={"zone": "a"}), None),
        (pod(nodeSelector={"zone": "b"}), "NodeAffinity"),
        (pod(**term("In", "zone", "a", "b")), None),
        (pod(**term("NotIn", "zone", "a")), "NodeAffinity"),
        (pod(**term("Exists")), None),
        (pod(**term("DoesNotExist")), "NodeAffinity"),
        (pod(**term("Gt", "size", "3")), None),
        (pod(**term("Lt", "size", "3")), "NodeAffinity"),
        (pod(**term("Gt", "zone", "3")), "NodeAffinity"),
        (pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}), None),
        (pod(securityContext={"sysctls": [{"name": "kernel/msgmax", "value": "1"}]}), "SysctlForbidden"),
        (asking(cpu="1"), None),
        (asking(cpu="1500m"), "OutOfcpu"),
        (asking(memory="2Gi"), "OutOfmemory"),
        (asking(**{"hugepages-2Mi": "2Mi"}), "OutOfhugepages-2Mi"),
    ],
)
def test_admission(obj: Object, reason: str | None) -> None:
    found = refusal(
        obj,
        node_name="node-1",
        node_labels={"zone": "a", "size": "5"},
        node_os="linux",
        allocatable={"cpu": "2", "memory": "1Gi", "pods": "10"},
        used={"cpu": Quantity.parse("900m")},
        pod_count=3,
    )
    assert (found[0] if found else None) == reason


def test_extended_resources_the_node_does_not_have_are_not_its_business() -> None:
    wanted = pod(
        containers=[{"name": "c", "resources": {"requests": {"example.com/dongle": "2", "hugepages-2Mi": "2Mi"}}}]
    )
    known = {"pods": "9", "hugepages-2Mi": "2Mi"}

    def found(**allocatable: str) -> str | None:
        refused = refusal(
            wanted,
            node_name="n",
            node_labels={},
            node_os="linux",
            allocatable={**known, **allocatable},
            used={},
            pod_count=0,
        )
        return refused[0] if refused else None

    assert found() is None
    assert found(**{"example.com/dongle": "1"}) == "OutOfexample.com/dongle"
    assert found(**{"hugepages-2Mi": "1Mi"}) == "OutOfhugepages-2Mi"


@pytest.mark.parametrize(
    ("taken", "refused"),
    [
        ([], False),
        ([("0.0.0.0", "TCP", 80)], True),
        ([("127.0.0.1", "TCP", 80)], True),
        ([("127.0.0.9", "TCP", 80)], False),
        ([("0.0.0.0", "UDP", 80), ("0.0.0.0", "TCP", 81)], False),
    ],
)
def test_a_port_of_the_host_is_given_once(taken: list[HostPort], refused: bool) -> None:
    ports = [{"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"}, {"containerPort": 2}]
    obj = pod(container("main", ports=ports))
    found = refusal(
        obj, node_name="n", node_labels={}, node_os="linux", allocatable={}, used={}, pod_count=0, taken_ports=taken
    )
    assert (found is not None and found[0] == "NodePorts") == refused
    sidecar = {
        "name": "s",
        "restartPolicy": "Always",
        "ports": [{"containerPort": 5, "hostPort": 5, "protocol": "UDP"}],
    }
    assert host_ports(pod(initContainers=[sidecar])) == {("0.0.0.0", "UDP", 5)}


def test_a_full_node_takes_no_more() -> None:
    found = refusal(
        pod(), node_name="n", node_labels={}, node_os="linux", allocatable={"pods": "3"}, used={}, pod_count=3
    )
    assert found == ("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3")
