"""Leases and endpoint slices.

Source: kubernetes ``pkg/apis/{coordination,discovery}/validation``, ``pkg/apis/discovery/v1/defaults.go``,
``pkg/registry/{coordination/lease,discovery/endpointslice}/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object, meta
from anynode.schema.kinds import strategy
from anynode.schema.rules import KindRules


def _default_lease(lease: Object) -> Object:
    return lease if lease.get("spec") is not None else {**lease, "spec": {}}


LEASE = KindRules(
    default=_default_lease,
    prepare_create=strategy.created(generation=False),
    prepare_update=strategy.updated(keep=(), counted=()),
    allow_create_on_update=True,
    allow_unconditional_update=False,
)


def _default_port(port: Object) -> Object:
    return {**port, "name": port.get("name") or "", "protocol": port.get("protocol") or "TCP"}


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


ENDPOINT_SLICE = KindRules(
    default=default_endpoint_slice,
    prepare_create=strategy.created(),
    prepare_update=_update_endpoint_slice,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("coordination.k8s.io", "Lease", LEASE),
    ("discovery.k8s.io", "EndpointSlice", ENDPOINT_SLICE),
)
