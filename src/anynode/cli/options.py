"""Options several commands share, and how a command ends with one clear sentence."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NoReturn, TypeVar

import click

from anynode.cli.state import DEFAULT_NAME

F = TypeVar("F", bound=Callable[..., Any])


def name_options(function: F) -> F:
    """``--name`` and ``--data-dir``: which cluster is meant."""
    function = click.option(
        "--data-dir", metavar="DIR", help="Where the cluster keeps its state.  [default: under ~/.local/share/anynode]"
    )(function)
    return click.option(
        "--name", default=DEFAULT_NAME, show_default=True, envvar="ANYNODE_NAME", help="Which cluster."
    )(function)


def log_options(function: F) -> F:
    """``--log-level`` and ``--log-format``."""
    function = click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Form of logs.")(
        function
    )
    return click.option(
        "-v",
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="warning",
        show_default=True,
        help="What is logged.",
    )(function)


def store_options(function: F) -> F:
    """Where state is kept if not in the data directory; flags as kube-apiserver's. Read with ``store_settings``."""
    for option in (
        click.option(
            "--encryption-provider-config",
            "encryption_config",
            metavar="FILE",
            default="",
            help="Which resources are encrypted in storage and how (EncryptionConfiguration).",
        ),
        click.option(
            "--cert-dir",
            metavar="DIR",
            default="",
            help="Authority and token key, shared by the servers of one etcd.  [default: pki in the data directory]",
        ),
        click.option("--etcd-prefix", default="/registry", show_default=True, help="What keys in etcd begin with."),
        click.option("--etcd-keyfile", metavar="FILE", default="", help="Key of the client certificate (PEM)."),
        click.option("--etcd-certfile", metavar="FILE", default="", help="Client certificate for etcd (PEM)."),
        click.option("--etcd-cafile", metavar="FILE", default="", help="Authority of etcd's certificate (PEM)."),
        click.option(
            "--etcd-servers",
            metavar="URL,...",
            default="",
            help="Keep state in this etcd (http://host:2379), as several servers can.",
        ),
    ):
        function = option(function)
    return function


def store_settings(given: dict[str, Any]) -> dict[str, Any]:
    """``store`` and ``cert_dir`` for ``ClusterSettings`` from a command's arguments."""
    import pathlib

    from anynode.cluster import StoreSettings

    return {
        "store": StoreSettings(
            etcd_servers=tuple(each.strip() for each in given["etcd_servers"].split(",") if each.strip()),
            etcd_prefix=given["etcd_prefix"],
            etcd_ca_file=given["etcd_cafile"],
            etcd_cert_file=given["etcd_certfile"],
            etcd_key_file=given["etcd_keyfile"],
            encryption_config=given["encryption_config"],
        ),
        "cert_dir": pathlib.Path(given["cert_dir"]) if given["cert_dir"] else None,
    }


def client_options(function: F) -> F:
    """``--kubeconfig`` and ``--context``: which API server a part speaks to."""
    function = click.option("--context", help="Context of the kubeconfig.  [default: the current one]")(function)
    return click.option(
        "--kubeconfig",
        metavar="FILE",
        help="How to reach the API server.  [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]",
    )(function)


def image_option(function: F) -> F:
    """``--image``: what an image means to a provider that runs programs of this machine. Read with ``with_images``."""
    return click.option(
        "--image",
        "images",
        multiple=True,
        metavar="NAME=PROGRAM",
        help="What runs for an image: a command line or a directory of this machine (provider process).",
    )(function)


def with_images(given: dict[str, Any]) -> dict[str, Any]:
    """A command's arguments with its images among the provider's options; ends the command where one is no pair."""
    try:
        pairs("--image", given["images"], "NAME=PROGRAM")
    except ValueError as error:
        fail(str(error))
    images = tuple(f"image:{each}" for each in given["images"])
    rest = {key: value for key, value in given.items() if key != "images"}
    return {**rest, "options": (*given["options"], *images)}


def pairs(option: str, given: Iterable[str], form: str = "KEY=VALUE") -> dict[str, str]:
    """Words of this form as a dict; raises ``ValueError``."""
    found = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise ValueError(f"{option} {word!r} is not of the form {form}")
        found[key] = value
    return found


def fail(sentence: str) -> NoReturn:
    """End with exit code 1 and one sentence on standard error."""
    click.echo(f"anynode: {sentence}", err=True)
    sys.exit(1)


def collect_rarely() -> None:
    """Look for garbage rarely: objects are many, long-lived and free of cycles. To be called before what is heavy is
    imported, as modules and classes come to stay."""
    gc.set_threshold(20_000, 20, 50)


def run_loop(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run ``main(stop)`` on a fast event loop; SIGINT and SIGTERM set ``stop``, a second SIGINT ends at once."""
    import uvloop

    async def guarded() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    collect_rarely()  # halves the cost of reading a watch
    gc.freeze()  # modules and classes stay for good
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(guarded())


async def _expire(starting: asyncio.Timeout, stop: asyncio.Event) -> None:
    """End what is ``starting`` when ``stop`` is set."""
    await stop.wait()
    starting.reschedule(asyncio.get_running_loop().time())


def run_part(
    agent: str,
    work: Callable[[Any, Any, Any], Coroutine[Any, Any, None]],
    *,
    kubeconfig: str | None,
    context: str | None,
    log: tuple[str, str],
) -> None:
    """Run one part against the API server the user means: ``work(client, tasks, stack)`` starts it under a supervisor.

    Returns after SIGINT or SIGTERM; a part that fails for good ends the program with one sentence.
    """
    from anynode.aio.clock import SystemClock
    from anynode.aio.tasks import Supervisor
    from anynode.api.errors import ApiError
    from anynode.client.api_client import ApiClient
    from anynode.client.config import ClientConfig, ConfigError
    from anynode.client.http import HttpTransport
    from anynode.telemetry import logs

    logs.set_up(log[0], form=log[1])
    try:
        config = ClientConfig.load(kubeconfig, context)
    except ConfigError as error:
        fail(str(error))

    async def run(stop: asyncio.Event) -> None:
        transport = HttpTransport(config, clock=SystemClock())
        try:
            async with Supervisor(agent) as tasks, contextlib.AsyncExitStack() as stack:
                with contextlib.suppress(TimeoutError):  # asked to stop before the server was ever reached
                    async with asyncio.timeout(None) as starting:
                        watcher = tasks.start("stop", lambda: _expire(starting, stop))
                        await work(ApiClient(transport, user_agent=agent), tasks, stack)
                        watcher.cancel()
                    click.echo(f"{agent} works against {config.server}; Ctrl-C ends it")
                await stop.wait()
        finally:
            await transport.close()

    try:
        run_loop(run)
    except (ApiError, ConnectionError) as error:
        fail(f"{config.server}: {error}")
