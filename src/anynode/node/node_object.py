"""``NodeSettings`` in, the ``Node`` object out: identity, labels, taints, capacity, conditions, addresses.

Pure. Source: kubelet ``pkg/kubelet/kubelet_node_status.go`` and ``pkg/kubelet/nodestatus/setters.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Mapping, Sequence

from anynode.api.formats import canonical_quantity, format_micro_time, format_time
from anynode.api.objects import Object, find_condition, meta, name_of

KUBELET_VERSION = "v1.36.2"
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
READY = "Ready"
PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)

DECLARED_FEATURES = ("ExtendWebSocketsToKubelet",)
"""The kubelet endpoint takes clients' WebSockets itself: the API server need not translate them to SPDY."""
CONSTANT = frozenset({"nodeInfo", "declaredFeatures"})
"""Parts of the status that never change; an API server before 1.35 keeps no declared features."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the node says of the machine it stands for; read by whoever puts the node together."""

    operating_system: str = "linux"
    architecture: str = "amd64"
    kernel_version: str = ""
    os_image: str = ""
    machine_id: str = ""
    boot_id: str = ""
    host_name: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """One node as its owner wants it. ``capacity`` is allocatable too: nothing is held back."""

    name: str
    capacity: Mapping[str, str]
    internal_ip: str = "127.0.0.1"
    kubelet_port: int = 10250
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    taints: Sequence[Object] = ()
    provider_id: str = ""
    runtime_version: str = "anynode://0.1.0"
    machine: Machine = Machine()
    kubelet_version: str = KUBELET_VERSION
    lease_seconds: int = LEASE_SECONDS


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """Whether the node can run pods; ``message`` says why not."""

    ready: bool = True
    reason: str = "KubeletReady"
    message: str = "kubelet is posting ready status"


def labels_for(settings: NodeSettings) -> dict[str, str]:
    machine = settings.machine
    return {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": machine.operating_system,
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": settings.name,
        "kubernetes.io/os": machine.operating_system,
        **settings.labels,
    }


def node_object(settings: NodeSettings, health: Health, now: datetime.datetime) -> Object:
    """The Node as it is registered."""
    metadata: Object = {"name": settings.name, "labels": labels_for(settings)}
    if settings.annotations:
        metadata["annotations"] = dict(settings.annotations)
    spec: Object = {}
    if settings.taints:
        spec["taints"] = list(settings.taints)
    if settings.provider_id:
        spec["providerID"] = settings.provider_id
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata,
        "spec": spec,
        "status": node_status(settings, health, {}, now),
    }


def node_status(settings: NodeSettings, health: Health, old: Object, now: datetime.datetime) -> Object:
    """The status now; ``old`` (the status the API has) says since when conditions hold.

    Quantities are spelled as the API server spells them: another spelling would look like news at every beat.
    """
    capacity = {name: canonical_quantity(amount) for name, amount in settings.capacity.items()}
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": conditions(health, old.get("conditions") or (), now),
        "addresses": _addresses(settings),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": settings.kubelet_port}},
        "nodeInfo": _node_info(settings),
        "declaredFeatures": list(DECLARED_FEATURES),
    }


def conditions(health: Health, old: Sequence[Object], now: datetime.datetime) -> list[Object]:
    """Pressures (there are none) and readiness, each with its heartbeat."""
    wanted = [(name, "False", reason, message) for name, reason, message in PRESSURES]
    wanted.append((READY, "True" if health.ready else "False", health.reason, health.message))
    moment = format_time(now)
    result = []
    for name, status, reason, message in wanted:
        before = find_condition(old, name)
        since = before.get("lastTransitionTime") if before is not None and before.get("status") == status else None
        result.append(
            {
                "type": name,
                "status": status,
                "lastHeartbeatTime": moment,
                "lastTransitionTime": since or moment,
                "reason": reason,
                "message": message,
            }
        )
    return result


def _addresses(settings: NodeSettings) -> list[Object]:
    """The InternalIP, and the Hostname only where it is this machine's.

    A kube-apiserver reaches kubelets by Hostname first; the name of a virtual node is in nobody's DNS.
    """
    found = [{"type": "InternalIP", "address": settings.internal_ip}]
    if settings.name == settings.machine.host_name:
        found.append({"type": "Hostname", "address": settings.name})
    return found


def _node_info(settings: NodeSettings) -> Object:
    machine = settings.machine
    digest = hashlib.sha256(f"{machine.machine_id}/{settings.name}".encode()).hexdigest()
    system_uuid = "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
    return {
        "machineID": digest[:32],
        "systemUUID": system_uuid,
        "bootID": machine.boot_id or system_uuid,
        "kernelVersion": machine.kernel_version,
        "osImage": machine.os_image,
        "containerRuntimeVersion": settings.runtime_version,
        "kubeletVersion": settings.kubelet_version,
        "kubeProxyVersion": "",
        "operatingSystem": machine.operating_system,
        "architecture": machine.architecture,
    }


def adoption_patch(settings: NodeSettings, node: Object) -> Object:
    """What an existing Node object lacks of what we want: our labels and annotations. Empty when nothing."""
    patch: Object = {}
    for key, wanted in (("labels", labels_for(settings)), ("annotations", dict(settings.annotations))):
        have = meta(node).get(key) or {}
        missing = {name: value for name, value in wanted.items() if have.get(name) != value}
        if missing:
            patch.setdefault("metadata", {})[key] = missing
    return patch


def differs(status: Object, node: Object) -> bool:
    """Whether a status says something new beside heartbeats."""
    current = node.get("status") or {}
    for key, value in status.items():
        if key == "conditions":
            for condition in value:
                old = find_condition(current.get("conditions") or (), condition["type"]) or {}
                if any(old.get(field) != condition[field] for field in ("status", "reason", "message")):
                    return True
        elif key not in CONSTANT and current.get(key) != value:
            return True
    return False


def lease_object(settings: NodeSettings, node: Object, now: datetime.datetime) -> Object:
    """The node's Lease, owned by the Node object so that it goes with it."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": settings.name,
            "namespace": LEASE_NAMESPACE,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": meta(node).get("uid", "")}
            ],
        },
        "spec": {
            "holderIdentity": settings.name,
            "leaseDurationSeconds": settings.lease_seconds,
            "renewTime": format_micro_time(now),
        },
    }
