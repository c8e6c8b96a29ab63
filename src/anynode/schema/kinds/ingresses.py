"""Ingresses and their classes.

Source: kubernetes ``pkg/apis/networking/validation/validation.go``, ``pkg/apis/networking/v1/defaults.go``,
``pkg/registry/networking/{ingress,ingressclass}/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api import names
from anynode.api.objects import Object, meta
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, forbidden, invalid, not_supported, required, too_long
from anynode.schema.kinds import strategy
from anynode.schema.kinds.addresses import balancer_warnings, parse_address, validate_address
from anynode.schema.kinds.references import validate_domain_path
from anynode.schema.rules import KindRules

_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_NO_DNS_NAME = "must be a DNS name, not an IP address"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_PARTS = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")


def default_ingress(ingress: Object) -> Object:
    filled = dict(ingress)
    filled["spec"] = ingress.get("spec") or {}
    status = ingress.get("status") or {}
    filled["status"] = {**status, "loadBalancer": status.get("loadBalancer") or {}}
    return filled


def _validate_backend(backend: Object, path: FieldPath) -> list[FieldError]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _validate_reference(resource, path.child("resource"))
    if service is None:
        return [invalid(path, "", "resource or service backend is required")]
    return _validate_service(service, path)


def _validate_service(service: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    name, port = service.get("name") or "", service.get("port") or {}
    where = path.child("service")
    if not name:
        errors.append(required(where.child("name")))
    else:
        errors += metadata.validate_name(name, where.child("name"), metadata.label_name)
    if port.get("name") and port.get("number"):
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        errors.extend(
            invalid(where.child("port", "name"), port["name"], text) for text in names.port_name(port["name"])
        )
    elif port.get("number"):
        number = port["number"]
        errors.extend(invalid(where.child("port", "number"), number, text) for text in names.port_number(number))
    else:
        errors.append(required(path, "port name or number is required"))
    return errors


def _validate_reference(reference: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    if reference.get("apiGroup") is not None:
        group = reference["apiGroup"]
        errors.extend(invalid(path.child("apiGroup"), group, text) for text in metadata.subdomain_name(group))
    for field in ("kind", "name"):
        value, where = reference.get(field) or "", path.child(field)
        if value:
            errors.extend(invalid(where, value, text) for text in metadata.path_segment_name(value))
        else:
            errors.append(required(where))
    return errors


def validate_host(host: str, path: FieldPath) -> list[FieldError]:
    rule = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
    return [invalid(path, host, text) for text in rule(host)]


def _validate_rule(rule: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    host, http = rule.get("host") or "", rule.get("http")
    if host:
        if parse_address(host) is not None:
            errors.append(invalid(path.child("host"), host, _NO_DNS_NAME))
        errors += validate_host(host, path.child("host"))
    if http is not None:
        where = path.child("http", "paths")
        if not http.get("paths"):
            errors.append(required(where))
        for at, each in enumerate(http.get("paths") or ()):
            errors += _validate_path(each, where.index(at))
    return errors


def _validate_path(entry: Object, path: FieldPath) -> list[FieldError]:
    kind, text, where = entry.get("pathType"), entry.get("path") or "", path.child("path")
    errors: list[FieldError] = []
    if kind is None:
        return [required(path.child("pathType"), "pathType must be specified")]
    if kind not in _PATH_TYPES:
        errors.append(not_supported(path.child("pathType"), kind, _PATH_TYPES))
    elif not text.startswith("/") and (text or kind != "ImplementationSpecific"):
        errors.append(invalid(where, text, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        errors.extend(invalid(where, text, f"must not contain '{part}'") for part in _BAD_PARTS if part in text)
        errors.extend(invalid(where, text, f"cannot end with '{end}'") for end in _BAD_ENDS if text.endswith(end))
    return errors + _validate_backend(entry.get("backend") or {}, path.child("backend"))


def _validate_spec(spec: Object) -> list[FieldError]:
    path = FieldPath("spec")
    errors: list[FieldError] = []
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        errors.append(invalid(path, spec.get("rules"), "either `defaultBackend` or `rules` must be specified"))
    if spec.get("defaultBackend") is not None:
        errors += _validate_backend(spec["defaultBackend"], path.child("defaultBackend"))
    for at, rule in enumerate(spec.get("rules") or ()):
        errors += _validate_rule(rule, path.child("rules").index(at))
    for at, entry in enumerate(spec.get("tls") or ()):
        where, secret = path.child("tls").index(at), entry.get("secretName") or ""
        for place, host in enumerate(entry.get("hosts") or ()):
            errors += validate_host(host, where.child("hosts").index(place))
        if secret:
            errors += metadata.validate_name(secret, where.child("secretName"))
    if spec.get("ingressClassName") is not None:
        errors += metadata.validate_name(spec["ingressClassName"], path.child("ingressClassName"))
    return errors


def validate_ingress(ingress: Object) -> list[FieldError]:
    spec = ingress.get("spec") or {}
    errors = _validate_spec(spec)
    named, wanted = (meta(ingress).get("annotations") or {}).get(_CLASS_ANNOTATION), spec.get("ingressClassName")
    if named is not None and wanted is not None and named != wanted:
        path = FieldPath("annotations").child(_CLASS_ANNOTATION)
        errors.append(invalid(path, named, "must match `ingressClassName` when both are specified"))
    return errors


def validate_ingress_status(new: Object, old: Object) -> list[FieldError]:
    entries, before = (
        ((each.get("status") or {}).get("loadBalancer") or {}).get("ingress") or () for each in (new, old)
    )
    known = {each["ip"] for each in before if each.get("ip")}
    errors: list[FieldError] = []
    for at, entry in enumerate(entries):
        path, host = FieldPath("status.loadBalancer.ingress").index(at), entry.get("hostname") or ""
        if entry.get("ip"):
            errors += validate_address(entry["ip"], path.child("ip"), known)
        if host:
            errors.extend(invalid(path.child("hostname"), host, text) for text in names.dns1123_subdomain(host))
            if parse_address(host) is not None:
                errors.append(invalid(path.child("hostname"), host, _NO_DNS_NAME))
    return errors


def _ingress_warnings(ingress: Object) -> Sequence[str]:
    annotated = _CLASS_ANNOTATION in (meta(ingress).get("annotations") or {})
    if annotated and (ingress.get("spec") or {}).get("ingressClassName") is None:
        return (f"annotation \"{_CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead",)
    return ()


INGRESS = KindRules(
    default=default_ingress,
    prepare_create=strategy.created(status={"loadBalancer": {}}),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(),
    validate=validate_ingress,
    validate_update=lambda new, _old: _validate_spec(new.get("spec") or {}),
    validate_status=validate_ingress_status,
    status_warnings=lambda new, _old: balancer_warnings(new),
    warnings=_ingress_warnings,
)


def default_class(ingress_class: Object) -> Object:
    spec = ingress_class.get("spec") or {}
    parameters = spec.get("parameters")
    if parameters is None or parameters.get("scope") is not None:
        return {**ingress_class, "spec": spec}
    return {**ingress_class, "spec": {**spec, "parameters": {**parameters, "scope": "Cluster"}}}


def validate_class(ingress_class: Object) -> list[FieldError]:
    spec, path = ingress_class.get("spec") or {}, FieldPath("spec")
    controller = spec.get("controller") or ""
    errors: list[FieldError] = []
    if len(controller) > 250:
        errors.append(too_long(path.child("controller"), 250))
    errors += validate_domain_path(controller, path.child("controller"))
    if spec.get("parameters") is not None:
        errors += _validate_parameters(spec["parameters"], path.child("parameters"))
    return errors


def _validate_parameters(parameters: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_reference(parameters, path)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        errors.append(required(path.child("scope")))
    elif scope not in ("Cluster", "Namespace"):
        errors.append(not_supported(path.child("scope"), scope, ("Cluster", "Namespace")))
    elif scope == "Cluster" and namespace is not None:
        errors.append(forbidden(path.child("namespace"), "`parameters.scope` is set to 'Cluster'"))
    elif scope == "Namespace" and namespace is None:
        errors.append(required(path.child("namespace"), "`parameters.scope` is set to 'Namespace'"))
    elif namespace is not None:
        errors += metadata.validate_name(namespace, path.child("namespace"), metadata.label_name)
    return errors


def validate_class_update(new: Object, old: Object) -> list[FieldError]:
    after, before = ((each.get("spec") or {}).get("controller") or "" for each in (new, old))
    errors = metadata.validate_immutable(after, before, FieldPath("spec.controller"))
    return errors + validate_class(new)


INGRESS_CLASS = KindRules(
    default=default_class,
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=validate_class,
    validate_update=validate_class_update,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("networking.k8s.io", "Ingress", INGRESS),
    ("networking.k8s.io", "IngressClass", INGRESS_CLASS),
)
