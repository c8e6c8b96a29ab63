"""``rules_of(group, kind)``: where the rest of the server finds a built-in kind's rules."""

from __future__ import annotations

from collections.abc import Mapping

from anynode.schema.kinds import (
    access,
    address_ranges,
    admissionregistration,
    api_services,
    apiextensions,
    autoscalers,
    classes,
    core,
    csi,
    device_claims,
    device_slices,
    discovery,
    events,
    fair_queuing,
    ingresses,
    jobs,
    network_policies,
    pods,
    quotas,
    services,
    signing_requests,
    volume_claims,
    workloads,
)
from anynode.schema.rules import KindRules

_FAMILIES = (
    api_services,
    core,
    services,
    events,
    pods,
    workloads,
    jobs,
    discovery,
    quotas,
    volume_claims,
    access,
    ingresses,
    network_policies,
    address_ranges,
    admissionregistration,
    autoscalers,
    classes,
    autoscalers,
    csi,
    fair_queuing,
    device_claims,
    device_slices,
    signing_requests,
    apiextensions,
)
_RULES: Mapping[tuple[str, str], KindRules] = {
    (group, kind): rules for family in _FAMILIES for group, kind, rules in family.RULES
}
_PLAIN = KindRules()


def rules_of(group: str, kind: str) -> KindRules:
    """The rules of a built-in kind; of a kind without any: objects are stored as they come."""
    return _RULES.get((group, kind), _PLAIN)
