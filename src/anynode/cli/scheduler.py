"""``anynode scheduler``: the scheduler alone, against any Kubernetes API server."""

from __future__ import annotations

import click

from anynode.cli.options import client_options, log_options, run_part


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode scheduler --kubeconfig ~/.kube/config\n"
    "  anynode scheduler --leader-elect               # one of several that stand by\n"
    "  anynode scheduler --scheduler-name fast        # only pods that ask for it"
)
@client_options
@click.option("--leader-elect", is_flag=True, help="Work only while holding the Lease kube-scheduler.")
@click.option("--scheduler-name", default="default-scheduler", show_default=True, help="Whose pods it schedules.")
@log_options
def command(
    kubeconfig: str | None,
    context: str | None,
    leader_elect: bool,
    scheduler_name: str,
    log_level: str,
    log_format: str,
) -> None:
    """Run the scheduler alone, against any Kubernetes API server."""
    import os
    import random
    import socket

    from anynode.aio.clock import SystemClock
    from anynode.aio.tasks import Supervisor
    from anynode.api.objects import ObjectKey
    from anynode.client.api_client import ApiClient
    from anynode.informers.election import Elector
    from anynode.informers.informer import InformerFactory
    from anynode.scheduler.scheduler import Scheduler

    async def work(client: ApiClient, tasks: Supervisor, _: object) -> None:
        clock, chance = SystemClock(), random.Random()
        informers = InformerFactory(client, clock=clock, chance=chance)
        scheduler = Scheduler(client, informers, clock=clock, chance=chance, name=scheduler_name)
        tasks.start("informers", informers.run)
        if not leader_elect:
            tasks.start("scheduler", scheduler.run)
            return
        lease = ObjectKey("kube-system", "kube-scheduler")
        identity = f"{socket.gethostname()}_{os.getpid()}"
        elector = Elector(client, lease, identity, clock=clock, chance=chance)
        tasks.start("scheduler", lambda: elector.run(scheduler.run))

    run_part("kube-scheduler", work, kubeconfig=kubeconfig, context=context, log=(log_level, log_format))
