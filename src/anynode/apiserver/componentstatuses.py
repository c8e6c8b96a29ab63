"""``componentstatuses``: the one old way to ask how the store does. Answered from its state, never stored.

Source: kubernetes ``pkg/registry/core/componentstatus/rest.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable

from anynode.api import errors
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver.requestinfo import RequestInfo

NAME = "etcd-0"


class ComponentStatuses:
    """The handler. ``wrong`` says what is wrong with the store, or nothing."""

    def __init__(self, resource: Resource, wrong: Callable[[], str]) -> None:
        self._resource = resource
        self._wrong = wrong

    def _status(self) -> Object:
        wrong = self._wrong()
        condition = {"type": "Healthy", "status": "False" if wrong else "True", "message": wrong or "ok"}
        return {"metadata": {"name": NAME}, "conditions": [condition]}

    async def handle(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        if info.name:
            if info.name != NAME:
                raise errors.not_found(self._resource, info.name)
            return ApiResponse(obj={"kind": "ComponentStatus", "apiVersion": "v1", **self._status()})
        return ApiResponse(
            obj={"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": [self._status()]}
        )
