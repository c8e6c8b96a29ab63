"""Users that a front proxy vouches for: who its headers name, if its certificate says that it is the proxy.

In: a verified client certificate and headers. Out: a user, or nobody. Invariant: a certificate of the proxies'
authority is never an identity of its own, and headers of anybody else count for nothing. Source: apiserver
``pkg/authentication/request/headerrequest``, 1.36.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from anynode.api.wire import User
from anynode.apiserver.identity import AUTHENTICATED

MOST_REMEMBERED = 1_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeaderSettings:
    """As the ``--requestheader-*`` options of kube-apiserver. Header names in any case."""

    authority: bytes
    """PEM: who signs the proxies' certificates."""
    allowed_names: Sequence[str] = ()
    """Common names a proxy may have; none: any."""
    username_headers: Sequence[str] = ("X-Remote-User",)
    uid_headers: Sequence[str] = ("X-Remote-Uid",)
    group_headers: Sequence[str] = ("X-Remote-Group",)
    extra_prefixes: Sequence[str] = ("X-Remote-Extra-",)


class FrontProxies:
    """Tells proxies from clients. Raises ``ValueError`` for an authority that cannot be read."""

    def __init__(self, settings: RequestHeaderSettings, client_authority: bytes) -> None:
        self._settings = settings
        self._proxies = x509.load_pem_x509_certificates(settings.authority)
        self._clients = x509.load_pem_x509_certificates(client_authority)
        self._kinds: dict[bytes, str] = {}

    def is_client(self, der: bytes) -> bool:
        """Whether a certificate says itself who its owner is."""
        return self._kind(der) == "client"

    def user(self, der: bytes, headers: Mapping[str, str]) -> User | None:
        """Whom a proxy with this certificate speaks for; None when it is no proxy, or names nobody."""
        if self._kind(der) != "proxy":
            return None
        settings = self._settings
        name = _first(headers, settings.username_headers)
        if not name:
            return None
        groups = tuple(
            part.strip()
            for header in settings.group_headers
            for part in headers.get(header.lower(), "").split(",")
            if part.strip()
        )
        extra: dict[str, tuple[str, ...]] = {}
        for prefix in settings.extra_prefixes:
            begin = prefix.lower()
            for header, value in headers.items():
                if header.startswith(begin):
                    key = urllib.parse.unquote(header[len(begin) :])
                    extra[key] = (*extra.get(key, ()), *(part.strip() for part in value.split(",")))
        groups = groups if AUTHENTICATED in groups else (*groups, AUTHENTICATED)
        return User(name=name, uid=_first(headers, settings.uid_headers), groups=groups, extra=extra)

    def _kind(self, der: bytes) -> str:
        kind = self._kinds.get(der)
        if kind is None:
            if len(self._kinds) >= MOST_REMEMBERED:
                self._kinds.clear()
            kind = self._kinds[der] = self._told_apart(der)
        return kind

    def _told_apart(self, der: bytes) -> str:
        certificate = x509.load_der_x509_certificate(der)
        if any(_issued(certificate, each) for each in self._proxies):
            names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            allowed = self._settings.allowed_names
            return "proxy" if not allowed or set(names) & set(allowed) else "stranger"
        return "client" if any(_issued(certificate, each) for each in self._clients) else "stranger"


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _first(headers: Mapping[str, str], names: Sequence[str]) -> str:
    return next((headers[name.lower()] for name in names if headers.get(name.lower())), "")
