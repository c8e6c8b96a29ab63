"""The keys of an OpenID Connect provider, fetched when needed and kept: what ``security.oidc`` checks tokens by.

In: the issuer's URL. Out: a key set, newer when a token names a key nobody knows, at most once in ``AGAIN_SECONDS``.
Source: OpenID Connect Discovery 1.0; apiserver ``plugin/pkg/authenticator/token/oidc``, 1.36.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from typing import Any

import orjson

from anynode.aio import tls
from anynode.aio.clock import Clock
from anynode.aio.http_client import HttpClient, Origin
from anynode.api.wire import User
from anynode.security.oidc import KeySet, KeyUnknown, OidcRefused, OidcSettings, issuer_of, user_of

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0
FETCH_SECONDS = 10.0
MOST_BYTES = 1 << 20


class KeysWanted(Exception):
    """The token may be good: ask again after ``provider.fetch()``."""

    def __init__(self, provider: OidcProvider) -> None:
        super().__init__("the keys of the token's provider are not known yet")
        self.provider = provider


class OidcProvider:
    """One provider. ``close`` when done."""

    def __init__(self, settings: OidcSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched = float("-inf")
        self._fetching: asyncio.Lock = asyncio.Lock()
        self._client = HttpClient(clock=clock, connect_seconds=FETCH_SECONDS)
        self._tls = tls.client_context(ca=settings.ca)

    async def close(self) -> None:
        await self._client.close()

    def user(self, token: str) -> User | None:
        """Whom a token of this provider stands for; None for one of somebody else, or one that is not good.

        Raises ``KeysWanted`` when newer keys may tell.
        """
        if issuer_of(token) != self.settings.issuer:
            return None
        due = self._clock.monotonic() - self._fetched >= AGAIN_SECONDS
        if self._keys is None:
            if due:
                raise KeysWanted(self)
            return None
        try:
            return user_of(token, self._keys, self.settings, self._clock.now().timestamp())
        except KeyUnknown as error:
            if due:
                raise KeysWanted(self) from error
            return None
        except OidcRefused as error:
            logger.debug("id token refused", extra={"why": str(error)})
            return None

    async def fetch(self) -> None:
        """Fetch the keys, unless somebody just did; failures are logged and leave what was known."""
        began = self._clock.monotonic()
        async with self._fetching:
            if self._fetched > began:
                return
            self._fetched = self._clock.monotonic()
            try:
                async with asyncio.timeout(FETCH_SECONDS):
                    about = await self._document(self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
                    if about.get("issuer") != self.settings.issuer:
                        raise ValueError("the provider says it is another issuer")
                    self._keys = KeySet(await self._document(str(about.get("jwks_uri") or "")))
            except (OSError, ValueError, TimeoutError) as error:
                logger.warning(
                    "keys of the OpenID Connect provider could not be fetched",
                    extra={"issuer": self.settings.issuer, "why": f"{type(error).__name__}: {error}"},
                )

    async def _document(self, url: str) -> dict[str, Any]:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"{url!r} is no https URL")
        origin = Origin(host=parts.hostname, port=parts.port or 443, tls=self._tls)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        answer = await self._client.open(origin, "GET", target or "/", {"accept": "application/json"})
        try:
            if answer.status != 200:
                raise ValueError(f"{url} answered {answer.status}")
            found = orjson.loads(await answer.read_all(MOST_BYTES))
        finally:
            await answer.close()
        if not isinstance(found, dict):
            raise ValueError(f"{url} is no JSON object")
        return found
