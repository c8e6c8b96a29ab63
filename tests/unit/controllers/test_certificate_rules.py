"""Which signing requests the cluster's signers take, approve unseen, and forget."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anynode.api.objects import Object
from anynode.controllers import certificate_rules as rules
from anynode.controllers.times import seconds_of

KEY = ec.generate_private_key(ec.SECP256R1())
NODE, GROUP = "system:node:n1", "system:nodes"
CLIENT, SERVER = ["digital signature", "client auth"], ["digital signature", "server auth", "key encipherment"]
DNS, EMAIL = x509.DNSName("n1"), x509.RFC822Name("a@b.c")
URI = x509.UniformResourceIdentifier("spiffe://x")
BORN = "2026-01-01T00:00:00Z"


def request(name: str = NODE, group: str = GROUP, *names: x509.GeneralName) -> x509.CertificateSigningRequest:
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256())


@pytest.mark.parametrize(
    ("asked", "usages", "wrong"),
    [
        (request(), CLIENT, ""),
        (request(), [*CLIENT, "key encipherment"], ""),
        (request(group="other"), CLIENT, "subject organization is not system:nodes"),
        (request(NODE, GROUP, DNS), CLIENT, "DNS subjectAltNames are not allowed"),
        (request(NODE, GROUP, EMAIL), CLIENT, "Email subjectAltNames are not allowed"),
        (request(NODE, GROUP, URI), CLIENT, "URI subjectAltNames are not allowed"),
        (request("n1"), CLIENT, "subject common name does not begin with system:node:"),
        (request(), SERVER, "usages did not match [client auth digital signature key encipherment]"),
    ],
)
def test_a_kubelets_client_certificate(asked: x509.CertificateSigningRequest, usages: list[str], wrong: str) -> None:
    assert rules.kubelet_client_error(asked, usages) == wrong


@pytest.mark.parametrize(
    ("asked", "usages", "wrong"),
    [
        (request(NODE, GROUP, DNS), SERVER, ""),
        (request(NODE, "x", DNS), SERVER, "subject organization is not system:nodes"),
        (request(), SERVER, "DNS or IP subjectAltName is required"),
        (request(NODE, GROUP, DNS, EMAIL), SERVER, "Email subjectAltNames are not allowed"),
        (request(NODE, GROUP, DNS, URI), SERVER, "URI subjectAltNames are not allowed"),
        (request(NODE, GROUP, DNS), CLIENT, "usages did not match [digital signature key encipherment server auth]"),
        (request("n1", GROUP, DNS), SERVER, "subject common name does not begin with system:node:"),
    ],
)
def test_a_kubelets_serving_certificate(asked: x509.CertificateSigningRequest, usages: list[str], wrong: str) -> None:
    assert rules.serving_error(asked, usages) == wrong


def test_a_clients_certificate() -> None:
    assert rules.client_error(request(), CLIENT) == ""
    assert rules.client_error(request(), SERVER) == "invalid usage for client certificate: server auth"
    missing = "missing required usage for client certificate: client auth"
    assert rules.client_error(request(), ["digital signature"]) == missing


def csr(**fields: Any) -> Object:
    pem = request().public_bytes(serialization.Encoding.PEM)
    spec = {
        "signerName": rules.KUBELET_CLIENT,
        "usages": CLIENT,
        "username": "system:bootstrap:x",
        "request": base64.b64encode(pem).decode(),
    }
    return {"metadata": {"name": "r", "creationTimestamp": BORN}, "spec": {**spec, **fields}, "status": {}}


def test_what_may_be_approved_unseen() -> None:
    assert [right for right, _ in rules.recognized(csr(), request())] == ["nodeclient"]
    assert [right for right, _ in rules.recognized(csr(username=NODE), request())] == ["selfnodeclient", "nodeclient"]
    assert rules.recognized(csr(signerName=rules.CLIENT), request()) == ()
    assert rules.recognized(csr(), request("n1")) == ()


def test_how_long_it_shall_be_good() -> None:
    assert rules.life_seconds(csr(), 1000.0) == 1000.0
    assert rules.life_seconds(csr(expirationSeconds=700), 1000.0) == 700
    assert rules.life_seconds(csr(expirationSeconds=60), 1000.0) == 600
    assert rules.life_seconds(csr(expirationSeconds=5000), 1000.0) == 1000.0


def decided(kind: str, **status: Any) -> Object:
    return {**csr(), "status": {"conditions": [{"type": kind, "lastUpdateTime": BORN}], **status}}


@pytest.mark.parametrize(
    ("request_", "kept_seconds"),
    [
        (csr(), 86400.0),
        (decided("Approved"), 86400.0),
        (decided("Approved", certificate="AAAA"), 3600.0),
        (decided("Denied"), 3600.0),
        (decided("Failed"), 3600.0),
        ({**csr(), "status": {"conditions": [{"type": "Denied"}]}}, None),
    ],
)
def test_how_long_a_request_is_kept(request_: Object, kept_seconds: float | None) -> None:
    end = rules.over_at(request_)
    assert (None if end is None else end - seconds_of(BORN)) == kept_seconds
