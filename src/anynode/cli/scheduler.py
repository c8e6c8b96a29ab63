"""``anynode scheduler``: the scheduler alone, against any Kubernetes API server."""

from __future__ import annotations

import click

from anynode.cli.options import client_options, log_options, run_part


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode scheduler --kubeconfig ~/.kube/config\n"
    "  anynode scheduler --scheduler-name fast        # only pods that ask for it"
)
@client_options
@click.option("--scheduler-name", default="default-scheduler", show_default=True, help="Whose pods it schedules.")
@log_options
def command(kubeconfig: str | None, context: str | None, scheduler_name: str, log_level: str, log_format: str) -> None:
    """Run the scheduler alone, against any Kubernetes API server."""
    import random

    from anynode.aio.clock import SystemClock
    from anynode.aio.tasks import Supervisor
    from anynode.client.api_client import ApiClient
    from anynode.informers.informer import InformerFactory
    from anynode.scheduler.scheduler import Scheduler

    async def work(client: ApiClient, tasks: Supervisor, _: object) -> None:
        clock, chance = SystemClock(), random.Random()
        informers = InformerFactory(client, clock=clock, chance=chance)
        scheduler = Scheduler(client, informers, clock=clock, chance=chance, name=scheduler_name)
        tasks.start("informers", informers.run)
        tasks.start("scheduler", scheduler.run)

    run_part("kube-scheduler", work, kubeconfig=kubeconfig, context=context, log=(log_level, log_format))
