"""What every cluster begins with: namespaces, roles, priority classes, and the ``kubernetes`` service.

Missing objects are created, what an administrator changed is left alone. Source: kubernetes
``pkg/controlplane/controller/{systemnamespaces,kubernetesservice}``, ``pkg/registry/rbac/rest``, 1.36.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from anynode.api.errors import AlreadyExists
from anynode.api.objects import Object, meta
from anynode.api.wire import User
from anynode.apiserver.served import Served
from anynode.registry.pods import PLAIN_UPDATE
from anynode.registry.store import Write
from anynode.security import bootstrap

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SELF = User(name="system:apiserver", groups=("system:masters",))
KUBERNETES = "kubernetes"
CLIENT_TRUST = {"namespace": "kube-system", "name": "extension-apiserver-authentication"}
_LABELS = {"component": "apiserver", "provider": "kubernetes"}


class Bootstrap:
    """Creates what is missing."""

    def __init__(
        self, served: Mapping[tuple[str, str, str], Served], host: str, port: int, address: str, client_ca: str = ""
    ) -> None:
        """``client_ca``: the authority of client certificates, published for who trusts whom this server trusts."""
        self._client_ca = client_ca
        self._served = served
        self._host = host
        self._port = port
        self._address = address

    async def run(self) -> None:
        """Make every bootstrap object exist."""
        async with asyncio.TaskGroup() as group:  # at once, so that they share commits
            for name in NAMESPACES:
                group.create_task(self._ensure(("", "v1", "namespaces"), {"metadata": {"name": name}}))
            for resource, obj in bootstrap.objects():
                slot = (resource.group, resource.version, resource.plural)
                if slot in self._served:
                    group.create_task(self._ensure(slot, obj))
            if self._client_ca:
                trust = {"metadata": CLIENT_TRUST, "data": {"client-ca-file": self._client_ca}}
                group.create_task(self._ensure(("", "v1", "configmaps"), trust))
        await self._publish()

    async def _ensure(self, slot: tuple[str, str, str], obj: Object) -> bool:
        """Whether the object had to be created."""
        served = self._served[slot]
        metadata = meta(obj)
        namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
        if served.store.find(f"{namespace}/{name}" if namespace else name) is not None:
            return False
        resource = served.resource
        whole = served.kind.rules.default({"kind": resource.kind, "apiVersion": resource.api_version, **obj})
        try:
            await served.store.create(whole, Write(user=SELF, manager="kube-apiserver", trusted=True))
        except AlreadyExists:
            return False
        return True

    # --- the service that leads to this server

    async def _publish(self) -> None:
        port: Object = {"name": "https", "protocol": "TCP", "port": 443, "targetPort": self._port}
        service: Object = {
            "metadata": {"name": KUBERNETES, "namespace": "default", "labels": _LABELS},
            "spec": {"type": "ClusterIP", "clusterIP": self._address, "clusterIPs": [self._address], "ports": [port]},
        }
        await self._ensure(("", "v1", "services"), service)
        await self._set(
            ("", "v1", "endpoints"),
            {
                "metadata": {
                    "name": KUBERNETES,
                    "namespace": "default",
                    "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
                },
                "subsets": [
                    {
                        "addresses": [{"ip": self._host}],
                        "ports": [{"name": "https", "port": self._port, "protocol": "TCP"}],
                    }
                ],
            },
        )
        await self._set(
            ("discovery.k8s.io", "v1", "endpointslices"),
            {
                "metadata": {
                    "name": KUBERNETES,
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": KUBERNETES},
                },
                "addressType": "IPv4",
                "endpoints": [{"addresses": [self._host], "conditions": {"ready": True}}],
                "ports": [{"name": "https", "port": self._port, "protocol": "TCP"}],
            },
        )

    async def _set(self, slot: tuple[str, str, str], obj: Object) -> None:
        """Make the object exist and say this, the address may be new."""
        if await self._ensure(slot, obj):
            return
        store = self._served[slot].store
        key = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
        told = {field: value for field, value in obj.items() if field != "metadata"}

        def moved(old: Object | None) -> Object:
            return {**(old or {}), **told}

        await store.update(key, moved, Write(user=SELF, manager="kube-apiserver"), rules=PLAIN_UPDATE)
