"""An attacker before a whole API server: what he may not read, reach, end or become."""

from __future__ import annotations

import pathlib
import random
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from anynode.aio import tls
from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpClient, Origin
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, User, parse_query
from anynode.apiserver.process import KUBELET_CLIENT, ApiServerProcess
from anynode.security.rbac import MASTERS
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=(MASTERS,))
EVE = User(name="eve")
RBAC = "rbac.authorization.k8s.io"


@pytest.fixture
async def server(tmp_path: pathlib.Path) -> AsyncIterator[ApiServerProcess]:
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(storage, clock=SystemClock(), random=random.Random(1), directory=tmp_path) as server,
    ):
        yield server


async def ask(
    server: ApiServerProcess, user: User | None, method: str, target: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    path, _, query = target.partition("?")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    request = ApiRequest(method=method, path=path, query=parse_query(query), headers=sent, body=raw, user=user)
    response = await server.assembly.server.handle(request)
    return response.status, response.decoded() if response.watch is None else None


async def make_master_of(server: ApiServerProcess, namespace: str) -> None:
    """Eve may do everything in ``namespace``, and nothing elsewhere."""
    await ask(server, ADMIN, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    binding: Object = {
        "metadata": {"name": "eve"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": EVE.name}],
    }
    status, _ = await ask(server, ADMIN, "POST", f"/apis/{RBAC}/v1/namespaces/{namespace}/rolebindings", binding)
    assert status == 201


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", "/api/v1/namespaces/mine/namespaces/theirs"),
        ("GET", "/api/v1/namespaces/mine/namespaces"),
        ("GET", "/api/v1/namespaces/mine/nodes"),
        ("GET", "/api/v1/namespaces/mine/componentstatuses"),
        ("POST", "/apis/authentication.k8s.io/v1/namespaces/mine/tokenreviews"),
        ("POST", "/apis/authorization.k8s.io/v1/namespaces/mine/subjectaccessreviews"),
        ("GET", "/api/v1/namespaces/default/secrets"),
        ("GET", "/api/v1/secrets"),
        ("GET", "/metrics"),
        ("POST", f"/apis/{RBAC}/v1/clusterrolebindings"),
    ],
)
async def test_the_master_of_a_namespace_is_master_of_nothing_else(
    server: ApiServerProcess, method: str, target: str
) -> None:
    await make_master_of(server, "mine")
    await ask(server, ADMIN, "POST", "/api/v1/namespaces", {"metadata": {"name": "theirs"}})
    body = {"spec": {"token": "x", "user": "x", "nonResourceAttributes": {"path": "/", "verb": "get"}}}
    status, _ = await ask(server, EVE, method, target, body if method == "POST" else None)
    assert status in (403, 404)


async def test_a_right_to_list_one_secret_lists_no_other(server: ApiServerProcess) -> None:
    role: Object = {
        "metadata": {"name": "one"},
        "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]}],
    }
    await ask(server, ADMIN, "POST", f"/apis/{RBAC}/v1/namespaces/default/roles", role)
    binding: Object = {
        "metadata": {"name": "one"},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "one"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": EVE.name}],
    }
    await ask(server, ADMIN, "POST", f"/apis/{RBAC}/v1/namespaces/default/rolebindings", binding)
    secrets = "/api/v1/namespaces/default/secrets"
    for name in ("one", "two"):
        await ask(server, ADMIN, "POST", secrets, {"metadata": {"name": name}})
    status, found = await ask(server, EVE, "GET", f"{secrets}?fieldSelector=metadata.name%3Done")
    assert (status, [each["metadata"]["name"] for each in found["items"]]) == (200, ["one"])
    for selector in ("metadata.namespace!%3Dx%5C,metadata.name%3Done", "metadata.name!%3Done", ""):
        status, _ = await ask(server, EVE, "GET", f"{secrets}?fieldSelector={selector}")
        assert status == 403, selector


async def test_an_account_reads_nothing_of_another_namespace(server: ApiServerProcess) -> None:
    await make_master_of(server, "mine")
    accounts = "/api/v1/namespaces/mine/serviceaccounts"
    await ask(server, EVE, "POST", accounts, {"metadata": {"name": "bot"}})
    _, answer = await ask(server, EVE, "POST", f"{accounts}/bot/token", {"spec": {}})
    bearer = f"Bearer {answer['status']['token']}"
    for target in ("/api/v1/namespaces/mine/secrets", "/api/v1/namespaces/default/secrets", "/api/v1/nodes"):
        status, _ = await ask(server, None, "GET", target, authorization=bearer)
        assert status == 403, target
    _, other = await ask(server, EVE, "POST", f"{accounts}/bot/token", {"spec": {"audiences": ["elsewhere"]}})
    for wrong in (other["status"]["token"], bearer[7:-4] + "AAAA", bearer[7:].rsplit(".", 1)[0] + ".", "a.b.c", "é"):
        status, _ = await ask(server, None, "GET", "/version", authorization=f"Bearer {wrong}")
        assert status == 401, wrong


@pytest.mark.parametrize("subresource", ["secrets", "pods", "serviceaccounts"])
async def test_nobody_reads_and_writes_nothing(server: ApiServerProcess, subresource: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        status, _ = await ask(server, None, method, f"/api/v1/namespaces/default/{subresource}", {})
        assert status == 403


async def test_who_has_no_rights_grants_none_and_becomes_nobody(server: ApiServerProcess) -> None:
    await make_master_of(server, "mine")
    everything = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    status, _ = await ask(
        server, EVE, "POST", f"/apis/{RBAC}/v1/clusterroles", {"metadata": {"name": "x"}, "rules": everything}
    )
    assert status == 403
    for group in ("system:masters", "system:nodes"):
        headers = {"impersonate_user": "eve", "impersonate_group": group}
        status, _ = await ask(server, EVE, "GET", "/api/v1/nodes", **headers)
        assert status == 403


DEEP = 20_000


@pytest.mark.parametrize("depth", [240, 300, 900, DEEP])
@pytest.mark.parametrize("media", ["json", "yaml", "merge", "strategic", "apply"])
async def test_what_goes_too_deep_is_refused_or_kept_and_breaks_nothing(
    server: ApiServerProcess, depth: int, media: str
) -> None:
    revisions = "/apis/apps/v1/namespaces/default/controllerrevisions"
    flat: Object = {"metadata": {"name": "r"}, "revision": 1, "data": {}}
    await ask(server, ADMIN, "POST", revisions, flat)
    nested = b'{"a":' * depth + b"{}" + b"}" * depth
    method, target, kind = {
        "json": ("PUT", f"{revisions}/r", "application/json"),
        "yaml": ("PUT", f"{revisions}/r", "application/yaml"),
        "merge": ("PATCH", f"{revisions}/s", "application/merge-patch+json"),
        "strategic": ("PATCH", f"{revisions}/r", "application/strategic-merge-patch+json"),
        "apply": ("PATCH", f"{revisions}/s?fieldManager=eve", "application/apply-patch+yaml"),
    }[media]
    head = b'{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{"name":"%b"},"revision":1,"data":'
    body = head % target.split("?")[0][-1].encode() + nested + b"}"
    status, said = await ask(server, ADMIN, method, target, body, content_type=kind)
    assert status < 500, said
    assert (await ask(server, ADMIN, "GET", revisions))[0] == 200


async def test_a_client_says_neither_its_uid_nor_its_age(server: ApiServerProcess) -> None:
    body = {"metadata": {"name": "a", "uid": "../../x", "creationTimestamp": "1999-01-01T00:00:00Z"}}
    _, made = await ask(server, ADMIN, "POST", "/api/v1/namespaces/default/configmaps", body)
    assert "/" not in made["metadata"].get("uid", "")
    assert not made["metadata"].get("creationTimestamp", "").startswith("1999")


# --- certificates


async def who(server: ApiServerProcess, context: ssl.SSLContext) -> int:
    client = HttpClient(clock=SystemClock())
    try:
        answer = await client.request(
            Origin(host="127.0.0.1", port=server.port, tls=context), "GET", "/api/v1/namespaces/kube-system/secrets", {}
        )
    finally:
        await client.close()
    return answer.status


async def test_certificates_count_for_what_they_were_made(server: ApiServerProcess, tmp_path: pathlib.Path) -> None:
    def context(pair: Any) -> ssl.SSLContext:
        return tls.client_context(ca=server.ca_pem, certificate=pair.certificate, key=pair.key)

    authority = server.authority
    assert await who(server, context(authority.client_certificate("root", [MASTERS]))) == 200
    assert await who(server, context(authority.client_certificate("eve", ["masters"]))) == 403
    # the certificate for kubelets is shown to whoever a node's status names, this server too
    assert await who(server, context(authority.client_certificate(KUBELET_CLIENT, [MASTERS]))) == 403
    other = type(authority).load_or_create(tmp_path / "other", SystemClock())
    for pair in (authority.server_certificate(["localhost"], name="root"), other.client_certificate("root", [MASTERS])):
        with pytest.raises(ConnectionError):
            await who(server, context(pair))


@pytest.mark.parametrize(
    "amount", ["0" * 3_000 + "x", "1" * 4_299, "1" * 5_000, "1e999999999", "1e-999999999", "1" * 4_000 + "Ei"]
)
async def test_amounts_of_any_length_are_answered(server: ApiServerProcess, amount: str) -> None:
    container = {"name": "c", "image": "i", "resources": {"requests": {"memory": amount}}}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container]}}
    status, said = await ask(server, ADMIN, "POST", "/api/v1/namespaces/default/pods?dryRun=All", pod)
    assert status < 500, said


async def test_long_lists_take_time_that_grows_with_their_length(server: ApiServerProcess) -> None:
    maps = "/api/v1/namespaces/default/configmaps"
    names = [f"a.b/{number}" for number in range(30_000)]
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": name} for name in names[:15_000]]
    strategic = "application/strategic-merge-patch+json"
    began = time.monotonic()
    await ask(server, ADMIN, "POST", maps, {"metadata": {"name": "o", "ownerReferences": owners}})
    await ask(server, ADMIN, "POST", maps, {"metadata": {"name": "f", "finalizers": names}})
    for patch in ({"$setElementOrder/finalizers": names}, {"$deleteFromPrimitiveList/finalizers": names}):
        status, made = await ask(server, ADMIN, "PATCH", f"{maps}/f", {"metadata": patch}, content_type=strategic)
        assert status == 200
    # walks through the lists for each of their items would take more than a minute
    assert time.monotonic() - began < 20
    assert "finalizers" not in made["metadata"]
