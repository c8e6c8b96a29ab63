"""What an unset field of a pod or a pod template means.

A pod or spec comes in, a copy along the changed paths goes out (or the same object when nothing was unset). Admission's
additions (tolerations, priority, the token volume) are not made here. Values that Go always prints because they are
plain structs (``resources: {}``) are filled in too. Source: kubernetes ``pkg/apis/core/v1/defaults.go``,
``zz_generated.defaults.go`` and ``pkg/util/parsers``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anynode.api.formats import Quantity, canonical_quantity
from anynode.api.objects import Object
from anynode.api.remembering import remembered
from anynode.schema.recent import Recent

_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_POD_LEVEL = ("cpu", "memory")


def default_pod(pod: Object) -> Object:
    """The pod with every default upstream sets before admission."""
    return {**pod, "spec": _filled_spec(pod.get("spec") or {})}


def _fill_spec(spec: Object) -> Object:
    filled = default_pod_spec(spec)
    if any(_has_limits(each) for kind in _CONTAINERS[:2] for each in filled.get(kind) or ()):
        filled = {**filled, **_with_requests(filled)}
    if filled.get("resources"):
        filled = _default_pod_level(filled)
    if filled.get("enableServiceLinks") is None:
        filled["enableServiceLinks"] = True
    if filled.get("hostNetwork"):
        for kind in _CONTAINERS[:2]:
            if filled.get(kind):
                filled[kind] = [_with_host_ports(each) for each in filled[kind]]
    return spec if filled == spec else filled  # the very same, where who compares need not look into it


_filled_spec = Recent(_fill_spec)
"""Pods made from one template have one spec until admission."""


def default_pod_spec(spec: Object) -> Object:
    """A new dict: the spec with the defaults that hold for pods and templates alike."""
    filled = dict(spec)
    for kind in _CONTAINERS:
        containers = filled.get(kind)
        if containers:
            filled[kind] = [_default_container(each) for each in containers]
    if filled.get("volumes"):
        filled["volumes"] = [_default_volume(each) for each in filled["volumes"]]
    if not filled.get("dnsPolicy"):
        filled["dnsPolicy"] = "ClusterFirst"
    if not filled.get("restartPolicy"):
        filled["restartPolicy"] = "Always"
    if filled.get("securityContext") is None:
        filled["securityContext"] = {}
    if filled.get("terminationGracePeriodSeconds") is None:
        filled["terminationGracePeriodSeconds"] = 30
    if not filled.get("schedulerName"):
        filled["schedulerName"] = "default-scheduler"
    name, alias = filled.get("serviceAccountName"), filled.get("serviceAccount")
    if name or alias:
        # the two are one field in the server's own form; the new name wins
        filled["serviceAccountName"] = filled["serviceAccount"] = name or alias
    if filled.get("overhead"):
        filled["overhead"] = _default_quantities(filled["overhead"])
    if filled.get("resources"):
        filled["resources"] = _default_resources(filled["resources"])
    return filled


def default_template(template: Object | None) -> Object:
    """A pod template with its defaults; a missing one becomes an empty one with defaults."""
    template = template or {}
    return {
        **template,
        "metadata": template.get("metadata") or {},
        "spec": default_pod_spec(template.get("spec") or {}),
    }


def _default_container(container: Object) -> Object:
    filled = dict(container)
    if "name" not in filled:
        filled["name"] = ""
    if not filled.get("imagePullPolicy"):
        filled["imagePullPolicy"] = _pull_policy(filled.get("image") or "")
    if not filled.get("terminationMessagePath"):
        filled["terminationMessagePath"] = "/dev/termination-log"
    if not filled.get("terminationMessagePolicy"):
        filled["terminationMessagePolicy"] = "File"
    resources = filled.get("resources")
    filled["resources"] = _default_resources(resources) if resources else {}
    if filled.get("ports"):
        filled["ports"] = [each if each.get("protocol") else {**each, "protocol": "TCP"} for each in filled["ports"]]
    for kind in _PROBES:
        if filled.get(kind) is not None:
            filled[kind] = _default_probe(filled[kind])
    lifecycle = filled.get("lifecycle")
    if lifecycle:
        filled["lifecycle"] = {hook: _default_handler(action) for hook, action in lifecycle.items()}
    if filled.get("env"):
        filled["env"] = [_default_env(each) if each.get("valueFrom") else each for each in filled["env"]]
    context = filled.get("securityContext")
    if context and context.get("procMount") is None and "procMount" in context:
        filled["securityContext"] = {key: value for key, value in context.items() if key != "procMount"}
    return filled


@remembered(2048)
def _pull_policy(image: str) -> str:
    """Always for the tag ``latest``, said or meant; else IfNotPresent."""
    name, _, digest = image.partition("@")
    tail = name.rpartition("/")[2]
    _, _, tag = tail.partition(":")
    if digest:
        return "Always" if tag == "latest" else "IfNotPresent"
    return "Always" if (tag or "latest") == "latest" and _parses(image) else "IfNotPresent"


def _parses(image: str) -> bool:
    # a reference that does not parse has no tag upstream, and so counts as not "latest"
    return bool(image) and image == image.lower() and not any(char.isspace() for char in image)


@remembered(4096)
def _rounded_up(text: str) -> str:
    """A quantity no finer than a thousandth, as upstream keeps it."""
    quantity = Quantity.parse(text)
    rounded = quantity.rounded_up(-3)
    return canonical_quantity(text) if rounded is quantity else str(rounded)


def _default_quantities(amounts: Mapping[str, Any]) -> Object:
    return {name: _rounded_up(str(amount)) for name, amount in amounts.items()}


def _default_resources(resources: Object) -> Object:
    filled = dict(resources)
    for kind in ("limits", "requests"):
        if filled.get(kind):
            filled[kind] = _default_quantities(filled[kind])
    return filled


def _default_probe(probe: Object) -> Object:
    filled: Object = dict(_default_handler(probe))
    if not filled.get("timeoutSeconds"):
        filled["timeoutSeconds"] = 1
    if not filled.get("periodSeconds"):
        filled["periodSeconds"] = 10
    if not filled.get("successThreshold"):
        filled["successThreshold"] = 1
    if not filled.get("failureThreshold"):
        filled["failureThreshold"] = 3
    grpc = filled.get("grpc")
    if grpc is not None and grpc.get("service") is None:
        filled["grpc"] = {**grpc, "service": ""}
    return filled


def _default_handler(handler: Any) -> Any:
    """Also used for lifecycle hooks, where a value may be text (``stopSignal``)."""
    if not isinstance(handler, dict):
        return handler
    get = handler.get("httpGet")
    if get is None or (get.get("path") and get.get("scheme")):
        return handler
    return {**handler, "httpGet": {**get, "path": get.get("path") or "/", "scheme": get.get("scheme") or "HTTP"}}


def _default_env(variable: Object) -> Object:
    source = variable["valueFrom"]
    filled = _default_reference(source)
    return variable if filled is source else {**variable, "valueFrom": filled}


def _default_reference(source: Object) -> Object:
    """Defaults of a ``fieldRef`` or ``resourceFieldRef`` in an env source or a downward API item."""
    field, resource = source.get("fieldRef"), source.get("resourceFieldRef")
    if field is not None and not field.get("apiVersion"):
        return {**source, "fieldRef": {"apiVersion": "v1", **{k: v for k, v in field.items() if k != "apiVersion"}}}
    if resource is not None and resource.get("divisor") is None:
        return {**source, "resourceFieldRef": {**resource, "divisor": "0"}}
    if resource is not None:
        return {**source, "resourceFieldRef": {**resource, "divisor": canonical_quantity(resource["divisor"])}}
    return source


def _with_mode(source: Object) -> Object:
    return source if source.get("defaultMode") is not None else {**source, "defaultMode": _MODE}


def _default_downward(source: Object) -> Object:
    filled = _with_mode(source)
    if filled.get("items"):
        filled = {**filled, "items": [_default_reference(each) for each in filled["items"]]}
    return filled


def _default_projected(source: Object) -> Object:
    filled = _with_mode(source)
    if filled.get("sources"):
        filled = {**filled, "sources": [_default_projection(each) for each in filled["sources"]]}
    return filled


def _default_projection(projection: Object) -> Object:
    token, downward = projection.get("serviceAccountToken"), projection.get("downwardAPI")
    if token is not None and token.get("expirationSeconds") is None:
        return {**projection, "serviceAccountToken": {**token, "expirationSeconds": 3600}}
    if downward and downward.get("items"):
        items = [_default_reference(each) for each in downward["items"]]
        return {**projection, "downwardAPI": {**downward, "items": items}}
    return projection


def default_iscsi(source: Object) -> Object:
    return source if source.get("iscsiInterface") else {**source, "iscsiInterface": "default"}


def default_rbd(source: Object) -> Object:
    defaults = {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}
    return {**source, **{key: source.get(key) or value for key, value in defaults.items()}}


def default_azure_disk(source: Object) -> Object:
    defaults = {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False}
    missing = {key: value for key, value in defaults.items() if source.get(key) is None}
    return {**source, **missing} if missing else source


def default_scale_io(source: Object) -> Object:
    defaults = {"storageMode": "ThinProvisioned", "fsType": "xfs"}
    return {**source, **{key: source.get(key) or value for key, value in defaults.items()}}


def default_host_path(source: Object) -> Object:
    return source if source.get("type") is not None else {**source, "type": ""}


def _default_image_volume(source: Object) -> Object:
    if source.get("pullPolicy"):
        return source
    return {**source, "pullPolicy": _pull_policy(source.get("reference") or "")}


def _default_ephemeral(source: Object) -> Object:
    template = source.get("volumeClaimTemplate")
    if not template:
        return source
    spec = template.get("spec") or {}
    if spec.get("volumeMode") is None:
        spec = {**spec, "volumeMode": "Filesystem"}
    return {**source, "volumeClaimTemplate": {**template, "metadata": template.get("metadata") or {}, "spec": spec}}


_VOLUME_DEFAULTS: Mapping[str, Callable[[Object], Object]] = {
    "secret": _with_mode,
    "configMap": _with_mode,
    "downwardAPI": _default_downward,
    "projected": _default_projected,
    "hostPath": default_host_path,
    "iscsi": default_iscsi,
    "rbd": default_rbd,
    "azureDisk": default_azure_disk,
    "scaleIO": default_scale_io,
    "ephemeral": _default_ephemeral,
    "image": _default_image_volume,
}


def _default_volume(volume: Object) -> Object:
    bare = True
    for kind, source in volume.items():
        if kind == "name" or source is None:
            continue
        bare = False
        rule = _VOLUME_DEFAULTS.get(kind)
        if rule is not None:
            filled = rule(source)
            if filled is not source:
                volume = {**volume, kind: filled}
    return {**volume, "emptyDir": {}} if bare else volume


def _has_limits(container: Object) -> bool:
    return bool((container.get("resources") or {}).get("limits"))


def _with_requests(spec: Object) -> Object:
    """The two container lists with each limit also requested, where nothing else is requested."""
    filled: Object = {}
    for kind in _CONTAINERS[:2]:
        if spec.get(kind):
            filled[kind] = [_requesting(each) if _has_limits(each) else each for each in spec[kind]]
    return filled


def _requesting(container: Object) -> Object:
    resources = container["resources"]
    requests = {**resources["limits"], **(resources.get("requests") or {})}
    return {**container, "resources": {**resources, "requests": requests}}


def _with_host_ports(container: Object) -> Object:
    ports = container.get("ports")
    if not ports or all(port.get("hostPort") for port in ports):
        return container
    filled = [port if port.get("hostPort") else {**port, "hostPort": port.get("containerPort") or 0} for port in ports]
    return {**container, "ports": filled}


def pod_level_resource(name: str) -> bool:
    return name in _POD_LEVEL or name.startswith("hugepages-")


def aggregate(spec: Object, kind: str) -> dict[str, Quantity]:
    """What the containers want together (``kind`` requests or limits): init containers one by one, the rest at once."""
    total: dict[str, Quantity] = {}
    for container in spec.get("containers") or ():
        _add(total, _amounts(container, kind))
    sidecars: dict[str, Quantity] = {}
    most: dict[str, Quantity] = {}
    for container in spec.get("initContainers") or ():
        amounts = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            _add(total, amounts)
            _add(sidecars, amounts)
            amounts = dict(sidecars)
        else:
            amounts = dict(amounts)
            _add(amounts, sidecars)
        for name, amount in amounts.items():
            most[name] = max(most.get(name, amount), amount)
    for name, amount in most.items():
        total[name] = max(total.get(name, amount), amount)
    return total


def _amounts(container: Object, kind: str) -> dict[str, Quantity]:
    given = (container.get("resources") or {}).get(kind) or {}
    return {name: Quantity.parse(amount) for name, amount in given.items()}


def _add(total: dict[str, Quantity], amounts: Mapping[str, Quantity]) -> None:
    for name, amount in amounts.items():
        total[name] = total[name] + amount if name in total else amount


def _default_pod_level(spec: Object) -> Object:
    resources = dict(spec["resources"])
    limits, requests = dict(resources.get("limits") or {}), dict(resources.get("requests") or {})
    if limits or requests:
        for name, amount in aggregate(spec, "limits").items():
            if name.startswith("hugepages-") and name not in requests:
                limits.setdefault(name, str(amount))
    if limits:
        for name, amount in aggregate(spec, "requests").items():
            if name in _POD_LEVEL:
                requests.setdefault(name, str(amount))
        for name, limit in limits.items():
            if pod_level_resource(name):
                requests.setdefault(name, limit)
    filled = {kind: amounts for kind, amounts in (("limits", limits), ("requests", requests)) if amounts}
    return {**spec, "resources": {**resources, **filled}}
