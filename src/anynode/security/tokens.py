"""Service account tokens: signed JWTs (ES256) with the claims Kubernetes puts in, and their way back to a user.

``TokenIssuer`` signs and verifies; ``why_invalid`` says, from the objects there now, whether what a token is bound to
is gone. Source: kubernetes ``pkg/serviceaccount/claims.go``, ``jwt.go``, ``openidmetadata.go``, 1.36; RFC 7515, 7517.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from anynode.aio.clock import Clock
from anynode.api import objects, resources
from anynode.api.objects import Object, ObjectKey
from anynode.api.wire import User
from anynode.security import legacy_tokens
from anynode.security.legacy_tokens import Legacy

PROJECTED_SECONDS = 3607
"""The life kubelets ask for in ``kube-api-access`` volumes; such tokens live a year and warn after this."""
EXTENDED_SECONDS = 365 * 24 * 60 * 60
LEEWAY_SECONDS = 60
VERIFIED_KEPT = 10_000
_COORDINATE_BYTES = 32

Lookup = Callable[[resources.Resource, ObjectKey], Object | None]


class TokenInvalid(Exception):
    """The token is not accepted; the text is upstream's."""


class TokenForeign(TokenInvalid):
    """No token of this issuer at all: another authenticator may know it."""


class Ref(NamedTuple):
    """An object a token is bound to."""

    name: str
    uid: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a token dies with: a pod (then ``node`` only says where it ran), a secret or a node."""

    pod: Ref | None = None
    node: Ref | None = None
    secret: Ref | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says. Times are Unix seconds."""

    namespace: str
    name: str
    uid: str
    audiences: tuple[str, ...]
    bound: Bound
    expires: int
    not_before: int
    issued: int
    warn_after: int = 0
    token_id: str = ""
    legacy: tuple[str, Legacy] | None = None
    """Set for a token kept in a Secret: the token and what it says."""

    def user(self) -> User:
        """The service account as a user; ``system:authenticated`` is for the authenticator to add."""
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={self.token_id}",)} if self.token_id else {}
        for kind, ref in (("pod", self.bound.pod), ("node", self.bound.node)):
            if ref is not None:
                extra[f"authentication.kubernetes.io/{kind}-name"] = (ref.name,)
                if ref.uid:
                    extra[f"authentication.kubernetes.io/{kind}-uid"] = (ref.uid,)
        return User(
            name=username(self.namespace, self.name), groups=groups_of(self.namespace), uid=self.uid, extra=extra
        )


def username(namespace: str, name: str) -> str:
    """The user a service account is."""
    return f"system:serviceaccount:{namespace}:{name}"


def groups_of(namespace: str) -> tuple[str, ...]:
    """The groups every service account of ``namespace`` is in."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")


def go_list(words: Sequence[str]) -> str:
    """Strings as Go prints a quoted slice: ``["a" "b"]``."""
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"


class TokenIssuer:
    """Signs tokens with one EC P-256 key and verifies them. ``audiences``: what the API server itself answers to."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        clock: Clock,
        *,
        audiences: Sequence[str] = (),
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._key = key
        self._public = key.public_key()
        self._clock = clock
        self._new_id = new_id
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self.key_id = _key_id(self._public)
        header = {"alg": "ES256", "kid": self.key_id}
        self._header = _encode(orjson.dumps(header))
        self._verified: dict[str, Claims] = {}

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        audiences: Sequence[str] = (),
        expiration_seconds: int = 3600,
        bound: Bound | None = None,
    ) -> tuple[str, datetime.datetime]:
        """A token for a service account and the expiry to tell the client.

        Tokens of a pod's ``kube-api-access`` volume live longer than what is told, as upstream's: old clients do not
        read the file again.
        """
        now, bound = self._clock.now(), bound or Bound()
        issued, audiences = int(now.timestamp()), list(audiences) or list(self.audiences)
        life_seconds, warn_after = expiration_seconds, 0
        extended = bound.pod is not None and expiration_seconds == PROJECTED_SECONDS
        if extended and set(audiences) <= set(self.audiences):
            life_seconds, warn_after = EXTENDED_SECONDS, issued + expiration_seconds
        claims: Object = {
            "aud": audiences,
            "exp": issued + life_seconds,
            "iat": issued,
            "iss": self.issuer,
            "jti": self._new_id(),
            "kubernetes.io": _private_claims(namespace, Ref(name, uid), bound, warn_after),
            "nbf": issued,
            "sub": username(namespace, name),
        }
        return self._signed(claims), now + datetime.timedelta(seconds=expiration_seconds)

    def issue_legacy(self, namespace: str, name: str, uid: str, secret: str) -> str:
        """A token for a service account without an end, to be kept in ``secret``."""
        return self._signed(legacy_tokens.claims_of(namespace, name, uid, secret))

    def verify(self, token: str, audiences: Sequence[str] = ()) -> Claims:
        """What ``token`` says, if it is ours, valid now, and meant for one of ``audiences`` (default: our own).

        Raises ``TokenForeign`` or ``TokenInvalid``. Whether the bound objects still exist is ``why_invalid``'s.
        """
        claims = self._verified.get(token)
        if claims is None:
            payload = self._checked(token)
            claims = self._kept_in_secret(token, payload) if payload["iss"] == legacy_tokens.ISSUER else _parse(payload)
            if len(self._verified) >= VERIFIED_KEPT:
                self._verified.clear()
            self._verified[token] = claims
        wanted = tuple(audiences) or self.audiences
        if not set(claims.audiences) & set(wanted):
            raise TokenInvalid(
                f"token audiences {go_list(claims.audiences)} is invalid for the target audiences {go_list(wanted)}"
            )
        now = self._clock.now().timestamp()
        if now > claims.expires + LEEWAY_SECONDS:
            raise TokenInvalid("service account token has expired")
        if now < claims.not_before - LEEWAY_SECONDS:
            raise TokenInvalid("service account token is not valid yet")
        if now < claims.issued - LEEWAY_SECONDS:
            raise TokenInvalid("service account token is issued in the future")
        return claims

    def _kept_in_secret(self, token: str, payload: Mapping[str, Any]) -> Claims:
        found = legacy_tokens.parse(payload)
        if isinstance(found, str):
            raise TokenInvalid(found)
        return Claims(
            namespace=found.namespace,
            name=found.name,
            uid=found.uid,
            audiences=self.audiences,
            bound=Bound(),
            expires=1 << 62,
            not_before=0,
            issued=0,
            legacy=(token, found),
        )

    def jwks(self) -> Object:
        """The public key as a JWKS document, for ``/openid/v1/jwks``."""
        numbers = self._public.public_numbers()
        key = {"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256"}
        key |= {axis: _encode(getattr(numbers, axis).to_bytes(_COORDINATE_BYTES, "big")) for axis in ("x", "y")}
        return {"keys": [key]}

    def discovery(self, jwks_uri: str) -> Object:
        """For ``/.well-known/openid-configuration``."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def _signed(self, claims: Object) -> str:
        content = f"{self._header}.{_encode(orjson.dumps(claims))}"
        r, s = utils.decode_dss_signature(self._key.sign(content.encode(), ec.ECDSA(hashes.SHA256())))
        raw = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
        return f"{content}.{_encode(raw)}"

    def _checked(self, token: str) -> Mapping[str, Any]:
        """The payload of a token whose signature holds."""
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenForeign("invalid bearer token")
        try:
            header, payload = orjson.loads(_decode(parts[0])), orjson.loads(_decode(parts[1]))
            signature = _decode(parts[2])
        except (ValueError, binascii.Error) as error:
            raise TokenForeign("invalid bearer token") from error
        if (
            not isinstance(header, dict)
            or not isinstance(payload, dict)
            or payload.get("iss")
            not in (
                self.issuer,
                legacy_tokens.ISSUER,
            )
        ):
            raise TokenForeign("invalid bearer token")
        if header.get("kid") not in (None, "", self.key_id):
            raise TokenInvalid("invalid signature, no keys found")
        if header.get("alg") != "ES256" or len(signature) != 2 * _COORDINATE_BYTES:
            raise TokenInvalid("go-jose/go-jose: error in cryptographic primitive")
        r, s = (int.from_bytes(half, "big") for half in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]))
        try:
            der = utils.encode_dss_signature(r, s)
            self._public.verify(der, f"{parts[0]}.{parts[1]}".encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise TokenInvalid("go-jose/go-jose: error in cryptographic primitive") from error
        return payload


def why_invalid(claims: Claims, lookup: Lookup, now: datetime.datetime) -> str | None:
    """Why a verified token counts no more, in upstream's words, or None: it does.

    ``lookup`` finds live objects. Something being deleted for less than the leeway still counts.
    """
    if claims.legacy is not None:
        return legacy_tokens.why_invalid(*claims.legacy, lookup)
    account = lookup(resources.known("serviceaccounts"), ObjectKey(claims.namespace, claims.name))
    if account is None:
        return f'serviceaccounts "{claims.name}" not found'
    if objects.uid_of(account) != claims.uid:
        return f"service account UID ({objects.uid_of(account)}) does not match claim ({claims.uid})"
    if _gone(account, now):
        return f"service account {claims.namespace}/{claims.name} has been deleted"
    bound = claims.bound
    checks = [("secret", "secrets", claims.namespace, bound.secret), ("pod", "pods", claims.namespace, bound.pod)]
    if bound.pod is None:
        checks.append(("node", "nodes", "", bound.node))
    for word, plural, namespace, ref in checks:
        if ref is None:
            continue
        found = lookup(resources.known(plural), ObjectKey(namespace, ref.name))
        if found is None or (objects.uid_of(found) == ref.uid and _gone(found, now)):
            return "service account token has been invalidated"
        if objects.uid_of(found) != ref.uid:
            title = "pod" if word == "pod" else word
            return f"{title} UID ({objects.uid_of(found)}) does not match service account {title} ref claim ({ref.uid})"
    return None


def _gone(obj: Object, now: datetime.datetime) -> bool:
    deleted = objects.meta(obj).get("deletionTimestamp")
    if not deleted:
        return False
    return datetime.datetime.fromisoformat(deleted) < now - datetime.timedelta(seconds=LEEWAY_SECONDS)


def _private_claims(namespace: str, account: Ref, bound: Bound, warn_after: int) -> Object:
    claims: Object = {"namespace": namespace}
    for word, ref in (("node", bound.node), ("pod", bound.pod), ("secret", bound.secret), ("serviceaccount", account)):
        if ref is not None:
            claims[word] = {"name": ref.name, "uid": ref.uid} if ref.uid else {"name": ref.name}
    if warn_after:
        claims["warnafter"] = warn_after
    return claims


def _parse(payload: Mapping[str, Any]) -> Claims:
    private = payload.get("kubernetes.io") or {}
    account = private.get("serviceaccount") or {}

    def ref(word: str) -> Ref | None:
        found = private.get(word)
        return Ref(found.get("name", ""), found.get("uid", "")) if found else None

    audiences = payload.get("aud") or ()
    return Claims(
        namespace=private.get("namespace", ""),
        name=account.get("name", ""),
        uid=account.get("uid", ""),
        audiences=(audiences,) if isinstance(audiences, str) else tuple(audiences),
        bound=Bound(pod=ref("pod"), node=ref("node"), secret=ref("secret")),
        expires=payload.get("exp", 0),
        not_before=payload.get("nbf", 0),
        issued=payload.get("iat", 0),
        warn_after=private.get("warnafter", 0),
        token_id=payload.get("jti", ""),
    )


def _key_id(key: ec.EllipticCurvePublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _encode(hashlib.sha256(der).digest())


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
