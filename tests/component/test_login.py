"""Ways in over HTTPS: ID tokens of a provider, a front proxy's word, static tokens; and what the audit file has."""

from __future__ import annotations

import base64
import pathlib
import random
import ssl
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from anynode.aio import tls
from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpClient, Origin
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.apiserver.access import AccessError, AccessSettings
from anynode.apiserver.front_proxy import RequestHeaderSettings
from anynode.apiserver.process import ApiServerProcess
from anynode.security.oidc import OidcSettings
from anynode.security.pki import CertificateAuthority
from anynode.storage.memory import MemoryStorage

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
POLICY = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}"


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Provider:
    """An OpenID Connect provider that can change its key."""

    def __init__(self) -> None:
        self.asked = 0
        self.url = ""
        self.renew("first")

    def renew(self, name: str) -> None:
        self.name = name
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.asked += 1
        if request.path == "/.well-known/openid-configuration":
            body: Any = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        else:
            numbers = self._key.public_key().public_numbers()
            modulus, exponent = numbers.n.to_bytes(256, "big"), numbers.e.to_bytes(3, "big")
            body = {"keys": [{"kty": "RSA", "kid": self.name, "n": encoded(modulus), "e": encoded(exponent)}]}
        return HttpResponse(status=200, headers={"content-type": "application/json"}, body=orjson.dumps(body))

    def token(self, **claims: Any) -> str:
        said = {"iss": self.url, "aud": "kubernetes", "sub": "ann", "exp": 1 << 40, **claims}
        header = orjson.dumps({"alg": "RS256", "kid": self.name})
        content = f"{encoded(header)}.{encoded(orjson.dumps(said))}"
        return f"{content}.{encoded(self._key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@pytest.fixture
async def provider(tmp_path: pathlib.Path) -> AsyncIterator[tuple[Provider, bytes]]:
    clock, made = SystemClock(), Provider()
    authority = CertificateAuthority.load_or_create(tmp_path / "provider", clock)
    pair = authority.server_certificate(["127.0.0.1"])
    context = tls.server_context(pair.certificate, pair.key)
    async with HttpServer(made.handle, ssl=context, clock=clock) as server:
        made.url = f"https://127.0.0.1:{server.port}"
        yield made, authority.certificate


async def who(process: ApiServerProcess, context: ssl.SSLContext, **headers: str) -> tuple[int, Any]:
    client = HttpClient(clock=SystemClock())
    sent = {"content-type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
    try:
        origin = Origin(host="127.0.0.1", port=process.port, tls=context)
        answer = await client.request(origin, "POST", WHO, sent, b"{}")
    finally:
        await client.close()
    return answer.status, orjson.loads(answer.body)


async def test_id_tokens_and_a_provider_that_changes_its_key(
    tmp_path: pathlib.Path, provider: tuple[Provider, bytes]
) -> None:
    made, ca = provider
    access = AccessSettings(oidc=OidcSettings(issuer=made.url, client_id="kubernetes", username_prefix="oidc:", ca=ca))
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(
            storage, clock=SystemClock(), random=random.Random(1), directory=tmp_path, access=access
        ) as process,
    ):
        context = tls.client_context(ca=process.ca_pem)
        status, review = await who(process, context, authorization=f"Bearer {made.token()}")
        assert (status, review["status"]["userInfo"]["username"]) == (201, "oidc:ann")
        assert made.asked == 2
        await who(process, context, authorization=f"Bearer {made.token()}")
        assert made.asked == 2  # remembered
        for wrong in (made.token(exp=1), made.token(aud="other"), made.token()[:-5] + "AAAAA", "a.b.c"):
            assert (await who(process, context, authorization=f"Bearer {wrong}"))[0] == 401
        assert made.asked == 2  # nobody makes the server ask again and again


async def test_a_front_proxy_and_somebody_who_says_he_is_one(tmp_path: pathlib.Path) -> None:
    clock = SystemClock()
    proxies = CertificateAuthority.load_or_create(tmp_path / "proxies", clock)
    access = AccessSettings(request_header=RequestHeaderSettings(authority=proxies.certificate))
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(storage, clock=clock, random=random.Random(1), directory=tmp_path, access=access) as process,
    ):
        for authority, name in ((proxies, "ann"), (process.authority, "front")):
            pair = authority.client_certificate("front")
            context = tls.client_context(ca=process.ca_pem, certificate=pair.certificate, key=pair.key)
            status, review = await who(process, context, x_remote_user="ann")
            assert (status, review["status"]["userInfo"]["username"]) == (201, name)


async def test_static_tokens_and_the_audit_file(tmp_path: pathlib.Path) -> None:
    tokens, policy, log = (tmp_path / name for name in ("tokens.csv", "policy.yaml", "audit.log"))
    tokens.write_text('hush,ann,u1,"devs,ops"\n')
    policy.write_text(POLICY)
    access = AccessSettings(token_file=tokens, audit_policy_file=policy, audit_log=str(log))
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(
            storage, clock=SystemClock(), random=random.Random(1), directory=tmp_path, access=access
        ) as process,
    ):
        context = tls.client_context(ca=process.ca_pem)
        status, review = await who(process, context, authorization="Bearer hush")
        assert (status, review["status"]["userInfo"]["groups"]) == (201, ["devs", "ops", "system:authenticated"])
        assert (await who(process, context, authorization="Bearer other"))[0] == 401
    events = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    assert [each["user"].get("username") for each in events if each["stage"] == "ResponseComplete"] == ["ann", None]
    assert b"hush" not in log.read_bytes()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"audit_log": "x"}, "needs both"),
        ({"audit_log": "x", "audit_policy_file": pathlib.Path("/nowhere/at-all")}, "cannot use /nowhere/at-all"),
        ({"token_file": pathlib.Path("/nowhere/at-all")}, "cannot read the token file"),
        ({"request_header": RequestHeaderSettings(authority=b"x")}, "authority of front proxies"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_starts(settings: Any, why: str) -> None:
    with pytest.raises(AccessError, match=why):
        AccessSettings(**settings).read(SystemClock(), b"")
