"""What every cluster begins with: namespaces, roles, priority classes, and the ``kubernetes`` service.

Missing objects are created, what an administrator changed is left alone. Source: kubernetes
``pkg/controlplane/controller/{systemnamespaces,kubernetesservice}``, ``pkg/registry/rbac/rest``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from anynode.api.errors import AlreadyExists, NotFound
from anynode.api.objects import Object, annotations_of, meta
from anynode.api.wire import User
from anynode.apiserver.served import Served
from anynode.registry.deletion import DeleteOptions
from anynode.registry.pods import PLAIN_UPDATE
from anynode.registry.store import Write
from anynode.security import bootstrap, rbac

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SELF = User(name="system:apiserver", groups=("system:masters",))
KUBERNETES = "kubernetes"
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
CLIENT_TRUST = {"namespace": "kube-system", "name": "extension-apiserver-authentication"}
SLICES = ("discovery.k8s.io", "v1", "endpointslices")
_LABELS = {"component": "apiserver", "provider": "kubernetes"}


class Bootstrap:
    """Creates what is missing."""

    def __init__(
        self,
        served: Mapping[tuple[str, str, str], Served],
        host: str,
        port: int,
        address: str,
        trust: Mapping[str, str] | None = None,
        *,
        network: str = "",
    ) -> None:
        """``trust``: the authorities of client certificates and of the front proxy, published for who trusts whom this
        server trusts. ``network``: where cluster IPs come from, told as the ServiceCIDR ``kubernetes``."""
        self._network = network
        self._trust = trust or {}
        self._served = served
        self._host = host
        self._port = port
        self._address = address

    async def run(self, *, alone: bool = True) -> None:
        """Make every bootstrap object exist; ``alone``: no other server's endpoints are to be kept."""
        async with asyncio.TaskGroup() as group:  # at once, so that they share commits
            for name in NAMESPACES:
                group.create_task(self._ensure(("", "v1", "namespaces"), {"metadata": {"name": name}}))
            for resource, obj in bootstrap.objects():
                slot = (resource.group, resource.version, resource.plural)
                if slot in self._served:
                    group.create_task(self._ensure(slot, obj))
            if self._trust:
                group.create_task(self._publish_trust())
        await self._publish()
        if self._network:
            await self._tell_network()
        if alone:
            await self.publish([f"{self._host}:{self._port}"])

    async def _ensure(self, slot: tuple[str, str, str], obj: Object) -> bool:
        """Whether the object had to be created."""
        served = self._served[slot]
        metadata = meta(obj)
        namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
        item = served.store.find(f"{namespace}/{name}" if namespace else name)
        if item is not None:
            if served.resource.group == rbac.GROUP:
                await self._complete(served, item.key, item.object, obj)
            return False
        resource = served.resource
        whole = served.kind.rules.default({"kind": resource.kind, "apiVersion": resource.api_version, **obj})
        try:
            await served.store.create(whole, Write(user=SELF, manager="kube-apiserver", trusted=True))
        except AlreadyExists:
            return False
        return True

    async def _complete(self, served: Served, key: str, found: Object, wanted: Object) -> None:
        """Give a role or binding of ours back what it lacks, unless somebody took it over."""
        if annotations_of(found).get(AUTO_UPDATE) != "true":
            return
        completed = completed_rights(found, wanted)
        if completed is not None:
            write = Write(user=SELF, manager="kube-apiserver", trusted=True)
            await served.store.update(key, lambda _: completed, write, rules=PLAIN_UPDATE)

    async def _publish_trust(self) -> None:
        slot, data = ("", "v1", "configmaps"), dict(self._trust)
        if await self._ensure(slot, {"metadata": CLIENT_TRUST, "data": data}):
            return

        def told(old: Object | None) -> Object:
            return {**(old or {}), "data": {**((old or {}).get("data") or {}), **data}}

        key = f"{CLIENT_TRUST['namespace']}/{CLIENT_TRUST['name']}"
        write = Write(user=SELF, manager="kube-apiserver")
        await self._served[slot].store.update(key, told, write, rules=PLAIN_UPDATE)

    async def _tell_network(self) -> None:
        """The ServiceCIDR every cluster begins with, ready from the start."""
        slot = ("networking.k8s.io", "v1", "servicecidrs")
        if not await self._ensure(slot, {"metadata": {"name": KUBERNETES}, "spec": {"cidrs": [self._network]}}):
            return
        store = self._served[slot].store
        ready: Object = {
            "type": "Ready",
            "status": "True",
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
        }
        moment = meta(store.get(KUBERNETES).peek()).get("creationTimestamp")
        conditions = [{**ready, "lastTransitionTime": moment}]

        def made_ready(old: Object | None) -> Object:
            return {**(old or {}), "status": {"conditions": conditions}}

        write = Write(user=SELF, manager="kube-apiserver", subresource="status")
        await store.update(KUBERNETES, made_ready, write, rules=PLAIN_UPDATE)

    # --- the service that leads to this server

    async def _publish(self) -> None:
        port: Object = {"name": "https", "protocol": "TCP", "port": 443, "targetPort": self._port}
        service: Object = {
            "metadata": {"name": KUBERNETES, "namespace": "default", "labels": _LABELS},
            "spec": {"type": "ClusterIP", "clusterIP": self._address, "clusterIPs": [self._address], "ports": [port]},
        }
        await self._ensure(("", "v1", "services"), service)

    async def publish(self, endpoints: Sequence[str]) -> None:
        """Let the service lead to ``endpoints`` (``host:port``): one subset and one slice for each port."""
        by_port: dict[int, list[str]] = {}
        for endpoint in endpoints:
            host, _, number = endpoint.rpartition(":")
            by_port.setdefault(int(number), []).append(host)
        ports = {port: [{"name": "https", "port": port, "protocol": "TCP"}] for port in by_port}
        await self._set(
            ("", "v1", "endpoints"),
            {
                "metadata": {
                    "name": KUBERNETES,
                    "namespace": "default",
                    "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
                },
                "subsets": [
                    {"addresses": [{"ip": host} for host in hosts], "ports": ports[port]}
                    for port, hosts in by_port.items()
                ],
            },
        )
        names: list[str] = []
        for port, hosts in by_port.items():
            names.append(KUBERNETES if not names else f"{KUBERNETES}-{port}")
            await self._set(
                SLICES,
                {
                    "metadata": {
                        "name": names[-1],
                        "namespace": "default",
                        "labels": {"kubernetes.io/service-name": KUBERNETES},
                    },
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": [host], "conditions": {"ready": True}} for host in hosts],
                    "ports": ports[port],
                },
            )
        await self._remove_slices(names)

    async def _remove_slices(self, kept: Sequence[str]) -> None:
        """Remove what was published for ports no server has any more."""
        store = self._served[SLICES].store
        for item in list(store.cache.scan(f"default/{KUBERNETES}-")):
            if item.name not in kept and item.name.removeprefix(f"{KUBERNETES}-").isdigit():
                with contextlib.suppress(NotFound):
                    await store.delete(item.key, DeleteOptions(), Write(user=SELF))

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


def completed_rights(found: Object, wanted: Object) -> Object | None:
    """``found`` with the rules or subjects it lacks of ``wanted``; None when it lacks none."""
    if wanted.get("aggregationRule") or found.get("aggregationRule"):
        return None  # its rules are those of others
    if "roleRef" in wanted:
        subjects = found.get("subjects") or []
        lacking = [each for each in wanted.get("subjects") or () if each not in subjects]
        return {**found, "subjects": [*subjects, *lacking]} if lacking else None
    rules = found.get("rules") or []
    if rules == (wanted.get("rules") or []):
        return None
    missing = rbac.uncovered(wanted.get("rules") or (), rules)
    return {**found, "rules": [*rules, *missing]} if missing else None
