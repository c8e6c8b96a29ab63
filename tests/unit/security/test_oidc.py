"""ID tokens: whom they stand for, and every way they can be wrong."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from anynode.security.oidc import KeySet, KeyUnknown, OidcRefused, OidcSettings, issuer_of, user_of

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://id.example.com"
NOW = 1_000_000


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def keys() -> KeySet:
    public, point = RSA.public_key().public_numbers(), EC.public_key().public_numbers()
    return KeySet(
        {
            "keys": [
                {"kty": "RSA", "kid": "r", "use": "sig", "n": number(public.n), "e": number(public.e)},
                {"kty": "EC", "kid": "e", "crv": "P-256", "x": number(point.x), "y": number(point.y)},
                {"kty": "RSA", "kid": "broken", "n": "!"},
                {"kty": "oct", "kid": "shared", "k": "AAAA"},
                {"kty": "RSA", "kid": "enc", "use": "enc", "n": number(public.n), "e": number(public.e)},
            ]
        }
    )


def token(algorithm: str = "RS256", kid: str = "r", **claims: Any) -> str:
    said = {"iss": ISSUER, "aud": "kubernetes", "sub": "ann", "exp": NOW + 60, **claims}
    header = encoded(orjson.dumps({"alg": algorithm, "kid": kid}))
    content = f"{header}.{encoded(orjson.dumps({key: value for key, value in said.items() if value is not None}))}"
    if algorithm == "ES256":
        r, s = utils.decode_dss_signature(EC.sign(content.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    elif algorithm == "PS256":
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        signature = RSA.sign(content.encode(), scheme, hashes.SHA256())
    elif algorithm == "none":
        signature = b""
    else:
        signature = RSA.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{content}.{encoded(signature)}"


def settings(**more: Any) -> OidcSettings:
    return OidcSettings(
        **{"issuer": ISSUER, "client_id": "kubernetes", "algorithms": ("RS256", "ES256", "PS256"), **more}
    )


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "r"), ("PS256", "r"), ("ES256", "e")])
def test_good_tokens_by_every_kind_of_key(algorithm: str, kid: str) -> None:
    assert user_of(token(algorithm, kid), keys(), settings(), NOW).name == f"{ISSUER}#ann"


def test_names_groups_and_prefixes() -> None:
    chosen = settings(username_prefix="-", groups_claim="roles", groups_prefix="oidc:")
    user = user_of(token(roles=["a", "b"]), keys(), chosen, NOW)
    assert (user.name, user.groups) == ("ann", ("oidc:a", "oidc:b"))
    assert user_of(token(roles="a"), keys(), chosen, NOW).groups == ("oidc:a",)
    by_mail = settings(username_claim="email")
    assert user_of(token(email="a@b.c", email_verified=True), keys(), by_mail, NOW).name == "a@b.c"
    assert user_of(token(aud=["x", "kubernetes"]), keys(), settings(username_prefix="p:"), NOW).name == "p:ann"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (token(aud="other"), "expected audience"),
        (token(aud=None), "expected audience"),
        (token(exp=NOW - 1), "expired"),
        (token(exp=None), "expired"),
        (token(nbf=NOW + 10), "not valid yet"),
        (token(iss="https://evil"), "different provider"),
        (token(sub=""), "claim not present"),
        (token(sub=5), "claim not present"),
        (token("none"), "unsupported algorithm"),
        (token("HS256"), "unsupported algorithm"),
        ("a.b", "malformed"),
        ("a.b.c", "malformed"),
        ("x" * 70_000, "malformed"),
        (token(kid="shared"), "failed to verify"),
        (token(kid="enc"), "failed to verify"),
        (token("ES256", "r"), "failed to verify"),
        (token()[:-4] + "AAAA", "failed to verify"),
    ],
)
def test_tokens_that_are_no_good(wrong: str, why: str) -> None:
    with pytest.raises(OidcRefused, match=why):
        user_of(wrong, keys(), settings(), NOW)


def test_claims_that_are_asked_for() -> None:
    chosen = settings(required_claims={"tenant": "blue"})
    assert user_of(token(tenant="blue"), keys(), chosen, NOW).name
    with pytest.raises(OidcRefused, match="required claim tenant"):
        user_of(token(tenant="red"), keys(), chosen, NOW)
    with pytest.raises(OidcRefused, match="email not verified"):
        user_of(token(email="a@b.c", email_verified=False), keys(), settings(username_claim="email"), NOW)
    with pytest.raises(OidcRefused, match="groups claim"):
        user_of(token(groups=[1]), keys(), settings(groups_claim="groups"), NOW)


def test_an_unknown_key_is_told_apart_from_a_wrong_signature_by_nobody() -> None:
    with pytest.raises(KeyUnknown):
        user_of(token(kid="new"), keys(), settings(), NOW)


def test_who_issued_a_token_by_its_own_word() -> None:
    assert issuer_of(token()) == ISSUER
    for other in ("", "a.b.c", "x" * 70_000, f"a.{encoded(b'[]')}.c", f"a.{encoded(b'{}')}.c"):
        assert issuer_of(other) == ""


@pytest.mark.parametrize(
    "wrong", [{"issuer": "http://id"}, {"client_id": ""}, {"algorithms": ("HS256",)}, {"algorithms": ("none",)}]
)
def test_settings_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"issuer|client id|algorithm"):
        settings(**wrong)


@pytest.mark.parametrize("document", [{"keys": 5}, {"keys": {"a": 1}}, {"keys": [5, None, {"kty": []}, {"crv": {}}]}])
def test_key_documents_of_other_shapes_hold_no_keys(document: dict[str, Any]) -> None:
    assert list(KeySet(document).candidates("")) == []


@pytest.mark.parametrize("audience", [5, {"kubernetes": 1}, None, [["kubernetes"]]])
def test_audiences_of_other_shapes_are_not_ours(audience: Any) -> None:
    with pytest.raises(OidcRefused, match="expected audience"):
        user_of(token(aud=audience), keys(), OidcSettings(issuer=ISSUER, client_id="kubernetes"), NOW)
