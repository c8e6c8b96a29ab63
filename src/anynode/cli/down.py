"""``anynode down``: stop a running cluster in order; its state stays unless it is to be deleted."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import time

import click

from anynode.cli import kubeconfig
from anynode.cli.options import fail, name_options
from anynode.cli.state import DataDir, Running, StateError, context_name

POLL_SECONDS = 0.05


@click.command(epilog="Examples:\n\n\b\n  anynode down\n  anynode down --name test --delete   # and forget its state")
@name_options
@click.option("--delete", is_flag=True, help="Also delete the data directory.")
@click.option("--timeout", "timeout_seconds", default=30.0, show_default=True, help="Seconds to wait before killing.")
def command(name: str, data_dir: str | None, delete: bool, timeout_seconds: float) -> None:
    """Stop a cluster: its pods end, its API server closes, its state stays."""
    try:
        directory = DataDir.named(name, data_dir)
    except StateError as error:
        fail(str(error))
    running = directory.running()
    if running is None:
        click.echo(f"cluster {name!r} is not running")
    else:
        _stop(directory, running, timeout_seconds)
        click.echo(f"cluster {name!r} stopped")
    if delete:
        if directory.path.exists() and not directory.lock_file.exists():
            fail(f"{directory.path} is no data directory of anynode: nothing was deleted")
        shutil.rmtree(directory.path, ignore_errors=True)
        _forget(name)


def _stop(directory: DataDir, running: Running, timeout_seconds: float) -> None:
    for number, seconds in ((signal.SIGTERM, timeout_seconds), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, number)
        for _ in range(int(seconds / POLL_SECONDS)):
            if directory.running() is None and not _alive(running.pid):
                return
            time.sleep(POLL_SECONDS)
    fail(f"process {running.pid} does not end; look at {directory.log_file}")


def _alive(pid: int) -> bool:
    """Whether the process is still there; one that only waits to be reaped is not."""
    try:
        os.kill(pid, 0)
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return not pathlib.Path("/proc/self").exists()  # no /proc: the signal was delivered


def _forget(name: str) -> None:
    """Take the deleted cluster's entries out of the user's kubeconfig."""
    path = kubeconfig.user_file()
    context = context_name(name)
    found = kubeconfig.read(path)
    if any(entry.get("name") == context for entry in found.get("contexts") or []):
        kubeconfig.write(path, kubeconfig.without(found, context))
