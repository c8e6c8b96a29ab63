"""Bearer tokens to users: those of a file, service accounts', and ID tokens, in this order.

``TokenReviewer.find`` serves requests, ``review`` the TokenReview API. Source: kubernetes
``pkg/kubeapiserver/authenticator/config.go``, 1.36.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.api.wire import User
from anynode.apiserver.identity import authenticated
from anynode.apiserver.oidc_provider import KeysWanted, OidcProvider
from anynode.security.legacy_tokens import Legacy, why_gone
from anynode.security.tokens import Lookup, TokenInvalid, TokenIssuer, why_invalid

Found = tuple[User | None, Sequence[str], str]
"""The user or None, the audiences the token is good for, and what is wrong with it."""
INVALID = "invalid bearer token"


class TokenReviewer:
    """Knows every kind of token. ``lookup`` finds the objects service account tokens live and die with."""

    def __init__(
        self,
        *,
        static: Mapping[str, User],
        issuer: TokenIssuer | None,
        lookup: Lookup,
        clock: Clock,
        provider: OidcProvider | None = None,
        used: Callable[[Legacy], None] | None = None,
    ) -> None:
        """``used`` is told of tokens kept in Secrets when one was used."""
        self._used = used
        self._static = {token.encode(): user for token, user in static.items()}
        self._issuer = issuer
        self._lookup = lookup
        self._clock = clock
        self._provider = provider

    def find(self, token: str) -> User | None:
        """The user behind a request's token; raises ``KeysWanted``."""
        return self._found(token, ())[0]

    async def review(self, token: str, audiences: Sequence[str]) -> Found:
        """What is to be said of a token that is meant for ``audiences`` (none: this server's own)."""
        try:
            return self._found(token, audiences)
        except KeysWanted as wanted:
            await wanted.provider.fetch()
        try:
            return self._found(token, audiences)
        except KeysWanted:
            return None, (), INVALID

    def _found(self, token: str, audiences: Sequence[str]) -> Found:
        raw = token.encode()
        for known, named in self._static.items():
            if hmac.compare_digest(known, raw):
                return authenticated(named), audiences, ""
        user, good_for, wrong = self._account(token, audiences)
        if user is None and self._provider is not None:
            stranger = self._provider.user(token)
            if stranger is not None:
                return authenticated(stranger), audiences, ""
        return user, good_for, wrong

    def _account(self, token: str, audiences: Sequence[str]) -> Found:
        if self._issuer is None:
            return None, (), INVALID
        try:
            claims = self._issuer.verify(token, audiences)
        except TokenInvalid as error:
            return None, (), _complaint(str(error))
        wrong = why_invalid(claims, self._lookup, self._clock.now())
        if claims.legacy is not None and self._used is not None and not why_gone(*claims.legacy, self._lookup):
            self._used(claims.legacy[1])
        if wrong:
            return None, (), _complaint(wrong)
        wanted = audiences or self._issuer.audiences
        return authenticated(claims.user()), [each for each in claims.audiences if each in wanted], ""


def _complaint(why: str) -> str:
    """What a token review says is wrong: all that was tried, or the one thing."""
    return INVALID if why in ("", INVALID) else f"[{INVALID}, {why}]"
