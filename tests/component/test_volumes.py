"""Persistent volumes: who writes the time of the last change of phase."""

from __future__ import annotations

import datetime
import random
from typing import Any

import orjson

from anynode.api.wire import ApiRequest, User
from anynode.apiserver.assembly import Assembly
from anynode.storage.memory import MemoryStorage
from anynode.testing.clock import FakeClock

ADMIN = User(name="admin", groups=("system:masters",))
PATH = "/api/v1/persistentvolumes"


async def ask(assembly: Assembly, method: str, path: str, body: Any) -> Any:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"content-type": kind}
    request = ApiRequest(method=method, path=path, headers=headers, body=orjson.dumps(body), user=ADMIN)
    return (await assembly.server.handle(request)).decoded()


async def test_a_change_of_phase_is_timed_unless_the_client_says_when() -> None:
    clock = FakeClock()
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}
    async with MemoryStorage() as storage, Assembly(storage, clock=clock, random=random.Random(1)) as assembly:
        made = await ask(assembly, "POST", PATH, {"metadata": {"name": "v"}, "spec": spec})
        first = made["status"]["lastPhaseTransitionTime"]
        await clock.advance(60)
        same = await ask(assembly, "PATCH", f"{PATH}/v/status", {"status": {"message": "m"}})
        assert same["status"]["lastPhaseTransitionTime"] == first
        bound = await ask(assembly, "PATCH", f"{PATH}/v/status", {"status": {"phase": "Bound"}})
        later = datetime.datetime.fromisoformat(first) + datetime.timedelta(seconds=60)
        assert datetime.datetime.fromisoformat(bound["status"]["lastPhaseTransitionTime"]) == later
        said = {"phase": "Released", "lastPhaseTransitionTime": "2020-01-01T00:00:00Z"}
        told = await ask(assembly, "PATCH", f"{PATH}/v/status", {"status": said})
        assert told["status"]["lastPhaseTransitionTime"] == "2020-01-01T00:00:00Z"
