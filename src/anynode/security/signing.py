"""Certificates from signing requests, as the cluster's signers make them.

In: a PKCS#10 request (PEM) that somebody approved. Out: a certificate with the request's subject and alternative names,
the usages asked for and nothing else of the request. Source: kubernetes ``pkg/controller/certificates/authority`` and
``signer``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from anynode.aio.clock import Clock
from anynode.security.pki import BACKDATED, PkiError

SHORT = datetime.timedelta(hours=8)
"""Certificates of a shorter life do not end earlier for having begun earlier."""
_KEY_USAGES: Mapping[str, str] = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED: Mapping[str, x509.ObjectIdentifier] = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": x509.ObjectIdentifier("2.16.840.1.113730.4.1"),
}
SignerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class RequestSigner:
    """Signs requests with an authority's certificate and key (PEM). Raises ``PkiError`` for what is no such pair."""

    def __init__(self, certificate: bytes, key: bytes, clock: Clock) -> None:
        try:
            self._authority = x509.load_pem_x509_certificate(certificate)
            loaded = serialization.load_pem_private_key(key, password=None)
        except (ValueError, TypeError) as error:
            raise PkiError(f"cannot read the signing certificate and key: {error}") from error
        if not isinstance(loaded, SignerKey):
            raise PkiError("the signing key is neither EC, RSA nor Ed25519")
        if self._authority.public_key() != loaded.public_key():
            raise PkiError("the signing certificate does not belong to its key")
        self._key: SignerKey = loaded
        self._clock = clock

    def sign(self, request: bytes, usages: Sequence[str], seconds: float) -> bytes:
        """The certificate (PEM) for a request, good for ``seconds`` and never longer than the authority's own.

        Raises ``PkiError``.
        """
        try:
            asked = x509.load_pem_x509_csr(request)
            signed = asked.is_signature_valid
        except (ValueError, InvalidSignature) as error:
            raise PkiError(f"unable to parse certificate request: {error}") from error
        if not signed:
            raise PkiError("unable to verify certificate request signature")
        unknown = [usage for usage in usages if usage not in _KEY_USAGES and usage not in _EXTENDED]
        if unknown:
            listed = " ".join(f'"{usage}"' for usage in unknown)
            raise PkiError(f"unrecognized usage values: [{listed}]")
        return self._made(asked, usages, datetime.timedelta(seconds=seconds)).public_bytes(serialization.Encoding.PEM)

    def _made(
        self, asked: x509.CertificateSigningRequest, usages: Sequence[str], life: datetime.timedelta
    ) -> x509.Certificate:
        now, last = self._clock.now(), self._authority.not_valid_after_utc
        if now >= last:
            raise PkiError(f"refusing to sign a certificate that expired in the past: NotAfter={last}")
        builder = (
            x509.CertificateBuilder()
            .subject_name(asked.subject)
            .issuer_name(self._authority.subject)
            .public_key(asked.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(min(now + life if life < SHORT else now + life - BACKDATED, last))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        key_usage = {_KEY_USAGES[usage] for usage in usages if usage in _KEY_USAGES}
        if key_usage:
            builder = builder.add_extension(_key_usage(key_usage), critical=True)
        extended = [oid for usage, oid in _EXTENDED.items() if usage in usages]
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(dict.fromkeys(extended))), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        names = alternative_names(asked)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not asked.subject.rdns)
        digest = None if isinstance(self._key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(self._key, digest)


def alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """The names a request asks for beside its subject: DNS, IP, email and URI."""
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    kinds = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)
    return [name for name in found if isinstance(name, kinds)]


def _key_usage(wanted: set[str]) -> x509.KeyUsage:
    if wanted & {"encipher_only", "decipher_only"} and "key_agreement" not in wanted:
        wanted = wanted - {"encipher_only", "decipher_only"}  # they say nothing without it: RFC 5280, 4.2.1.3
    return x509.KeyUsage(**{usage: usage in wanted for usage in _KEY_USAGES.values()})
