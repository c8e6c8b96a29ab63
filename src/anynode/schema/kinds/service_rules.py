"""What a valid service is, and what may change in one.

Source: kubernetes ``pkg/apis/core/validation/validation.go`` (validateService, ValidateServiceUpdate,
ValidateLoadBalancerStatus), ``pkg/api/service/warnings.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api import names
from anynode.api.objects import NO_META, Object, annotations_of
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, duplicate, forbidden, invalid, not_supported, required
from anynode.schema.kinds.addresses import (
    address_warnings,
    dual_stack,
    is_ipv6,
    parse_address,
    validate_address,
    validate_range,
)
from anynode.schema.kinds.container_rules import validate_port_or_name
from anynode.schema.kinds.internal_form import internal

_SPEC = FieldPath("spec")
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_ONLY_BALANCERS = "may only be used when `type` is 'LoadBalancer'"
_CHANGED = "may not change once set"
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"


def externally_accessible(spec: Object) -> bool:
    """Whether traffic may come from outside: by type, or by ``externalIPs`` of a ClusterIP service."""
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def is_headless(spec: Object) -> bool:
    return list(spec.get("clusterIPs") or ()) == ["None"]


def validate_service(service: Object, old: Object = NO_META) -> list[FieldError]:
    spec = service.get("spec") or {}
    before = old.get("spec") or {}
    errors = _validate_annotations(service)
    errors += _validate_type(spec)
    ports = spec.get("ports") or ()
    seen: set[str] = set()
    for at, port in enumerate(ports):
        errors += _validate_port(port, len(ports) > 1, seen, _SPEC.child("ports").index(at))
    if spec.get("selector"):
        errors += metadata.validate_labels(spec["selector"], _SPEC.child("selector"))
    errors += _validate_affinity(spec)
    if spec.get("type") != "ExternalName":
        errors += validate_cluster_ips(spec, before)
    errors += _validate_external_ips(spec, before)
    kind = spec.get("type") or ""
    if kind not in _TYPES:
        errors.append(not_supported(_SPEC.child("type"), kind, _TYPES) if kind else required(_SPEC.child("type")))
    errors += _validate_port_numbers(spec)
    errors += _validate_source_ranges(service, before)
    if kind != "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not None:
        errors.append(forbidden(_SPEC.child("allocateLoadBalancerNodePorts"), _ONLY_BALANCERS))
    errors += _validate_balancer_class(spec)
    return errors + _validate_policies(spec)


def _validate_annotations(service: Object) -> list[FieldError]:
    annotations = annotations_of(service)
    if _MODE in annotations and _HINTS in annotations and annotations[_MODE] != annotations[_HINTS]:
        path = FieldPath("metadata").child("annotations").key(_MODE)
        text = f"must match annotations[{_HINTS}] when both are specified"
        return [invalid(path, annotations[_MODE], text)]
    return []


def _validate_type(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, headless = spec.get("type"), is_headless(spec)
    if not spec.get("ports") and not headless and kind != "ExternalName":
        errors.append(required(_SPEC.child("ports")))
    if kind in ("LoadBalancer", "NodePort") and headless:
        text = f"may not be set to 'None' for {kind} services"
        errors.append(invalid(_SPEC.child("clusterIPs").index(0), "None", text))
    if kind != "ExternalName":
        return errors
    given = (field for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy") if spec.get(field))
    errors.extend(forbidden(_SPEC.child(field), "may not be set for ExternalName services") for field in given)
    name = (spec.get("externalName") or "").removesuffix(".")
    where = _SPEC.child("externalName")
    return errors + (metadata.validate_name(name, where) if name else [required(where)])


def _validate_port(port: Object, named: bool, seen: set[str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    name, number, protocol = port.get("name") or "", port.get("port") or 0, port.get("protocol") or ""
    if name:
        errors += metadata.validate_name(name, path.child("name"), metadata.label_name)
        if name in seen:
            errors.append(duplicate(path.child("name"), name))
        seen.add(name)
    elif named:
        errors.append(required(path.child("name")))
    errors.extend(invalid(path.child("port"), number, text) for text in names.port_number(number))
    if protocol not in _PROTOCOLS:
        where = path.child("protocol")
        errors.append(not_supported(where, protocol, _PROTOCOLS) if protocol else required(where))
    errors += validate_port_or_name(port.get("targetPort"), path.child("targetPort"))
    if port.get("appProtocol") is not None:
        errors += metadata.validate_label_key(port["appProtocol"], path.child("appProtocol"))
    return errors


def _validate_affinity(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    affinity, config = spec.get("sessionAffinity") or "", spec.get("sessionAffinityConfig")
    where, path = _SPEC.child("sessionAffinity"), _SPEC.child("sessionAffinityConfig")
    if affinity not in ("ClientIP", "None"):
        errors.append(not_supported(where, affinity, ("ClientIP", "None")) if affinity else required(where))
    if affinity == "None" and config is not None:
        errors.append(forbidden(path, "must not be set when session affinity is None"))
    if affinity != "ClientIP":
        return errors
    text = "when session affinity type is ClientIP"
    if config is None:
        return [*errors, required(path, text)]
    client = config.get("clientIP")
    if client is None:
        return [*errors, required(path.child("clientIP"), text)]
    seconds, where = client.get("timeoutSeconds"), path.child("clientIP", "timeoutSeconds")
    if seconds is None:
        return [*errors, required(where, text)]
    if not 0 < seconds <= 86400:
        errors.append(invalid(where, seconds, "must be greater than 0 and less than 86400"))
    return errors


def validate_cluster_ips(spec: Object, before: Object) -> list[FieldError]:
    """Complaints about the addresses and families of a service that is more than a name."""
    errors: list[FieldError] = []
    first, addresses = spec.get("clusterIP") or "", list(spec.get("clusterIPs") or ())
    families, policy = list(spec.get("ipFamilies") or ()), spec.get("ipFamilyPolicy")
    path, at_families = _SPEC.child("clusterIPs"), _SPEC.child("ipFamilies")
    if first and not addresses:
        errors.append(required(path))
    elif first and addresses[0] != first:
        errors.append(invalid(path, addresses, "first value must match `clusterIP`"))
    elif not first and addresses:
        errors.append(invalid(path, addresses, "must be empty when `clusterIP` is not specified"))
    for at, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            errors.append(not_supported(at_families.index(at), family, ("IPv4", "IPv6")))
        if family in families[:at]:
            errors.append(duplicate(at_families.index(at), family))
    known = ("PreferDualStack", "RequireDualStack", "SingleStack")
    if policy is not None and policy not in known:
        errors.append(not_supported(_SPEC.child("ipFamilyPolicy"), policy, known))
    bad: list[FieldError] = []
    for at, address in enumerate(addresses):
        if at == 0 and address == "None":
            if len(addresses) > 1:
                bad.append(invalid(path, addresses, "'None' must be the first and only value"))
            continue
        bad += validate_address(address, path.index(at), before.get("clusterIPs") or ())
    errors += bad
    if len(addresses) > 2:
        errors.append(invalid(path, addresses, "may only hold up to 2 values"))
    if bad:
        return errors
    if len(addresses) > 1 and not dual_stack(addresses):
        errors.append(invalid(path, addresses, "may specify no more than one IP for each IP family"))
    if not is_headless(spec):
        errors += _validate_families(addresses, families, path)
    return errors


def _validate_families(addresses: Sequence[str], families: Sequence[str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, (address, family) in enumerate(zip(addresses, families, strict=False)):
        if family in ("IPv4", "IPv6") and is_ipv6(address) != (family == "IPv6"):
            text = f"expected an {family} value as indicated by `ipFamilies[{at}]`"
            errors.append(invalid(path.index(at), address, text))
    return errors


def validate_endpoint_ip(text: str, path: FieldPath) -> list[FieldError]:
    """Complaints about an address nothing outside can reach."""
    address = parse_address(text)
    if address is None:
        return [invalid(path, text, "must be a valid IP address")]
    errors: list[FieldError] = []
    if address.is_unspecified:
        errors.append(invalid(path, text, f"may not be unspecified ({text})"))
    if address.is_loopback:
        errors.append(invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        errors.append(invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if address.is_multicast and (text.startswith("224.0.0.") or text.lower().startswith("ff02:")):
        known = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        errors.append(invalid(path, text, known))
    return errors


def _validate_external_ips(spec: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    known = before.get("externalIPs") or ()
    for at, address in enumerate(spec.get("externalIPs") or ()):
        where = _SPEC.child("externalIPs").index(at)
        errors += validate_address(address, where, known) or validate_endpoint_ip(address, where)
    return errors


def _validate_port_numbers(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    ports, path = spec.get("ports") or (), _SPEC.child("ports")
    if spec.get("type") == "ClusterIP":
        text = "may not be used when `type` is 'ClusterIP'"
        given = (at for at, port in enumerate(ports) if port.get("nodePort"))
        errors.extend(forbidden(path.index(at).child("nodePort"), text) for at in given)
    on_nodes: set[tuple[str, int]] = set()
    for at, port in enumerate(ports):
        key = (port.get("protocol") or "", port.get("nodePort") or 0)
        if key[1] and key in on_nodes:
            errors.append(duplicate(path.index(at).child("nodePort"), key[1]))
        on_nodes.add(key)
    seen: set[tuple[str, int]] = set()
    for at, port in enumerate(ports):
        key = (port.get("protocol") or "", port.get("port") or 0)
        if key in seen:
            shown = internal("ServicePort", {"protocol": key[0], "port": key[1]})
            errors.append(duplicate(path.index(at), shown))
        seen.add(key)
    return errors


def _validate_source_ranges(service: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    spec = service.get("spec") or {}
    ranges, path = spec.get("loadBalancerSourceRanges"), _SPEC.child("LoadBalancerSourceRanges")
    if ranges:
        if spec.get("type") != "LoadBalancer":
            errors.append(forbidden(path, _ONLY_BALANCERS))
        known = [each.strip() for each in before.get("loadBalancerSourceRanges") or ()]
        for at, text in enumerate(ranges):
            errors += validate_range(text.strip(), path.index(at), known)
    elif _SOURCE_RANGES in annotations_of(service):
        path = FieldPath("metadata").child("annotations").key(_SOURCE_RANGES)
        if spec.get("type") != "LoadBalancer":
            errors.append(forbidden(path, _ONLY_BALANCERS))
        text = annotations_of(service)[_SOURCE_RANGES].strip()
        for part in text.split(",") if text else ():
            errors += validate_range(part.strip(), path)
    return errors


def _validate_balancer_class(spec: Object) -> list[FieldError]:
    name, path = spec.get("loadBalancerClass"), _SPEC.child("loadBalancerClass")
    if name is None:
        return []
    if spec.get("type") != "LoadBalancer":
        return [forbidden(path, _ONLY_BALANCERS)]
    return metadata.validate_label_key(name, path)


def _validate_policies(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    outside, inside = spec.get("externalTrafficPolicy") or "", spec.get("internalTrafficPolicy")
    known, path = ("Cluster", "Local"), _SPEC.child("externalTrafficPolicy")
    if not externally_accessible(spec):
        if outside:
            errors.append(invalid(path, outside, "may only be set for externally-accessible services"))
    elif outside not in known:
        errors.append(not_supported(path, outside, known) if outside else required(path))
    port = spec.get("healthCheckNodePort") or 0
    needed = spec.get("type") == "LoadBalancer" and outside == "Local"
    if port and not needed:
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid(_SPEC.child("healthCheckNodePort"), port, text))
    elif port:
        where = _SPEC.child("healthCheckNodePort")
        errors.extend(invalid(where, port, text) for text in names.port_number(port))
    where = _SPEC.child("internalTrafficPolicy")
    if inside is None and spec.get("type") in ("NodePort", "LoadBalancer", "ClusterIP"):
        errors.append(required(where))
    if inside is not None and inside not in known:
        errors.append(not_supported(where, inside, known))
    near = spec.get("trafficDistribution")
    distributions = ("PreferClose", "PreferSameZone", "PreferSameNode")
    if near is not None and near not in distributions:
        errors.append(not_supported(_SPEC.child("trafficDistribution"), near, distributions))
    return errors


def validate_service_update(new: Object, old: Object) -> list[FieldError]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    errors: list[FieldError] = []
    if after.get("type") != "ExternalName" and before.get("type") != "ExternalName":
        errors += _validate_changed_addresses(after, before)
        errors += _validate_changed_families(after, before)
    if after.get("type") == before.get("type") == "LoadBalancer":
        if after.get("loadBalancerClass") != before.get("loadBalancerClass"):
            path = _SPEC.child("loadBalancerClass")
            errors.append(invalid(path, after.get("loadBalancerClass"), _CHANGED))
        errors += _validate_balancer_class(after)
        port, was = after.get("healthCheckNodePort") or 0, before.get("healthCheckNodePort") or 0
        if after.get("externalTrafficPolicy") == before.get("externalTrafficPolicy") == "Local" and port != was:
            errors.append(forbidden(_SPEC.child("healthCheckNodePort"), "field is immutable"))
    elif after.get("loadBalancerClass") is not None:
        errors += _validate_balancer_class(after)
    return errors + validate_service(new, old)


def _validate_changed_addresses(after: Object, before: Object) -> list[FieldError]:
    if is_headless(after) and is_headless(before):
        return []
    errors: list[FieldError] = []
    new, old = list(after.get("clusterIPs") or ()), list(before.get("clusterIPs") or ())
    path = _SPEC.child("clusterIPs")
    if len(new) == len(old):
        changed = (at for at, (one, other) in enumerate(zip(new, old, strict=True)) if one != other)
        return [invalid(path.index(at), new, _CHANGED) for at in changed]
    if len(old) > len(new) and not new:
        errors.append(invalid(path.index(0), None, "primary clusterIP can not be unset"))
    if old and new and new[0] != old[0]:
        errors.append(invalid(path.index(0), new, _CHANGED))
    if len(old) > len(new) == 1 and after.get("ipFamilyPolicy") != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        errors.append(invalid(_SPEC.child("ipFamilyPolicy"), after.get("ipFamilyPolicy"), text))
    return errors


def _validate_changed_families(after: Object, before: Object) -> list[FieldError]:
    if is_headless(after) or is_headless(before):
        return []
    errors: list[FieldError] = []
    new, old = list(after.get("ipFamilies") or ()), list(before.get("ipFamilies") or ())
    addresses, path = after.get("clusterIPs"), _SPEC.child("ipFamilies").index(0)
    if len(new) == len(old):
        return [invalid(path, new, _CHANGED) for one, other in zip(new, old, strict=True) if one != other]
    if len(old) > len(new) and not addresses:
        errors.append(invalid(path, new or None, "primary ipFamily can not be unset"))
    if old and new and new[0] != old[0]:
        errors.append(invalid(path, addresses, _CHANGED))
    if len(old) > len(new) == 1 and after.get("ipFamilyPolicy") != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        errors.append(invalid(_SPEC.child("ipFamilyPolicy"), after.get("ipFamilyPolicy"), text))
    return errors


def validate_balancer_status(new: Object, old: Object) -> list[FieldError]:
    """Complaints about ``status.loadBalancer`` of a service."""
    status = (new.get("status") or {}).get("loadBalancer") or {}
    was = (old.get("status") or {}).get("loadBalancer") or {}
    ingress, path = status.get("ingress") or (), FieldPath("status.loadBalancer.ingress")
    if ingress and (new.get("spec") or {}).get("type") != "LoadBalancer":
        return [forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    known = [each.get("ip") for each in was.get("ingress") or () if each.get("ip")]
    return [error for at, each in enumerate(ingress) for error in _validate_ingress(each, known, path.index(at))]


def _validate_ingress(ingress: Object, known: Sequence[str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    address, mode, name = ingress.get("ip") or "", ingress.get("ipMode"), ingress.get("hostname") or ""
    if address:
        errors += validate_address(address, path.child("ip"), known)
    where = path.child("ipMode")
    if mode is None and address:
        errors.append(required(where, "must be specified when `ip` is set"))
    elif mode is not None and not address:
        errors.append(forbidden(where, "may not be specified when `ip` is not set"))
    elif mode not in (None, "Proxy", "VIP"):
        errors.append(not_supported(where, mode, ("Proxy", "VIP")))
    if name:
        errors += metadata.validate_name(name, path.child("hostname"))
        if parse_address(name) is not None:
            errors.append(invalid(path.child("hostname"), name, "must be a DNS name, not an IP address"))
    return errors


def service_warnings(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    warnings: list[str] = []
    if _HINTS in annotations_of(service):
        warnings.append(f"annotation {_HINTS} is deprecated, please use {_MODE} instead")
    headless = spec.get("type") == "ClusterIP" and spec.get("clusterIP") == "None"
    if not headless:
        for at, address in enumerate(spec.get("clusterIPs") or ()):
            warnings += address_warnings(address, _SPEC.child("clusterIPs").index(at))
    outside = spec.get("externalIPs") or ()
    if headless:
        if spec.get("loadBalancerIP"):
            warnings.append("spec.loadBalancerIP is ignored for headless services")
        if outside:
            warnings.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            warnings.append("spec.SessionAffinity is ignored for headless services")
    for at, address in enumerate(outside):
        warnings += address_warnings(address, _SPEC.child("externalIPs").index(at))
    if outside and not headless and spec.get("type") != "ExternalName":
        warnings.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if spec.get("loadBalancerIP"):
        warnings += address_warnings(spec["loadBalancerIP"], _SPEC.child("loadBalancerIP"))
    if spec.get("type") == "ExternalName" and outside:
        warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if spec.get("type") != "ExternalName" and spec.get("externalName"):
        warnings.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        warnings.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return warnings
