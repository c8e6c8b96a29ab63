"""Services: defaults, what a create and an update keep, and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

SERVICE = rules_of("", "Service")
PORTS = [{"port": 80, "protocol": "TCP", "targetPort": 80}]


def service(**spec: Any) -> dict[str, Any]:
    whole = {"ports": [{"port": 80}], **spec}
    metadata = {"name": "s", "namespace": "d"}
    return dict(SERVICE.prepare_create(SERVICE.default({"metadata": metadata, "spec": whole})))


def told(**spec: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in SERVICE.validate(service(**spec))]


def updated(old: dict[str, Any], **spec: Any) -> dict[str, Any]:
    new = {**old, "spec": {**old["spec"], **spec}}
    return dict(SERVICE.prepare_update(SERVICE.default(new), old))


def refused(old: dict[str, Any], **spec: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in SERVICE.validate_update(updated(old, **spec), old)]


def test_a_bare_service_is_filled() -> None:
    made = service()
    assert made["spec"] == {
        "ports": PORTS,
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
    }
    assert made["status"] == {"loadBalancer": {}}
    assert "generation" not in made["metadata"]


def test_types_bring_their_own_defaults() -> None:
    assert service(type="NodePort")["spec"]["externalTrafficPolicy"] == "Cluster"
    balanced = service(type="LoadBalancer")["spec"]
    assert balanced["allocateLoadBalancerNodePorts"] is True
    assert "internalTrafficPolicy" not in service(type="ExternalName", externalName="a.b", ports=[])["spec"]
    # It is dropped only after the client has come to own it.
    kept = SERVICE.default({"spec": {"type": "ExternalName", "internalTrafficPolicy": "Cluster"}})
    assert kept["spec"]["internalTrafficPolicy"] == "Cluster"
    assert "internalTrafficPolicy" not in SERVICE.prepare_create(kept)["spec"]
    sticky = service(sessionAffinity="ClientIP")["spec"]
    assert sticky["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_one_address_is_two_fields() -> None:
    assert service(clusterIP="None")["spec"]["clusterIPs"] == ["None"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"ports": []}, ["spec.ports: Required value"]),
        ({"ports": [], "clusterIP": "None"}, []),
        ({"type": "Odd"}, ['spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", '
                           '"LoadBalancer", "NodePort"']),
        ({"type": "ExternalName", "externalName": ""}, ["spec.externalName: Required value"]),
        ({"type": "LoadBalancer", "clusterIP": "None"},
            ['spec.clusterIPs[0]: Invalid value: "None": may not be set to \'None\' for LoadBalancer services']),
        ({"ports": [{"port": 0}]},
            ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
             "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive"]),
        ({"ports": [{"port": 1}, {"port": 2}]},
            ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]},
            ['spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":1,"TargetPort":0,'
             '"NodePort":0}']),
        ({"ports": [{"port": 80, "nodePort": 30000}]},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
        ({"selector": {"a b": "c"}}, ['spec.selector: Invalid value: "a b": name part must consist of alphanumeric '
            "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or "
            "'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"]),
        ({"clusterIP": "x"}, ['spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, '
                              "(e.g. 10.9.8.7 or 2001:db8::ffff)"]),
        ({"externalIPs": ["127.0.0.1"]},
            ['spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range '
             "(127.0.0.0/8, ::1/128)"]),
    ],
)  # fmt: skip
def test_bad_services(spec: dict[str, Any], expected: list[str]) -> None:
    assert told(**spec) == expected


def allocated(**spec: Any) -> dict[str, Any]:
    made = service(**spec)
    return {**made, "spec": {**made["spec"], "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}}


def test_an_update_that_forgets_the_address_keeps_it() -> None:
    old = allocated()
    new = updated(old, clusterIP="", clusterIPs=[])
    assert (new["spec"]["clusterIP"], new["spec"]["clusterIPs"]) == ("10.96.0.9", ["10.96.0.9"])


def test_an_address_may_not_change() -> None:
    assert refused(allocated(), clusterIP="10.96.0.8", clusterIPs=["10.96.0.8"]) == [
        'spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set'
    ]
    assert refused(allocated(), selector={"a": "b"}) == []


def test_an_external_name_gives_its_address_back() -> None:
    new = updated(allocated(), type="ExternalName", externalName="a.b", clusterIP="", clusterIPs=[])
    assert not new["spec"].get("clusterIP")
    assert not new["spec"].get("clusterIPs")


def test_node_ports_survive_an_update_that_forgets_them() -> None:
    old = allocated(type="NodePort")
    old["spec"]["ports"] = [{**PORTS[0], "nodePort": 30001}]
    assert updated(old, ports=PORTS)["spec"]["ports"][0]["nodePort"] == 30001


def test_balancer_status_is_judged() -> None:
    old = allocated(type="LoadBalancer")
    status = {"loadBalancer": {"ingress": [{"ip": "x", "ipMode": "VIP", "hostname": "A"}]}}
    found = [each.field for each in SERVICE.validate_status({**old, "status": status}, old)]
    assert found == ["status.loadBalancer.ingress[0].ip", "status.loadBalancer.ingress[0].hostname"]
