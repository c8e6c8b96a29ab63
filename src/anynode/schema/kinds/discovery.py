"""Leases and endpoint slices.

Source: kubernetes ``pkg/apis/{coordination,discovery}/validation``, ``pkg/apis/discovery/v1/defaults.go``,
``pkg/registry/{coordination/lease,discovery/endpointslice}/strategy.go``, 1.36.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from anynode.api import names
from anynode.api.objects import Object, meta
from anynode.api.remembering import is_short
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, duplicate, invalid, not_supported, required, too_many
from anynode.schema.kinds import strategy
from anynode.schema.kinds.addresses import address_warnings, is_ipv6, validate_address, validate_canonical_address
from anynode.schema.kinds.service_rules import validate_endpoint_ip
from anynode.schema.rules import KindRules


def _default_lease(lease: Object) -> Object:
    return lease if lease.get("spec") is not None else {**lease, "spec": {}}


def _without_strategy(lease: Object) -> Object:
    """Coordinated leader election is off, as it is upstream by default."""
    spec = lease.get("spec") or {}
    kept = strategy.without_fields(spec, ("strategy", "preferredHolder"))
    return lease if kept is spec else {**lease, "spec": kept}


def _update_lease(new: Object, old: Object) -> Object:
    return new if (old.get("spec") or {}).get("strategy") is not None else _without_strategy(new)


def validate_lease(lease: Object) -> list[FieldError]:
    spec = lease.get("spec") or {}
    errors: list[FieldError] = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid(FieldPath("spec.leaseDurationSeconds"), seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid(FieldPath("spec.leaseTransitions"), transitions, metadata.NEGATIVE))
    return errors


LEASE = KindRules(
    default=_default_lease,
    prepare_create=_without_strategy,
    prepare_update=_update_lease,
    validate=validate_lease,
    validate_update=lambda new, _old: validate_lease(new),
    allow_create_on_update=True,
    allow_unconditional_update=False,
)


def _default_port(port: Object) -> Object:
    protocol = port.get("protocol")
    return {**port, "name": port.get("name") or "", "protocol": "TCP" if protocol is None else protocol}


def default_endpoint_slice(endpoint_slice: Object) -> Object:
    """Ports are named and TCP unless said; the two lists are printed even when they are missing."""
    ports = endpoint_slice.get("ports")
    filled = [_default_port(each) for each in ports] if ports else ports
    return {**endpoint_slice, "endpoints": endpoint_slice.get("endpoints"), "ports": filled}


def _update_endpoint_slice(new: Object, old: Object) -> Object:
    generation = meta(old).get("generation") or 0
    changed = any(
        not strategy.same_value(new.get(field), old.get(field)) for field in ("addressType", "endpoints", "ports")
    ) or not strategy.same_value(meta(new).get("labels"), meta(old).get("labels"))
    return strategy.with_generation(new, generation + int(changed))


def validate_endpoint_slice(endpoint_slice: Object) -> list[FieldError]:
    kind, path = endpoint_slice.get("addressType") or "", FieldPath("addressType")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(path))
    elif kind not in ("FQDN", "IPv4", "IPv6"):
        errors.append(not_supported(path, kind, ("FQDN", "IPv4", "IPv6")))
    errors += _validate_ports(endpoint_slice.get("ports") or ())
    return errors + _validate_endpoints(endpoint_slice.get("endpoints") or (), kind)


def _validate_ports(ports: Sequence[Object]) -> list[FieldError]:
    if len(ports) > 20000:
        return [too_many(FieldPath("ports"), len(ports), 20000)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, port in enumerate(ports):
        path, name, protocol = FieldPath("ports").index(at), port.get("name") or "", port.get("protocol")
        if name:
            errors += metadata.validate_name(name, path.child("name"), metadata.label_name)
        if name in seen:
            errors.append(duplicate(path.child("name"), name))
        seen.add(name)
        if protocol not in ("SCTP", "TCP", "UDP"):
            where = path.child("protocol")
            known = ("SCTP", "TCP", "UDP")
            errors.append(required(where) if protocol is None else not_supported(where, protocol, known))
        if port.get("appProtocol") is not None:
            errors += metadata.validate_label_key(port["appProtocol"], path.child("appProtocol"))
    return errors


@functools.lru_cache(maxsize=16384)
def _good_address(address: str, kind: str) -> bool:
    return not _validate_address(address, kind, FieldPath(), 0)


def _surely_good(endpoint: Object, kind: str) -> bool:
    """Whether an endpoint is of the ordinary sort, which slices have many of and updates seldom change."""
    if "hints" in endpoint or "hostname" in endpoint or "deprecatedTopology" in endpoint:
        return False
    addresses, node = endpoint.get("addresses") or (), endpoint.get("nodeName")
    if not 0 < len(addresses) <= 100 or not all(
        is_short(address) and _good_address(address, kind) for address in addresses
    ):
        return False
    return node is None or not metadata.subdomain_name(node)


def _validate_endpoints(endpoints: Sequence[Object], kind: str) -> list[FieldError]:
    if len(endpoints) > 1000:
        return [too_many(FieldPath("endpoints"), len(endpoints), 1000)]
    errors: list[FieldError] = []
    for at, endpoint in enumerate(endpoints):
        if _surely_good(endpoint, kind):
            continue
        path = FieldPath("endpoints").index(at)
        addresses = endpoint.get("addresses") or ()
        if not addresses:
            errors.append(required(path.child("addresses"), "must contain at least 1 address"))
        elif len(addresses) > 100:
            errors.append(too_many(path.child("addresses"), len(addresses), 100))
        for place, address in enumerate(addresses):
            errors += _validate_address(address, kind, path.child("addresses"), place)
        if endpoint.get("nodeName") is not None:
            errors += metadata.validate_name(endpoint["nodeName"], path.child("nodeName"))
        topology = endpoint.get("deprecatedTopology")
        if topology:
            if len(topology) > 16:
                errors.append(too_many(path.child("deprecatedTopology"), len(topology), 16))
            errors += metadata.validate_labels(topology, path.child("deprecatedTopology"))
        if endpoint.get("hostname") is not None:
            errors += metadata.validate_name(endpoint["hostname"], path.child("hostname"), metadata.label_name)
        if endpoint.get("hints") is not None:
            errors += _validate_hints(endpoint["hints"], path.child("hints"))
    return errors


def _validate_address(address: str, kind: str, path: FieldPath, place: int) -> list[FieldError]:
    where = path.index(place)
    if kind == "FQDN":
        return _validate_domain(address, where)
    if kind not in ("IPv4", "IPv6"):
        return []
    errors = validate_address(address, where) if kind == "IPv4" else validate_canonical_address(address, where)
    if errors:
        return errors
    if is_ipv6(address) != (kind == "IPv6"):
        errors.append(invalid(path, address, f"must be an {kind} address"))
    return errors + validate_endpoint_ip(address, where)


def _validate_domain(name: str, path: FieldPath) -> list[FieldError]:
    """Complaints about a fully qualified domain name."""
    if not name:
        return [required(path)]
    name = name.removesuffix(".")
    wrong = names.dns1123_subdomain(name)
    if wrong:
        return [invalid(path, name, ",".join(wrong))]
    if "." not in name:
        return [invalid(path, name, "should be a domain with at least two segments separated by dots")]
    for label in name.split("."):
        wrong = names.dns1123_label(label)
        if wrong:
            return [invalid(path, label, ",".join(wrong))]
    return []


def _validate_hints(hints: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for field, rule in (("forZones", names.label_value), ("forNodes", names.dns1123_subdomain)):
        given, seen = hints.get(field) or (), set[str]()
        if len(given) > 8:
            return [*errors, too_many(path.child(field), len(given), 8)]
        for at, hint in enumerate(given):
            name, where = hint.get("name") or "", path.child(field).index(at).child("name")
            if name in seen:
                errors.append(duplicate(where, name))
            seen.add(name)
            errors.extend(invalid(where, name, text) for text in rule(name))
    return errors


def validate_endpoint_slice_update(new: Object, old: Object) -> list[FieldError]:
    kind, was = new.get("addressType") or "", old.get("addressType") or ""
    if strategy.same_value(new.get("endpoints"), old.get("endpoints")):
        errors = validate_endpoint_slice({**new, "endpoints": []})
    else:
        errors = validate_endpoint_slice(new)
    return errors + metadata.validate_immutable(kind, was, FieldPath("addressType"))


def _slice_warnings(endpoint_slice: Object) -> list[str]:
    if endpoint_slice.get("addressType") == "FQDN":
        return ["spec.addressType: FQDN endpoints are deprecated"]
    warnings: list[str] = []
    for at, endpoint in enumerate(endpoint_slice.get("endpoints") or ()):
        for place, address in enumerate(endpoint.get("addresses") or ()):
            warnings += address_warnings(address, FieldPath("endpoints").index(at).child("addresses").index(place))
    return warnings


ENDPOINT_SLICE = KindRules(
    default=default_endpoint_slice,
    prepare_create=strategy.created(),
    prepare_update=_update_endpoint_slice,
    validate=validate_endpoint_slice,
    validate_update=validate_endpoint_slice_update,
    warnings=_slice_warnings,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("coordination.k8s.io", "Lease", LEASE),
    ("discovery.k8s.io", "EndpointSlice", ENDPOINT_SLICE),
)
