"""Who gets in, what is asked for them, and how long an answer is remembered."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from anynode.aio.http_message import HttpRequest
from anynode.api.objects import Object
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.kubelet_api.auth import Authenticator, action_of, published_client_ca
from anynode.kubelet_api.replies import Refused
from anynode.security.pki import CertificateAuthority
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi


class Reviewer:
    """An API server that knows one token and lets its user read logs of nodes only."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, plural: str, review: Object) -> Object:
        self.asked.append(plural)
        spec = review["spec"]
        if plural == "tokenreviews":
            known = spec["token"] == "good"
            return {"status": {"authenticated": known, "user": {"username": "jane", "groups": ["dev"]}}}
        wanted = spec["resourceAttributes"]
        return {"status": {"allowed": spec["user"] == "jane" and wanted["subresource"] in ("stats", "proxy-only")}}


def request(path: str = "/stats/summary", *, token: str = "", cert: bytes | None = None) -> HttpRequest:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return HttpRequest(method="GET", path=path, headers=headers, client_cert=cert)


def certificate(tmp_path: object, groups: list[str]) -> bytes:
    authority = CertificateAuthority.load_or_create(tmp_path, FakeClock())  # type: ignore[arg-type]
    pem = authority.client_certificate("jane", groups).certificate
    from_pem = x509.load_pem_x509_certificate(pem)
    return from_pem.public_bytes(serialization.Encoding.DER)


async def status_of(auth: Authenticator, asked: HttpRequest) -> int:
    try:
        await auth.admit(asked)
    except Refused as refused:
        return refused.status
    return 200


async def test_nobody_gets_in_without_proof() -> None:
    auth = Authenticator(node="n1", clock=FakeClock(), review=Reviewer())
    assert await status_of(auth, request()) == 401
    assert await status_of(auth, request(token="bad")) == 401


async def test_masters_get_in_by_certificate_and_other_users_do_not(tmp_path: object) -> None:
    auth = Authenticator(node="n1", clock=FakeClock())
    assert await status_of(auth, request("/exec/a/b/c", cert=certificate(tmp_path, ["system:masters"]))) == 200
    assert await status_of(auth, request("/exec/a/b/c", cert=certificate(tmp_path, ["dev"]))) == 403


async def test_a_token_is_reviewed_and_the_answer_remembered() -> None:
    clock, reviewer = FakeClock(), Reviewer()
    auth = Authenticator(node="n1", clock=clock, review=reviewer)
    assert await status_of(auth, request(token="good")) == 200
    assert await status_of(auth, request(token="good")) == 200
    assert reviewer.asked == ["tokenreviews", "subjectaccessreviews"]
    await clock.advance(121)
    assert await status_of(auth, request(token="good")) == 200
    assert reviewer.asked[2:] == ["tokenreviews"]
    await clock.advance(300)
    assert await status_of(auth, request(token="good")) == 200
    assert reviewer.asked[3:] == ["tokenreviews", "subjectaccessreviews"]


async def test_what_is_denied_is_asked_in_both_ways_and_again_after_half_a_minute() -> None:
    clock, reviewer = FakeClock(), Reviewer()
    auth = Authenticator(node="n1", clock=clock, review=reviewer)
    with pytest.raises(Refused, match=r"user=jane, verb=get, resource=nodes, subresource\(s\)=\[pods proxy\]"):
        await auth.admit(request("/pods", token="good"))
    assert reviewer.asked.count("subjectaccessreviews") == 2
    assert await status_of(auth, request("/pods", token="good")) == 403
    assert reviewer.asked.count("subjectaccessreviews") == 2
    await clock.advance(31)
    assert await status_of(auth, request("/pods", token="good")) == 403
    assert reviewer.asked.count("subjectaccessreviews") == 4


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/metrics/resource", ("get", ("metrics", "proxy"))),
        ("POST", "/exec/a/b/c", ("create", ("proxy",))),
        ("GET", "/containerLogs/a/b/c", ("get", ("proxy",))),
    ],
)
def test_paths_become_subresources(method: str, path: str, expected: tuple[str, tuple[str, ...]]) -> None:
    action = action_of(method, path)
    assert (action.verb, action.subresources) == expected


async def test_the_authority_to_trust_is_read_from_the_cluster() -> None:
    api = FakeApi()
    client = ApiClient(api)
    assert await published_client_ca(client) is None
    trust: Object = {
        "metadata": {"namespace": "kube-system", "name": "extension-apiserver-authentication"},
        "data": {"client-ca-file": "PEM"},
    }
    await client.create(known("configmaps"), trust, namespace="kube-system")
    assert await published_client_ca(client) == b"PEM"
