"""Whether this node will run a pod at all: the checks a kubelet makes before it starts one.

Pure: the pod, the node's labels and what it has left in; a refusal with upstream's reason and message out. Source:
kubelet ``pkg/kubelet/lifecycle/predicate.go``, ``pkg/kubelet/sysctl/allowlist.go``, component-helpers
``scheduling/corev1/nodeaffinity``, 1.36.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from anynode.api.formats import Quantity
from anynode.api.objects import Object, get_path
from anynode.node.pod_status import pod_requests

SAFE_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
AFFINITY = ("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
PORTS = ("NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports")
EVERY_ADDRESS = "0.0.0.0"
NOTHING = Quantity.parse("0")
Refusal = tuple[str, str]
HostPort = tuple[str, str, int]
"""Address, protocol and port a container wants of the host."""


def refusal(
    pod: Object,
    *,
    node_name: str,
    node_labels: Mapping[str, str],
    node_os: str,
    allocatable: Mapping[str, str],
    used: Mapping[str, Quantity],
    pod_count: int,
    taken_ports: Iterable[HostPort] = (),
) -> Refusal | None:
    """Reason and message, or None when the pod may run beside ``pod_count`` others that have ``used`` so much."""
    wanted = get_path(pod, "spec", "os", "name")
    if wanted and wanted != node_os:
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    for sysctl in get_path(pod, "spec", "securityContext", "sysctls", default=()):
        name = sysctl["name"].replace("/", ".")
        if not any(fnmatch.fnmatch(name, each) for each in SAFE_SYSCTLS):
            return "SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted'
    lacking = _lacks(pod, allocatable, used, pod_count)
    if lacking is not None:
        return lacking
    if not _fits_selector(pod, node_name, node_labels):
        return AFFINITY
    return PORTS if _collide(host_ports(pod), taken_ports) else None


def host_ports(pod: Object) -> frozenset[HostPort]:
    """The ports of the host a pod takes for itself."""
    spec = pod["spec"]
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    return frozenset(
        (port.get("hostIP") or EVERY_ADDRESS, port.get("protocol") or "TCP", port["hostPort"])
        for container in (*spec["containers"], *sidecars)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def _collide(wanted: frozenset[HostPort], taken: Iterable[HostPort]) -> bool:
    """Whether one of ``wanted`` is ``taken``; every address stands for each."""
    if not wanted:
        return False
    return any(
        ours[1:] == theirs[1:] and (ours[0] == theirs[0] or EVERY_ADDRESS in (ours[0], theirs[0]))
        for theirs in taken
        for ours in wanted
    )


def _fits_selector(pod: Object, node_name: str, labels: Mapping[str, str]) -> bool:
    spec = pod["spec"]
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = get_path(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_fits_term(term, node_name, labels) for term in required.get("nodeSelectorTerms") or ())


def _fits_term(term: Object, node_name: str, labels: Mapping[str, str]) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_fits(each, labels) for each in expressions) and all(
        _fits(each, {"metadata.name": node_name}) for each in fields
    )


def _fits(expression: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    values: Sequence[str] = expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                left, right = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if expression["operator"] == "Gt" else left < right
        case _:
            return False


def _lacks(pod: Object, allocatable: Mapping[str, str], used: Mapping[str, Quantity], pod_count: int) -> Refusal | None:
    """The first resource that does not suffice, pods first."""
    pods = allocatable.get("pods")
    if pods is not None and pod_count + 1 > Quantity.parse(pods).value():
        return _out_of("pods", 1, pod_count, Quantity.parse(pods).value())
    for name, text in pod_requests(pod).items():
        amount = Quantity.parse(text)
        if not amount or (name not in allocatable and _is_extended(name)):
            continue  # extended resources this node knows nothing of are the cluster's business: the scheduler's
        capacity = Quantity.parse(allocatable.get(name, "0"))
        taken = used.get(name, NOTHING)
        if capacity < amount + taken:
            if name == "cpu":
                return _out_of(name, amount.milli_value(), taken.milli_value(), capacity.milli_value())
            return _out_of(name, amount.value(), taken.value(), capacity.value())
    return None


def _is_extended(name: str) -> bool:
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def _out_of(name: str, requested: int, used: int, capacity: int) -> Refusal:
    message = f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
    return f"OutOf{name}", message
