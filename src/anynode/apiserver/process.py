"""An API server as a program has it: certificates in a directory, an HTTPS listener, an administrator's kubeconfig.

``async with ApiServerProcess(...)`` returns when requests are answered. The storage is opened and closed by the caller.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import logging
import pathlib
import random
import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from anynode.aio import tls
from anynode.aio.clock import Clock
from anynode.aio.http_server import HttpServer
from anynode.aio.tasks import Supervisor
from anynode.apiserver.access import AccessSettings
from anynode.apiserver.aggregation import FrontProxy
from anynode.apiserver.assembly import ApiServerSettings, Assembly
from anynode.apiserver.audit_log import AuditLog
from anynode.apiserver.connect import Connector
from anynode.apiserver.http import MOST_BODY_BYTES, HttpAdapter, too_large
from anynode.apiserver.oidc_provider import OidcProvider
from anynode.security.pki import (
    LEAF_LIFE,
    RENEW_BEFORE,
    CertificateAuthority,
    KeyPair,
    load_or_create_key,
)
from anynode.security.private_files import write_private
from anynode.security.rbac import MASTERS
from anynode.security.tokens import TokenIssuer
from anynode.storage.types import Storage

logger = logging.getLogger(__name__)

KUBELET_CLIENT = "kube-apiserver-kubelet-client"
FRONT_PROXY = "front-proxy-client"
ISSUER = "https://kubernetes.default.svc.cluster.local"
NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


class ApiServerProcess:
    """The server with its listener. ``directory`` keeps the authority and the token key (``pki/``)."""

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock,
        random: random.Random,
        directory: pathlib.Path,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: ApiServerSettings | None = None,
        secure: bool = True,
        access: AccessSettings | None = None,
        pki: pathlib.Path | None = None,
    ) -> None:
        """``pki``: where authority and token key are kept instead, shared with other servers."""
        self._storage = storage
        self._clock = clock
        self._random = random
        self._pki = pki or directory / "pki"
        self._host = host
        self._port = port
        self._settings = settings or ApiServerSettings()
        self._secure = secure
        self._access = access or AccessSettings()
        self._stack = contextlib.AsyncExitStack()
        self._contexts: list[tuple[ssl.SSLContext, Callable[[], KeyPair]]] = []
        """Contexts that show a certificate of the authority, and what makes the next one."""
        self.authority: CertificateAuthority
        self.tokens: TokenIssuer
        self.assembly: Assembly

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            listening = stack.enter_context(_listening(self._host, self._port))
            self._port = listening.getsockname()[1]
            self.authority = CertificateAuthority.load_or_create(self._pki, self._clock)
            tokens = self.tokens = TokenIssuer(load_or_create_key(self._pki / "sa.key"), ISSUER, self._clock)
            access = self._access.read(self._clock, self.authority.certificate)
            settings = dataclasses.replace(
                self._settings,
                host=self._host,
                port=self._port,
                client_ca=self.ca_pem.decode() if self._secure else "",
                static_tokens={**self._settings.static_tokens, **access.tokens},
                audit_policy=access.audit_policy,
            )
            tasks = await stack.enter_async_context(Supervisor("apiserver-process", clock=self._clock))
            tasks.start("certificates", self._renew)
            audit_log = None
            if access.audit_output is not None:
                audit_log = AuditLog(access.audit_output, self._clock)
                tasks.start("audit", audit_log.run)
            provider = None
            if self._access.oidc is not None:
                provider = OidcProvider(self._access.oidc, self._clock)
                stack.push_async_callback(provider.close)
            connector = self._connector()
            stack.push_async_callback(connector.close)
            self.assembly = Assembly(
                self._storage,
                clock=self._clock,
                random=self._random,
                settings=settings,
                tokens=tokens,
                connector=connector,
                front_proxy=self._front_proxy(),
                audit_log=audit_log,
                provider=provider,
            )
            await stack.enter_async_context(self.assembly)
            adapter = HttpAdapter(self.assembly.server, strangers=frozenset({KUBELET_CLIENT}), proxies=access.proxies)
            context = None
            if self._secure:
                hosts = [self._host, "127.0.0.1", *NAMES, settings.kubernetes_address]
                pair = self.authority.server_certificate(hosts)
                trusted = self.authority.certificate
                if self._access.request_header is not None:
                    trusted += self._access.request_header.authority
                context = tls.server_context(pair.certificate, pair.key, client_ca=trusted)
                self._contexts.append((context, lambda: self.authority.server_certificate(hosts)))
            await stack.enter_async_context(
                HttpServer(
                    adapter.handle,
                    ssl=context,
                    max_body_bytes=MOST_BODY_BYTES,
                    clock=self._clock,
                    sock=listening,
                    on_too_large=too_large,
                )
            )
            # Watches end before the listener waits for its connections.
            stack.callback(self.assembly.cache.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def _renew(self) -> None:
        """Show new certificates long before the old ones end, for ever."""
        while True:
            await self._clock.sleep((LEAF_LIFE - RENEW_BEFORE).total_seconds())
            self.renew_certificates()
            logger.info("certificates of the API server were renewed")

    def renew_certificates(self) -> None:
        """Show new certificates to whoever connects from now on."""
        for context, make in self._contexts:
            pair = make()
            tls.load_pair(context, pair.certificate, pair.key)

    def _front_proxy(self) -> FrontProxy:
        """What this server shows aggregated ones; signed by an authority that signs for nobody else."""
        authority = CertificateAuthority.load_or_create(self._pki / "front-proxy", self._clock)
        pair = authority.client_certificate(FRONT_PROXY)
        return FrontProxy(certificate=pair.certificate, key=pair.key, authority=authority.certificate, name=FRONT_PROXY)

    def _connector(self) -> Connector:
        """Connections to kubelets show a certificate of this authority and, as upstream, take the kubelet's unseen."""
        pair = self.authority.client_certificate(KUBELET_CLIENT, [MASTERS])
        kubelet_tls = tls.client_context(certificate=pair.certificate, key=pair.key, verify=False)
        self._contexts.append((kubelet_tls, lambda: self.authority.client_certificate(KUBELET_CLIENT, [MASTERS])))
        return Connector(
            clock=self._clock,
            kubelet_tls=kubelet_tls,
            backend_tls=tls.client_context(verify=False),
        )

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"{'https' if self._secure else 'http'}://{self._host}:{self._port}"

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate, which clients trust."""
        return self.authority.certificate

    def kubeconfig(self, name: str = "anynode", user: str = "kubernetes-admin") -> str:
        """A kubeconfig (JSON, which is YAML) with a client certificate of group system:masters."""
        pair = self.authority.client_certificate(user, [MASTERS])
        cluster = {"server": self.url}
        if self._secure:
            cluster["certificate-authority-data"] = _base64(self.ca_pem)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [
                {
                    "name": name,
                    "user": {
                        "client-certificate-data": _base64(pair.certificate),
                        "client-key-data": _base64(pair.key),
                    },
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        return json.dumps(config, indent=1) + "\n"

    def write_kubeconfig(self, path: pathlib.Path, name: str = "anynode") -> None:
        """Write the administrator's kubeconfig, readable by its owner only."""
        write_private(path, self.kubeconfig(name).encode())


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket; raises ``OSError`` when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
