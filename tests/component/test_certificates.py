"""Certificates asked for over the API: approved, signed by the cluster, used to log in, and renewed while running."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pathlib
import random
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anynode.aio import tls
from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpClient, Origin
from anynode.aio.tasks import Supervisor
from anynode.api.errors import Forbidden
from anynode.api.objects import Object, ObjectKey, condition_of, get_path
from anynode.api.resources import known
from anynode.api.wire import User
from anynode.apiserver.loopback import LoopbackTransport
from anynode.apiserver.process import ApiServerProcess
from anynode.client.api_client import ApiClient
from anynode.controllers.manager import ControllerManager, ControllerSettings
from anynode.security.signing import RequestSigner
from anynode.storage.memory import MemoryStorage
from anynode.testing.clock import FakeClock

REQUESTS = known("certificatesigningrequests", "certificates.k8s.io")
BINDINGS = known("clusterrolebindings", "rbac.authorization.k8s.io")
ADMIN = User(name="admin", groups=("system:masters",))
USAGES = ["digital signature", "client auth"]
KEY = ec.generate_private_key(ec.SECP256R1())


def pkcs10(name: str, *groups: str) -> str:
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
    pem = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject)).sign(KEY, hashes.SHA256())
    return base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()


def asked(name: str, request: str, signer: str = "kubernetes.io/kube-apiserver-client", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"signerName": signer, "request": request, "usages": USAGES, **spec}}


class World:
    def __init__(self, process: ApiServerProcess) -> None:
        self.process = process
        self.client = self.as_user(ADMIN)

    def as_user(self, user: User) -> ApiClient:
        return ApiClient(LoopbackTransport(self.process.assembly.server, user))

    async def approve(self, client: ApiClient, name: str) -> None:
        csr = await self.client.get(REQUESTS, ObjectKey("", name))
        condition = {"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}
        await client.update(REQUESTS, {**csr, "status": {"conditions": [condition]}}, subresource="approval")

    async def until(self, name: str, *path: str) -> Object:
        async with asyncio.timeout(10):
            while True:
                csr = await self.client.get(REQUESTS, ObjectKey("", name))
                if get_path(csr, *path, default=None):
                    return csr
                await asyncio.sleep(0.02)

    async def certificate(self, name: str) -> x509.Certificate:
        csr = await self.until(name, "status", "certificate")
        return x509.load_pem_x509_certificate(base64.b64decode(csr["status"]["certificate"]))


@pytest.fixture
async def world(tmp_path: pathlib.Path) -> AsyncIterator[World]:
    clock = SystemClock()
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(storage, clock=clock, random=random.Random(1), directory=tmp_path) as process,
        Supervisor("test", clock=clock) as tasks,
    ):
        world = World(process)
        signer = RequestSigner(process.authority.certificate, process.authority.key, clock)
        settings = ControllerSettings(
            controllers=(
                "certificatesigningrequest-approving-controller,certificatesigningrequest-signing-controller",
            ),
            sign_certificate=signer.sign,
        )
        manager = ControllerManager(world.client, clock=clock, settings=settings, chance=random.Random(2))
        tasks.start("controllers", manager.run)
        yield world


async def test_an_approved_request_becomes_a_certificate_to_log_in_with(world: World) -> None:
    await world.client.create(REQUESTS, asked("ann", pkcs10("ann", "devs"), expirationSeconds=3600))
    await world.approve(world.client, "ann")
    certificate = await world.certificate("ann")
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life.total_seconds() == 3600 + 300  # begins five minutes early
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    key = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = tls.client_context(ca=world.process.ca_pem, certificate=pem, key=key)
    client = HttpClient(clock=SystemClock())
    try:
        origin = Origin(host="127.0.0.1", port=world.process.port, tls=context)
        body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
        response = await client.request(
            origin,
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {"content-type": "application/json"},
            body,
        )
        assert response.status == 201
        said = response.body
        assert b'"username":"ann","groups":["devs","system:authenticated"]' in said
        assert b"X509SHA256=" in said
    finally:
        await client.close()


async def test_nobody_approves_or_signs_without_the_right(world: World) -> None:
    eve = User(name="eve")
    binding = {
        "metadata": {"name": "eve"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "eve"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}],
    }
    group = ["certificates.k8s.io"]
    role = {
        "metadata": {"name": "eve"},
        "rules": [
            {
                "apiGroups": group,
                "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"],
                "verbs": ["update"],
            }
        ],
    }
    await world.client.create(known("clusterroles", "rbac.authorization.k8s.io"), role)
    await world.client.create(BINDINGS, binding)
    await world.client.create(REQUESTS, asked("bob", pkcs10("bob")))
    with pytest.raises(Forbidden, match="user not permitted to approve requests with signerName"):
        await world.approve(world.as_user(eve), "bob")
    csr = await world.client.get(REQUESTS, ObjectKey("", "bob"))
    signed = {**csr, "status": {"certificate": base64.b64encode(world.process.ca_pem).decode()}}
    with pytest.raises(Forbidden, match="user not permitted to sign requests with signerName"):
        await world.as_user(eve).update(REQUESTS, signed, subresource="status")


async def test_a_kubelets_client_certificate_needs_nobodys_approval(world: World) -> None:
    binding = {
        "metadata": {"name": "bootstrappers"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers"}],
    }
    creation = {**binding, "metadata": {"name": "creators"}}
    creation["roleRef"] = {**binding["roleRef"], "name": "system:node-bootstrapper"}  # type: ignore[dict-item]
    await world.client.create(BINDINGS, binding)
    await world.client.create(BINDINGS, creation)
    joining = world.as_user(User(name="system:bootstrap:abc", groups=("system:bootstrappers", "system:authenticated")))
    request = pkcs10("system:node:n1", "system:nodes")
    await joining.create(REQUESTS, asked("n1", request, "kubernetes.io/kube-apiserver-client-kubelet"))
    certificate = await world.certificate("n1")
    assert certificate.subject == x509.load_pem_x509_csr(base64.b64decode(request)).subject
    csr = await world.client.get(REQUESTS, ObjectKey("", "n1"))
    approved = condition_of(csr, "Approved")
    assert approved is not None
    assert approved["message"] == "Auto approving kubelet client certificate after SubjectAccessReview."


async def test_a_request_its_signer_would_never_sign_fails(world: World) -> None:
    request = asked("n2", pkcs10("n2"), "kubernetes.io/kubelet-serving")
    await world.client.create(REQUESTS, request)
    await world.approve(world.client, "n2")
    csr = await world.until("n2", "status", "conditions")
    async with asyncio.timeout(10):
        while condition_of(csr, "Failed") is None:
            await asyncio.sleep(0.02)
            csr = await world.client.get(REQUESTS, ObjectKey("", "n2"))
    failed = condition_of(csr, "Failed") or {}
    assert (failed["reason"], failed["message"]) == (
        "SignerValidationFailure",
        "subject organization is not system:nodes",
    )


async def test_the_servers_certificate_is_renewed_while_it_runs(tmp_path: pathlib.Path) -> None:
    clock = FakeClock(start=SystemClock().now())

    async def shown(port: int) -> x509.Certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
        return x509.load_der_x509_certificate(der)

    async with (
        MemoryStorage() as storage,
        ApiServerProcess(storage, clock=clock, random=random.Random(1), directory=tmp_path) as process,
    ):
        first = await shown(process.port)
        await clock.advance(10.0)
        process.renew_certificates()
        second = await shown(process.port)
        assert second.not_valid_after_utc > first.not_valid_after_utc
        assert second.issuer == first.issuer
