"""Certificates as TLS libraries and the API server read them."""

from __future__ import annotations

import os
import pathlib
import socket
import ssl
import stat
import threading

import pytest
from cryptography import x509

from anynode.aio.clock import SystemClock
from anynode.security import pki
from anynode.testing.clock import FakeClock


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> pki.CertificateAuthority:
    return pki.CertificateAuthority.load_or_create(tmp_path, SystemClock())


def test_the_authority_stays_the_same_and_private(tmp_path: pathlib.Path, authority: pki.CertificateAuthority) -> None:
    again = pki.CertificateAuthority.load_or_create(tmp_path, SystemClock())
    assert again.certificate == authority.certificate
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_handshake_proves_both_sides(tmp_path: pathlib.Path, authority: pki.CertificateAuthority) -> None:
    def context(purpose: ssl.Purpose, pair: pki.KeyPair, name: str) -> ssl.SSLContext:
        for suffix, content in (("crt", pair.certificate), ("key", pair.key)):
            (tmp_path / f"{name}.{suffix}").write_bytes(content)
        made = ssl.create_default_context(purpose, cadata=authority.certificate.decode())
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        made.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
        return made

    server = context(ssl.Purpose.CLIENT_AUTH, authority.server_certificate(["127.0.0.1", "kubernetes"]), "server")
    server.verify_mode = ssl.CERT_REQUIRED
    client = context(
        ssl.Purpose.SERVER_AUTH, authority.client_certificate("admin", ["system:masters", "devs"]), "client"
    )
    ours, theirs = socket.socketpair()
    seen: list[bytes | None] = []

    def serve() -> None:
        with server.wrap_socket(theirs, server_side=True) as wrapped:
            seen.append(wrapped.getpeercert(binary_form=True))

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours, server_hostname="127.0.0.1") as wrapped:
        wrapped.recv(1)
    thread.join()
    assert seen[0] is not None
    user = pki.certificate_user(seen[0])
    assert user is not None
    assert (user.name, user.groups) == ("admin", ("system:masters", "devs"))


def test_files_that_do_not_belong_together_are_refused(tmp_path: pathlib.Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        directory.mkdir()
        pki.CertificateAuthority.load_or_create(directory, SystemClock())
    (one / "ca.crt").write_bytes((two / "ca.crt").read_bytes())
    with pytest.raises(pki.PkiError, match="does not belong"):
        pki.CertificateAuthority.load_or_create(one, SystemClock())
    (two / "ca.key").write_text("garbage")
    with pytest.raises(pki.PkiError, match="cannot read the private key"):
        pki.CertificateAuthority.load_or_create(two, SystemClock())
    (two / "ca.key").unlink()
    with pytest.raises(pki.PkiError, match="is there but its key"):
        pki.CertificateAuthority.load_or_create(two, SystemClock())


def test_server_names_are_names_or_addresses(authority: pki.CertificateAuthority) -> None:
    pair = authority.server_certificate(["::1", "127.0.0.1", "localhost", "localhost"])
    names = x509.load_pem_x509_certificate(pair.certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(each.value) for each in names.value] == ["::1", "127.0.0.1", "localhost"]


def test_an_authority_near_its_end_goes_on_with_the_same_key_and_name(tmp_path: pathlib.Path) -> None:
    clock = FakeClock()
    old = pki.CertificateAuthority.load_or_create(tmp_path, clock)
    leaf = x509.load_pem_x509_certificate(old.client_certificate("ann").certificate)
    later = FakeClock(clock.now() + pki.CA_LIFE - pki.LEAF_LIFE / 2)
    new = pki.CertificateAuthority.load_or_create(tmp_path, later)
    renewed = x509.load_pem_x509_certificate(new.certificate)
    assert renewed.not_valid_after_utc == later.now().replace(microsecond=0) + pki.CA_LIFE
    leaf.verify_directly_issued_by(renewed)
    assert pki.CertificateAuthority.load_or_create(tmp_path, later).certificate == new.certificate


def test_the_directory_of_keys_is_closed_to_others_whatever_the_mask(tmp_path: pathlib.Path) -> None:
    before = os.umask(0)
    try:
        for directory in (tmp_path / "new", tmp_path / "old"):
            if directory.name == "old":
                directory.mkdir(0o755)
            pki.CertificateAuthority.load_or_create(directory, SystemClock())
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            assert {stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()} == {0o600}
    finally:
        os.umask(before)
