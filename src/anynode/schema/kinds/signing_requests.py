"""Certificate signing requests.

Who asks is the server's to write into ``spec``; what the PEM block of a request holds is not parsed. Source: kubernetes
``pkg/apis/certificates/validation/validation.go``, ``pkg/registry/certificates/certificates/strategy.go``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from anynode.schema.kinds import strategy
from anynode.schema.rules import KindRules, SubresourceRules

_SPEC, _CONDITIONS = FieldPath("spec"), FieldPath("status.conditions")
_CERTIFICATE = FieldPath("status.certificate")
_LEGACY = "kubernetes.io/legacy-unknown"
_ASKER = ("username", "uid", "groups", "extra")
_FINAL = ("Approved", "Denied", "Failed")
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip


def _prepare_create(request: Object) -> Object:
    """Whatever the client says of who asks, or of the outcome, goes."""
    spec = strategy.without_fields(request.get("spec") or {}, _ASKER)
    return {**request, "spec": spec, "status": {}}


def _prepare_approval(new: Object, old: Object) -> Object:
    """Conditions alone are taken from ``new``."""
    conditions = (new.get("status") or {}).get("conditions")
    status = strategy.with_field(old.get("status") or {}, "conditions", conditions or None)
    return {**new, "spec": old.get("spec") or {}, "status": status}


def _prepare_status(new: Object, old: Object) -> Object:
    """Approvals and denials stay as they were, unless their number changes, which is then refused."""
    conditions = list((new.get("status") or {}).get("conditions") or ())
    for kind in _FINAL[:2]:
        before = _conditions(old, kind)
        places = [at for at, each in enumerate(conditions) if each.get("type") == kind]
        if len(places) == len(before):
            for at, condition in zip(places, before, strict=True):
                conditions[at] = condition
    status = strategy.with_field(new.get("status") or {}, "conditions", conditions or None)
    return {**new, "spec": old.get("spec") or {}, "status": status}


def _block_type(text: str | None) -> str:
    """The type of the first PEM block in base64 text; empty when there is none."""
    try:
        lines = base64.b64decode(text or "").decode("latin-1").splitlines()
    except binascii.Error:
        return ""
    for at, line in enumerate(lines):
        if line.startswith("-----BEGIN ") and line.rstrip().endswith("-----"):
            kind = line.rstrip()[len("-----BEGIN ") : -len("-----")]
            if f"-----END {kind}-----" in (each.rstrip() for each in lines[at:]):
                return kind
    return ""


def validate_signer_name(name: str, path: FieldPath) -> list[FieldError]:
    if not name:
        return [required(path)]
    parts = name.split("/")
    if len(parts) != 2:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(path, name, text)]
    domain, tail = parts
    errors: list[FieldError] = [too_long(path, 253)] if len(domain) > 253 else []
    errors += _validate_labels(domain, names.dns1123_label, path)
    if "." not in domain:
        errors.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    errors += _validate_labels(tail, names.dns1123_subdomain, path)
    return [*errors, too_long(path, 571)] if len(name) > 571 else errors


def _validate_labels(text: str, rule: Callable[[str], Sequence[str]], path: FieldPath) -> list[FieldError]:
    """Complaints about the first bad label of a dotted name."""
    for label in text.split("."):
        wrong = rule(label)
        if wrong:
            return [invalid(path, text, f'validating label "{label}": {each}') for each in wrong]
    return []


def validate_request(request: Object, old: Object | None = None) -> list[FieldError]:
    spec, before = request.get("spec") or {}, (old or {}).get("spec") or {}
    errors: list[FieldError] = []
    if _block_type(spec.get("request")) != "CERTIFICATE REQUEST":
        text = "PEM block type must be CERTIFICATE REQUEST"
        errors.append(invalid(_SPEC.child("request"), spec.get("request"), text))
    if spec != before:
        errors += _validate_usages(spec.get("usages") or ())
    signer = spec.get("signerName") or ""
    if signer == _LEGACY:
        if before.get("signerName") != _LEGACY:
            text = "the legacy signerName is not allowed via this API version"
            errors.append(invalid(_SPEC.child("signerName"), signer, text))
    else:
        errors += validate_signer_name(signer, _SPEC.child("signerName"))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid(_SPEC.child("expirationSeconds"), seconds, text))
    errors += _validate_conditions((request.get("status") or {}).get("conditions") or ())
    certificate = (request.get("status") or {}).get("certificate")
    kept = old is not None and certificate == (old.get("status") or {}).get("certificate")
    return errors if kept else errors + _validate_certificate(certificate)


def _validate_usages(usages: Sequence[str]) -> list[FieldError]:
    path = _SPEC.child("usages")
    if not usages:
        return [required(path)]
    unknown = ((at, usage) for at, usage in enumerate(usages) if usage not in _USAGES)
    errors = [not_supported(path.index(at), usage, _USAGES) for at, usage in unknown]
    return errors + [duplicate(path.index(at), usage) for at, usage in enumerate(usages) if usage in usages[:at]]


def _validate_conditions(conditions: Sequence[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, condition in enumerate(conditions):
        path, kind, status = _CONDITIONS.index(at), condition.get("type") or "", condition.get("status") or ""
        if not kind:
            errors.append(required(path.child("type")))
        known = ("True",) if kind in _FINAL else ("False", "True", "Unknown")
        if not status:
            errors.append(required(path.child("status")))
        elif status not in known:
            errors.append(not_supported(path.child("status"), status, known))
        if kind in _FINAL[:2] and {"Approved": "Denied", "Denied": "Approved"}[kind] in seen:
            errors.append(invalid(_CONDITIONS, kind, "Approved and Denied conditions are mutually exclusive"))
        if kind in seen:
            errors.append(duplicate(path.child("type"), kind))
        seen.add(kind)
    return errors


def _validate_certificate(certificate: str | None) -> list[FieldError]:
    if not certificate:
        return []
    kind = _block_type(certificate)
    if kind == "CERTIFICATE":
        return []
    text = f'only CERTIFICATE PEM blocks are allowed, found "{kind}"'
    if not kind:
        text = "must contain at least one CERTIFICATE PEM block"
    return [invalid(_CERTIFICATE, "<certificate data>", text)]


def _conditions(request: Object, kind: str) -> list[Object]:
    return [each for each in (request.get("status") or {}).get("conditions") or () if each.get("type") == kind]


def _validator(*, approving: bool = False, issuing: bool = False) -> Callable[[Object, Object], list[FieldError]]:
    """A rule for a change: who may approve, and who may issue, goes by the endpoint."""

    def validate(new: Object, old: Object) -> list[FieldError]:
        errors = validate_request(new, old)
        for kind in _FINAL:
            if len(_conditions(new, kind)) < len(_conditions(old, kind)):
                errors.append(forbidden(_CONDITIONS, f'updates may not remove a condition of type "{kind}"'))
        for kind in () if approving else _FINAL[:2]:
            if len(_conditions(new, kind)) > len(_conditions(old, kind)):
                errors.append(forbidden(_CONDITIONS, f'updates may not add a condition of type "{kind}"'))
        certificate, was = ((each.get("status") or {}).get("certificate") for each in (new, old))
        if not strategy.same_value(certificate, was):
            if not issuing:
                errors.append(forbidden(_CERTIFICATE, "updates may not set certificate content"))
            elif was:
                errors.append(forbidden(_CERTIFICATE, "updates may not modify existing certificate content"))
        return errors

    return validate


SIGNING_REQUEST = KindRules(
    field_labels=("spec.signerName",),
    default=lambda request: {**request, "spec": request.get("spec") or {}, "status": request.get("status") or {}},
    prepare_create=_prepare_create,
    prepare_update=strategy.updated(keep=("spec", "status"), counted=()),
    prepare_status=_prepare_status,
    validate=validate_request,
    validate_update=_validator(),
    validate_status=_validator(issuing=True),
    subresources={"approval": SubresourceRules(prepare=_prepare_approval, validate=_validator(approving=True))},
    valid_name=metadata.any_name,
)

RULES: Sequence[tuple[str, str, KindRules]] = (("certificates.k8s.io", "CertificateSigningRequest", SIGNING_REQUEST),)
