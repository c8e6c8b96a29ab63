"""What an ordinary and a less ordinary day does to a cluster: scenarios that leave nothing behind.

Each is a coroutine given a ``Caller``, a number that is its own and a ``Random``; it removes what it made. Names, users
and paths carry the number, so that whatever is kept by name grows.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from bench.soak.caller import Caller, Object

NAMESPACES = ("soak-0", "soak-1", "soak-2")
PROCESS_NODE = "proc"
Scenario = Callable[[Caller, int, random.Random], Awaitable[None]]


def core(namespace: str, resource: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/{resource}" + (f"/{name}" if name else "")


def group(group_version: str, namespace: str, resource: str, name: str = "") -> str:
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{group_version}{place}/{resource}" + (f"/{name}" if name else "")


def pod(name: str, *, node: str = "", command: tuple[str, ...] = (), **spec: Any) -> Object:
    container: Object = {"name": "main", "image": "busybox"}
    if command:
        container["command"] = [*command]
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1, **spec}
    spec["nodeName" if node else "schedulerName"] = node or "default-scheduler"
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def template(name: str) -> Object:
    made = pod(name)
    return {"metadata": {"labels": {"app": name}}, "spec": made["spec"]}


async def deployments(call: Caller, number: int, chance: random.Random) -> None:
    """Deployed behind a Service, scaled, rolled, deleted with everything it owns."""
    namespace, name = chance.choice(NAMESPACES), f"web-{number}"
    selector = {"matchLabels": {"app": name}}
    spec = {"replicas": 3, "selector": selector, "template": template(name)}
    path, service = group("apps/v1", namespace, "deployments", name), core(namespace, "services", name)
    await call("POST", path.rpartition("/")[0], {"metadata": {"name": name}, "spec": spec})
    ports = [{"port": 8000 + number % 1000}]
    await call(
        "POST",
        core(namespace, "services"),
        {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}},
    )
    ready = lambda count: lambda each: each.get("status", {}).get("readyReplicas", 0) == count  # noqa: E731
    await call.until(path, ready(3), "deployment not ready")
    await call("PATCH", path + "/scale", {"spec": {"replicas": 6}}, patch="merge")
    await call.until(path, ready(6), "deployment not scaled")
    change = {"spec": {"template": {"metadata": {"annotations": {"turn": "2"}}}}}
    await call("PATCH", path, change, patch="strategic")
    await call.until(path, lambda each: each["status"].get("updatedReplicas") == 6 and ready(6)(each), "not rolled")
    await call("DELETE", service)
    await call("DELETE", path, {"propagationPolicy": chance.choice(("Foreground", "Background"))})
    await call.gone(path)


async def stateful(call: Caller, number: int, chance: random.Random) -> None:
    namespace, name = chance.choice(NAMESPACES), f"db-{number}"
    path = group("apps/v1", namespace, "statefulsets", name)
    spec = {"replicas": 2, "serviceName": name, "selector": {"matchLabels": {"app": name}}, "template": template(name)}
    await call("POST", path.rpartition("/")[0], {"metadata": {"name": name}, "spec": spec})
    await call.until(path, lambda each: each.get("status", {}).get("readyReplicas", 0) == 2, "stateful set not ready")
    await call("DELETE", path)
    await call.gone(path)
    job = group("batch/v1", namespace, "jobs", f"job-{number}")
    work = template(f"job-{number}")
    work["spec"]["restartPolicy"] = "Never"
    work["metadata"]["annotations"] = {"sim.anynode.dev/run-for": "1s"}
    await call("POST", job.rpartition("/")[0], {"metadata": {"name": f"job-{number}"}, "spec": {"template": work}})
    await asyncio.sleep(1.5)
    await call("DELETE", job, {"propagationPolicy": "Background"})
    await call.gone(job)


async def pods(call: Caller, number: int, chance: random.Random) -> None:
    namespace = chance.choice(NAMESPACES)
    names = [f"pod-{number}-{index}" for index in range(10)]
    for name in names:
        await call("POST", core(namespace, "pods"), pod(name))
    await asyncio.sleep(chance.random())
    for name in names:
        grace = chance.choice((0, 1))
        await call("DELETE", core(namespace, "pods", name), {"gracePeriodSeconds": grace}, refused=(404,))
    for name in names:
        await call.gone(core(namespace, "pods", name))


async def maps(call: Caller, number: int, chance: random.Random) -> None:
    """ConfigMaps and Secrets, each updated again and again in every way."""
    namespace, kind = chance.choice(NAMESPACES), chance.choice(("configmaps", "secrets"))
    path = core(namespace, kind, f"map-{number}")
    field = "data" if kind == "configmaps" else "stringData"
    mine = await call("POST", core(namespace, kind), {"metadata": {"name": f"map-{number}"}, field: {"a": "0"}})
    for turn in range(60):
        value = {field: {f"k{turn % 5}": f"{turn}-{'x' * chance.randrange(400)}"}}
        if turn % 3 == 0:
            mine = await call("PUT", path, {**mine, **value})
        elif turn % 3 == 1:
            mine = await call("PATCH", path, value, patch="merge")
        else:
            operations = [{"op": "add", "path": "/metadata/labels", "value": {"turn": str(turn)}}]
            mine = await call("PATCH", path, operations, patch="json")
        await asyncio.sleep(0.01)
    await call("DELETE", path)


async def applies(call: Caller, number: int, chance: random.Random) -> None:
    """Several managers, conflicts, a manager that gives up."""
    namespace, name = chance.choice(NAMESPACES), f"applied-{number}"
    path = core(namespace, "configmaps", name)
    about = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    for turn in range(12):
        manager = f"manager-{number}-{turn % 4}"
        mine = {**about, "data": {f"of-{turn % 4}": str(turn), "shared": str(turn)}}
        force = "&force=true" if turn % 2 else ""
        await call("PATCH", f"{path}?fieldManager={manager}{force}", mine, patch="apply", refused=(409,))
    await call("PATCH", f"{path}?fieldManager=manager-{number}-1", about, patch="apply", refused=(409,))
    await call("DELETE", path)


def definition(number: int, *, fields: Object) -> Object:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    rule = {"rule": f"!has(self.size) || self.size < {1000 + number}", "message": "too large"}
    schema["properties"]["spec"]["x-kubernetes-validations"] = [rule]
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": f"things{number}", "singular": f"thing{number}", "kind": f"Thing{number}"}
    spec = {"group": "soak.example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": f"things{number}.soak.example.com"}, "spec": spec}


async def custom(call: Caller, number: int, chance: random.Random) -> None:
    """A definition, objects of it, a change of its schema, watches of it, all gone again."""
    path = group("apiextensions.k8s.io/v1", "", "customresourcedefinitions", f"things{number}.soak.example.com")
    fields: Object = {"size": {"type": "integer"}, "at": {"type": "string"}}
    await call("POST", path.rpartition("/")[0], definition(number, fields=fields))
    established = lambda each: any(  # noqa: E731
        c["type"] == "Established" and c["status"] == "True" for c in each.get("status", {}).get("conditions") or ()
    )
    await call.until(path, established, "definition not established")
    namespace = chance.choice(NAMESPACES)
    objects = group("soak.example.com/v1", namespace, f"things{number}")
    about = {"apiVersion": "soak.example.com/v1", "kind": f"Thing{number}"}
    reader, writer = await call.raw()
    await start_watch(reader, writer, objects, call)
    for index in range(10):
        thing = {**about, "metadata": {"name": f"t-{index}"}, "spec": {"size": index}}
        await call("POST", objects, thing)
        await call("PATCH", f"{objects}/t-{index}", {"spec": {"size": 5 * index, "gone": 1}}, patch="merge")
    await call("PATCH", f"{objects}/t-0", {"spec": {"size": 5000}}, patch="merge", refused=(422,))
    more = {**fields, "more": {"type": "string", "default": "yes"}}
    await call("PATCH", path, {"spec": definition(number, fields=more)["spec"]}, patch="merge")
    for index in range(10):
        await call("PATCH", f"{objects}/t-{index}", {"spec": {"at": "later"}}, patch="merge")
    await call("GET", f"{objects}?limit=3")
    await call("GET", "/openapi/v3/apis/soak.example.com/v1", refused=(404,))
    if chance.random() < 0.5:
        await call("DELETE", objects)
    await call("DELETE", path)
    await call.gone(path)
    with contextlib.suppress(TimeoutError):  # the watch of what is gone ends
        async with asyncio.timeout(20):
            while await reader.read(65536):
                pass
            writer.close()
            return
    call.unexpected["watch of a removed definition goes on"] += 1
    writer.close()


async def start_watch(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, call: Caller, seconds: int = 300
) -> None:
    query = f"watch=true&timeoutSeconds={seconds}"
    mark = "&" if "?" in path else "?"
    writer.write(f"GET {path}{mark}{query} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")


async def watches(call: Caller, number: int, chance: random.Random) -> None:
    """Opened, half read, dropped in every way."""
    kept = []
    for index in range(12):
        resource = chance.choice(("pods", "configmaps", "events", "secrets"))
        query = chance.choice(
            ("", f"?labelSelector=app%3Dx{number}-{index}", f"?fieldSelector=metadata.name%3Dn{number}-{index}")
        )
        reader, writer = await call.raw()
        await start_watch(reader, writer, f"/api/v1/{resource}{query}", call)
        kept.append((reader, writer))
    for reader, writer in kept:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(4096)
        if chance.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()


async def slow(call: Caller, number: int, chance: random.Random) -> None:
    """A watch of everything that is never read, while others write; and a long list that is not read either."""
    _reader, writer = await call.raw()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /api/v1/configmaps?watch=true HTTP/1.1\r\nHost: soak\r\n\r\n")
    _reader2, writer2 = await call.raw()
    writer2.transport.pause_reading()  # type: ignore[attr-defined]
    writer2.write(b"GET /api/v1/configmaps HTTP/1.1\r\nHost: soak\r\n\r\n" * 20)
    await asyncio.sleep(5 + 10 * chance.random())
    writer.transport.abort()
    writer2.transport.abort()


async def lists(call: Caller, number: int, chance: random.Random) -> None:
    """Thousands at once, in pages, in other forms, pages begun and never ended."""
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    await call("GET", core("soak-bulk", "configmaps"))
    await call("GET", core("soak-bulk", "configmaps"), accept=table)
    await call("GET", core("soak-bulk", "configmaps"), accept="application/vnd.kubernetes.protobuf")
    await call("GET", core("soak-bulk", "configmaps") + "?resourceVersion=0", accept="application/yaml")
    token = ""
    for _ in range(chance.randrange(1, 7)):
        page = await call("GET", core("soak-bulk", "configmaps") + f"?limit=400&continue={token}")
        token = page["metadata"].get("continue", "")
        if not token:
            break


async def webhooks(call: Caller, number: int, chance: random.Random) -> None:
    """One that answers, one that cannot be reached; removed again."""
    hooks = group("admissionregistration.k8s.io/v1", "", "validatingwebhookconfigurations")
    mutating = group("admissionregistration.k8s.io/v1", "", "mutatingwebhookconfigurations")
    name, namespace = f"hook-{number}", chance.choice(NAMESPACES)
    common = {
        "name": f"h{number}.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "objectSelector": {"matchLabels": {"hooked": str(number)}},
        "matchConditions": [{"name": "c", "expression": f"object.metadata.name != 'n{number}'"}],
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
    }  # fmt: skip
    url, bundle = os.environ["SOAK_WEBHOOK"].split(" ")
    client = {"url": f"{url}/{number}", "caBundle": bundle}
    await call("POST", hooks, {"metadata": {"name": name}, "webhooks": [{**common, "clientConfig": client}]})
    nowhere = {"url": "https://127.0.0.1:9/", "caBundle": bundle}
    ignored = {**common, "clientConfig": nowhere, "failurePolicy": "Ignore", "timeoutSeconds": 1}
    await call("POST", mutating, {"metadata": {"name": name}, "webhooks": [ignored]})
    for index in range(5):
        labels = {"hooked": str(number)}
        refused = (400, 403)
        await call(
            "POST",
            core(namespace, "configmaps"),
            {"metadata": {"name": f"hooked-{number}-{index}", "labels": labels}},
            refused=refused,
        )
    for index in range(5):
        await call("DELETE", core(namespace, "configmaps", f"hooked-{number}-{index}"), refused=(404,))
    await call("DELETE", f"{hooks}/{name}")
    await call("DELETE", f"{mutating}/{name}")


async def policies(call: Caller, number: int, chance: random.Random) -> None:
    rules = group("admissionregistration.k8s.io/v1", "", "validatingadmissionpolicies")
    bindings = group("admissionregistration.k8s.io/v1", "", "validatingadmissionpolicybindings")
    name, namespace = f"policy-{number}", chance.choice(NAMESPACES)
    matched = {
        "operations": ["CREATE", "UPDATE"],
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["configmaps"],
    }
    spec = {
        "matchConstraints": {"resourceRules": [matched]},
        "variables": [{"name": "n", "expression": "has(object.data) ? object.data.size() : 0"}],
        "validations": [
            {"expression": f"variables.n < {number % 7 + 1} || object.metadata.name != 'policed-{number}'"}
        ],
    }
    await call("POST", rules, {"metadata": {"name": name}, "spec": spec})
    binding = {"policyName": name, "validationActions": ["Deny"]}
    await call("POST", bindings, {"metadata": {"name": name}, "spec": binding})
    for size in range(0, 12, 3):
        data = {str(index): "" for index in range(size)}
        made = {"metadata": {"name": f"policed-{number}"}, "data": data}
        if await call("POST", core(namespace, "configmaps"), made, refused=(422, 409)):
            await call("DELETE", core(namespace, "configmaps", f"policed-{number}"))
    await call("DELETE", f"{bindings}/{name}")
    await call("DELETE", f"{rules}/{name}")


async def namespaces(call: Caller, number: int, chance: random.Random) -> None:
    """Made with all sorts in it, deleted as a whole."""
    name = f"space-{number}"
    await call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    quota = {"hard": {"pods": "20", "configmaps": "100", "requests.cpu": "100"}}
    limits = {"limits": [{"type": "Container", "defaultRequest": {"cpu": "10m"}}]}
    await call("POST", core(name, "resourcequotas"), {"metadata": {"name": "q"}, "spec": quota})
    await call("POST", core(name, "limitranges"), {"metadata": {"name": "l"}, "spec": limits})
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    roles = "rbac.authorization.k8s.io/v1"
    await call("POST", group(roles, name, "roles"), {"metadata": {"name": "r"}, "rules": [rule]})
    about = {"apiGroup": "rbac.authorization.k8s.io"}
    subject = {**about, "kind": "User", "name": f"user-{number}"}
    bound = {"roleRef": {**about, "kind": "Role", "name": "r"}, "subjects": [subject]}
    await call("POST", group(roles, name, "rolebindings"), {"metadata": {"name": "b"}, **bound})
    for index in range(5):
        await call("POST", core(name, "configmaps"), {"metadata": {"name": f"c-{index}"}})
        await call("POST", core(name, "pods"), pod(f"p-{index}"), refused=(403,))
    await call("GET", core(name, "pods"), impersonate_user=f"user-{number}", refused=(403,))
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await call("POST", core(name, "persistentvolumeclaims"), {"metadata": {"name": "v"}, "spec": claim})
    await call("DELETE", f"/api/v1/namespaces/{name}")
    await call.gone(f"/api/v1/namespaces/{name}")


async def tokens(call: Caller, number: int, chance: random.Random) -> None:
    """A service account, tokens of it that are used, events, leases, a signing request."""
    namespace, name = chance.choice(NAMESPACES), f"account-{number}"
    await call("POST", core(namespace, "serviceaccounts"), {"metadata": {"name": name}})
    for _ in range(4):
        asked = {"spec": {"audiences": [], "expirationSeconds": 600}}
        answer = await call("POST", core(namespace, "serviceaccounts", f"{name}/token"), asked)
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": answer["status"]["token"]},
        }
        await call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        await bearer(call, "/api/v1/namespaces", answer["status"]["token"])
    await call("DELETE", core(namespace, "serviceaccounts", name))
    involved = {"kind": "Pod", "namespace": namespace, "name": name}
    for index in range(5):
        event = {"metadata": {"name": f"{name}.{index}"}, "involvedObject": involved, "reason": "Soak", "message": "m"}
        await call("POST", core(namespace, "events"), event)
    lease = group("coordination.k8s.io/v1", namespace, "leases", name)
    mine = await call("POST", lease.rpartition("/")[0], {"metadata": {"name": name}, "spec": {"holderIdentity": "a"}})
    for turn in range(10):
        mine = await call("PUT", lease, {**mine, "spec": {"holderIdentity": str(turn)}})
    await call("DELETE", lease)


async def bearer(call: Caller, path: str, token: str) -> int:
    """The code of a request with this token on a connection without a certificate."""
    reader, writer = await call.raw(certified=False)
    try:
        said = f"GET {path} HTTP/1.1\r\nHost: soak\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        writer.write(said.encode())
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1])
    finally:
        writer.close()


async def discovery(call: Caller, number: int, chance: random.Random) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    for path in ("/api", "/apis"):
        await call("GET", path, accept=aggregated)
    await call("GET", "/openapi/v3")
    await call("GET", "/openapi/v3/apis/apps/v1")
    if chance.random() < 0.2:
        await call("GET", "/openapi/v2", accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
    await call("GET", "/metrics")
    await call("GET", "/readyz?verbose")


async def connections(call: Caller, number: int, chance: random.Random) -> None:
    """Opened and closed, silent, cut in the handshake, talking rubbish."""
    for _ in range(6):
        _reader, writer = await call.raw()
        writer.close()
    for said in (b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n", secrets.token_bytes(300)):
        _reader, writer = await asyncio.open_connection(*call.address)
        writer.write(said)
        await asyncio.sleep(0.05)
        writer.transport.abort()
    for said in (
        b"GET / HTTP/1.1\r\nHost",
        b"\x00\x01",
        b"POST /api/v1/pods HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nabc",
    ):
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            _reader, writer = await call.raw()
            writer.write(said)
            await asyncio.sleep(0.05)
            writer.transport.abort()


async def refusals(call: Caller, number: int, chance: random.Random) -> None:
    """Every kind of no, with names, users, paths and selectors nobody used before."""
    every = (400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 429, 500)
    namespace = chance.choice(NAMESPACES)
    configs = core(namespace, "configmaps")
    await call("GET", f"{configs}/none-{number}", refused=every)
    await call("GET", f"/apis/none{number}.example.com/v1/things", refused=every)
    await call("GET", f"/nothing/{number}", refused=every)
    await call("GET", f"{configs}?labelSelector=a{number}%3D%3D%3D", refused=every)
    await call("GET", f"{configs}?labelSelector=a{number}+in+(x,y)&limit=1", refused=every)
    await call("GET", f"{configs}?fieldSelector=nothing{number}%3Dx", refused=every)
    await call("GET", f"{configs}?limit=1&continue=rubbish{number}", refused=every)
    await call("POST", configs, b"{not json", refused=every, content_type="application/json")
    await call("POST", configs, b"\x00", refused=every, content_type=f"application/x-{number}")
    await call("POST", configs, {"metadata": {"name": f"Not Valid {number}"}}, refused=every)
    await call("POST", core(f"missing-{number}", "configmaps"), {"metadata": {"name": "a"}}, refused=every)
    await call("PUT", f"{configs}/other", {"metadata": {"name": f"name-{number}"}}, refused=every)
    await call("POST", core(namespace, "pods"), {"metadata": {"name": "x"}, "spec": {}}, refused=every)
    await call("PATCH", f"{configs}/x", [{"op": "remove", "path": f"/{number}"}], patch="json", refused=every)
    await call("GET", configs, impersonate_user=f"nobody-{number}", impersonate_group=f"group-{number}", refused=every)
    await call("GET", configs, user_agent=f"agent-{number}", accept=f"application/x-{number}", refused=every)
    await call(
        "POST", f"{configs}?fieldManager=m{number}&dryRun=All", {"metadata": {"name": f"dry-{number}"}}, refused=every
    )
    await call("DELETE", f"{configs}/none-{number}", {"preconditions": {"uid": str(number)}}, refused=every)
    await bearer(call, "/api", f"rubbish-{number}")
    await bearer(call, "/api", "a." + base64.urlsafe_b64encode(os.urandom(60)).decode() + ".b")


async def sessions(call: Caller, number: int, chance: random.Random) -> None:
    """A process that is run into, whose log is followed, whose port is forwarded; sessions ended and cut."""
    namespace, name = NAMESPACES[number % 3], f"run-{number}"
    path = core(namespace, "pods", name)
    script = "trap 'exit 0' TERM; while true; do echo tick; sleep 0.2; done"
    await call("POST", core(namespace, "pods"), pod(name, node=PROCESS_NODE, command=("sh", "-c", script)))
    running = await call.until(
        path, lambda each: each.get("status", {}).get("phase") == "Running", "process not running"
    )
    if running is not None:
        await call("GET", path + "/log?tailLines=3")
        reader, writer = await call.raw()
        writer.write(f"GET {path}/log?follow=true HTTP/1.1\r\nHost: soak\r\n\r\n".encode())
        await reader.read(2000)
        for command in ("command=echo&command=hello", "command=cat&stdin=true", "command=sleep&command=100"):
            await upgraded(
                call, f"{path}/exec?container=main&stdout=true&{command}", "v5.channel.k8s.io", b"\x00hello", chance
            )
        await upgraded(call, f"{path}/portforward?ports=9", "v4.channel.k8s.io", b"\x00hello", chance)
        await upgraded(call, f"{path}/attach?stdout=true", "v5.channel.k8s.io", b"", chance)
        writer.transport.abort()
    await call("DELETE", path, {"gracePeriodSeconds": 1})
    await call.gone(path)


async def upgraded(call: Caller, path: str, protocol: str, said: bytes, chance: random.Random) -> None:
    reader, writer = await call.raw()
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET {path} HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n")
    if b" 101 " not in answer:
        call.unexpected[f"no session: {path.rpartition('/')[2].partition('?')[0]} {answer!r}"] += 1
    elif said:
        writer.write(bytes((0x82, 0x80 | len(said))) + b"\0\0\0\0" + said)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            while await reader.read(4096):
                pass
    if chance.random() < 0.5:
        writer.transport.abort()
    else:
        writer.close()


SCENARIOS: tuple[tuple[Scenario, float], ...] = (
    (deployments, 2), (stateful, 1), (pods, 3), (maps, 6), (applies, 2), (custom, 2), (watches, 3), (slow, 1),
    (lists, 1), (webhooks, 2), (policies, 2), (namespaces, 2), (tokens, 3), (discovery, 1), (connections, 2),
    (refusals, 5), (sessions, 1.5),
)  # fmt: skip
