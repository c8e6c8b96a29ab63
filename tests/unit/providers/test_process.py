"""Pods as processes: the suite of all providers, then what only processes have."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
from collections.abc import AsyncIterator, Callable

import pytest

from anynode.api.objects import Uid
from anynode.api.wire import ByteReader
from anynode.provider import (
    ContainerPlan,
    ContainerState,
    ImageError,
    LogOptions,
    Mount,
    ProviderError,
    ProviderSettings,
    TerminalSize,
    Volume,
    VolumeFile,
)
from anynode.providers.process import ProcessProvider
from anynode.testing.provider_suite import ProviderSuite, Reports, Terminal, plan_of

UID = Uid("uid-1")


def shell(script: str, name: str = "main", attempt: int = 0, **more: object) -> ContainerPlan:
    return ContainerPlan(name=name, image="example", attempt=attempt, command=("sh", "-c", script), **more)  # type: ignore[arg-type]


class TestProcess(ProviderSuite):
    def make(self, settings: ProviderSettings) -> ProcessProvider:
        return ProcessProvider(settings)

    def running(self, name: str, attempt: int = 0) -> ContainerPlan:
        return shell("exec sleep 60", name, attempt)

    def ending(self, name: str, code: int, attempt: int = 0) -> ContainerPlan:
        return shell(f"exit {code}", name, attempt)

    def failing(self, name: str) -> ContainerPlan:
        return ContainerPlan(name=name, image="example", attempt=0, command=("/no/such/program",))


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> ProviderSettings:
    return ProviderSettings(node="n", cluster_id="c", data_dir=tmp_path)


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def provider(settings: ProviderSettings, reports: Reports) -> AsyncIterator[ProcessProvider]:
    made = ProcessProvider(settings)
    async with made.run(reports):
        yield made
        for record in await made.list():
            await made.delete(record.identity.uid)


async def until(holds: Callable[[], bool]) -> None:
    """Return when the system did what it was told; fails after a while."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.01)


async def read_all(reader: ByteReader) -> bytes:
    found = b""
    while data := await reader.read():
        found += data
    await reader.close()
    return found


async def run(provider: ProcessProvider, reports: Reports, plan: ContainerPlan, **pod: object) -> bytes:
    """The output of a container that ends by itself."""
    await provider.create(plan_of(**pod))  # type: ignore[arg-type]
    await provider.start(UID, plan)
    await reports.until(plan.name, ContainerState.TERMINATED, plan.attempt)
    return await read_all(await provider.logs(UID, plan.name, LogOptions()))


async def test_environment_is_the_containers_own(provider: ProcessProvider, reports: Reports) -> None:
    os.environ["LEAKED"] = "1"
    try:
        plan = shell('echo "[$A][$LEAKED][$HOSTNAME]"', env={"A": "a b"})
        assert await run(provider, reports, plan) == b"[a b][][uid-1]\n"
    finally:
        del os.environ["LEAKED"]


async def test_mount_paths_lead_to_volumes(provider: ProcessProvider, reports: Reports) -> None:
    volume = Volume(name="v", files=[VolumeFile(path="sub/key", content=b"value", mode=0o600)])
    plan = shell(
        "cat /etc/app/sub/key; echo; cat $ANYNODE_ROOT/etc/app/sub/key", mounts=[Mount(volume="v", path="/etc/app")]
    )
    assert await run(provider, reports, plan, volumes=[volume]) == b"value\nvalue"


async def test_one_file_of_a_volume_is_a_plain_file(provider: ProcessProvider, reports: Reports) -> None:
    volume = Volume(name="v", files=[VolumeFile(path="key", content=b"value")])
    mount = Mount(volume="v", path="/etc/app.conf", sub_path="key")
    plan = shell("cat /etc/app.conf; test -L /etc/app.conf || echo -plain", mounts=[mount])
    assert await run(provider, reports, plan, volumes=[volume]) == b"value-plain\n"


async def test_containers_of_a_pod_share_an_empty_directory(provider: ProcessProvider, reports: Reports) -> None:
    mounts = [Mount(volume="v", path="/shared")]
    await run(provider, reports, shell("echo hello > /shared/x", "one", mounts=mounts), volumes=[Volume(name="v")])
    assert await run(provider, reports, shell("cat /shared/x", "two", mounts=mounts)) == b"hello\n"


async def test_volumes_are_swapped_while_a_container_runs(provider: ProcessProvider, reports: Reports) -> None:
    def volume(content: bytes) -> Volume:
        return Volume(name="v", files=[VolumeFile(path="key", content=content)])

    plan = shell("while ! grep -q new /v/key; do sleep 0.02; done; cat /v/key", mounts=[Mount(volume="v", path="/v")])
    await provider.create(plan_of(volumes=[volume(b"old")]))
    await provider.start(UID, plan)
    await provider.update_volumes(UID, [volume(b"new\n")])
    await reports.until("main", ContainerState.TERMINATED)
    assert await read_all(await provider.logs(UID, "main", LogOptions())) == b"new\n"


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("Directory", "/no/such", "is not a directory"),
        ("File", "/", "is not a file"),
        ("Socket", "/", "is not a socket"),
    ],
)
async def test_a_host_path_must_be_what_it_is_said_to_be(
    provider: ProcessProvider, kind: str, path: str, message: str
) -> None:
    volume = Volume(name="v", host_path=path, host_path_type=kind)
    with pytest.raises(ProviderError, match=message) as caught:
        await provider.create(plan_of(volumes=[volume]))
    assert caught.value.reason == "FailedMount"


async def test_the_termination_message_is_what_the_container_left(provider: ProcessProvider, reports: Reports) -> None:
    await run(provider, reports, shell("echo why > /dev/termination-log; exit 2"))
    assert reports.all[-1].message == "why\n"


async def test_of_a_long_message_the_end_is_kept(provider: ProcessProvider, reports: Reports) -> None:
    await run(provider, reports, shell("seq 1 2000 > /dev/termination-log"))
    message = reports.all[-1].message
    assert len(message) == 4096
    assert message.endswith("1999\n2000\n")


async def test_logs_stand_in_for_the_message_if_asked(provider: ProcessProvider, reports: Reports) -> None:
    plan = shell("seq 1 100; exit 2", spec={"terminationMessagePolicy": "FallbackToLogsOnError"})
    await run(provider, reports, plan)
    assert reports.all[-1].message == "".join(f"{number}\n" for number in range(21, 101))


async def test_stop_asks_first_and_kills_after_grace(provider: ProcessProvider, reports: Reports) -> None:
    await provider.create(plan_of())
    await provider.start(UID, shell("trap 'exit 5' TERM; echo up; sleep 60 & wait", "polite"))
    await provider.start(UID, shell("trap '' TERM; echo up; while true; do sleep 0.05; done", "stubborn"))
    for name in ("polite", "stubborn"):
        reader = await provider.logs(UID, name, LogOptions(follow=True))
        assert await reader.read() == b"up\n"
        await reader.close()
    await provider.stop(UID, "polite", 10)
    await provider.stop(UID, "stubborn", 0.2)
    assert (await reports.until("polite", ContainerState.TERMINATED)).exit_code == 5
    killed = await reports.until("stubborn", ContainerState.TERMINATED)
    assert (killed.exit_code, killed.signal) == (137, signal.SIGKILL)


async def test_nothing_of_a_pod_is_left_running(
    provider: ProcessProvider, reports: Reports, tmp_path: pathlib.Path
) -> None:
    await provider.create(plan_of())
    await provider.start(UID, shell("setsid sh -c 'echo $$; exec sleep 61' & sleep 60"))
    reader = await provider.logs(UID, "main", LogOptions(follow=True))
    escaped = int(await reader.read())
    await reader.close()
    os.kill(escaped, 0)
    await provider.delete(UID)
    await until(lambda: _state(escaped) == "Z")


async def test_a_restart_begins_without_what_the_last_run_left(provider: ProcessProvider, reports: Reports) -> None:
    await provider.create(plan_of())
    await provider.start(UID, shell("setsid sh -c 'echo $$; exec sleep 61' & sleep 0.3; exit 1"))
    reader = await provider.logs(UID, "main", LogOptions(follow=True))
    escaped = int(await reader.read())
    await reader.close()
    await reports.until("main", ContainerState.TERMINATED)
    os.kill(escaped, 0)
    await provider.start(UID, shell("sleep 60", attempt=1))
    await until(lambda: _state(escaped) == "Z")


def _state(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


async def test_logs_by_every_option(provider: ProcessProvider, reports: Reports) -> None:
    await run(provider, reports, shell("echo one; echo two >&2; printf three"))

    async def logs(**options: object) -> bytes:
        return await read_all(await provider.logs(UID, "main", LogOptions(**options)))  # type: ignore[arg-type]

    assert sorted((await logs()).split(b"\n")) == [b"one", b"three", b"two"][:0] + sorted([b"one", b"two", b"three"])
    assert await logs(stream="Stderr") == b"two\n"
    assert await logs(tail_lines=0) == b""
    assert await logs(tail_lines=1) == b"three"
    assert await logs(limit_bytes=2) == (await logs())[:2]
    stamped = (await logs(timestamps=True, stream="Stderr")).split(b" ")
    assert stamped[0].endswith(b"Z")
    assert stamped[1] == b"two\n"
    assert await logs(since_seconds=3600) == await logs()


async def test_following_ends_with_the_container(provider: ProcessProvider, reports: Reports) -> None:
    await provider.create(plan_of())
    await provider.start(UID, shell("echo one; sleep 0.2; echo two"))
    assert await read_all(await provider.logs(UID, "main", LogOptions(follow=True))) == b"one\ntwo\n"


async def test_the_previous_attempt_keeps_its_log(provider: ProcessProvider, reports: Reports) -> None:
    await run(provider, reports, shell("echo first; exit 1"))
    await run(provider, reports, shell("echo second; exit 1", attempt=1))
    assert await read_all(await provider.logs(UID, "main", LogOptions(previous=True))) == b"first\n"
    assert await read_all(await provider.logs(UID, "main", LogOptions())) == b"second\n"


class Sized(Terminal):
    tty = True

    def __init__(self, given: bytes) -> None:
        super().__init__(given)
        self._sizes = [TerminalSize(width=100, height=40)]

    async def next_size(self) -> TerminalSize | None:
        return self._sizes.pop() if self._sizes else None


async def test_exec_on_a_terminal_knows_its_size(provider: ProcessProvider, reports: Reports) -> None:
    await provider.create(plan_of())
    await provider.start(UID, shell("sleep 60"))
    user = Sized(b"ready\n")
    script = "read x; until test \"$(stty size)\" = '40 100'; do sleep 0.05; done; stty size; exit 9"
    assert await provider.exec(UID, "main", ["sh", "-c", script], user) == 9
    assert b"40 100" in user.out


async def test_exec_ends_with_its_user(provider: ProcessProvider, reports: Reports) -> None:
    await provider.create(plan_of())
    await provider.start(UID, shell("sleep 60"))
    user = Terminal()

    running = asyncio.get_running_loop().create_task(
        provider.exec(UID, "main", ["sh", "-c", "echo $$; exec sleep 60"], user)
    )
    await until(lambda: bool(user.out))
    pid = int(user.out)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: _state(pid) == "Z")


async def test_attach_sees_what_is_written_and_types(provider: ProcessProvider, reports: Reports) -> None:
    await provider.create(plan_of())
    plan = shell("read x; echo got $x", stdin=True, stdin_once=True)
    await provider.start(UID, plan)
    user = Terminal(b"something\n")
    await provider.attach(UID, "main", user)
    assert user.out == b"got something\n"
    assert (await reports.until("main", ContainerState.TERMINATED)).exit_code == 0


async def test_input_that_is_not_once_stays_open_for_the_next_who_attaches(
    provider: ProcessProvider, reports: Reports
) -> None:
    await provider.create(plan_of())
    await provider.start(UID, shell("read x; read y; echo got $x $y", stdin=True))
    async with asyncio.timeout(10):
        await provider.attach(UID, "main", Terminal(b"one\n"))  # ends with its input, the container does not
        user = Terminal(b"two\n")
        await provider.attach(UID, "main", user)
    assert (await reports.until("main", ContainerState.TERMINATED)).exit_code == 0


async def test_dial_reaches_the_pods_own_address(provider: ProcessProvider, reports: Reports) -> None:
    place = await provider.create(plan_of())
    server = await asyncio.start_server(lambda reader, writer: writer.close(), place.pod_ip, 0)
    port = server.sockets[0].getsockname()[1]
    stream = await provider.dial(UID, port)
    assert await stream.read() == b""
    await stream.close()
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionError):
        await provider.dial(UID, port)


async def test_httpd_is_there_where_the_host_has_none(provider: ProcessProvider, reports: Reports) -> None:
    place = await provider.create(plan_of())
    script = "mkdir w; echo hello > w/index.html; exec httpd -f -p $IP:18765 -h w"
    await provider.start(UID, shell(script, env={"IP": place.pod_ip}))
    async with asyncio.timeout(10):
        while True:
            try:
                stream = await provider.dial(UID, 18765)
                break
            except ConnectionError:
                await asyncio.sleep(0.02)
    await stream.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await read_all(stream)).endswith(b"hello\n")


async def test_an_unknown_image_without_command_tells_the_ways_out(provider: ProcessProvider) -> None:
    await provider.create(plan_of())
    with pytest.raises(ImageError, match="give the container a command, map the image"):
        await provider.start(UID, ContainerPlan(name="main", image="nobody/knows:1", attempt=0))


async def test_a_program_that_is_not_there_is_a_start_error(provider: ProcessProvider, reports: Reports) -> None:
    await provider.create(plan_of())
    with pytest.raises(ProviderError) as caught:
        await provider.start(UID, ContainerPlan(name="main", image="x", attempt=0, command=("no-such-program",)))
    assert caught.value.reason == "RunContainerError"
    assert (reports.all[-1].exit_code, reports.all[-1].reason) == (128, "StartError")
    assert 'exec: "no-such-program": executable file not found in $PATH' in reports.all[-1].message


async def test_a_pod_of_the_same_uid_in_another_cluster_is_left_alone(
    provider: ProcessProvider, reports: Reports, tmp_path: pathlib.Path
) -> None:
    await provider.create(plan_of())
    await provider.start(UID, shell("sleep 60"))
    elsewhere = ProcessProvider(ProviderSettings(node="n", cluster_id="d", data_dir=tmp_path / "elsewhere"))
    async with elsewhere.run(Reports()):
        await elsewhere.create(plan_of())
        await elsewhere.start(UID, shell("sleep 60"))
        await elsewhere.delete(UID)
    await provider.stop(UID, "main", 5)
    ended = await reports.until("main", ContainerState.TERMINATED)
    assert ended.exit_code == 143, "ended by us, and not before"


async def test_containers_of_a_supervisor_that_died_have_ended(settings: ProviderSettings, reports: Reports) -> None:
    provider = ProcessProvider(settings)
    async with provider.run(reports):
        await provider.create(plan_of())
        await provider.start(UID, shell("sleep 60"))
        await reports.until("main", ContainerState.RUNNING)
        socket_file = str(settings.data_dir / "supervisor.sock")
        for each in pathlib.Path("/proc").iterdir():
            if each.name.isdigit() and socket_file.encode() in _command_line(each):
                os.kill(int(each.name), signal.SIGKILL)
        ended = await reports.until("main", ContainerState.TERMINATED)
        assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
        await provider.start(UID, shell("sleep 60", attempt=1))
        await reports.until("main", ContainerState.RUNNING, attempt=1)
        await provider.delete(UID)


async def test_a_supervisor_that_leaves_when_its_node_comes_is_replaced(
    settings: ProviderSettings, reports: Reports
) -> None:
    listener = await asyncio.start_unix_server(
        lambda reader, writer: writer.close(), str(settings.data_dir / "supervisor.sock")
    )
    provider = ProcessProvider(settings)
    starting = provider.run(reports)
    entering = asyncio.get_running_loop().create_task(starting.__aenter__())
    await asyncio.sleep(0.05)
    listener.close()
    (settings.data_dir / "supervisor.sock").unlink(missing_ok=True)
    await listener.wait_closed()
    async with asyncio.timeout(10):
        await entering
    await provider.create(plan_of())
    await provider.start(UID, shell("true"))
    await reports.until("main", ContainerState.TERMINATED)
    await provider.delete(UID)
    await starting.__aexit__(None, None, None)


def _command_line(process: pathlib.Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
