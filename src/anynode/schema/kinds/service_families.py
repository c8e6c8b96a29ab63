"""Which IP families a service gets on a cluster that serves these ones.

In: the spec asked for and the one there is; out: the spec with ``ipFamilies`` and ``ipFamilyPolicy``, and what is wrong
with it. Source: kubernetes ``pkg/registry/core/service/storage/alloc.go`` (initIPFamilyFields), 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, invalid

SINGLE, REQUIRE, PREFER = "SingleStack", "RequireDualStack", "PreferDualStack"
_SPEC = FieldPath("spec")
_HEADLESS = "None"


def with_families(spec: Object, before: Object, configured: Sequence[str]) -> tuple[Object, list[FieldError]]:
    """``spec`` with its families; unfinished where something is wrong. ``before`` is empty for a new service."""
    if _stays_preferring(spec, before):
        return spec, []
    spec = {**spec, "ipFamilyPolicy": spec.get("ipFamilyPolicy") or _policy(spec, before)}
    spec, errors = _levelled(spec, before, configured)
    if errors:
        return spec, errors
    families = list(spec.get("ipFamilies") or configured[:1])
    wants_two = spec["ipFamilyPolicy"] != SINGLE
    if spec.get("clusterIP") == _HEADLESS and not spec.get("selector"):  # its endpoints are made by hand, of any family
        return {**spec, "ipFamilies": _two(families) if wants_two else families}, []
    if spec["ipFamilyPolicy"] == REQUIRE and len(configured) < 2:
        text = "this cluster is not configured for dual-stack services"
        errors.append(invalid(_SPEC.child("ipFamilyPolicy"), REQUIRE, text))
    for at, family in enumerate(families):
        if family not in configured:
            errors.append(invalid(_SPEC.child("ipFamilies").index(at), family, "not configured on this cluster"))
    return {**spec, "ipFamilies": _two(families) if wants_two and len(configured) > 1 else families}, errors


def _two(families: list[str]) -> list[str]:
    return [*families, "IPv6" if families[0] == "IPv4" else "IPv4"] if len(families) == 1 else families


def _policy(spec: Object, before: Object) -> str:
    """What is meant by one who says nothing."""
    kept: str = before.get("ipFamilyPolicy") or ""
    if kept:
        return kept
    return REQUIRE if spec.get("clusterIP") == _HEADLESS and not spec.get("selector") else SINGLE


def _stays_preferring(spec: Object, before: Object) -> bool:
    """Whether nothing about families changes: a cluster that learned a second family changes no service by itself."""
    return (
        bool(before)
        and before.get("type") == spec.get("type")
        and spec.get("ipFamilyPolicy") == PREFER
        and before.get("ipFamilyPolicy") in (None, PREFER)
        and all((spec.get(field) or None) == (before.get(field) or None) for field in ("clusterIPs", "ipFamilies"))
    )


def _levelled(spec: Object, before: Object, configured: Sequence[str]) -> tuple[Object, list[FieldError]]:
    """``spec`` with as many families and addresses as its policy allows, a family for each address."""
    addresses, families = list(spec.get("clusterIPs") or ()), list(spec.get("ipFamilies") or ())
    policy, path, errors = spec["ipFamilyPolicy"], _SPEC.child("ipFamilyPolicy"), list[FieldError]()
    old_addresses, old_families = list(before.get("clusterIPs") or ()), list(before.get("ipFamilies") or ())
    if before and policy == SINGLE:
        addresses = addresses[:1] if addresses == old_addresses else addresses
        families = families[:1] if families == old_families else families
    elif before:
        text = "must be 'SingleStack' to release the secondary "
        if 0 < len(addresses) < len(old_addresses):
            errors.append(invalid(path, policy, text + "cluster IP"))
        if 0 < len(families) < len(old_families):
            errors.append(invalid(path, policy, text + "IP family"))
    if policy == SINGLE:
        text = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
        if len(addresses) == 2:
            errors.append(invalid(path, policy, text.format("cluster IPs")))
        if len(families) == 2:
            errors.append(invalid(path, policy, text.format("IP families")))
    for at, address in enumerate(addresses):
        if address == _HEADLESS:
            break
        family = "IPv6" if ":" in address else "IPv4"
        if at < len(families):
            continue
        if family in configured:
            families.append(family)
        else:
            where = _SPEC.child("clusterIPs").index(at)
            errors.append(invalid(where, addresses, f"{family} is not configured on this cluster"))
    return {**spec, **({"clusterIPs": addresses} if addresses else {}), "ipFamilies": families}, errors
