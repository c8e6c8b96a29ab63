"""ID tokens of an OpenID Connect provider: checked by its keys, turned into a user by its claims. Pure.

In: a token, the provider's JWKS, settings as ``--oidc-*`` says. Out: a user, or why not. Source: apiserver
``plugin/pkg/authenticator/token/oidc``, 1.36; RFC 7515, 7517, 7518, 7519.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from anynode.api.objects import Object
from anynode.api.wire import User

LEEWAY_SECONDS = 0
MOST_TOKEN_BYTES = 64 * 1024
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
_HASHES: Mapping[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: Mapping[str, tuple[ec.EllipticCurve, int]] = {
    "P-256": (ec.SECP256R1(), 32),
    "P-384": (ec.SECP384R1(), 48),
    "P-521": (ec.SECP521R1(), 66),
}
_CURVE_OF = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

Verify = Callable[[bytes, bytes, str], None]
"""(signature, content, algorithm); raises ``InvalidSignature`` or ``ValueError``."""


class OidcRefused(Exception):
    """The token is not accepted."""


class KeyUnknown(OidcRefused):
    """It is signed by a key not in the JWKS known here: a newer one may have it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """As the ``--oidc-*`` options of kube-apiserver."""

    issuer: str
    client_id: str
    username_claim: str = "sub"
    username_prefix: str = ""
    """Empty: the issuer and ``#`` unless the claim is ``email``; ``-``: none."""
    groups_claim: str = ""
    groups_prefix: str = ""
    required_claims: Mapping[str, str] = dataclasses.field(default_factory=dict)
    algorithms: Sequence[str] = ("RS256",)
    ca: bytes | None = None
    """PEM: who signed the provider's certificate; None: the system's authorities."""

    def __post_init__(self) -> None:
        if not self.issuer.startswith("https://"):
            raise ValueError(f"the issuer {self.issuer} is no https URL")
        if not self.client_id:
            raise ValueError("an OpenID Connect issuer needs a client id")
        unknown = [each for each in self.algorithms if each not in ALGORITHMS]
        if unknown:
            raise ValueError(f"unsupported signing algorithm {unknown[0]} (there are {', '.join(ALGORITHMS)})")

    @property
    def prefix(self) -> str:
        if self.username_prefix == "-":
            return ""
        if self.username_prefix or self.username_claim == "email":
            return self.username_prefix
        return f"{self.issuer}#"


class KeySet:
    """A provider's signing keys, from its JWKS document. Keys of other uses and kinds are passed over."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._keys: dict[str, Verify] = {}
        self._nameless: list[Verify] = []
        keys = document.get("keys")
        for each in keys if isinstance(keys, list) else ():
            verify = _verifier(each) if isinstance(each, dict) and each.get("use", "sig") == "sig" else None
            if verify is not None and each.get("kid"):
                self._keys[str(each["kid"])] = verify
            elif verify is not None:
                self._nameless.append(verify)

    def candidates(self, key_id: str) -> Sequence[Verify]:
        """The keys a token may be signed by."""
        if key_id:
            found = self._keys.get(key_id)
            return self._nameless if found is None else (found,)
        return [*self._keys.values(), *self._nameless]


def issuer_of(token: str) -> str:
    """Who issued a token, by its own word; empty for what is no JWT."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MOST_TOKEN_BYTES:
        return ""
    try:
        payload = orjson.loads(_decode(parts[1]))
    except (ValueError, binascii.Error):
        return ""
    issuer = payload.get("iss") if isinstance(payload, dict) else None
    return issuer if isinstance(issuer, str) else ""


def user_of(token: str, keys: KeySet, settings: OidcSettings, now: float) -> User:
    """The user a token stands for; raises ``OidcRefused``."""
    claims = _verified(token, keys, settings.algorithms)
    if claims.get("iss") != settings.issuer:
        raise OidcRefused("oidc: id token issued by a different provider")
    audiences = claims.get("aud")
    if settings.client_id not in (audiences if isinstance(audiences, list) else [audiences]):
        raise OidcRefused("oidc: expected audience is not among those of the token")
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(expires, int | float) or now > expires + LEEWAY_SECONDS:
        raise OidcRefused("oidc: token is expired")
    if not isinstance(begins, int | float) or now < begins - LEEWAY_SECONDS:
        raise OidcRefused("oidc: token is not valid yet")
    for claim, value in settings.required_claims.items():
        if claims.get(claim) != value:
            raise OidcRefused(f"oidc: required claim {claim} is missing or has another value")
    return User(name=settings.prefix + _username(claims, settings), groups=_groups(claims, settings))


def _username(claims: Mapping[str, Any], settings: OidcSettings) -> str:
    name = claims.get(settings.username_claim)
    if not isinstance(name, str) or not name:
        raise OidcRefused(f"oidc: parse username claims {settings.username_claim!r}: claim not present")
    if settings.username_claim == "email" and claims.get("email_verified", True) is not True:
        raise OidcRefused("oidc: email not verified")
    return name


def _groups(claims: Mapping[str, Any], settings: OidcSettings) -> tuple[str, ...]:
    found = claims.get(settings.groups_claim) if settings.groups_claim else None
    if found is None:
        return ()
    groups = [found] if isinstance(found, str) else found
    if not isinstance(groups, list) or not all(isinstance(each, str) for each in groups):
        raise OidcRefused(f"oidc: parse groups claim {settings.groups_claim!r}: no list of texts")
    return tuple(settings.groups_prefix + each for each in groups)


def _verified(token: str, keys: KeySet, algorithms: Sequence[str]) -> Object:
    """The claims of a token whose signature holds."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MOST_TOKEN_BYTES:
        raise OidcRefused("oidc: malformed jwt")
    try:
        header, claims, signature = orjson.loads(_decode(parts[0])), orjson.loads(_decode(parts[1])), _decode(parts[2])
    except (ValueError, binascii.Error) as error:
        raise OidcRefused("oidc: malformed jwt") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise OidcRefused("oidc: malformed jwt")
    algorithm = str(header.get("alg"))
    if algorithm not in algorithms:
        raise OidcRefused("oidc: id token signed with unsupported algorithm")
    content = f"{parts[0]}.{parts[1]}".encode()
    for verify in keys.candidates(str(header.get("kid") or "")):
        try:
            verify(signature, content, algorithm)
        except (InvalidSignature, ValueError):
            continue
        return claims
    raise KeyUnknown("failed to verify signature: failed to verify id token signature")


def _verifier(key: Mapping[str, Any]) -> Verify | None:
    """What checks signatures by a key of a JWKS; None for a key that is of no use."""
    try:
        if key.get("kty") == "RSA":
            modulus, exponent = (int.from_bytes(_decode(key[part]), "big") for part in ("n", "e"))
            return _rsa(rsa.RSAPublicNumbers(exponent, modulus).public_key())
        if key.get("kty") == "EC" and key.get("crv") in _CURVES:
            curve, size = _CURVES[key["crv"]]
            x, y = (int.from_bytes(_decode(key[axis]), "big") for axis in ("x", "y"))
            return _elliptic(ec.EllipticCurvePublicNumbers(x, y, curve).public_key(), key["crv"], size)
    except (KeyError, ValueError, TypeError, binascii.Error):
        return None
    return None


def _rsa(key: rsa.RSAPublicKey) -> Verify:
    def verify(signature: bytes, content: bytes, algorithm: str) -> None:
        digest = _HASHES[algorithm[2:]]
        if algorithm.startswith("RS"):
            key.verify(signature, content, padding.PKCS1v15(), digest)
        elif algorithm.startswith("PS"):
            key.verify(signature, content, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        else:
            raise ValueError(algorithm)

    return verify


def _elliptic(key: ec.EllipticCurvePublicKey, curve: str, size: int) -> Verify:
    def verify(signature: bytes, content: bytes, algorithm: str) -> None:
        if _CURVE_OF.get(algorithm) != curve or len(signature) != 2 * size:
            raise ValueError(algorithm)
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        key.verify(utils.encode_dss_signature(r, s), content, ec.ECDSA(_HASHES[algorithm[2:]]))

    return verify


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
