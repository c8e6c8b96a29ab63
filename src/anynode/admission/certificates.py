"""Who may approve and sign certificate signing requests, and for whom no certificate is ever asked.

The rights are verbs on ``signers``, by the signer's name or by its domain and ``/*``. Source: kubernetes
``plugin/pkg/admission/certificates/{approval,signing,subjectrestriction}`` and
``pkg/registry/certificates/authorization``, 1.36.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from cryptography import x509
from cryptography.x509.oid import NameOID

from anynode.admission.chain import Attributes, Plugin
from anynode.api import objects
from anynode.api.wire import User
from anynode.security.rbac import MASTERS
from anynode.security.rbac import Attributes as Asked

May = Callable[[User, Asked], bool]
"""Whether a user has a right."""
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
REQUESTS = "certificatesigningrequests"
QUALIFIED = f"{REQUESTS}.certificates.k8s.io"


def may_for_signer(may: May, user: User, verb: str, signer: str) -> bool:
    """Whether the user may ``verb`` for the signer, by its name or its domain."""
    domain = signer.partition("/")[0]
    return any(
        may(user, Asked(verb=verb, group="certificates.k8s.io", version="*", resource="signers", name=name))
        for name in (signer, f"{domain}/*")
    )


def _signer(attributes: Attributes) -> str:
    """The signer of the request as it is stored: nobody passes by changing it."""
    signer: str = objects.get_path(attributes.old or {}, "spec", "signerName", default="")
    return signer


class CertificateApproval(Plugin):
    """Approving and denying needs the right ``approve`` for the signer."""

    name = "CertificateApproval"
    operations = frozenset({"UPDATE"})
    resources = frozenset({f"{QUALIFIED}/approval"})

    def __init__(self, may: May) -> None:
        self._may = may

    async def validate(self, attributes: Attributes) -> None:
        signer = _signer(attributes)
        if not may_for_signer(self._may, attributes.user, "approve", signer):
            raise attributes.forbidden(f'user not permitted to approve requests with signerName "{signer}"')


class CertificateSigning(Plugin):
    """Putting a certificate or a condition into the status needs the right ``sign`` for the signer."""

    name = "CertificateSigning"
    operations = frozenset({"UPDATE"})
    resources = frozenset({f"{QUALIFIED}/status"})

    def __init__(self, may: May) -> None:
        self._may = may

    async def validate(self, attributes: Attributes) -> None:
        new, old = ((each or {}).get("status") or {} for each in (attributes.obj, attributes.old))
        same = all((new.get(field) or None) == (old.get(field) or None) for field in ("certificate", "conditions"))
        signer = _signer(attributes)
        if not same and not may_for_signer(self._may, attributes.user, "sign", signer):
            raise attributes.forbidden(f'user not permitted to sign requests with signerName "{signer}"')


class CertificateSubjectRestriction(Plugin):
    """No client certificate is asked for the group that may everything."""

    name = "CertificateSubjectRestriction"
    operations = frozenset({"CREATE"})
    resources = frozenset({QUALIFIED})

    async def validate(self, attributes: Attributes) -> None:
        spec = (attributes.obj or {}).get("spec") or {}
        if spec.get("signerName") != CLIENT_SIGNER:
            return
        try:
            request = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or ""))
            groups = [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        except ValueError as error:
            raise attributes.forbidden(f"failed to parse CSR: {error}") from error
        if MASTERS in groups:
            raise attributes.forbidden(f"use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")
