"""What the cluster's own signers sign, and when a signing request has been kept long enough. Pure but for the clock's
time it is given.

In: a CertificateSigningRequest and its parsed PKCS#10 request. Out: which signer and usage rules it breaks, whether it
is a kubelet's, whether it is over. Source: kubernetes ``pkg/apis/certificates/helpers.go``,
``pkg/controller/certificates/{signer,approver,cleaner}``, 1.36.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from anynode.api.objects import Object, get_path, meta
from anynode.controllers.times import seconds_of

SERVING = "kubernetes.io/kubelet-serving"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
CLIENT = "kubernetes.io/kube-apiserver-client"
LEGACY = "kubernetes.io/legacy-unknown"
NODES_GROUP, NODE_PREFIX = "system:nodes", "system:node:"
LEAST_SECONDS = 600
APPROVED_SECONDS, DENIED_SECONDS, PENDING_SECONDS = 3600.0, 3600.0, 86400.0
"""How long an issued, a refused and a waiting request is kept."""
_DNS, _EMAIL = "DNS subjectAltNames are not allowed", "Email subjectAltNames are not allowed"
_IP, _URI = "IP subjectAltNames are not allowed", "URI subjectAltNames are not allowed"


def parsed(csr: Object) -> x509.CertificateSigningRequest:
    """The PKCS#10 request inside; raises ``ValueError``."""
    return x509.load_pem_x509_csr(pem_of(csr))


def pem_of(csr: Object) -> bytes:
    return base64.b64decode(get_path(csr, "spec", "request", default="") or "")


def usages_of(csr: Object) -> Sequence[str]:
    usages: Sequence[str] = get_path(csr, "spec", "usages", default=None) or ()
    return usages


def common_name(request: x509.CertificateSigningRequest) -> str:
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def _kinds(request: x509.CertificateSigningRequest) -> set[type[x509.GeneralName]]:
    """Which kinds of alternative names are asked for."""
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {type(name) for name in found}


def _organizations(request: x509.CertificateSigningRequest) -> list[str]:
    return [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def _usages_differ(usages: Sequence[str], purpose: str) -> str:
    if set(usages) - {"key encipherment"} == {"digital signature", purpose}:
        return ""
    listed = " ".join(sorted(("digital signature", "key encipherment", purpose)))
    return f"usages did not match [{listed}]"


def serving_error(request: x509.CertificateSigningRequest, usages: Sequence[str]) -> str:
    """What is wrong with a kubelet's serving certificate; empty for nothing."""
    kinds = _kinds(request)
    if _organizations(request) != [NODES_GROUP]:
        return "subject organization is not system:nodes"
    if not kinds & {x509.DNSName, x509.IPAddress}:
        return "DNS or IP subjectAltName is required"
    if x509.RFC822Name in kinds:
        return _EMAIL
    if x509.UniformResourceIdentifier in kinds:
        return _URI
    if differ := _usages_differ(usages, "server auth"):
        return differ
    if not common_name(request).startswith(NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return ""


def kubelet_client_error(request: x509.CertificateSigningRequest, usages: Sequence[str]) -> str:
    """What is wrong with a kubelet's client certificate; empty for nothing."""
    kinds = _kinds(request)
    if _organizations(request) != [NODES_GROUP]:
        return "subject organization is not system:nodes"
    for kind, said in (
        (x509.DNSName, _DNS),
        (x509.RFC822Name, _EMAIL),
        (x509.IPAddress, _IP),
        (x509.UniformResourceIdentifier, _URI),
    ):
        if kind in kinds:
            return said
    if not common_name(request).startswith(NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return _usages_differ(usages, "client auth")


def client_error(_: x509.CertificateSigningRequest, usages: Sequence[str]) -> str:
    """What is wrong with a client's certificate; empty for nothing."""
    for usage in usages:
        if usage not in ("digital signature", "key encipherment", "client auth"):
            return f"invalid usage for client certificate: {usage}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def _anything(_: x509.CertificateSigningRequest, __: Sequence[str]) -> str:
    return ""


SIGNERS: Mapping[str, Callable[[x509.CertificateSigningRequest, Sequence[str]], str]] = {
    SERVING: serving_error,
    KUBELET_CLIENT: kubelet_client_error,
    CLIENT: client_error,
    LEGACY: _anything,
}
"""The signers of the cluster's authority -> what they find wrong with a request."""


def condition_true(csr: Object, kind: str) -> bool:
    conditions = get_path(csr, "status", "conditions", default=None) or ()
    return any(each.get("type") == kind and each.get("status", "True") in ("True", "") for each in conditions)


def is_decided(csr: Object) -> bool:
    """Whether somebody approved or denied."""
    conditions = get_path(csr, "status", "conditions", default=None) or ()
    return any(each.get("type") in ("Approved", "Denied") for each in conditions)


def is_issued(csr: Object) -> bool:
    return bool(get_path(csr, "status", "certificate", default=""))


def recognized(csr: Object, request: x509.CertificateSigningRequest) -> Sequence[tuple[str, str]]:
    """(subresource of the right it takes, what the approval says) for requests that may be approved unseen."""
    spec = csr.get("spec") or {}
    if spec.get("signerName") != KUBELET_CLIENT or kubelet_client_error(request, usages_of(csr)):
        return ()
    any_node = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")
    if spec.get("username") != common_name(request):
        return (any_node,)
    itself = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
    return (itself, any_node)


def life_seconds(csr: Object, most_seconds: float) -> float:
    """How long the certificate shall be good."""
    asked = get_path(csr, "spec", "expirationSeconds", default=None)
    return most_seconds if asked is None else min(most_seconds, max(LEAST_SECONDS, asked))


def over_at(csr: Object) -> float | None:
    """When the request has been kept long enough (seconds since 1970); None: not to be told from what it says."""
    conditions = get_path(csr, "status", "conditions", default=None) or ()
    issued = is_issued(csr)
    ends: list[float] = []
    if not conditions and meta(csr).get("creationTimestamp"):
        ends.append(seconds_of(meta(csr)["creationTimestamp"]) + PENDING_SECONDS)
    for condition in conditions:
        if not condition.get("lastUpdateTime"):
            continue
        since, kind = seconds_of(condition["lastUpdateTime"]), condition.get("type")
        if kind in ("Denied", "Failed"):
            ends.append(since + DENIED_SECONDS)
        elif kind == "Approved":
            ends.append(since + (APPROVED_SECONDS if issued else PENDING_SECONDS))
    if issued and condition_true(csr, "Approved"):
        ends.extend(_certificate_end(csr))
    return min(ends, default=None)


def _certificate_end(csr: Object) -> Sequence[float]:
    try:
        certificate = x509.load_pem_x509_certificate(base64.b64decode(csr["status"]["certificate"]))
    except ValueError:
        return ()
    return (certificate.not_valid_after_utc.timestamp(),)
