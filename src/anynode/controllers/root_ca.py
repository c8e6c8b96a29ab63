"""Every active Namespace has a ConfigMap ``kube-root-ca.crt``, by which pods know the API server.

Source: kubernetes ``pkg/controller/certificates/rootcacertpublisher``, 1.36.
"""

from __future__ import annotations

from anynode.api.errors import AlreadyExists, ApiError
from anynode.api.objects import ObjectKey, name_of, namespace_of, with_meta
from anynode.api.resources import known
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.namespace import NAMESPACES
from anynode.controllers.pods import is_namespace_terminating
from anynode.controllers.serviceaccount import is_active
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

CONFIG_MAPS = known("configmaps")
NAME = "kube-root-ca.crt"
_DESCRIPTION = "kubernetes.io/description"
_TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class RootCaController:
    """Publishes ``certificate`` (PEM) and repairs it where it was changed."""

    def __init__(self, context: ControllerContext, *, certificate: str) -> None:
        self._client = context.client
        self._data = {"ca.crt": certificate}
        self._namespaces = context.informers.informer(NAMESPACES)
        self._maps = context.informers.informer(CONFIG_MAPS, field_selector=f"metadata.name={NAME}")
        self._controller = context.controller("root-ca", self.reconcile, workers=1)
        self._namespaces.subscribe(lambda delta: self._controller.queue.add(ObjectKey("", name_of(delta.obj))))
        self._maps.subscribe(self._map_changed)

    def _map_changed(self, delta: Delta) -> None:
        self._controller.queue.add(ObjectKey("", namespace_of(delta.obj)))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._namespaces, self._maps))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        namespace = self._namespaces.store.get(key)
        if namespace is None or not is_active(namespace):
            return Done()
        current = self._maps.store.get(ObjectKey(key.name, NAME))
        if current is not None:
            if current.get("data") != self._data:
                repaired = with_meta({**current, "data": self._data}, annotations={_DESCRIPTION: _TEXT})
                await self._client.update(CONFIG_MAPS, repaired)
            return Done()
        wished = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": key.name, "annotations": {_DESCRIPTION: _TEXT}},
            "data": self._data,
        }
        try:
            await self._client.create(CONFIG_MAPS, wished)
        except AlreadyExists:
            return Done()
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise
        return Done()
