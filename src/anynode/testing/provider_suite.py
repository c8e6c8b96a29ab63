"""What every provider must do, as tests: subclass ``ProviderSuite`` and say how to make yours.

::

    class TestMine(ProviderSuite):
        def make(self, settings): return MyProvider(settings)
        def running(self, name, attempt=0): return a ContainerPlan of something that runs until it is stopped
        def ending(self, name, code, attempt=0): return a ContainerPlan of something that soon ends with ``code``

Capabilities (logs, exec, ...) are tested where the provider has them. Set ``keeps = False`` when the backend forgets
its pods with the provider object (a simulation). Needs pytest and pytest-asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from anynode.api.objects import Object, Uid
from anynode.provider import (
    ContainerPlan,
    ContainerReport,
    ContainerState,
    Exec,
    LogOptions,
    Logs,
    PodIdentity,
    PodNotFound,
    PodPlan,
    Provider,
    ProviderSettings,
    Stats,
    TerminalSize,
)

SECONDS = 20.0


class Reports:
    """Takes reports and waits for what they must say."""

    def __init__(self) -> None:
        self.all: list[ContainerReport] = []
        self._changed = asyncio.Event()

    def __call__(self, report: ContainerReport) -> None:
        self.all.append(report)
        self._changed.set()

    def of(self, container: str, uid: str = "uid-1") -> list[ContainerReport]:
        return [each for each in self.all if each.container == container and each.uid == uid]

    async def until(
        self, container: str, state: ContainerState, attempt: int = 0, uid: str = "uid-1"
    ) -> ContainerReport:
        """The first report of this attempt in this state; fails after a while."""
        async with asyncio.timeout(SECONDS):
            while True:
                for report in self.of(container, uid):
                    if report.attempt == attempt and report.state is state:
                        return report
                self._changed.clear()
                await self._changed.wait()


class Terminal:
    """An ``ExecIO`` that types ``given`` and keeps what is shown."""

    stdout = True
    stderr = True
    tty = False

    def __init__(self, given: bytes = b"") -> None:
        self.stdin = bool(given)
        self._given = given
        self.out = b""
        self.err = b""

    async def read_stdin(self) -> bytes:
        data, self._given = self._given, b""
        return data

    async def write_stdout(self, data: bytes) -> None:
        self.out += data

    async def write_stderr(self, data: bytes) -> None:
        self.err += data

    async def next_size(self) -> TerminalSize | None:
        return None


def pod_object(uid: str, containers: Sequence[str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"containers": [{"name": each, "image": "example"} for each in containers]},
    }


def plan_of(uid: str = "uid-1", containers: Sequence[str] = ("main",), **more: Any) -> PodPlan:
    identity = PodIdentity(
        cluster_id="suite", node="suite-node", namespace="default", name=uid, uid=Uid(uid), spec_hash="0"
    )
    return PodPlan(identity=identity, pod=pod_object(uid, containers), hostname=uid, **more)


def need(provider: Any, capability: type) -> None:
    """Skip the test when the provider lacks what it is about."""
    if not isinstance(provider, capability):
        pytest.skip(f"no {capability.__name__.lower()}")


class ProviderSuite:
    """The tests; see the module."""

    keeps = True

    def make(self, settings: ProviderSettings) -> Any:
        raise NotImplementedError

    def running(self, name: str, attempt: int = 0) -> ContainerPlan:
        raise NotImplementedError

    def ending(self, name: str, code: int, attempt: int = 0) -> ContainerPlan:
        raise NotImplementedError

    def failing(self, name: str) -> ContainerPlan | None:
        """Something that cannot be started, where the backend knows such a thing."""
        return None

    @pytest.fixture
    def provider_settings(self, tmp_path: pathlib.Path) -> ProviderSettings:
        return ProviderSettings(node="suite-node", cluster_id="suite", data_dir=tmp_path)

    @pytest.fixture
    async def running_provider(
        self, provider_settings: ProviderSettings
    ) -> AsyncIterator[tuple[Provider, Reports, ProviderSettings]]:
        provider: Provider = self.make(provider_settings)
        reports = Reports()
        async with provider.run(reports):
            yield provider, reports, provider_settings
            for record in await provider.list():
                await provider.delete(record.identity.uid)

    async def test_a_container_runs_until_it_is_stopped(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        await provider.create(plan_of())
        await provider.start(Uid("uid-1"), self.running("main"))
        running = await reports.until("main", ContainerState.RUNNING)
        assert running.started_at is not None
        assert running.container_id
        await provider.stop(Uid("uid-1"), "main", 5)
        ended = await reports.until("main", ContainerState.TERMINATED)
        assert ended.finished_at is not None
        assert ended.finished_at >= running.started_at
        assert ended.container_id == running.container_id

    @pytest.mark.parametrize("code", [0, 3])
    async def test_an_exit_code_is_reported(self, running_provider: Any, code: int) -> None:
        provider, reports, _ = running_provider
        await provider.create(plan_of())
        await provider.start(Uid("uid-1"), self.ending("main", code))
        ended = await reports.until("main", ContainerState.TERMINATED)
        assert ended.exit_code == code
        assert ended.reason == ("Completed" if code == 0 else "Error")

    async def test_running_is_told_before_the_end(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        await provider.create(plan_of())
        await provider.start(Uid("uid-1"), self.ending("main", 0))
        await reports.until("main", ContainerState.TERMINATED)
        assert [each.state for each in reports.of("main")][:1] == [ContainerState.RUNNING]

    async def test_create_again_gives_the_same_place(self, running_provider: Any) -> None:
        provider, _, _ = running_provider
        first = await provider.create(plan_of())
        assert first.pod_ip
        assert await provider.create(plan_of()) == first

    async def test_pods_have_different_addresses(self, running_provider: Any) -> None:
        provider, _, _ = running_provider
        places = [await provider.create(plan_of(f"uid-{number}")) for number in range(5)]
        assert len({each.pod_ip for each in places}) == 5

    async def test_the_same_attempt_is_not_started_twice(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        await provider.create(plan_of())
        await provider.start(Uid("uid-1"), self.running("main"))
        first = await reports.until("main", ContainerState.RUNNING)
        await provider.start(Uid("uid-1"), self.running("main"))
        (record,) = await provider.list()
        assert [each.started_at for each in record.containers] == [first.started_at]

    async def test_the_next_attempt_is_another_run(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        await provider.create(plan_of())
        await provider.start(Uid("uid-1"), self.ending("main", 1))
        first = await reports.until("main", ContainerState.TERMINATED)
        await provider.start(Uid("uid-1"), self.running("main", attempt=1))
        second = await reports.until("main", ContainerState.RUNNING, attempt=1)
        assert second.container_id != first.container_id

    async def test_containers_of_a_pod_are_apart(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        await provider.create(plan_of(containers=("one", "two")))
        await provider.start(Uid("uid-1"), self.running("one"))
        await provider.start(Uid("uid-1"), self.running("two"))
        await provider.stop(Uid("uid-1"), "one", 5)
        await reports.until("one", ContainerState.TERMINATED)
        assert reports.of("two")[-1].state is ContainerState.RUNNING

    async def test_stopping_what_is_not_there_is_no_error(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        await provider.stop(Uid("nobody"), "main", 1)
        await provider.create(plan_of())
        await provider.stop(Uid("uid-1"), "main", 1)
        await provider.start(Uid("uid-1"), self.ending("main", 0))
        await reports.until("main", ContainerState.TERMINATED)
        await provider.stop(Uid("uid-1"), "main", 1)

    async def test_delete_ends_and_forgets(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        await provider.create(plan_of())
        await provider.start(Uid("uid-1"), self.running("main"))
        await provider.delete(Uid("uid-1"))
        await reports.until("main", ContainerState.TERMINATED)
        assert await provider.list() == []
        await provider.delete(Uid("uid-1"))

    async def test_a_start_that_fails_says_why(self, running_provider: Any) -> None:
        provider, _, _ = running_provider
        plan = self.failing("main")
        if plan is None:
            pytest.skip("nothing fails to start in this backend")
        await provider.create(plan_of())
        with pytest.raises(Exception, match=r"\S") as caught:
            await provider.start(Uid("uid-1"), plan)
        assert getattr(caught.value, "reason", "")

    async def test_list_carries_who_owns_a_pod(self, running_provider: Any) -> None:
        provider, _, _ = running_provider
        plan = plan_of()
        sandbox = await provider.create(plan)
        (record,) = await provider.list()
        assert record.identity == plan.identity
        assert record.sandbox == sandbox

    async def test_running_pods_survive_the_provider(self, provider_settings: ProviderSettings) -> None:
        if not self.keeps:
            pytest.skip("the backend lives in the provider object")
        reports = Reports()
        first: Provider = self.make(provider_settings)
        async with first.run(reports):
            sandbox = await first.create(plan_of(containers=("stays", "ends")))
            await first.start(Uid("uid-1"), self.running("stays"))
            await first.start(Uid("uid-1"), self.ending("ends", 7))
            running = await reports.until("stays", ContainerState.RUNNING)
        again = Reports()
        second: Provider = self.make(provider_settings)
        async with second.run(again):
            ended = await again.until("ends", ContainerState.TERMINATED)
            (record,) = await second.list()
            assert record.sandbox == sandbox
            states = {each.container: each for each in record.containers}
            assert states["stays"].state is ContainerState.RUNNING
            assert states["stays"].started_at == running.started_at
            assert ended.exit_code == 7
            await second.stop(Uid("uid-1"), "stays", 5)
            await again.until("stays", ContainerState.TERMINATED)
            await second.delete(Uid("uid-1"))

    async def test_logs_of_a_container_never_started_are_not_found(self, running_provider: Any) -> None:
        provider, _, _ = running_provider
        need(provider, Logs)
        await provider.create(plan_of())
        with pytest.raises(PodNotFound):
            await provider.logs(Uid("uid-1"), "main", LogOptions())

    async def test_exec_answers_with_the_exit_code(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        need(provider, Exec)
        await provider.create(plan_of())
        await provider.start(Uid("uid-1"), self.running("main"))
        await reports.until("main", ContainerState.RUNNING)
        shown = Terminal()
        assert await provider.exec(Uid("uid-1"), "main", ["echo", "hello"], shown) == 0
        assert shown.out == b"hello\n"
        assert await provider.exec(Uid("uid-1"), "main", ["false"], Terminal()) == 1
        with pytest.raises(PodNotFound):
            await provider.exec(Uid("uid-1"), "other", ["true"], Terminal())

    async def test_stats_tell_of_running_containers(self, running_provider: Any) -> None:
        provider, reports, _ = running_provider
        need(provider, Stats)
        await provider.create(plan_of())
        await provider.start(Uid("uid-1"), self.running("main"))
        await reports.until("main", ContainerState.RUNNING)
        assert [each.name for each in await provider.stats(Uid("uid-1"))] == ["main"]

    async def test_capacity_names_what_a_scheduler_needs(self, provider_settings: ProviderSettings) -> None:
        provider: Provider = self.make(provider_settings)
        with contextlib.suppress(NotImplementedError):
            assert {"cpu", "memory", "pods"} <= provider.capacity().keys()
