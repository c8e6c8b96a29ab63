"""Service address ranges and the addresses taken from them.

Source: kubernetes ``pkg/apis/networking/validation/validation.go`` (ValidateServiceCIDR, ValidateIPAddress), 1.36.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, invalid, required
from anynode.schema.kinds import strategy
from anynode.schema.kinds.addresses import dual_stack, parse_range, validate_canonical_address, validate_range
from anynode.schema.kinds.internal_form import internal
from anynode.schema.rules import KindRules

_RANGES = FieldPath("spec.cidrs")


def _canonical_name(name: str) -> Sequence[str]:
    return [each.message.split(": ", 2)[2] for each in validate_canonical_address(name, FieldPath())]


def _validate_parent(address: Object) -> list[FieldError]:
    parent, path = (address.get("spec") or {}).get("parentRef"), FieldPath("spec.parentRef")
    if parent is None:
        return [required(path)]
    errors: list[FieldError] = []
    if parent.get("group"):
        errors += metadata.validate_name(parent["group"], path.child("group"))
    for field in ("resource", "name", "namespace"):
        value, where = parent.get(field) or "", path.child(field)
        if value:
            errors.extend(invalid(where, value, text) for text in metadata.path_segment_name(value))
        elif field != "namespace":
            errors.append(required(where))
    return errors


def _validate_parent_update(new: Object, old: Object) -> list[FieldError]:
    after, before = ((each.get("spec") or {}).get("parentRef") for each in (new, old))
    errors = _validate_parent(new)
    if after != before:
        shown = internal("*ParentReference", after)
        errors.append(invalid(FieldPath("spec.parentRef"), shown, metadata.IMMUTABLE))
    return errors


IP_ADDRESS = KindRules(
    validate=_validate_parent,
    validate_update=_validate_parent_update,
    valid_name=_canonical_name,
)


def _ranges_of(service_range: Object) -> list[str]:
    return list((service_range.get("spec") or {}).get("cidrs") or ())


def _validate_new_range(text: str, path: FieldPath) -> list[FieldError]:
    """Complaints about a range of a newer field, which must be written the one right way."""
    wrong, found = validate_range(text, path), parse_range(text)
    if wrong or found is None:
        return wrong
    address, _, length = text.partition("/")
    try:
        given = ipaddress.ip_address(address)
    except ValueError:
        return [invalid(path, text, "must not have leading 0s in IP or prefix length")]
    if len(length) > 1 and length.startswith("0"):
        return [invalid(path, text, "must not have leading 0s in IP or prefix length")]
    if isinstance(given, ipaddress.IPv6Address) and given.ipv4_mapped is not None:
        return [invalid(path, text, "must not have an IPv4-mapped IPv6 address")]
    if given != found.network_address:
        return [invalid(path, text, "must not have bits set beyond the prefix length")]
    return [] if str(found) == text else [invalid(path, text, f'must be in canonical form ("{found}")')]


def validate_service_range(service_range: Object) -> list[FieldError]:
    ranges = _ranges_of(service_range)
    if not ranges:
        return [required(_RANGES, "at least one CIDR required")]
    if len(ranges) > 2:
        return [invalid(_RANGES, {"CIDRs": ranges}, "may only hold up to 2 values")]
    errors: list[FieldError] = []
    for at, text in enumerate(ranges):
        errors += _validate_new_range(text, _RANGES.index(at))
    if len(ranges) == 2 and not dual_stack(ranges) and parse_range(ranges[0]) and parse_range(ranges[1]):
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        errors.append(invalid(_RANGES, ranges, text))
    return errors


def validate_service_range_update(new: Object, old: Object) -> list[FieldError]:
    after, before = _ranges_of(new), _ranges_of(old)
    grown = len(before) == 1 and len(after) == 2
    if len(after) != len(before) and not grown:
        return [invalid(_RANGES, after or None, metadata.IMMUTABLE)]
    errors = [
        invalid(_RANGES.index(at), after[at], metadata.IMMUTABLE) for at, text in enumerate(before) if after[at] != text
    ]
    return errors + validate_service_range(new) if grown else errors


SERVICE_RANGE = KindRules(
    default=lambda obj: {**obj, "spec": obj.get("spec") or {}, "status": obj.get("status") or {}},
    prepare_create=strategy.created(status={}, generation=False),
    prepare_update=strategy.updated(counted=()),
    prepare_status=strategy.status_only(keep_metadata=strategy.STATUS_METADATA),
    validate=validate_service_range,
    validate_update=validate_service_range_update,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("networking.k8s.io", "IPAddress", IP_ADDRESS),
    ("networking.k8s.io", "ServiceCIDR", SERVICE_RANGE),
)
