"""Every active Namespace has a ServiceAccount ``default``.

Source: kubernetes ``pkg/controller/serviceaccount/serviceaccounts_controller.go``, 1.36.
"""

from __future__ import annotations

from anynode.api.errors import AlreadyExists, ApiError
from anynode.api.objects import Object, ObjectKey, get_path, name_of, namespace_of
from anynode.api.resources import known
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.namespace import NAMESPACES
from anynode.controllers.pods import is_namespace_terminating
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

SERVICE_ACCOUNTS = known("serviceaccounts")
DEFAULT = "default"


def is_active(namespace: Object) -> bool:
    return bool(get_path(namespace, "status", "phase", default="Active") == "Active")


class ServiceAccountController:
    """Makes the default ServiceAccount, again when it is deleted."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._namespaces = context.informers.informer(NAMESPACES)
        self._accounts = context.informers.informer(SERVICE_ACCOUNTS)
        self._controller = context.controller("serviceaccount", self.reconcile, workers=1)
        self._namespaces.subscribe(lambda delta: self._controller.queue.add(ObjectKey("", name_of(delta.obj))))
        self._accounts.subscribe(self._account_changed)

    def _account_changed(self, delta: Delta) -> None:
        if delta.kind == "deleted" and name_of(delta.obj) == DEFAULT:
            self._controller.queue.add(ObjectKey("", namespace_of(delta.obj)))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._namespaces, self._accounts))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        namespace = self._namespaces.store.get(key)
        if namespace is None or not is_active(namespace):
            return Done()
        if self._accounts.store.get(ObjectKey(key.name, DEFAULT)) is not None:
            return Done()
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": DEFAULT, "namespace": key.name},
        }
        try:
            await self._client.create(SERVICE_ACCOUNTS, account)
        except AlreadyExists:
            return Done()
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise
        return Done()
