"""``anynode controllers``: the controllers alone, against any Kubernetes API server."""

from __future__ import annotations

import pathlib

import click

from anynode.cli.options import client_options, fail, log_options, run_part


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode controllers --kubeconfig ~/.kube/config --leader-elect\n"
    "  anynode controllers --controllers deployment,replicaset\n"
    "  anynode controllers --controllers '*,-garbage-collector'"
)
@client_options
@click.option(
    "--controllers",
    "chosen",
    default="*",
    show_default=True,
    help="Which ones: names joined by commas, * for all, -name to leave one out.",
)
@click.option("--leader-elect", is_flag=True, help="Work only while holding the Lease kube-controller-manager.")
@click.option(
    "--root-ca-file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="Published in every namespace."
)
@click.option(
    "--cluster-signing-cert-file",
    "signing_cert_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The authority (PEM) that signs approved CertificateSigningRequests.",
)
@click.option(
    "--cluster-signing-key-file",
    "signing_key_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Its private key (PEM).",
)
@log_options
def command(
    kubeconfig: str | None,
    context: str | None,
    chosen: str,
    leader_elect: bool,
    root_ca_file: str | None,
    signing_cert_file: str | None,
    signing_key_file: str | None,
    log_level: str,
    log_format: str,
) -> None:
    """Run the controllers alone, against any Kubernetes API server."""
    import os
    import random
    import socket

    from anynode.aio.clock import SystemClock
    from anynode.aio.tasks import Supervisor
    from anynode.client.api_client import ApiClient
    from anynode.controllers.manager import ControllerManager, ControllerSettings
    from anynode.security.pki import PkiError
    from anynode.security.signing import RequestSigner

    if bool(signing_cert_file) != bool(signing_key_file):
        fail("--cluster-signing-cert-file and --cluster-signing-key-file belong together")
    sign = None
    if signing_cert_file and signing_key_file:
        pair = [pathlib.Path(file).read_bytes() for file in (signing_cert_file, signing_key_file)]
        try:
            sign = RequestSigner(pair[0], pair[1], SystemClock()).sign
        except PkiError as error:
            fail(str(error))
    settings = ControllerSettings(
        controllers=(chosen,),
        root_ca=pathlib.Path(root_ca_file).read_text() if root_ca_file else "",
        identity=f"{socket.gethostname()}_{os.getpid()}" if leader_elect else "",
        metadata_only=True,
        sign_certificate=sign,
    )

    async def work(client: ApiClient, tasks: Supervisor, _: object) -> None:
        manager = ControllerManager(client, clock=SystemClock(), settings=settings, chance=random.Random())
        click.echo(f"running {len(manager.names)} controllers: {', '.join(manager.names)}")
        tasks.start("controllers", manager.run)

    try:
        run_part("kube-controller-manager", work, kubeconfig=kubeconfig, context=context, log=(log_level, log_format))
    except ValueError as error:
        fail(str(error))
