"""The cluster's certificate authority: a key and a certificate on disk, and leaf certificates made from them.

EC P-256 throughout. Private files are for their owner only. A certificate's common name is the user, its organizations
are the groups. Source: https://kubernetes.io/docs/setup/best-practices/certificates/ and
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import ipaddress
import pathlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from anynode.aio.clock import Clock
from anynode.api.wire import User
from anynode.security.private_files import make_private, write_private

CA_LIFE = datetime.timedelta(days=3650)
LEAF_LIFE = datetime.timedelta(days=365)
RENEW_BEFORE = LEAF_LIFE / 3
"""How long before its end a certificate of this process is made anew."""
BACKDATED = datetime.timedelta(minutes=5)
"""Certificates are valid from a little before their making, for machines whose clocks are behind."""

USER_UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
"""What a subject names its user's UID by."""
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"

Key: TypeAlias = ec.EllipticCurvePrivateKey


class PkiError(Exception):
    """A key or certificate file is unreadable or does not belong to the other; the text says which."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def load_or_create_key(path: pathlib.Path) -> Key:
    """The private key in ``path``, made there if the file is missing; raises ``PkiError``."""
    if path.exists():
        return _load_key(path)
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(path, key_pem(key))
    return key


def key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class CertificateAuthority:
    """Signs what it is asked to sign."""

    def __init__(self, key: Key, certificate: x509.Certificate, clock: Clock) -> None:
        self._key = key
        self._certificate = certificate
        self._clock = clock

    @classmethod
    def load_or_create(cls, directory: pathlib.Path, clock: Clock) -> CertificateAuthority:
        """The authority kept as ``ca.key`` and ``ca.crt`` in ``directory``; raises ``PkiError``.

        A certificate that would end before what it signs today is made anew for the same key.
        """
        make_private(directory)
        key_path, certificate_path = directory / "ca.key", directory / "ca.crt"
        if certificate_path.exists() and not key_path.exists():
            raise PkiError(f"{certificate_path} is there but its key {key_path} is not")
        key = load_or_create_key(key_path)
        if not certificate_path.exists():
            certificate = _self_signed(key, clock.now(), _authority_name())
            write_private(certificate_path, _pem(certificate))
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        except (ValueError, OSError) as error:
            raise PkiError(f"cannot read the certificate {certificate_path}: {error}") from error
        if certificate.public_key() != key.public_key():
            raise PkiError(f"{certificate_path} does not belong to {key_path}")
        if certificate.not_valid_after_utc < clock.now() + LEAF_LIFE:
            # The same key under the same name: what the old one signed stays good.
            certificate = _self_signed(key, clock.now(), certificate.subject)
            write_private(certificate_path, _pem(certificate))
        return cls(key, certificate, clock)

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, PEM: what clients trust."""
        return _pem(self._certificate)

    @property
    def key(self) -> bytes:
        """The authority's private key, PEM: for signers of this process."""
        return key_pem(self._key)

    def server_certificate(self, hosts: Iterable[str], *, name: str = "kube-apiserver") -> KeyPair:
        """For a server reached under ``hosts`` (names and IP addresses)."""
        names: list[x509.GeneralName] = []
        for host in dict.fromkeys(hosts):
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        return self._leaf(name, (), [ExtendedKeyUsageOID.SERVER_AUTH], names)

    def client_certificate(self, name: str, groups: Sequence[str] = ()) -> KeyPair:
        """For a client that is user ``name`` in ``groups``."""
        return self._leaf(name, groups, [ExtendedKeyUsageOID.CLIENT_AUTH], [])

    def _leaf(
        self,
        name: str,
        groups: Sequence[str],
        usages: Sequence[x509.ObjectIdentifier],
        hosts: Sequence[x509.GeneralName],
    ) -> KeyPair:
        key, now = ec.generate_private_key(ec.SECP256R1()), self._clock.now()
        builder = (
            _builder(_name(name, groups), key.public_key(), now, LEAF_LIFE)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return KeyPair(certificate=_pem(builder.sign(self._key, hashes.SHA256())), key=key_pem(key))


@functools.lru_cache(maxsize=1024)
def certificate_user(der: bytes) -> User | None:
    """Who a verified client certificate stands for, None when it names nobody.

    Raises ``PkiError`` for one that contradicts itself about the user's UID.
    """
    subject = x509.load_der_x509_certificate(der).subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not names or not names[-1]:
        return None
    uids = [str(each.value) for each in subject.get_attributes_for_oid(USER_UID)]
    if len(uids) > 1:
        raise PkiError(f"expected 1 UID, but found multiple: {uids}")
    if uids == [""]:
        raise PkiError("UID cannot be an empty string")
    groups = tuple(str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    credential = (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)
    return User(name=names[-1], groups=groups, uid=uids[0] if uids else "", extra={CREDENTIAL_ID: credential})


def _load_key(path: pathlib.Path) -> Key:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, OSError) as error:
        raise PkiError(f"cannot read the private key {path}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise PkiError(f"the private key {path} is not an EC P-256 key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, life: datetime.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_name() -> x509.Name:
    """The number keeps authorities apart that clients trust at the same time."""
    return _name(f"anynode-ca-{x509.random_serial_number() % 0xFFFFFFFF:08x}")


def _self_signed(key: Key, now: datetime.datetime, name: x509.Name) -> x509.Certificate:
    builder = (
        _builder(name, key.public_key(), now, CA_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256())
