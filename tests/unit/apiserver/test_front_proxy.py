"""Front proxies: whose word counts, and for whom."""

from __future__ import annotations

import pathlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from anynode.apiserver.front_proxy import FrontProxies, RequestHeaderSettings
from anynode.security.pki import CertificateAuthority
from anynode.testing.clock import FakeClock


@pytest.fixture
def authorities(tmp_path: pathlib.Path) -> dict[str, CertificateAuthority]:
    clock = FakeClock()
    return {name: CertificateAuthority.load_or_create(tmp_path / name, clock) for name in ("ours", "proxies", "evil")}


def der(authority: CertificateAuthority, name: str, *groups: str) -> bytes:
    pem = authority.client_certificate(name, groups).certificate
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


HEADERS = {
    "x-remote-user": "ann",
    "x-remote-uid": "u1",
    "x-remote-group": "devs, ops",
    "x-remote-extra-example.com%2fscope": "read",
}


def test_a_proxy_speaks_for_users(authorities: dict[str, CertificateAuthority]) -> None:
    settings = RequestHeaderSettings(authority=authorities["proxies"].certificate, allowed_names=("front",))
    proxies = FrontProxies(settings, authorities["ours"].certificate)
    user = proxies.user(der(authorities["proxies"], "front"), HEADERS)
    assert user is not None
    assert (user.name, user.uid, user.groups) == ("ann", "u1", ("devs", "ops", "system:authenticated"))
    assert user.extra == {"example.com/scope": ("read",)}


def test_nobody_else_does(authorities: dict[str, CertificateAuthority]) -> None:
    settings = RequestHeaderSettings(authority=authorities["proxies"].certificate, allowed_names=("front",))
    proxies = FrontProxies(settings, authorities["ours"].certificate)
    client = der(authorities["ours"], "front", "system:masters")
    assert proxies.is_client(client)
    assert proxies.user(client, HEADERS) is None
    for wrong in (der(authorities["proxies"], "other"), der(authorities["evil"], "front")):
        assert not proxies.is_client(wrong)
        assert proxies.user(wrong, HEADERS) is None


def test_a_proxys_certificate_is_no_identity(authorities: dict[str, CertificateAuthority]) -> None:
    settings = RequestHeaderSettings(authority=authorities["proxies"].certificate)
    proxies = FrontProxies(settings, authorities["ours"].certificate)
    master = der(authorities["proxies"], "front", "system:masters")
    assert not proxies.is_client(master)
    assert proxies.user(master, {}) is None
