"""Network policies.

Source: kubernetes ``pkg/apis/networking/validation/validation.go`` (ValidateNetworkPolicy and below),
``pkg/apis/networking/v1/defaults.go``, ``pkg/registry/networking/networkpolicy/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, forbidden, invalid, not_supported, required
from anynode.schema.kinds import selection, strategy
from anynode.schema.kinds.addresses import Network, parse_range, validate_range
from anynode.schema.rules import KindRules

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_WAYS = (("ingress", "from"), ("egress", "to"))


def default_policy(policy: Object) -> Object:
    spec = dict(policy.get("spec") or {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for way, _ in _WAYS:
        if spec.get(way):
            spec[way] = [_default_rule(rule) for rule in spec[way]]
    return {**policy, "spec": spec}


def _default_rule(rule: Object) -> Object:
    if not rule.get("ports"):
        return rule
    return {
        **rule,
        "ports": [
            {"protocol": "TCP", **{key: value for key, value in port.items() if value is not None}}
            for port in rule["ports"]
        ],
    }


def _peers(policy: Object) -> Iterator[Object]:
    spec = policy.get("spec") or {}
    for way, side in _WAYS:
        for rule in spec.get(way) or ():
            yield from rule.get(side) or ()


def _ranges(policy: Object) -> set[str]:
    blocks = [peer["ipBlock"] for peer in _peers(policy) if peer.get("ipBlock")]
    return {text for block in blocks for text in (block.get("cidr") or "", *(block.get("except") or ()))}


def _validate_policy(policy: Object, known: Collection[str]) -> list[FieldError]:
    spec, path = policy.get("spec") or {}, FieldPath("spec")
    errors = selection.validate_label_selector(spec.get("podSelector"), path.child("podSelector"))
    for way, side in _WAYS:
        for at, rule in enumerate(spec.get(way) or ()):
            where = path.child(way).index(at)
            for place, port in enumerate(rule.get("ports") or ()):
                errors += _validate_port(port, where.child("ports").index(place))
            for place, peer in enumerate(rule.get(side) or ()):
                errors += _validate_peer(peer, known, where.child(side).index(place))
    types, where = spec.get("policyTypes") or (), path.child("policyTypes")
    if len(types) > 2:
        return [*errors, invalid(where, types, "may not specify more than two policyTypes")]
    for at, each in enumerate(types):
        if each not in ("Ingress", "Egress"):
            errors.append(not_supported(where.index(at), each, ("Ingress", "Egress")))
    return errors


def _validate_port(entry: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    protocol, port, last = entry.get("protocol"), entry.get("port"), entry.get("endPort")
    where = path.child("endPort")
    if protocol not in _PROTOCOLS:
        errors.append(not_supported(path.child("protocol"), protocol, _PROTOCOLS))
    if port is None:
        if last is not None:
            errors.append(invalid(where, last, "may not be specified when `port` is not specified"))
    elif isinstance(port, str):
        if last is not None:
            errors.append(invalid(where, last, "may not be specified when `port` is non-numeric"))
        errors.extend(invalid(path.child("port"), port, text) for text in names.port_name(port))
    else:
        errors.extend(invalid(path.child("port"), port, text) for text in names.port_number(port))
        if last is not None:
            if last < port:
                errors.append(invalid(where, port, "must be greater than or equal to `port`"))
            errors.extend(invalid(where, last, text) for text in names.port_number(last))
    return errors


def _validate_peer(peer: Object, known: Collection[str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [field for field in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(field) is not None]
    for field in given:
        if field == "ipBlock":
            errors += _validate_block(peer[field], known, path.child(field))
        else:
            errors += selection.validate_label_selector(peer[field], path.child(field))
    if not given:
        errors.append(required(path, "must specify a peer"))
    elif len(given) > 1 and "ipBlock" in given:
        errors.append(forbidden(path, "may not specify both ipBlock and another peer"))
    return errors


def _validate_block(block: Object, known: Collection[str], path: FieldPath) -> list[FieldError]:
    text = block.get("cidr") or ""
    if not text:
        return [required(path.child("cidr"))]
    errors = validate_range(text, path.child("cidr"), known)
    whole = parse_range(text)
    if whole is None:
        return errors
    for at, part in enumerate(block.get("except") or ()):
        where = path.child("except").index(at)
        errors += validate_range(part, where, known)
        found = parse_range(part)
        if found is not None and not _strictly_inside(found, whole):
            errors.append(invalid(where, part, "must be a strict subset of `cidr`"))
    return errors


def _strictly_inside(part: Network, whole: Network) -> bool:
    return part.network_address in whole and part.prefixlen > whole.prefixlen


NETWORK_POLICY = KindRules(
    default=default_policy,
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=lambda policy: _validate_policy(policy, ()),
    validate_update=lambda new, old: _validate_policy(new, _ranges(old)),
)

RULES: Sequence[tuple[str, str, KindRules]] = (("networking.k8s.io", "NetworkPolicy", NETWORK_POLICY),)
