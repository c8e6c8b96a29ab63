"""``anynode node``: virtual nodes for any Kubernetes cluster."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from anynode.cli.options import client_options, fail, image_option, log_options, pairs, run_part, with_images
from anynode.cli.state import clusters_directory


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode node                                   # this machine, in the cluster of your kubeconfig\n"
    "  anynode node --name burst --nodes 3 --provider sim\n"
    "  anynode node --label tier=spot --taint virtual=true:NoSchedule --capacity cpu=64"
)
@client_options
@click.option("--name", "node_name", help="The node's name.  [default: this machine's]")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1), help="How many: NAME-0, NAME-1, ...")
@click.option("--provider", default="process", show_default=True, metavar="NAME", help="What runs the pods.")
@click.option("--provider-option", "options", multiple=True, metavar="KEY=VALUE", help="Handed to the provider.")
@image_option
@click.option("--node-ip", default="127.0.0.1", show_default=True, help="The address the node reports.")
@click.option("--kubelet-host", default="", help="Where the kubelet endpoint listens.  [default: the node's address]")
@click.option("--kubelet-port", default=0, type=click.IntRange(0, 65535), help="Its port; 0 picks one.")
@click.option(
    "--client-ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Who may ask the kubelet endpoint.  [default: whom the API server trusts, as it publishes]",
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the node.")
@click.option("--taint", "taints", multiple=True, metavar="KEY=VALUE:EFFECT", help="A taint of the node.")
@click.option("--capacity", "capacities", multiple=True, metavar="NAME=QUANTITY", help="Instead of the provider's.")
@click.option("--data-dir", metavar="DIR", help="Where pods are kept.  [default: under ~/.local/share/anynode]")
@log_options
def command(kubeconfig: str | None, context: str | None, log_level: str, log_format: str, **given: Any) -> None:
    """Join a Kubernetes cluster with virtual nodes; their pods run on a provider. Ctrl-C leaves the pods running."""
    from anynode.aio.clock import SystemClock
    from anynode.aio.tasks import Supervisor
    from anynode.client.api_client import ApiClient
    from anynode.provider import ProviderError
    from anynode.virtual_node import NodeGroup, VirtualNode, VirtualNodeConfig, default_name

    given = with_images(given)
    base = given["node_name"] or default_name()
    count = given["nodes"]
    names = [base] if count == 1 else [f"{base}-{index}" for index in range(count)]
    root = pathlib.Path(given["data_dir"]) if given["data_dir"] else clusters_directory().parent / "nodes"
    authority = pathlib.Path(given["client_ca_file"]).read_bytes() if given["client_ca_file"] else None
    try:
        labels, capacity = pairs("--label", given["labels"]), pairs("--capacity", given["capacities"])
        options, taints = pairs("--provider-option", given["options"]), [taint(each) for each in given["taints"]]
    except ValueError as error:
        fail(str(error))

    async def work(client: ApiClient, tasks: Supervisor, stack: Any) -> None:
        group = NodeGroup(client, clock=SystemClock(), only=names[0] if count == 1 else "")
        await stack.enter_async_context(group)
        nodes = []
        for name in names:
            config = VirtualNodeConfig(
                name=name,
                data_dir=root / name,
                provider=given["provider"],
                provider_options=options,
                node_ip=given["node_ip"],
                kubelet_host=given["kubelet_host"] or given["node_ip"],
                kubelet_port=given["kubelet_port"],
                labels=labels,
                taints=taints,
                capacity=capacity,
                client_ca=authority,
            )
            node = VirtualNode(config, client, group=group, wait_registered=False)
            nodes.append(await stack.enter_async_context(node))
        for node in nodes:
            await node.wait_registered()
            click.echo(f"node {node.name} is registered, provider {given['provider']}")

    try:
        run_part("kubelet", work, kubeconfig=kubeconfig, context=context, log=(log_level, log_format))
    except ProviderError as error:
        fail(error.message)


def taint(word: str) -> dict[str, str]:
    """``KEY=VALUE:EFFECT`` or ``KEY:EFFECT`` as kubectl takes it; raises ``ValueError``."""
    head, colon, effect = word.rpartition(":")
    key, _, value = head.partition("=")
    if not colon or not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise ValueError(f"--taint {word!r} is not of the form KEY=VALUE:NoSchedule|PreferNoSchedule|NoExecute")
    return {"key": key, "effect": effect} | ({"value": value} if value else {})
