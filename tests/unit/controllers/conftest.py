"""A small cluster without nodes: a fake API server, virtual time, and pods that do what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from anynode.api.formats import format_time
from anynode.api.objects import Object, ObjectKey, get_path, is_deleting, key_of, meta, name_of, with_meta
from anynode.api.resources import Resource, known
from anynode.client.api_client import ApiClient
from anynode.controllers.context import ControllerContext
from anynode.informers.informer import InformerFactory
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

PODS = known("pods")


class Events:
    """A recorder that keeps ``"Normal Reason: message"``."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, regarding: Object, type: str, reason: str, message: str, **_: Any) -> None:
        self.said.append(f"{type} {reason}: {message}")


class Cluster:
    """Controllers at work over a fake API server; ``settle`` lets them finish what they can now."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.api = FakeApi(now=self.clock.now)
        self.client = ApiClient(self.api)
        self.events = Events()
        self.informers = InformerFactory(self.client, clock=self.clock, detect_mutation=True)
        self.context = ControllerContext(
            client=self.client,
            informers=self.informers,
            clock=self.clock,
            recorder=lambda _: self.events,
            chance=random.Random(1),
        )
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, *work: Callable[[], Any]) -> None:
        for each in (*work, self.informers.run):
            self._tasks.append(asyncio.create_task(each()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def settle(self, seconds: float = 1.0) -> None:
        for _ in range(10):
            await self.clock.advance(seconds / 10)
        self.informers.check_unchanged()

    def pods(self) -> list[Object]:
        return sorted(self.api.objects(PODS), key=key_of)

    def get(self, resource: Resource, name: str, namespace: str = "default") -> Object:
        wanted = ObjectKey(namespace if resource.namespaced else "", name)
        return next(each for each in self.api.objects(resource) if key_of(each) == wanted)

    def set_status(self, obj: Object, resource: Resource, **status: Any) -> None:
        current = self.get(resource, name_of(obj), meta(obj).get("namespace", ""))
        self.api.put(resource, {**current, "status": {**current.get("status", {}), **status}})

    def run_pods(self, *, ready: bool = True) -> None:
        """Every pod that is not finished runs, on a node of its own choice; those being deleted go."""
        moment = format_time(self.clock.now())
        for pod in self.pods():
            if is_deleting(pod):
                self.api.put(PODS, with_meta(pod, finalizers=None))
                self.api.remove(PODS, key_of(pod))
            elif get_path(pod, "status", "phase", default="Pending") in ("Pending", "Running"):
                if get_path(pod, "status", "phase") == "Running" and ready == _is_ready(pod):
                    continue
                condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": moment}
                running = {**pod, "spec": {**pod["spec"], "nodeName": pod["spec"].get("nodeName", "node-1")}}
                self.api.put(PODS, {**running, "status": {"phase": "Running", "conditions": [condition]}})

    def finish_pod(self, pod: Object, phase: str, *, exit_code: int = 0) -> None:
        ended = {"exitCode": exit_code, "finishedAt": format_time(self.clock.now())}
        statuses = [{"name": "main", "restartCount": 0, "state": {"terminated": ended}}]
        self.set_status(pod, PODS, phase=phase, containerStatuses=statuses, conditions=[])


def _is_ready(pod: Object) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in get_path(pod, "status", "conditions", default=())
    )


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    try:
        yield made
    finally:
        await made.stop()
