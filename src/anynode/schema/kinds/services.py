"""Services: defaults, what falls away with a change of type, validation.

The allocation of addresses, families and node ports is the registry's. Source: kubernetes
``pkg/apis/core/v1/defaults.go``, ``pkg/apis/core/validation/validation.go`` (ValidateService),
``pkg/registry/core/service/strategy.go``, ``pkg/api/service/warnings.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object
from anynode.schema.kinds import strategy
from anynode.schema.rules import KindRules

NO_ADDRESS = "None"
_AFFINITY_SECONDS = 10800


def externally_accessible(spec: Object) -> bool:
    """Whether traffic may come from outside: by type, or by ``externalIPs`` of a ClusterIP service."""
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


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


def prepare_update(new: Object, old: Object) -> Object:
    """Status stays; what only the old type had falls away unless the client changed it on purpose."""
    new = strategy.with_field(new, "status", old.get("status"))
    after, before = dict(new.get("spec") or {}), old.get("spec") or {}

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
    return {**new, "spec": after}


SERVICE = KindRules(
    default=default_service,
    prepare_create=strategy.created(status={"loadBalancer": {}}, generation=False),
    prepare_update=prepare_update,
    prepare_status=strategy.status_only(),
    allow_create_on_update=True,
    field_labels=("spec.clusterIP", "spec.type"),
)

RULES: Sequence[tuple[str, str, KindRules]] = (("", "Service", SERVICE),)
