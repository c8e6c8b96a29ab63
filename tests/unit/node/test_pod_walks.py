"""Random lives of many pods on one node: deletions, failing requests and restarts of the node at any time.

Whatever happened, at rest every pod that is left says what its containers do, nothing runs twice, and the provider
holds nothing that nobody wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import random
from typing import Any

import pytest
from tests.unit.node.pods import container, pod
from tests.unit.node.test_pod_controller import PODS, Harness

from anynode.api.errors import NotFound, ServiceUnavailable
from anynode.api.objects import Object, ObjectKey, Uid
from anynode.provider import ContainerPlan, ContainerState, ProviderSettings
from anynode.providers.sim import SimProvider


class Counting(SimProvider):
    """Remembers every start, to see that no attempt is made twice."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.starts: list[tuple[str, str, int]] = []

    async def start(self, uid: Uid, container: ContainerPlan) -> None:
        known = self._pods[uid].containers.get(container.name)
        assert known is None or known.report.state is ContainerState.TERMINATED
        await super().start(uid, container)  # a start that is cut off did not happen
        self.starts.append((uid, container.name, container.attempt))


def random_pod(chance: random.Random) -> Object:
    def one(name: str, **more: Any) -> Object:
        env = [{"name": "SIM_EXIT_CODE", "value": str(chance.choice([0, 0, 1]))}]
        if chance.random() < 0.6:
            env.append({"name": "SIM_RUN_FOR", "value": f"{chance.randrange(1, 40)}s"})
        if chance.random() < 0.3:
            env.append({"name": "SIM_STOP_DELAY", "value": f"{chance.randrange(1, 20)}s"})
        if chance.random() < 0.2:
            env.append({"name": "SIM_START_DELAY", "value": f"{chance.randrange(1, 5)}s"})
        if chance.random() < 0.2:
            more["readinessProbe"] = {"exec": {"command": [chance.choice(["true", "false"])]}, "periodSeconds": 2}
        if chance.random() < 0.2:
            more["lifecycle"] = {"preStop": {"sleep": {"seconds": chance.randrange(1, 5)}}}
        return container(name, env=env, **more)

    init = tuple(
        one(f"i{number}", **({"restartPolicy": "Always"} if chance.random() < 0.5 else {}))
        for number in range(chance.randrange(3))
    )
    spec: dict[str, Any] = {"restartPolicy": chance.choice(["Always", "OnFailure", "Never"])}
    if chance.random() < 0.2:
        spec["activeDeadlineSeconds"] = chance.randrange(1, 60)
    spec["terminationGracePeriodSeconds"] = chance.choice([0, 5, 30])
    return pod(*(one(name) for name in "ab"[: chance.randrange(1, 3)]), init=init, **spec)


async def walk(node: Harness, chance: random.Random, names: list[str]) -> None:
    for _ in range(25):
        choice = chance.random()
        if choice < 0.5:
            names.append(f"p{len(names)}")
            await node.create(random_pod(chance), name=names[-1])
        elif choice < 0.8 and names:
            grace = chance.choice([None, None, 0, 3])
            with contextlib.suppress(NotFound, ServiceUnavailable):
                await node.client.delete(PODS, ObjectKey("default", chance.choice(names)), grace_seconds=grace)
        else:
            method = chance.choice(["PATCH", "DELETE", "GET"])
            node.api.refuse(ServiceUnavailable("away"), method=method, path="/pods/", times=chance.randrange(1, 4))
        await node.clock.advance(chance.choice([0.05, 1, 7]))


def check(node: Harness, provider: Counting, statuses: dict[str, Object]) -> None:
    starts = provider.starts
    assert len(starts) == len(set(starts))
    left = {each["metadata"]["uid"]: each for each in node.api.objects(PODS)}
    assert set(provider._pods) <= left.keys()
    for uid, obj in left.items():
        status = obj["status"]
        held = provider._pods.get(Uid(uid))
        for each in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            known = held.containers.get(each["name"]) if held is not None else None
            running = known is not None and known.report.state is ContainerState.RUNNING
            assert ("running" in each["state"]) is running, (obj["metadata"]["name"], each)
        if status["phase"] in ("Succeeded", "Failed"):
            assert all("running" not in each["state"] for each in status.get("containerStatuses", ()))
            assert statuses.setdefault(uid, status) == status
        assert not obj["metadata"].get("deletionTimestamp")


@pytest.mark.parametrize("seed", range(12))
async def test_walks(tmp_path: pathlib.Path, seed: int) -> None:
    chance = random.Random(seed)
    node = Harness(tmp_path)
    provider = Counting(
        ProviderSettings(node="node-1", cluster_id="c", data_dir=tmp_path, options={"pods": "500"}), clock=node.clock
    )
    node.sim = provider
    names: list[str] = []
    ended: dict[str, Object] = {}
    for _ in range(3):
        async with node.run():
            await walk(node, chance, names)
            if chance.random() < 0.5:
                await node.clock.advance(200)
                await asyncio.sleep(0)
                check(node, provider, ended)
    async with node.run():
        for name in names:
            node.api.faults.clear()
            with contextlib.suppress(NotFound):
                await node.client.delete(PODS, ObjectKey("default", name))
        await node.clock.advance(400)
        assert node.api.objects(PODS) == []
        assert provider._pods == {}
