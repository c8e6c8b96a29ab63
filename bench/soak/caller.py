"""A client of the API in one line per request, which tells the checker what was acknowledged."""

from __future__ import annotations

import asyncio
import collections
import ssl
import urllib.parse
from collections.abc import Callable
from typing import Any

import orjson

from anynode.aio.clock import SystemClock
from anynode.api.errors import ApiError
from anynode.api.wire import ApiRequest
from anynode.client.config import ClientConfig
from anynode.client.http import HttpTransport

Object = dict[str, Any]
PATCHES = {"apply": "application/apply-patch+yaml", "merge": "application/merge-patch+json",
           "json": "application/json-patch+json", "strategic": "application/strategic-merge-patch+json"}  # fmt: skip


class Caller:
    """Requests to one cluster. Answers are JSON values; a refusal that was not expected is counted."""

    def __init__(self, kubeconfig: str, promise: Callable[[str, Object], None]) -> None:
        self.config = ClientConfig.load(kubeconfig)
        self.transport = HttpTransport(self.config, clock=SystemClock())
        self.promise = promise
        self.codes: collections.Counter[int] = collections.Counter()
        self.unexpected: collections.Counter[str] = collections.Counter()
        parsed = urllib.parse.urlsplit(self.config.server)
        self.address = (parsed.hostname or "", parsed.port or 443)

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        patch: str = "",
        refused: tuple[int, ...] = (),
        **headers: str,
    ) -> Any:
        """The decoded answer, or None when it was refused with a code in ``refused``; raises ``ApiError`` else."""
        where, _, query = path.partition("?")
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if patch:
            said["content-type"] = PATCHES[patch]
        data = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else b""
        request = ApiRequest(
            method=method,
            path=where,
            query=urllib.parse.parse_qs(query, keep_blank_values=True),
            headers=said,
            body=data,
        )
        try:
            answer = await self.transport.send(request)
        except ApiError as error:
            self.codes[error.status_code] += 1
            if error.status_code in refused:
                return None
            raise
        self.codes[answer.status] += 1
        found = answer.decoded() if "json" in answer.content_type else answer.encoded()
        if method in ("POST", "PUT", "PATCH") and isinstance(found, dict) and "dryRun" not in query:
            self.promise(path, found)
        return found

    async def gone(self, path: str, seconds: float = 60.0) -> None:
        """Wait until it is not there."""
        for _ in range(int(seconds / 0.2)):
            if await self("GET", path, refused=(404,)) is None:
                return
            await asyncio.sleep(0.2)
        self.unexpected[f"not gone: {path.rpartition('/')[0]}"] += 1

    async def until(self, path: str, right: Callable[[Object], Any], what: str, seconds: float = 60.0) -> Object | None:
        """The object when it is as wanted."""
        for _ in range(int(seconds / 0.2)):
            found: Object | None = await self("GET", path, refused=(404,))
            if found is not None and right(found):
                return found
            await asyncio.sleep(0.2)
        self.unexpected[what] += 1
        return None

    def context(self) -> ssl.SSLContext:
        """TLS with the administrator's certificate."""
        assert self.transport._origin is not None
        assert self.transport._origin.tls is not None
        return self.transport._origin.tls

    async def raw(self, *, certified: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own."""
        context = self.context()
        if not certified:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return await asyncio.open_connection(*self.address, ssl=context, server_hostname=self.address[0])
