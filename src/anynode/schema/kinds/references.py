"""References from a pod to its own fields and resources (the downward API), and names of outside parties.

Source: kubernetes ``pkg/apis/core/validation/validation.go`` (validateObjectFieldSelector,
validateContainerResourceFieldSelector), ``pkg/apis/core/pods/helpers.go``, ``pkg/fieldpath``, 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from anynode.api import names
from anynode.api.formats import canonical_quantity
from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, invalid, not_supported, required
from anynode.schema.metadata import validate_label_key

_FIELDS = frozenset((
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName", "status.phase", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
))  # fmt: skip
_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage",
    "requests.memory",
)  # fmt: skip
_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_http_path = re.compile(_HTTP_PATH).fullmatch
_HUGE = ("requests.hugepages-", "limits.hugepages-")
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def split_subscript(path: str) -> tuple[str, str] | None:
    """``metadata.labels['a']`` -> (``metadata.labels``, ``a``); None when there is no subscript."""
    if not path.endswith("']"):
        return None
    head, found, subscript = path[:-2].partition("['")
    return (head, subscript) if found and head else None


def validate_field_ref(reference: Object, allowed: Collection[str], path: FieldPath) -> list[FieldError]:
    version, label = reference.get("apiVersion") or "", reference.get("fieldPath") or ""
    if not version:
        return [required(path.child("apiVersion"))]
    if not label:
        return [required(path.child("fieldPath"))]
    wrong = _unknown_label(version, label)
    if wrong:
        return [invalid(path.child("fieldPath"), label, f"error converting fieldPath: {wrong}")]
    label = "spec.nodeName" if label == "spec.host" else label
    parts = split_subscript(label)
    if parts is None:
        return [] if label in allowed else [not_supported(path.child("fieldPath"), label, sorted(allowed))]
    head, subscript = parts
    return validate_label_key(subscript.lower() if head == "metadata.annotations" else subscript, path)


def _unknown_label(version: str, label: str) -> str:
    if version != "v1":
        return f"unsupported pod version: {version}"
    parts = split_subscript(label)
    if parts is not None:
        known = parts[0] in ("metadata.annotations", "metadata.labels")
        return "" if known else f"field label does not support subscript: {label}"
    return "" if label in _FIELDS or label == "spec.host" else f"field label not supported: {label}"


def validate_resource_ref(reference: Object, path: FieldPath, *, in_volume: bool) -> list[FieldError]:
    resource = reference.get("resource") or ""
    errors: list[FieldError] = []
    if in_volume and not reference.get("containerName"):
        errors.append(required(path.child("containerName")))
    elif not resource:
        errors.append(required(path.child("resource")))
    elif resource not in _RESOURCES and not resource.startswith(_HUGE):
        errors.append(not_supported(path.child("resource"), resource, _RESOURCES))
    return errors + _validate_divisor(resource, reference.get("divisor"), path)


def _validate_divisor(resource: str, divisor: str | None, path: FieldPath) -> list[FieldError]:
    shown = canonical_quantity(divisor) if divisor is not None else "0"
    if shown == "0":
        return []
    if resource.endswith(".cpu"):
        if shown in ("1m", "1"):
            return []
        return [
            invalid(
                path.child("divisor"), resource, "only divisor's values 1m and 1 are supported with the cpu resource"
            )
        ]
    noun = ""
    if resource.endswith(".memory"):
        noun = "memory"
    elif resource.endswith(".ephemeral-storage"):
        noun = "local ephemeral storage"
    elif resource.startswith(_HUGE):
        noun = "hugepages"
    if not noun or shown in _SIZES:
        return []
    text = f"only divisor's values {', '.join(_SIZES)} are supported with the {noun} resource"
    return [invalid(path.child("divisor"), resource, text)]


def validate_domain_path(text: str, path: FieldPath) -> list[FieldError]:
    """Complaints about ``acme.io/foo``."""
    if not text:
        return [required(path)]
    host, slash, tail = text.partition("/")
    if not (slash and host and tail):
        return [invalid(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors = [invalid(path, host, each) for each in names.dns1123_subdomain(host)]
    if not _http_path(tail):
        errors.append(invalid(path, tail, names.regex_error("Invalid path", _HTTP_PATH)))
    return errors
