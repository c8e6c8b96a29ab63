"""Services: defaults, and what stays or falls away when one changes.

The allocation of addresses, families and node ports is the registry's, between ``prepare_create`` or
``prepare_update`` and validation. Source: kubernetes
``pkg/apis/core/v1/defaults.go``, ``pkg/apis/core/validation/validation.go`` (ValidateService),
``pkg/registry/core/service/strategy.go``, ``pkg/api/service/warnings.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.kinds import service_rules, strategy
from anynode.schema.kinds.addresses import balancer_warnings
from anynode.schema.kinds.service_rules import externally_accessible
from anynode.schema.rules import KindRules

_AFFINITY_SECONDS = 10800


def default_service(service: Object) -> Object:
    spec = dict(service.get("spec") or {})
    _default_affinity(spec)
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    if spec.get("ports"):
        spec["ports"] = [_default_port(each) for each in spec["ports"]]
    if not spec.get("externalTrafficPolicy") and externally_accessible(spec):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec.get("internalTrafficPolicy") is None and spec["type"] in ("NodePort", "LoadBalancer", "ClusterIP"):
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True
    status = service.get("status") or {}
    balancer = status.get("loadBalancer") or {}
    if spec["type"] == "LoadBalancer" and balancer.get("ingress"):
        ingress = [
            {**each, "ipMode": "VIP"} if each.get("ip") and each.get("ipMode") is None else each
            for each in balancer["ingress"]
        ]
        balancer = {**balancer, "ingress": ingress}
    return {**service, "spec": spec, "status": {**status, "loadBalancer": balancer}}


def _default_affinity(spec: Object) -> None:
    affinity = spec.get("sessionAffinity") or "None"
    spec["sessionAffinity"] = affinity
    if affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    elif affinity == "ClientIP":
        config = spec.get("sessionAffinityConfig") or {}
        if (config.get("clientIP") or {}).get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS}}


def _default_port(port: Object) -> Object:
    filled = dict(port)
    if not filled.get("protocol"):
        filled["protocol"] = "TCP"
    if not filled.get("targetPort"):
        filled["targetPort"] = filled.get("port") or 0
    return filled


def needs_cluster_ip(spec: Object) -> bool:
    return spec.get("type") != "ExternalName"


def needs_node_port(spec: Object) -> bool:
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def needs_health_check_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _node_ports(spec: Object) -> list[int]:
    return [port.get("nodePort") or 0 for port in spec.get("ports") or ()]


def _as_read(service: Object) -> Object:
    """``service`` without what means nothing to a mere name; upstream hides it from whoever reads."""
    spec = service.get("spec") or {}
    if spec.get("type") != "ExternalName" or "internalTrafficPolicy" not in spec:
        return service
    return {**service, "spec": strategy.without_fields(spec, ("internalTrafficPolicy",))}


def _prepare_create(service: Object) -> Object:
    service = _as_read({**service, "status": {"loadBalancer": {}}})
    spec = service.get("spec") or {}
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        service = {**service, "spec": {**spec, "clusterIPs": [spec["clusterIP"]]}}
    return service


def _keep_allocated(after: Object, before: Object) -> None:
    """Give back what the server had allocated and the client left out; ``after`` is changed."""
    if needs_cluster_ip(before) and needs_cluster_ip(after):
        if not after.get("clusterIP") and before.get("clusterIP"):
            after["clusterIP"] = before["clusterIP"]
        if (
            not after.get("clusterIPs")
            and after.get("clusterIP") == before.get("clusterIP")
            and before.get("clusterIPs")
        ):
            after["clusterIPs"] = before["clusterIPs"]
    if needs_node_port(before) and needs_node_port(after) and after.get("ports"):
        used = set(_node_ports(before)) & set(_node_ports(after))
        named = {port.get("name") or "": port.get("nodePort") or 0 for port in before.get("ports") or ()}
        ports = []
        for port in after["ports"]:
            number = named.get(port.get("name") or "", 0)
            if not port.get("nodePort") and number and number not in used:
                used.add(number)
                port = {**port, "nodePort": number}
            ports.append(port)
        after["ports"] = ports
    if needs_health_check_port(before) and needs_health_check_port(after) and not after.get("healthCheckNodePort"):
        strategy.put(after, "healthCheckNodePort", before.get("healthCheckNodePort"))


def _level_addresses(after: Object, before: Object) -> None:
    """Keep ``clusterIP`` and the first of ``clusterIPs`` one, whichever of them the client changed."""
    one, many = after.get("clusterIP") or "", after.get("clusterIPs") or []
    was, were = before.get("clusterIP") or "", before.get("clusterIPs") or []
    if one and not many and not were:
        after["clusterIPs"] = [one]
    elif one != was and many == were:
        strategy.put(after, "clusterIPs", [one] if one else None)
    elif one == was and not many and were:
        after.pop("clusterIP", None)


def prepare_update(new: Object, old: Object) -> Object:
    """Status stays; what was allocated stays; what only the old type had falls away unless it was changed."""
    new = strategy.with_field(new, "status", old.get("status"))
    after, before = dict(new.get("spec") or {}), old.get("spec") or {}
    _keep_allocated(after, before)
    _level_addresses(after, before)

    def same(field: str) -> bool:
        return strategy.same_value(after.get(field), before.get(field))

    def drop(*fields: str) -> None:
        for field in fields:
            after.pop(field, None)

    if needs_cluster_ip(before) and not needs_cluster_ip(after):
        if same("clusterIP") and same("clusterIPs"):
            drop("clusterIP", "clusterIPs")
        if same("ipFamilies"):
            drop("ipFamilies")
        if same("ipFamilyPolicy"):
            drop("ipFamilyPolicy")
    if needs_node_port(before) and not needs_node_port(after) and _node_ports(after) == _node_ports(before):
        after["ports"] = [strategy.without_fields(port, ("nodePort",)) for port in after.get("ports") or ()]
    if needs_health_check_port(before) and not needs_health_check_port(after) and same("healthCheckNodePort"):
        drop("healthCheckNodePort")
    if before.get("type") == "LoadBalancer" and after.get("type") != "LoadBalancer":
        if same("allocateLoadBalancerNodePorts"):
            drop("allocateLoadBalancerNodePorts")
        if same("loadBalancerClass"):
            drop("loadBalancerClass")
    if externally_accessible(before) and not externally_accessible(after) and same("externalTrafficPolicy"):
        drop("externalTrafficPolicy")
    if after.get("type") != "LoadBalancer":
        new = {**new, "status": {**(new.get("status") or {}), "loadBalancer": {}}}
    return _as_read({**new, "spec": after})


SERVICE = KindRules(
    default=default_service,
    prepare_create=_prepare_create,
    prepare_update=prepare_update,
    prepare_status=strategy.status_only(),
    validate=service_rules.validate_service,
    validate_update=service_rules.validate_service_update,
    validate_status=service_rules.validate_balancer_status,
    warnings=service_rules.service_warnings,
    update_warnings=lambda new, _old: service_rules.service_warnings(new),
    status_warnings=lambda new, _old: balancer_warnings(new),
    valid_name=metadata.label_name,
    allow_create_on_update=True,
    field_labels=("spec.clusterIP", "spec.type"),
)

RULES: Sequence[tuple[str, str, KindRules]] = (("", "Service", SERVICE),)
