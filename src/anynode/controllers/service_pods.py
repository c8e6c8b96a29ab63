"""From Services to pods and back: which pods a Service has, their ports, and which changes matter. Pure.

Source: kubernetes ``staging/src/k8s.io/endpointslice/{utils,util/controller_utils}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from anynode.api.objects import Object, get_path, is_deleting, labels_of, name_of, namespace_of, uid_of
from anynode.api.resources import known
from anynode.controllers.pods import is_ready, is_terminal
from anynode.controllers.selection import labelled, services_of
from anynode.informers.informer import Delta
from anynode.informers.store import Store

SERVICES = known("services")
HEADLESS = "service.kubernetes.io/headless"
NO_POD: Object = {}


def selector_of(service: Object) -> Mapping[str, str]:
    """The plain label selector; empty when somebody else keeps the endpoints."""
    if get_path(service, "spec", "type") == "ExternalName":
        return {}
    found: Mapping[str, str] = get_path(service, "spec", "selector", default={})
    return found


def pods_of(service: Object, pods: Store, *, terminating: bool) -> list[Object]:
    """The pods behind a Service that have an address; ``terminating`` ones too, or not."""
    return [
        pod
        for pod in labelled(pods, namespace_of(service), selector_of(service))
        if not is_terminal(pod) and addresses_of(pod) and (terminating or not is_deleting(pod))
    ]


def addresses_of(pod: Object) -> list[str]:
    status = pod.get("status") or {}
    listed = [each["ip"] for each in status.get("podIPs") or () if each.get("ip")]
    if listed:
        return listed
    single = status.get("podIP")
    return [single] if single else []


def is_ipv6(address: str) -> bool:
    return ":" in address


def is_headless(service: Object) -> bool:
    return get_path(service, "spec", "clusterIP", default="") in ("", "None")


def publishes_unready(service: Object) -> bool:
    return bool(get_path(service, "spec", "publishNotReadyAddresses"))


def port_number(pod: Object, service_port: Mapping[str, Any]) -> int | None:
    """The pod's port a Service port leads to; None when the pod has none of that name."""
    target = service_port.get("targetPort")
    if target is None or target == 0:
        target = service_port.get("port")
    if isinstance(target, int):
        return target
    protocol = service_port.get("protocol", "TCP")
    sidecars = [
        each for each in get_path(pod, "spec", "initContainers", default=()) if each.get("restartPolicy") == "Always"
    ]
    for container in [*get_path(pod, "spec", "containers", default=()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


class Ports:
    """The ports a Service leads to in its pods; pods with the same ports get the very same list."""

    def __init__(self, service: Object) -> None:
        self._listed: list[Object] = get_path(service, "spec", "ports", default=[])
        self._named = any(isinstance(each.get("targetPort"), str) for each in self._listed)
        self._known: dict[tuple[int | None, ...], list[Object]] = {}
        self._fixed = [] if self._named else self._made(NO_POD)

    def of(self, pod: Object) -> list[Object]:
        """Those of ``pod``: name, port, protocol, appProtocol. Not to be changed; lives as long as this object."""
        return self._made(pod) if self._named else self._fixed

    def _made(self, pod: Object) -> list[Object]:
        numbers = tuple(port_number(pod, each) for each in self._listed)
        found = self._known.get(numbers)
        if found is None:
            found = self._known[numbers] = [
                _port(each, number) for each, number in zip(self._listed, numbers, strict=True) if number is not None
            ]
        return found


def _port(service_port: Object, number: int) -> Object:
    port: Object = {
        "name": service_port.get("name") or "",
        "port": number,
        "protocol": service_port.get("protocol", "TCP"),
    }
    if service_port.get("appProtocol"):
        port["appProtocol"] = service_port["appProtocol"]
    return port


def hostname_of(pod: Object, service: Object) -> str:
    """The host name the pod has in the Service's domain, if it asked for one."""
    spec = pod.get("spec") or {}
    if spec.get("hostname") and spec.get("subdomain") == name_of(service):
        return str(spec["hostname"])
    return ""


def target_reference(pod: Object) -> Object:
    return {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}


def looks(pod: Object) -> tuple[object, ...]:
    """What of a pod shows in endpoints."""
    spec = pod.get("spec") or {}
    return (
        labels_of(pod),
        addresses_of(pod),
        is_ready(pod),
        is_deleting(pod),
        is_terminal(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )


def affected(services: Store, delta: Delta) -> Iterable[Object]:
    """The Services that must look again after a change of a pod; ``services`` must have ``index_selectors``."""
    pod, old = delta.obj, delta.old if delta.kind == "modified" else None
    now = services_of(services, pod)
    if old is None:
        return now
    before = now if labels_of(old) == labels_of(pod) else services_of(services, old)
    if not (now or before) or looks(old) == looks(pod):
        return ()
    return now if before is now else [*now, *before]
