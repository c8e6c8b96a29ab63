"""Tokens: claims as upstream writes them, refusals in its words."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.security import tokens
from anynode.testing.clock import FakeClock

ISSUER = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> tokens.TokenIssuer:
    return tokens.TokenIssuer(ec.generate_private_key(ec.SECP256R1()), ISSUER, clock, new_id=lambda: "id-1")


def payload(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def test_claims_of_a_pods_token(issuer: tokens.TokenIssuer, clock: FakeClock) -> None:
    bound = tokens.Bound(pod=tokens.Ref("web", "u-pod"), node=tokens.Ref("n1", "u-node"))
    token, expiry = issuer.issue("ns", "default", "u-sa", [], 3607, bound)
    now = int(clock.now().timestamp())
    assert payload(token) == {
        "aud": [ISSUER],
        "exp": now + 365 * 24 * 3600,
        "iat": now,
        "iss": ISSUER,
        "jti": "id-1",
        "kubernetes.io": {
            "namespace": "ns",
            "node": {"name": "n1", "uid": "u-node"},
            "pod": {"name": "web", "uid": "u-pod"},
            "serviceaccount": {"name": "default", "uid": "u-sa"},
            "warnafter": now + 3607,
        },
        "nbf": now,
        "sub": "system:serviceaccount:ns:default",
    }
    assert expiry == clock.now() + datetime.timedelta(seconds=3607)
    user = issuer.verify(token).user()
    assert (user.name, user.uid) == ("system:serviceaccount:ns:default", "u-sa")
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:ns")
    assert user.extra == {
        "authentication.kubernetes.io/credential-id": ("JTI=id-1",),
        "authentication.kubernetes.io/pod-name": ("web",),
        "authentication.kubernetes.io/pod-uid": ("u-pod",),
        "authentication.kubernetes.io/node-name": ("n1",),
        "authentication.kubernetes.io/node-uid": ("u-node",),
    }


async def test_time_and_audience_are_held(issuer: tokens.TokenIssuer, clock: FakeClock) -> None:
    token, _ = issuer.issue("ns", "default", "u", ["golden"], 600)
    assert issuer.verify(token, ["golden", "other"]).audiences == ("golden",)
    with pytest.raises(tokens.TokenInvalid, match=r'token audiences \["golden"\] is invalid for .* \["other"\]'):
        issuer.verify(token, ["other"])
    with pytest.raises(tokens.TokenInvalid, match="is invalid for the target audiences"):
        issuer.verify(token)
    await clock.advance(600 + tokens.LEEWAY_SECONDS + 1)
    with pytest.raises(tokens.TokenInvalid, match="has expired"):
        issuer.verify(token, ["golden"])


@pytest.mark.parametrize("token", ["", "abc", "a.b.c", "e30.e30.e30", "é.é.é", "..", "W10.W10.W10"])
def test_what_is_no_token_of_ours(issuer: tokens.TokenIssuer, token: str) -> None:
    with pytest.raises(tokens.TokenForeign):
        issuer.verify(token)


def test_a_changed_token_is_refused(issuer: tokens.TokenIssuer, clock: FakeClock) -> None:
    token, _ = issuer.issue("ns", "default", "u")
    head, body, signature = token.split(".")
    changed = payload(token) | {"sub": "system:serviceaccount:kube-system:admin"}
    forged = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    other = tokens.TokenIssuer(ec.generate_private_key(ec.SECP256R1()), ISSUER, clock).issue("ns", "default", "u")[0]
    for bad in (f"{head}.{forged}.{signature}", f"{none}.{body}.", f"{head}.{body}.{signature[:-4]}AAAA", other):
        with pytest.raises(tokens.TokenInvalid):
            issuer.verify(bad)


def test_the_key_can_be_published(issuer: tokens.TokenIssuer) -> None:
    (key,) = issuer.jwks()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["kid"]) == ("EC", "P-256", "ES256", issuer.key_id)
    x, y = (int.from_bytes(base64.urlsafe_b64decode(key[axis] + "="), "big") for axis in ("x", "y"))
    assert ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key() == issuer._public
    assert issuer.discovery("https://h/openid/v1/jwks")["id_token_signing_alg_values_supported"] == ["ES256"]


def test_a_token_dies_with_what_it_is_bound_to(issuer: tokens.TokenIssuer, clock: FakeClock) -> None:
    found: dict[tuple[str, ObjectKey], Object] = {
        ("serviceaccounts", ObjectKey("ns", "default")): {"metadata": {"uid": "u-sa"}},
        ("pods", ObjectKey("ns", "web")): {"metadata": {"uid": "u-pod"}},
    }

    def lookup(resource: Resource, key: ObjectKey) -> Object | None:
        return found.get((resource.plural, key))

    token, _ = issuer.issue("ns", "default", "u-sa", bound=tokens.Bound(pod=tokens.Ref("web", "u-pod")))
    claims = issuer.verify(token)
    pod, account = ("pods", ObjectKey("ns", "web")), ("serviceaccounts", ObjectKey("ns", "default"))
    assert tokens.why_invalid(claims, lookup, clock.now()) is None
    found[pod] = {"metadata": {"uid": "u-pod", "deletionTimestamp": "2025-12-31T23:59:30Z"}}
    assert tokens.why_invalid(claims, lookup, clock.now()) is None
    found[pod] = {"metadata": {"uid": "u-pod", "deletionTimestamp": "2025-12-31T23:58:30Z"}}
    assert tokens.why_invalid(claims, lookup, clock.now()) == "service account token has been invalidated"
    found[pod] = {"metadata": {"uid": "other"}}
    said = tokens.why_invalid(claims, lookup, clock.now())
    assert said == "pod UID (other) does not match service account pod ref claim (u-pod)"
    del found[pod]
    assert tokens.why_invalid(claims, lookup, clock.now()) == "service account token has been invalidated"
    found[account] = {"metadata": {"uid": "new"}}
    assert tokens.why_invalid(claims, lookup, clock.now()) == "service account UID (new) does not match claim (u-sa)"
    del found[account]
    assert tokens.why_invalid(claims, lookup, clock.now()) == 'serviceaccounts "default" not found'
