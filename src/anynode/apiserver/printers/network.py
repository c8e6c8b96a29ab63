"""Rows of services, their endpoints, and networking.k8s.io.

Source: kubernetes ``pkg/printers/internalversion/printers.go``, 1.36.
"""

from __future__ import annotations

import datetime
from typing import Any

from anynode.api import objects
from anynode.api.objects import Object
from anynode.apiserver.printers.wording import (
    LISTED,
    NONE,
    UNKNOWN,
    UNSET,
    age,
    label_list,
    selector,
    shortened,
    sorted_set,
)

DEFAULT_INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"


def service(obj: Object, now: datetime.datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [
        objects.name_of(obj),
        spec.get("type", ""),
        addresses[0] if addresses else NONE,
        _external_address(spec, obj.get("status") or {}),
        ",".join(_service_port(each) for each in spec.get("ports") or ()) or NONE,
        age(obj, now),
        label_list(spec.get("selector")),
    ]


def _service_port(port: Object) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node_port}/{port.get('protocol', '')}"


def _external_address(spec: Object, status: Object) -> str:
    external, kind = spec.get("externalIPs") or [], spec.get("type")
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(external) or NONE
    if kind == "LoadBalancer":
        return ",".join([*_balancers(status), *external]) or "<pending>"
    return spec.get("externalName", "") if kind == "ExternalName" else UNKNOWN


def _balancers(status: Object) -> list[str]:
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    return sorted_set(each.get("ip") or each.get("hostname") or "" for each in ingress)


def endpoints(obj: Object, now: datetime.datetime) -> list[Any]:
    subsets = obj.get("subsets") or ()
    found: list[str] = []
    for subset in subsets:
        addresses = [each.get("ip", "") for each in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            found += addresses
        for port in ports:
            found += [_host_port(address, port.get("port") or 0) for address in addresses]
    return [objects.name_of(obj), shortened(found) if subsets else NONE, age(obj, now)]


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoint_slice(obj: Object, now: datetime.datetime) -> list[Any]:
    ports = [_slice_port(each) for each in obj.get("ports") or ()]
    addresses = [address for each in obj.get("endpoints") or () for address in each.get("addresses") or ()]
    return [
        objects.name_of(obj),
        obj.get("addressType", ""),
        shortened(ports) or UNSET,
        shortened(addresses) or UNSET,
        age(obj, now),
    ]


def _slice_port(port: Object) -> str:
    if port.get("port") is not None:
        return str(port["port"])
    return port["name"] if port.get("name") is not None else "*"


def ingress(obj: Object, now: datetime.datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    name = spec.get("ingressClassName")
    return [
        objects.name_of(obj),
        NONE if name is None else name,
        _hosts(spec.get("rules") or []),
        ",".join(_balancers(obj.get("status") or {})),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now),
    ]


def _hosts(rules: list[Object]) -> str:
    """The first three hosts; rules after the third host are counted, with a host or without."""
    listed: list[str] = []
    for rule in rules:
        if len(listed) == LISTED:
            return f"{','.join(listed)} + {len(rules) - LISTED} more..."
        if rule.get("host"):
            listed.append(rule["host"])
    return ",".join(listed) or "*"


def ingress_class(obj: Object, now: datetime.datetime) -> list[Any]:
    spec, name, said = obj.get("spec") or {}, objects.name_of(obj), NONE
    if objects.annotations_of(obj).get(DEFAULT_INGRESS_CLASS) == "true":
        name += " (default)"
    parameters = spec.get("parameters")
    if parameters is not None:
        group = parameters.get("apiGroup")
        kind = parameters.get("kind", "") + ("" if group is None else f".{group}")
        said = f"{kind}/{parameters.get('name', '')}"
    return [name, spec.get("controller", ""), said, age(obj, now)]


def network_policy(obj: Object, now: datetime.datetime) -> list[Any]:
    pods = objects.get_path(obj, "spec", "podSelector", default={})
    return [objects.name_of(obj), selector(pods), age(obj, now)]


def service_cidr(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), ",".join(objects.get_path(obj, "spec", "cidrs", default=())), age(obj, now)]


def ip_address(obj: Object, now: datetime.datetime) -> list[Any]:
    """One cell more than there are columns, as upstream's."""
    parent, said = objects.get_path(obj, "spec", "parentRef"), NONE
    if parent is not None:
        group, resource = parent.get("group"), parent.get("resource", "")
        parts = [
            (f"{resource}.{group}" if group else resource).lower(),
            parent.get("namespace"),
            parent.get("name", ""),
        ]
        said = "/".join(part for part in parts if part is not None and part != "")
    return [objects.name_of(obj), said, age(obj, now)]
