"""When tokens kept in Secrets were last used, so that kube-controller-manager's cleaner may judge them.

In: uses of such tokens, as they are verified. Out: the label ``kubernetes.io/legacy-token-last-used`` on their Secrets,
written at most once a day each, and the ConfigMap that says since when uses are noted: without it no cleaner trusts a
missing label. Source: kubernetes ``pkg/serviceaccount/legacy.go``, ``pkg/controlplane/controller/legacytokentracking``,
1.36.
"""

from __future__ import annotations

import asyncio
import datetime
import logging

from anynode.aio.clock import Clock
from anynode.api.errors import AlreadyExists, ApiError
from anynode.api.objects import Object, labels_of, uid_of, with_meta
from anynode.api.wire import User
from anynode.registry.pods import PLAIN_UPDATE
from anynode.registry.store import ResourceStore, Write
from anynode.security.legacy_tokens import Legacy

logger = logging.getLogger(__name__)

LAST_USED = "kubernetes.io/legacy-token-last-used"
NAMESPACE, NAME, SINCE = "kube-system", "kube-apiserver-legacy-service-account-token-tracking", "since"
SELF = User(name="system:apiserver", groups=("system:masters",))
MOST_WAITING = 10_000
"""Uses not noted yet; what comes on top is noted when it is used again."""


class TokenTracking:
    """Notes uses; ``run`` for as long as the server does."""

    def __init__(self, secrets: ResourceStore, config_maps: ResourceStore, *, clock: Clock) -> None:
        self._secrets = secrets
        self._config_maps = config_maps
        self._clock = clock
        self._waiting: dict[str, str] = {}
        """The UIDs of Secrets whose tokens were used, by key."""
        self._wake = asyncio.Event()

    def used(self, token: Legacy) -> None:
        """The token was good, or would be, were it not marked as invalid."""
        key = f"{token.namespace}/{token.secret}"
        item = self._secrets.find(key)
        if item is None or len(self._waiting) >= MOST_WAITING or self._is_noted(item.object):
            return
        self._waiting[key] = uid_of(item.object)
        self._wake.set()

    async def run(self) -> None:
        """Say since when uses are noted, and note them, until cancelled."""
        await self._begin()
        while True:
            while self._waiting:
                key, uid = next(iter(self._waiting.items()))
                del self._waiting[key]
                await self._note(key, uid)
            self._wake.clear()
            await self._wake.wait()

    def _today(self) -> str:
        return self._clock.now().astimezone(datetime.UTC).date().isoformat()

    def _is_noted(self, secret: Object) -> bool:
        noted = labels_of(secret).get(LAST_USED)
        if noted is None:
            return False
        today = self._clock.now().astimezone(datetime.UTC).date()
        return noted in (today.isoformat(), (today + datetime.timedelta(days=1)).isoformat())

    async def _begin(self) -> None:
        key = f"{NAMESPACE}/{NAME}"
        item = self._config_maps.find(key)
        try:
            if item is None:
                told: Object = {
                    "kind": "ConfigMap",
                    "apiVersion": "v1",
                    "metadata": {"name": NAME, "namespace": NAMESPACE},
                    "data": {SINCE: self._today()},
                }
                await self._config_maps.create(told, Write(user=SELF, manager="kube-apiserver", trusted=True))
            elif not _is_date((item.object.get("data") or {}).get(SINCE)):

                def mended(old: Object | None) -> Object:
                    found = old or {}
                    return {**found, "data": {**(found.get("data") or {}), SINCE: self._today()}}

                write = Write(user=SELF, manager="kube-apiserver")
                await self._config_maps.update(key, mended, write, rules=PLAIN_UPDATE)
        except AlreadyExists:
            return
        except ApiError as error:
            logger.warning("the tracking of tokens could not be announced", extra={"error": error.message})

    async def _note(self, key: str, uid: str) -> None:
        def noted(old: Object | None) -> Object:
            found = old or {}
            if uid_of(found) != uid or self._is_noted(found):
                return found
            return with_meta(found, labels={**labels_of(found), LAST_USED: self._today()})

        try:
            write = Write(user=SELF, manager="kube-apiserver")
            await self._secrets.update(key, noted, write, rules=PLAIN_UPDATE)
        except ApiError as error:
            logger.warning("use of a token could not be noted", extra={"secret": key, "error": error.message})


def _is_date(text: object) -> bool:
    """Whether this is a day written ``2026-01-31``."""
    if not isinstance(text, str) or len(text) != 10:
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True
