"""Ingresses, their classes, network policies, address ranges and addresses."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds import addresses
from anynode.schema.kinds.catalogue import rules_of

GROUP = "networking.k8s.io"
BACKEND = {"service": {"name": "s", "port": {"number": 80}}}


def told(kind: str, **spec: Any) -> list[str]:
    rules = rules_of(GROUP, kind)
    made = rules.prepare_create(rules.default({"metadata": {"name": "x"}, "spec": spec}))
    return [f"{each.field}: {each.message}" for each in rules.validate(made)]


def path(**given: Any) -> dict[str, Any]:
    return {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND, **given}]}}]}


PATH = "spec.rules[0].http.paths[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (path(), []),
        ({}, ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]),
        (path(pathType=None), [f"{PATH}.pathType: Required value: pathType must be specified"]),
        (path(path="a"), [f'{PATH}.path: Invalid value: "a": must be an absolute path']),
        (path(path="/a/../b"), [f"{PATH}.path: Invalid value: \"/a/../b\": must not contain '/../'"]),
        (path(path="/a/.."), [f"{PATH}.path: Invalid value: \"/a/..\": cannot end with '/..'"]),
        (path(path="", pathType="ImplementationSpecific"), []),
        (path(backend={}), [f'{PATH}.backend: Invalid value: "": resource or service backend is required']),
        ({"rules": [{"host": "1.2.3.4"}]},
            ['spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address']),
        ({"rules": [{"host": "*.example.com"}]}, []),
        ({"defaultBackend": {"service": {"name": "s"}}},
            ["spec.defaultBackend: Required value: port name or number is required"]),
    ],
)  # fmt: skip
def test_bad_ingresses(spec: dict[str, Any], expected: list[str]) -> None:
    assert told("Ingress", **spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"controller": "a.b/c"}, []),
        ({}, ["spec.controller: Required value"]),
        ({"controller": "c"},
            ['spec.controller: Invalid value: "c": must be a domain-prefixed path (such as "acme.io/foo")']),
        ({"controller": "a.b/c", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}},
            ["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"]),
        ({"controller": "a.b/c", "parameters": {"kind": "K", "name": "n", "namespace": "d"}},
            ["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"]),
    ],
)  # fmt: skip
def test_bad_classes(spec: dict[str, Any], expected: list[str]) -> None:
    assert told("IngressClass", **spec) == expected


def test_a_network_policy_is_filled() -> None:
    rules = rules_of(GROUP, "NetworkPolicy")
    spec = rules.default({"spec": {"egress": [{"ports": [{"port": 53}]}]}})["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == [{"ports": [{"port": 53, "protocol": "TCP"}]}]


def block(cidr: str, *excepted: str) -> dict[str, Any]:
    return {"ingress": [{"from": [{"ipBlock": {"cidr": cidr, "except": list(excepted)}}]}]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (block("10.0.0.0/8", "10.1.0.0/16"), []),
        (block("10.0.0.0/8", "11.0.0.0/16"),
            ['spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of '
             "`cidr`"]),
        (block("10.0.0.0/8", "10.0.0.0/8"),
            ['spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of '
             "`cidr`"]),
        (block(""), ["spec.ingress[0].from[0].ipBlock.cidr: Required value"]),
        ({"egress": [{"to": [{}]}]}, ["spec.egress[0].to[0]: Required value: must specify a peer"]),
        ({"egress": [{"ports": [{"port": 5, "endPort": 4}]}]},
            ["spec.egress[0].ports[0].endPort: Invalid value: 5: must be greater than or equal to `port`"]),
        ({"policyTypes": ["Odd"]},
            ['spec.policyTypes[0]: Unsupported value: "Odd": supported values: "Ingress", "Egress"']),
    ],
)  # fmt: skip
def test_bad_network_policies(spec: dict[str, Any], expected: list[str]) -> None:
    assert told("NetworkPolicy", **spec) == expected


def test_a_bad_range_that_was_there_may_stay() -> None:
    rules = rules_of(GROUP, "NetworkPolicy")
    old = rules.default({"spec": block("nope")})
    assert list(rules.validate(old)) != []
    assert list(rules.validate_update(old, old)) == []


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        (["10.5.0.0/24"], ""),
        (["10.5.0.0/24", "fd00::/64"], ""),
        ([], "at least one CIDR required"),
        (["10.5.0.1/24"], "must not have bits set beyond the prefix length"),
        (["10.05.0.0/24"], "must not have leading 0s in IP or prefix length"),
        (["FD00::/64"], 'must be in canonical form ("fd00::/64")'),
        (["10.5.0.0/24", "10.6.0.0/24"], "may specify no more than one IP for each IP family"),
    ],
)
def test_service_ranges(ranges: list[str], expected: str) -> None:
    found = told("ServiceCIDR", cidrs=ranges)
    assert len(found) == bool(expected)
    assert expected in "".join(found)


def test_a_service_range_may_only_gain_its_other_family() -> None:
    rules = rules_of(GROUP, "ServiceCIDR")
    old, both, other = (
        {"spec": {"cidrs": each}} for each in (["10.5.0.0/24"], ["10.5.0.0/24", "fd00::/64"], ["10.6.0.0/24"])
    )
    assert list(rules.validate_update(both, old)) == []
    assert [each.field for each in rules.validate_update(other, old)] == ["spec.cidrs[0]"]
    assert [each.field for each in rules.validate_update(old, both)] == ["spec.cidrs"]


def test_addresses_are_named_after_themselves() -> None:
    valid_name = rules_of(GROUP, "IPAddress").valid_name
    assert valid_name is not None
    assert list(valid_name("10.0.0.1")) == []
    assert list(valid_name("2001:DB8::1")) == ['must be in canonical form ("2001:db8::1")']


@pytest.mark.parametrize(
    ("text", "good"),
    [("10.0.0.1", True), ("010.0.0.1", True), ("fe80::1%eth0", False), ("10.0.0", False), ("::ffff:1.2.3.4", True)],
)
def test_old_fields_take_odd_addresses(text: str, good: bool) -> None:
    assert (addresses.parse_address(text) is not None) == good
