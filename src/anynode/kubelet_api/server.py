"""A node's HTTPS endpoint: what the API server, metrics-server and operators ask of a kubelet.

``async with KubeletServer(...)`` returns when it listens; ``port`` is what the Node's ``daemonEndpoints`` must say.
Routes and answers as the kubelet's (``pkg/kubelet/server/server.go``, 1.36) and virtual-kubelet's.
"""

from __future__ import annotations

import logging
import socket
import ssl
import urllib.parse
from types import TracebackType
from typing import Any, Self

from anynode.aio.clock import Clock
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.api.errors import ApiError
from anynode.api.wire import parse_query
from anynode.kubelet_api.auth import Authenticator
from anynode.kubelet_api.pods import PodHandlers, PodLookup
from anynode.kubelet_api.replies import Refused, text
from anynode.kubelet_api.stats import StatsHandlers

logger = logging.getLogger(__name__)

NOT_FOUND = "404 page not found\n"


class KubeletServer:
    """The listener of one node."""

    def __init__(
        self,
        pods: PodLookup,
        provider: Any,
        *,
        node: str,
        authenticator: Authenticator,
        clock: Clock,
        ssl: ssl.SSLContext | None,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
    ) -> None:
        """``ssl``: see ``aio.tls.server_context``, with the cluster's authority as ``client_ca``."""
        self._authenticator = authenticator
        self._pods = PodHandlers(pods, provider)
        self._stats = StatsHandlers(node, pods, provider, clock)
        self._http = HttpServer(self.handle, host=host, port=port, ssl=ssl, clock=clock, sock=sock)

    @property
    def port(self) -> int:
        return self._http.port

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """The answer to one request."""
        try:
            await self._authenticator.admit(request)
            return await self._route(request)
        except Refused as refused:
            return refused.response()
        except (ApiError, ConnectionError) as error:
            logger.warning("a request could not be reviewed", extra={"path": request.path}, exc_info=error)
            return text("Internal Error", status=500)

    async def _route(self, request: HttpRequest) -> HttpResponse:
        steps = [urllib.parse.unquote(step) for step in request.path.strip("/").split("/")]
        if request.method in ("GET", "HEAD"):
            match steps:
                case ["healthz"] | ["healthz", "ping"] | ["healthz", "syncloop"]:
                    return text("ok")
                case ["pods"]:
                    return self._pods.all_pods()
                case ["runningpods"]:
                    return self._pods.running_pods()
                case ["stats", "summary"]:
                    return await self._stats.summary()
                case ["metrics", "resource"]:
                    return await self._stats.metrics()
                case ["containerLogs", namespace, pod, container]:
                    return await self._pods.logs(namespace, pod, container, parse_query(request.query_string))
                case _:
                    pass
        if request.method in ("GET", "POST"):
            return self._upgrade(request, steps)
        return text(NOT_FOUND, status=404)

    def _upgrade(self, request: HttpRequest, steps: list[str]) -> HttpResponse:
        query = parse_query(request.query_string)
        match steps:
            case ["exec", namespace, pod, container]:
                return self._pods.exec(request, namespace, pod, "", container, query)
            case ["exec", namespace, pod, uid, container]:
                return self._pods.exec(request, namespace, pod, uid, container, query)
            case ["attach", namespace, pod, container]:
                return self._pods.attach(request, namespace, pod, "", container, query)
            case ["attach", namespace, pod, uid, container]:
                return self._pods.attach(request, namespace, pod, uid, container, query)
            case ["portForward", namespace, pod]:
                return self._pods.port_forward(request, namespace, pod, "", query)
            case ["portForward", namespace, pod, uid]:
                return self._pods.port_forward(request, namespace, pod, uid, query)
            case _:
                return text(NOT_FOUND, status=404)
