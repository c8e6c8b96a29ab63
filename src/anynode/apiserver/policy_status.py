"""The status of ValidatingAdmissionPolicies: type checked once per generation, as kube-controller-manager does it.

In: policies as they are committed. Out: server-side applies of their status. Source: kubernetes
``pkg/controller/validatingadmissionpolicystatus/controller.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import orjson

from anynode.api.objects import Object, get_path, meta, name_of
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.cel.types import Type
from anynode.registry.items import CacheEvent
from anynode.registry.watch_cache import ResourceCache
from anynode.schema import policy_types
from anynode.schema.policy_types import ResourceAt

logger = logging.getLogger(__name__)

MANAGER = "validatingadmissionpolicy-status"
SELF = User(
    name="system:serviceaccount:kube-system:validatingadmissionpolicy-status-controller", groups=("system:masters",)
)
PATH = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
Apply = Callable[[ApiRequest], Awaitable[ApiResponse]]
"""The server's own way to answer a request."""


class PolicyStatus:
    """Checks what changed; ``run`` for as long as the server does."""

    def __init__(
        self,
        cache: ResourceCache,
        *,
        at: ResourceAt,
        type_of: Callable[[str, str], Type | None],
        apply: Apply,
    ) -> None:
        self._at = at
        self._type_of = type_of
        self._apply = apply
        self._cache = cache
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()
        cache.listeners.append(self._changed)

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            if not event.deleted:
                self._waiting[event.item.key] = None
        self._wake.set()

    async def run(self) -> None:
        """Check every policy whose newest generation has no status yet."""
        self._waiting.update(dict.fromkeys(self._cache.items))
        while True:
            while self._waiting:
                key = next(iter(self._waiting))
                del self._waiting[key]
                item = self._cache.items.get(key)
                if item is not None:
                    await self._check(item.object)
            self._wake.clear()
            await self._wake.wait()

    async def _check(self, policy: Object) -> None:
        generation = meta(policy).get("generation") or 0
        if generation <= get_path(policy, "status", "observedGeneration", default=0):
            return
        found = policy_types.warnings(policy, self._at, self._type_of)
        checking: Object = {"expressionWarnings": list(found)} if found else {}
        config = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name_of(policy)},
            "status": {"observedGeneration": generation, "typeChecking": checking},
        }
        answer = await self._apply(
            ApiRequest(
                method="PATCH",
                path=f"{PATH}/{name_of(policy)}/status",
                query={"fieldManager": (MANAGER,), "force": ("true",)},
                headers={"content-type": "application/apply-patch+yaml"},
                body=orjson.dumps(config),
                user=SELF,
            )
        )
        if answer.status not in (200, 404):
            logger.warning("policy status was not written", extra={"policy": name_of(policy), "code": answer.status})
