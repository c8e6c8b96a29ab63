"""Whatever a body holds, the answer is a refusal or the object, never an accident of the server."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, User
from anynode.apiserver.assembly import Assembly
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**30, "", "x", "a b", "\0", [], {}, [None], [{}], {"a": None},
    {"$patch": "delete"},
    [["x"]], "1Gi", {"x": [1, {"y": 2}]},
)  # fmt: skip
CONTAINER = {
    "name": "c",
    "image": "i",
    "ports": [{"containerPort": 80, "name": "http"}],
    "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    "resources": {"requests": {"cpu": "1"}},
    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
}
POD = {"containers": [CONTAINER], "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"operator": "Exists"}]}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
SELECTED = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
BODIES: dict[str, Object] = {
    "/api/v1/namespaces/default/configmaps": {"data": {"k": "v"}},
    "/api/v1/namespaces/default/secrets": {"data": {"k": "dg=="}, "stringData": {"l": "w"}, "type": "Opaque"},
    "/api/v1/namespaces/default/pods": {"spec": POD},
    "/api/v1/namespaces/default/services": {
        "spec": {"type": "NodePort", "ports": [{"port": 80, "targetPort": "http"}]}
    },
    "/apis/apps/v1/namespaces/default/deployments": {"spec": {"replicas": 2, **SELECTED}},
    "/apis/batch/v1/namespaces/default/jobs": {"spec": {"completions": 1, "template": TEMPLATE}},
    "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles": {
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    },
    "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers": {
        "spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}
    },
}
PATCHES = ("merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml")


def noisy(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.08:
        return chance.choice(JUNK)
    if isinstance(value, dict):
        kept = {key: noisy(each, chance) for key, each in value.items() if chance.random() > 0.03}
        if chance.random() < 0.06:
            kept[chance.choice(("bad", "metadata", "spec", "status", "$patch", "name"))] = chance.choice(JUNK)
        return kept
    return [noisy(each, chance) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(4))
async def test_no_body_makes_the_server_stumble(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(seed)
    async with MemoryStorage() as storage, Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly:

        async def ask(method: str, path: str, body: Any, media: str) -> int:
            request = ApiRequest(
                method=method,
                path=path,
                headers={"content-type": f"application/{media}"},
                query={"fieldManager": ["noise"]},
                body=json.dumps(body).encode(),
                user=ADMIN,
            )
            return (await assembly.server.handle(request)).status

        account = {"metadata": {"name": "default"}}
        await ask("POST", "/api/v1/namespaces/default/serviceaccounts", account, "json")
        seen: set[int] = set()
        for _ in range(350):
            path, body = chance.choice(list(BODIES.items()))
            whole = noisy({"metadata": {"name": chance.choice("ab"), "labels": {"x": "y"}}, **body}, chance)
            method = chance.choice(("POST", "POST", "PUT", "PATCH", "DELETE"))
            media = chance.choice(PATCHES) if method == "PATCH" else "json"
            target = path if method == "POST" else f"{path}/{chance.choice('ab')}"
            seen.add(await ask(method, target, {} if method == "DELETE" else whole, media))
    assert {200, 201, 400, 422} <= seen
    assert "request failed unexpectedly" not in caplog.text
