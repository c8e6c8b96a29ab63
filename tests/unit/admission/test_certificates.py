"""Certificate signing requests: who may approve and sign, and the group nobody gets a certificate for."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anynode.admission.certificates import (
    CLIENT_SIGNER,
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from anynode.admission.chain import Attributes
from anynode.api import resources
from anynode.api.errors import Forbidden
from anynode.api.objects import Object
from anynode.api.wire import User
from anynode.security.rbac import Attributes as Asked

REQUESTS = resources.known("certificatesigningrequests", "certificates.k8s.io")
OLD: Object = {"metadata": {"name": "r"}, "spec": {"signerName": "example.com/serving"}, "status": {}}


def rights(*granted: tuple[str, str]) -> Callable[[User, Asked], bool]:
    return lambda _, asked: asked.resource == "signers" and (asked.verb, asked.name) in granted


def attributes(obj: Object, old: Object | None = OLD) -> Attributes:
    operation = "CREATE" if old is None else "UPDATE"
    user = User(name="eve")
    return Attributes(operation=operation, resource=REQUESTS, name="r", obj=obj, old=old, user=user)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["example.com/serving", "example.com/*"])
async def test_approving_needs_the_right_for_the_signer(name: str) -> None:
    await CertificateApproval(rights(("approve", name))).validate(attributes(OLD))
    with pytest.raises(Forbidden, match="user not permitted to approve requests with signerName"):
        await CertificateApproval(rights(("sign", name), ("approve", "other.com/*"))).validate(attributes(OLD))


async def test_the_signer_that_counts_is_the_stored_one() -> None:
    changed = {**OLD, "spec": {"signerName": "mine.com/x"}}
    with pytest.raises(Forbidden):
        await CertificateApproval(rights(("approve", "mine.com/x"))).validate(attributes(changed))


async def test_signing_needs_the_right_where_something_changes() -> None:
    await CertificateSigning(rights()).validate(attributes({**OLD, "status": {"conditions": []}}))
    signed = {**OLD, "status": {"certificate": "AAAA"}}
    await CertificateSigning(rights(("sign", "example.com/*"))).validate(attributes(signed))
    with pytest.raises(Forbidden, match="user not permitted to sign requests with signerName"):
        await CertificateSigning(rights(("approve", "example.com/*"))).validate(attributes(signed))
    failed = {**OLD, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    with pytest.raises(Forbidden):
        await CertificateSigning(rights()).validate(attributes(failed))


def request(group: str, signer: str = CLIENT_SIGNER) -> Object:
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    encoded = base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()
    return {"metadata": {"name": "r"}, "spec": {"signerName": signer, "request": encoded}}


async def test_no_certificate_for_the_masters() -> None:
    plugin = CertificateSubjectRestriction()
    await plugin.validate(attributes(request("devs"), None))
    await plugin.validate(attributes(request("system:masters", "example.com/x"), None))
    with pytest.raises(Forbidden, match="signer with system:masters group is not allowed"):
        await plugin.validate(attributes(request("system:masters"), None))
    with pytest.raises(Forbidden, match="failed to parse CSR"):
        await plugin.validate(attributes({"spec": {"signerName": CLIENT_SIGNER, "request": "AAAA"}}, None))
