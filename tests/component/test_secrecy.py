"""What must never get out: secrets in logs, events and errors; one namespace's objects to another's token."""

from __future__ import annotations

import asyncio
import base64
import logging
import pathlib
import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.api.wire import ApiRequest, User, parse_query
from anynode.apiserver.process import ApiServerProcess
from anynode.apiserver.server import ApiServer
from anynode.storage.memory import MemoryStorage
from anynode.telemetry import logs

ADMIN = User(name="admin", groups=("system:masters", "system:authenticated"))
PASSWORD = "hunter2-is-not-to-be-seen"
ENCODED = base64.b64encode(PASSWORD.encode()).decode()
RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def ask(
    server: ApiServer, method: str, target: str, user: User | None = ADMIN, body: Any = None, **headers: str
) -> tuple[int, Any]:
    path, _, query = target.partition("?")
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    response = await server.handle(
        ApiRequest(method=method, path=path, query=parse_query(query), headers=sent, body=raw, user=user)
    )
    return response.status, None if response.watch is not None else response.encoded()


@pytest.fixture
async def process(tmp_path: pathlib.Path) -> AsyncIterator[ApiServerProcess]:
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(storage, clock=SystemClock(), random=random.Random(1), directory=tmp_path) as process,
    ):
        yield process


class Everything(logging.Handler):
    """All that is logged, as both forms of our logs would write it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.forms: list[logging.Formatter] = [logs.TextFormatter(), logs.JsonFormatter()]
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.extend(form.format(record) for form in self.forms)


async def token_of(server: ApiServer, namespace: str, account: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await ask(server, "POST", path, body={"metadata": {"name": account}})
    _, raw = await ask(server, "POST", f"{path}/{account}/token", body={"spec": {}})
    token: str = orjson.loads(raw)["status"]["token"]
    return token


async def test_secrets_tokens_and_passwords_are_in_no_log_event_or_error(process: ApiServerProcess) -> None:
    server, handler = process.assembly.server, Everything()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    refused: list[bytes] = []
    try:
        token = await token_of(server, "default", "robot")
        secrets = "/api/v1/namespaces/default/secrets"
        good = {"metadata": {"name": "s"}, "data": {"p": ENCODED}, "stringData": {"q": PASSWORD}}
        assert (await ask(server, "POST", secrets, body=good))[0] == 201
        for method, target, body, headers in (
            ("POST", secrets, good, {}),  # exists already
            ("PUT", f"{secrets}/s", {**good, "metadata": {"name": "other"}}, {}),
            ("PUT", f"{secrets}/s", {**good, "type": "changed"}, {}),
            ("POST", secrets, {**good, "metadata": {"name": "BAD NAME"}}, {}),
            ("POST", secrets, {**good, "metadata": {"name": "x"}, "data": {"bad key!": ENCODED}}, {}),
            ("PATCH", f"{secrets}/s", {"metadata": {"resourceVersion": "1"}, "data": {"p": ENCODED}},
             {"content_type": "application/merge-patch+json"}),
            ("POST", f"{secrets}?fieldValidation=Strict", {**good, "metadata": {"name": "y"}, "odd": 1}, {}),
            ("POST", secrets, {**good, "metadata": {"name": "z"}, "type": "kubernetes.io/tls"}, {}),
            ("POST", secrets, {**good, "metadata": {"name": "d"}, "type": "kubernetes.io/dockerconfigjson"}, {}),
            ("GET", "/api/v1/nodes", None, {"authorization": f"Bearer {token}"}),
            ("GET", "/api/v1/nodes", None, {"authorization": f"Bearer {token}{PASSWORD}"}),
            ("GET", "/api/v1/nodes", None, {"authorization": f"Basic {ENCODED}"}),
            ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": PASSWORD}}, {}),
        ):  # fmt: skip
            user = None if "authorization" in headers else ADMIN
            status, raw = await ask(server, method, target, user, body, **headers)
            assert status >= 400 or "tokenreviews" in target, (method, target, status)
            if "tokenreviews" not in target:
                refused.append(raw)
        assert (await ask(server, "DELETE", f"{secrets}/s"))[0] == 200
        await asyncio.sleep(0)
        _, events = await ask(server, "GET", "/api/v1/events")
        _, metrics = await ask(server, "GET", "/metrics")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    key = (process.authority.key.decode().splitlines()[1], "the authority's key")
    for hidden, what in ((PASSWORD, "a password"), (ENCODED, "a secret"), (token, "a token"),
                         (token.rpartition(".")[2], "a signature"), key):  # fmt: skip
        assert not [line for line in handler.said if hidden in line], f"{what} is in the log"
        assert not [raw for raw in refused if hidden.encode() in raw], f"{what} is in an error"
        assert hidden.encode() not in events + metrics, f"{what} is in an event or metric"


async def test_a_token_of_one_namespace_reads_and_changes_nothing_of_another(process: ApiServerProcess) -> None:
    """Every resource and subresource there is, by every verb: master at home, nobody abroad."""
    server = process.assembly.server
    for namespace in ("mine", "theirs"):
        await ask(server, "POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
    token = await token_of(server, "mine", "robot")
    binding = {
        "metadata": {"name": "robot"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "mine"}],
    }
    assert (await ask(server, "POST", f"{RBAC}/namespaces/mine/rolebindings", body=binding))[0] == 201
    bearer = {"authorization": f"Bearer {token}"}
    assert (await ask(server, "GET", "/api/v1/namespaces/mine/secrets", None, **bearer))[0] == 200
    secret = {"metadata": {"name": "x", "labels": {"hidden": PASSWORD}}, "stringData": {"p": PASSWORD}}
    await ask(server, "POST", "/api/v1/namespaces/theirs/secrets", body=secret)
    asked = 0
    for resource in process.assembly.catalogue:
        base = f"/api/{resource.version}" if not resource.group else f"/apis/{resource.group}/{resource.version}"
        home = f"{base}/namespaces/theirs/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
        for verb, method, target in (
            ("list", "GET", home),
            ("list", "GET", f"{base}/{resource.plural}"),
            ("watch", "GET", f"{home}?watch=1"),
            ("get", "GET", f"{home}/x"),
            ("create", "POST", home),
            ("update", "PUT", f"{home}/x"),
            ("patch", "PATCH", f"{home}/x"),
            ("delete", "DELETE", f"{home}/x"),
            ("deletecollection", "DELETE", home),
        ):
            if verb not in resource.verbs or _is_for_everybody(resource.qualified):
                continue
            status, raw = await ask(server, method, target, None, secret if verb == "create" else None, **bearer)
            assert status == 403, (verb, target, status)
            assert PASSWORD.encode() not in (raw or b"")
            asked += 1
        for subresource in resource.subresources:
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                target = f"{home}/x/{subresource.name}"
                status, raw = await ask(server, method, target, None, {} if method == "POST" else None, **bearer)
                assert status == 403, (method, target, status)
                asked += 1
    assert asked > 500


def _is_for_everybody(qualified: str) -> bool:
    """Reviews of oneself, which every user may ask for."""
    return qualified.startswith("self")
