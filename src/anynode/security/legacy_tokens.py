"""Tokens kept in Secrets of type ``kubernetes.io/service-account-token``: good for as long as the Secret holds them.

In: the claims of a verified token, or a service account and a Secret. Out: what the token claims, or why it counts no
more. Source: kubernetes ``pkg/serviceaccount/legacy.go``, 1.36.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from anynode.api import objects, resources
from anynode.api.objects import Object, ObjectKey

ISSUER = "kubernetes/serviceaccount"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
_PREFIX = "kubernetes.io/serviceaccount/"

Lookup = Callable[[resources.Resource, ObjectKey], Object | None]


class Legacy(NamedTuple):
    """What such a token says."""

    namespace: str
    name: str
    uid: str
    secret: str


def claims_of(namespace: str, name: str, uid: str, secret: str) -> Object:
    """The claims of a token for a service account, kept in ``secret``."""
    return {
        "iss": ISSUER,
        f"{_PREFIX}namespace": namespace,
        f"{_PREFIX}secret.name": secret,
        f"{_PREFIX}service-account.name": name,
        f"{_PREFIX}service-account.uid": uid,
        "sub": f"system:serviceaccount:{namespace}:{name}",
    }


def parse(payload: Mapping[str, Any]) -> Legacy | str:
    """The claims, or what is wrong with them."""
    if not payload.get("sub"):
        return "sub claim is missing"
    for claim, said in (
        ("namespace", "namespace"),
        ("secret.name", "secretName"),
        ("service-account.name", "serviceAccountName"),
        ("service-account.uid", "serviceAccountUID"),
    ):
        if not isinstance(payload.get(_PREFIX + claim), str) or not payload[_PREFIX + claim]:
            return f"{said} claim is missing"
    found = Legacy(
        payload[f"{_PREFIX}namespace"],
        payload[f"{_PREFIX}service-account.name"],
        payload[f"{_PREFIX}service-account.uid"],
        payload[f"{_PREFIX}secret.name"],
    )
    if payload["sub"] != f"system:serviceaccount:{found.namespace}:{found.name}":
        return "sub claim is invalid"
    return found


def why_gone(token: str, claims: Legacy, lookup: Lookup) -> str | None:
    """Why what a verified token rests on is not there any more, in upstream's words, or None: it is."""
    secret = lookup(resources.known("secrets"), ObjectKey(claims.namespace, claims.secret))
    if secret is None or objects.is_deleting(secret):
        return "Token has been invalidated"
    kept = base64.b64decode((secret.get("data") or {}).get("token") or "")
    if not hmac.compare_digest(kept, token.encode()):
        return "Token does not match server's copy"
    account = lookup(resources.known("serviceaccounts"), ObjectKey(claims.namespace, claims.name))
    if account is None:
        return f'serviceaccounts "{claims.name}" not found'
    if objects.is_deleting(account):
        return f"ServiceAccount {claims.namespace}/{claims.name} has been deleted"
    if objects.uid_of(account) != claims.uid:
        return f"ServiceAccount UID ({objects.uid_of(account)}) does not match claim ({claims.uid})"
    return None


def why_invalid(token: str, claims: Legacy, lookup: Lookup) -> str | None:
    """Why a verified token counts no more, in upstream's words, or None: it does."""
    wrong = why_gone(token, claims, lookup)
    if wrong is not None:
        return wrong
    secret = lookup(resources.known("secrets"), ObjectKey(claims.namespace, claims.secret))
    if objects.labels_of(secret or {}).get(INVALID_SINCE):
        return (
            f"the token in secret {claims.namespace}/{claims.secret} for service account {claims.namespace}/"
            f"{claims.name} has been marked invalid. Use tokens from the TokenRequest API or manually created "
            f"secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of "
            "this token"
        )
    return None
