"""Simulated pods: the suite of all providers, and what scripts say."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from anynode.api.objects import Uid
from anynode.provider import ContainerPlan, ContainerState, ImageError, LogOptions, ProviderError, ProviderSettings
from anynode.providers.sim import PREFIX, SimProvider
from anynode.testing.clock import FakeClock
from anynode.testing.provider_suite import PodPlan, ProviderSuite, Reports, plan_of

UID = Uid("uid-1")


def scripted(**annotations: str) -> PodPlan:
    plan = plan_of()
    plan.pod["metadata"]["annotations"] = {PREFIX + key.replace("_", "-"): value for key, value in annotations.items()}
    return plan


def plan(name: str, attempt: int = 0) -> ContainerPlan:
    return ContainerPlan(name=name, image="example", attempt=attempt)


class TestSim(ProviderSuite):
    keeps = False

    def make(self, settings: ProviderSettings) -> SimProvider:
        return SimProvider(
            ProviderSettings(node=settings.node, cluster_id=settings.cluster_id, data_dir=settings.data_dir)
        )

    def running(self, name: str, attempt: int = 0) -> ContainerPlan:
        return plan(name, attempt)

    def ending(self, name: str, code: int, attempt: int = 0) -> ContainerPlan:
        return ContainerPlan(
            name=name, image="example", attempt=attempt, env={"SIM_RUN_FOR": "10ms", "SIM_EXIT_CODE": str(code)}
        )


def provider(clock: FakeClock, tmp_path: pathlib.Path, **options: str) -> SimProvider:
    return SimProvider(ProviderSettings(node="n", cluster_id="c", data_dir=tmp_path, options=options), clock=clock)


async def test_a_run_ends_when_its_time_is_over(tmp_path: pathlib.Path) -> None:
    clock, reports = FakeClock(), Reports()
    sim = provider(clock, tmp_path)
    async with sim.run(reports):
        await sim.create(scripted(run_for="5s", exit_code="3"))
        await sim.start(UID, plan("main"))
        await clock.advance(4.9)
        assert reports.all[-1].state is ContainerState.RUNNING
        await clock.advance(0.2)
        assert (reports.all[-1].state, reports.all[-1].exit_code) == (ContainerState.TERMINATED, 3)


async def test_one_container_may_have_its_own_script(tmp_path: pathlib.Path) -> None:
    clock, reports = FakeClock(), Reports()
    sim = provider(clock, tmp_path)
    pod = plan_of(containers=("a", "b"))
    pod.pod["metadata"]["annotations"] = {f"{PREFIX}b.run-for": "1s"}
    async with sim.run(reports):
        await sim.create(pod)
        await sim.start(UID, plan("a"))
        await sim.start(UID, plan("b"))
        await clock.advance(2)
    assert reports.of("a")[-1].state is ContainerState.RUNNING
    assert reports.of("b")[-1].state is ContainerState.TERMINATED


async def test_options_of_the_node_are_the_script_of_every_pod(tmp_path: pathlib.Path) -> None:
    clock, reports = FakeClock(), Reports()
    sim = provider(clock, tmp_path, **{"run-for": "1s"})
    async with sim.run(reports):
        await sim.create(plan_of())
        await sim.start(UID, plan("main"))
        await clock.advance(1.1)
    assert reports.all[-1].reason == "Completed"


@pytest.mark.parametrize(
    ("fail", "kind", "reason"),
    [("ErrImagePull: no such image", ImageError, "ErrImagePull"), ("Broken", ProviderError, "Broken")],
)
async def test_a_start_fails_as_scripted(tmp_path: pathlib.Path, fail: str, kind: type, reason: str) -> None:
    sim = provider(FakeClock(), tmp_path)
    async with sim.run(Reports()):
        await sim.create(scripted(fail=fail))
        with pytest.raises(kind) as caught:
            await sim.start(UID, plan("main"))
        assert caught.value.reason == reason  # type: ignore[attr-defined]


async def test_a_stop_takes_its_time_and_no_longer_than_grace(tmp_path: pathlib.Path) -> None:
    clock, reports = FakeClock(), Reports()
    sim = provider(clock, tmp_path, **{"stop-delay": "10s", "stop-code": "4"})
    async with sim.run(reports):
        for uid, grace, after, code in (("uid-1", 30, 10, 4), ("uid-2", 2, 2, 137)):
            await sim.create(plan_of(uid))
            await sim.start(Uid(uid), plan("main"))
            stopping = asyncio.get_running_loop().create_task(sim.stop(Uid(uid), "main", grace))
            await clock.advance(after - 0.1)
            assert not stopping.done()
            await clock.advance(0.2)
            await stopping
            assert reports.of("main", uid)[-1].exit_code == code


async def test_an_unreadable_script_is_refused(tmp_path: pathlib.Path) -> None:
    sim = provider(FakeClock(), tmp_path)
    async with sim.run(Reports()):
        await sim.create(scripted(run_for="soon"))
        with pytest.raises(ProviderError, match="cannot read the script"):
            await sim.start(UID, plan("main"))


async def test_logs_are_what_the_script_says(tmp_path: pathlib.Path) -> None:
    sim = provider(FakeClock(), tmp_path)
    async with sim.run(Reports()):
        await sim.create(scripted(logs="one\ntwo\n"))
        await sim.start(UID, plan("main"))
        whole = await sim.logs(UID, "main", LogOptions())
        assert await whole.read() == b"one\ntwo\n"
        last = await sim.logs(UID, "main", LogOptions(tail_lines=1))
        assert await last.read() == b"two\n"
        none = await sim.logs(UID, "main", LogOptions(tail_lines=0))
        assert await none.read() == b""
