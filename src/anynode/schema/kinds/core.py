"""The smaller core kinds: namespaces, configmaps, secrets, service accounts, endpoints, nodes.

Source: kubernetes ``pkg/apis/core/v1/defaults.go``, ``pkg/apis/core/v1/conversion.go``,
``pkg/apis/core/validation/validation.go``, ``pkg/registry/core/*/strategy.go``, 1.36.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from anynode.api.objects import Object, labels_of, meta, name_of
from anynode.schema import metadata
from anynode.schema.fields import FieldPath
from anynode.schema.kinds import core_rules, strategy
from anynode.schema.kinds.addresses import address_warnings
from anynode.schema.rules import KindRules, SubresourceRules

_NAME_LABEL = "kubernetes.io/metadata.name"
_NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
    "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip


def default_namespace(namespace: Object) -> Object:
    name, found = name_of(namespace), meta(namespace)
    if name and (found.get("labels") or {}).get(_NAME_LABEL) != name:
        labels = {**(found.get("labels") or {}), _NAME_LABEL: name}
        namespace = {**namespace, "metadata": {**found, "labels": labels}}
    status = namespace.get("status") or {}
    if not status.get("phase"):
        status = {**status, "phase": "Active"}
    return {**namespace, "spec": namespace.get("spec") or {}, "status": status}


def _create_namespace(namespace: Object) -> Object:
    spec = namespace.get("spec") or {}
    finalizers = list(spec.get("finalizers") or ())
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    prepared = default_namespace({**namespace, "spec": {**spec, "finalizers": finalizers}})
    return {**prepared, "status": {"phase": "Active"}}


def _update_namespace(new: Object, old: Object) -> Object:
    spec = strategy.with_field(new.get("spec") or {}, "finalizers", (old.get("spec") or {}).get("finalizers"))
    return default_namespace({**strategy.with_field(new, "status", old.get("status")), "spec": spec})


NAMESPACE = KindRules(
    default=default_namespace,
    prepare_create=_create_namespace,
    prepare_update=_update_namespace,
    prepare_status=strategy.status_only(),
    validate=core_rules.validate_namespace,
    validate_update=lambda new, _old: core_rules.validate_namespace(new),
    validate_status=core_rules.validate_namespace_status,
    valid_name=metadata.label_name,
    field_labels=("status.phase",),
    subresources={
        "finalize": SubresourceRules(
            prepare=strategy.updated(counted=()), validate=core_rules.validate_namespace_finalize
        )
    },
)

CONFIG_MAP = KindRules(
    validate=core_rules.validate_config_map,
    validate_update=core_rules.validate_config_map_update,
)


def default_secret(secret: Object) -> Object:
    """Type Opaque unless said; ``stringData`` goes into ``data``."""
    if secret.get("stringData"):
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in secret["stringData"].items()}
        secret = {**secret, "data": {**(secret.get("data") or {}), **encoded}}
    secret = strategy.without_fields(secret, ("stringData",))
    return secret if secret.get("type") else {**secret, "type": "Opaque"}


def _secret_warnings(secret: Object) -> Sequence[str]:
    if secret.get("type") != "kubernetes.io/tls":
        return ()
    data = secret.get("data") or {}
    certificate = base64.b64decode(data.get("tls.crt") or "")
    if b"-----BEGIN" not in certificate:
        return ("tls: failed to find any PEM data in certificate input",)
    if b"-----BEGIN" not in base64.b64decode(data.get("tls.key") or ""):
        return ("tls: failed to find any PEM data in key input",)
    return ()


SECRET = KindRules(
    default=default_secret,
    validate=core_rules.validate_secret,
    validate_update=core_rules.validate_secret_update,
    warnings=_secret_warnings,
    update_warnings=lambda new, _old: _secret_warnings(new),
    field_labels=("type",),
)


_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


def _with_secret_names(account: Object) -> Object:
    """Secrets of an account are known by their names alone."""
    secrets = account.get("secrets")
    if not secrets or all(each.keys() <= {"name"} for each in secrets):
        return account
    return {**account, "secrets": [{"name": each["name"]} if each.get("name") else {} for each in secrets]}


def _mountable_warnings(account: Object) -> Sequence[str]:
    if _MOUNTABLE not in (meta(account).get("annotations") or {}):
        return ()
    text = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    return (f"metadata.annotations[{_MOUNTABLE}]: {text}",)


SERVICE_ACCOUNT = KindRules(
    prepare_create=_with_secret_names,
    prepare_update=lambda new, _old: _with_secret_names(new),
    warnings=_mountable_warnings,
    update_warnings=lambda new, old: () if _mountable_warnings(old) else _mountable_warnings(new),
)


def default_endpoints(endpoints: Object) -> Object:
    subsets = endpoints.get("subsets")
    if not subsets or all(port.get("protocol") for subset in subsets for port in subset.get("ports") or ()):
        return endpoints
    return {**endpoints, "subsets": [_default_subset(each) for each in subsets]}


def _default_subset(subset: Object) -> Object:
    ports = subset.get("ports")
    if not ports:
        return subset
    return {**subset, "ports": [each if each.get("protocol") else {**each, "protocol": "TCP"} for each in ports]}


def _endpoints_warnings(endpoints: Object) -> Sequence[str]:
    if labels_of(endpoints).get("endpoints.kubernetes.io/managed-by") == "endpoint-controller":
        return ()
    warnings: list[str] = []
    for at, subset in enumerate(endpoints.get("subsets") or ()):
        for field in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(field) or ()):
                path = FieldPath("subsets").index(at).child(field).index(place).child("ip")
                warnings += address_warnings(address.get("ip") or "", path)
    return warnings


ENDPOINTS = KindRules(
    default=default_endpoints,
    validate=core_rules.validate_endpoints,
    validate_update=core_rules.validate_endpoints_update,
    warnings=_endpoints_warnings,
    update_warnings=lambda new, _old: _endpoints_warnings(new),
    allow_create_on_update=True,
)


def default_node(node: Object) -> Object:
    spec = node.get("spec") or {}
    first = next(iter(spec.get("podCIDRs") or ()), "")
    if spec.get("podCIDR") and spec["podCIDR"] != first:
        spec = {**spec, "podCIDRs": [spec["podCIDR"]]}
    elif first and not spec.get("podCIDR"):
        spec = {**spec, "podCIDR": first}
    status = dict(node.get("status") or {})
    if status.get("allocatable") is None and status.get("capacity"):
        status["allocatable"] = status["capacity"]
    found = status.get("nodeInfo") or {}
    status["nodeInfo"] = {**dict.fromkeys(_NODE_INFO, ""), **found}
    endpoints = status.get("daemonEndpoints") or {}
    kubelet = endpoints.get("kubeletEndpoint") or {}
    if "Port" not in kubelet:
        kubelet = {**kubelet, "Port": 0}
    status["daemonEndpoints"] = {**endpoints, "kubeletEndpoint": kubelet}
    return {**node, "spec": spec, "status": status}


def _create_node(node: Object) -> Object:
    spec = strategy.without_fields(node.get("spec") or {}, ("configSource",))
    status = strategy.without_fields(node.get("status") or {}, ("config",))
    return {**node, "spec": spec, "status": status}


def _update_node(new: Object, old: Object) -> Object:
    new = strategy.updated(counted=())(new, old)
    if "configSource" not in (new.get("spec") or {}) or "configSource" in (old.get("spec") or {}):
        return new
    return {**new, "spec": strategy.without_fields(new["spec"], ("configSource",))}


def _status_of_node(new: Object, old: Object) -> Object:
    new = strategy.status_only()(new, old)
    if "config" not in (new.get("status") or {}) or "config" in (old.get("status") or {}):
        return new
    return {**new, "status": strategy.without_fields(new["status"], ("config",))}


NODE = KindRules(
    default=default_node,
    prepare_create=_create_node,
    prepare_update=_update_node,
    prepare_status=_status_of_node,
    validate=core_rules.validate_node,
    validate_update=core_rules.validate_node_update,
    validate_status=core_rules.validate_node_status,
    field_labels=("spec.unschedulable",),
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("", "Namespace", NAMESPACE),
    ("", "ConfigMap", CONFIG_MAP),
    ("", "Secret", SECRET),
    ("", "ServiceAccount", SERVICE_ACCOUNT),
    ("", "Endpoints", ENDPOINTS),
    ("", "Node", NODE),
)
