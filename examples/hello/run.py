"""Start a cluster, apply ``hello.yaml``, wait until all is ready, show it, and leave nothing behind.

What ``make demo`` runs. It uses the anynode program the way a user would and speaks to the API server over HTTPS;
kubectl is not needed.
"""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import yaml

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object, ObjectKey, condition_of, get_path, key_of, name_of
from anynode.api.resources import Resource, builtin, known
from anynode.api.wire import ApiRequest
from anynode.client.api_client import ApiClient
from anynode.client.config import ClientConfig
from anynode.client.http import HttpTransport

HERE = pathlib.Path(__file__).parent
NAMESPACE = "default"
READY_SECONDS = 25.0
AGAIN_SECONDS = 0.05
TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def say(sentence: str) -> None:
    print(f"\n\033[1m{sentence}\033[0m" if sys.stdout.isatty() else f"\n{sentence}", flush=True)


def anynode(*words: str, data_dir: str) -> None:
    command = [sys.executable, "-m", "anynode", *words, "--name", "hello", "--data-dir", data_dir]
    subprocess.run(command, check=True)


async def apply(client: ApiClient, manifest: str) -> list[tuple[Resource, ObjectKey]]:
    """Create every object of the file; returns what was created."""
    created = []
    for obj in yaml.safe_load_all(manifest):
        resource = builtin().of_kind(obj["apiVersion"], obj["kind"])
        if resource is None:
            raise SystemExit(f"{obj['kind']} is not served")
        made = await client.create(resource, obj, namespace=NAMESPACE)
        print(f"{resource.plural}/{name_of(made)} created")
        created.append((resource, key_of(made)))
    return created


async def until_ready(client: ApiClient) -> None:
    """Wait by watching until the Deployment is available and the Job complete."""
    waits = (
        (
            known("deployments", "apps"),
            "hello",
            lambda obj: get_path(obj, "status", "availableReplicas", default=0) == 2,
        ),
        (known("jobs", "batch"), "sum", lambda obj: (condition_of(obj, "Complete") or {}).get("status") == "True"),
    )
    for resource, name, ready in waits:
        stream = await client.watch(resource, NAMESPACE, field_selector=f"metadata.name={name}")
        try:
            async for events in stream:
                if any(event.type in ("ADDED", "MODIFIED") and ready(event.object) for event in events):
                    break
        finally:
            await stream.close()
        print(f"{resource.plural}/{name} is ready")


async def show(client: ApiClient, resource: Resource, namespace: str = "") -> None:
    """Print the server's own table of a kind."""
    answer = await client.transport.send(ApiRequest(method="GET", path=resource.path(namespace), headers=TABLE))
    table: Object = answer.decoded()
    shown = [index for index, column in enumerate(table["columnDefinitions"]) if not column.get("priority")]
    rows = [[table["columnDefinitions"][index]["name"].upper() for index in shown]]
    rows += [[str(row["cells"][index]) for index in shown] for row in table["rows"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(shown))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


async def job_log(client: ApiClient) -> str:
    pods = await client.list(known("pods"), NAMESPACE, label_selector="batch.kubernetes.io/job-name=sum")
    path = known("pods").path(NAMESPACE, name_of(pods.items[0]), "log")
    answer = await client.transport.send(ApiRequest(method="GET", path=path))
    return answer.encoded().decode()


async def service_answer(client: ApiClient) -> str:
    service = await client.get(known("services"), ObjectKey(NAMESPACE, "hello"))
    url = f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/"
    print(f"GET {url}")
    while True:  # endpoints follow ready pods a moment later; until then the Service refuses, as everywhere
        try:
            answer = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
        except urllib.error.URLError:
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return answer.strip()


async def tour(kubeconfig: pathlib.Path, manifest: str) -> None:
    transport = HttpTransport(ClientConfig.from_kubeconfig(kubeconfig), clock=SystemClock())
    client = ApiClient(transport)
    try:
        say("Applying hello.yaml")
        await apply(client, manifest)
        async with asyncio.timeout(READY_SECONDS):
            await until_ready(client)
        say("Nodes")
        await show(client, known("nodes"))
        say("Pods")
        await show(client, known("pods"), NAMESPACE)
        say("The Job's log")
        print((await job_log(client)).strip())
        say("The Service's answer, twice")
        for _ in range(2):
            async with asyncio.timeout(READY_SECONDS):
                print(await service_answer(client))
    finally:
        await transport.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="anynode-hello-") as directory:
        say("Starting a cluster")
        anynode("up", "--detach", "--ephemeral", "--port", "0", data_dir=directory)
        try:
            asyncio.run(tour(pathlib.Path(directory) / "kubeconfig", (HERE / "hello.yaml").read_text()))
        finally:
            say("Stopping it")
            anynode("down", data_dir=directory)


if __name__ == "__main__":
    main()
