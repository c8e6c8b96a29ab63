"""Certificates made from requests: what they carry, how long they last, what is not signed."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from anynode.security.pki import BACKDATED, CA_LIFE, CertificateAuthority, PkiError
from anynode.security.signing import RequestSigner
from anynode.testing.clock import FakeClock

KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def authority(tmp_path: pathlib.Path, clock: FakeClock) -> CertificateAuthority:
    return CertificateAuthority.load_or_create(tmp_path, clock)


@pytest.fixture
def signer(authority: CertificateAuthority, clock: FakeClock) -> RequestSigner:
    return RequestSigner(authority.certificate, authority.key, clock)


def request(*names: x509.GeneralName) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_only_names_and_usages_are_taken_over(signer: RequestSigner, authority: CertificateAuthority) -> None:
    names = (x509.DNSName("n1"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    pem = signer.sign(request(*names), ["server auth", "digital signature", "client auth"], 3600)
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    extension = certificate.extensions.get_extension_for_class
    assert extension(x509.BasicConstraints).value.ca is False
    assert list(extension(x509.SubjectAlternativeName).value) == list(names)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert list(extension(x509.ExtendedKeyUsage).value) == purposes
    usage = extension(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)


def test_how_long_it_lasts(signer: RequestSigner, clock: FakeClock) -> None:
    def life(seconds: float) -> tuple[datetime.timedelta, datetime.timedelta]:
        made = x509.load_pem_x509_certificate(signer.sign(request(), ["client auth"], seconds))
        return clock.now() - made.not_valid_before_utc, made.not_valid_after_utc - clock.now()

    hour, day = datetime.timedelta(hours=1), datetime.timedelta(days=1)
    assert life(3600) == (BACKDATED, hour)
    assert life(86400) == (BACKDATED, day - BACKDATED)
    assert life(CA_LIFE.total_seconds() * 2) == (BACKDATED, CA_LIFE)


async def test_an_authority_that_has_ended_signs_nothing(signer: RequestSigner, clock: FakeClock) -> None:
    await clock.advance(CA_LIFE.total_seconds() + 1)
    with pytest.raises(PkiError, match="refusing to sign a certificate that expired"):
        signer.sign(request(), ["client auth"], 3600)


def test_what_cannot_be_signed(signer: RequestSigner, authority: CertificateAuthority, clock: FakeClock) -> None:
    with pytest.raises(PkiError, match="unable to parse"):
        signer.sign(b"nonsense", [], 3600)
    with pytest.raises(PkiError, match=r'unrecognized usage values: \["flying"\]'):
        signer.sign(request(), ["client auth", "flying"], 3600)
    with pytest.raises(PkiError, match="cannot read the signing certificate"):
        RequestSigner(b"", authority.key, clock)
    other = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(PkiError, match="does not belong to its key"):
        RequestSigner(authority.certificate, other, clock)


def test_usages_that_need_another_are_left_out(signer: RequestSigner) -> None:
    pem = signer.sign(request(), ["encipher only", "digital signature"], 3600)
    usage = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_agreement is False
