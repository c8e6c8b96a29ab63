"""Who asks: client certificate, bearer token, or nobody. Source: apiserver ``pkg/authentication``, 1.36."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable, Mapping

from anynode.api.errors import Unauthorized
from anynode.api.wire import ApiRequest, User

AUTHENTICATED = "system:authenticated"
ANONYMOUS = User(name="system:anonymous", groups=("system:unauthenticated",))
VerifyToken = Callable[[str], User | None]
"""A service account's token -> its user, or None when it is not (or no longer) good."""


def no_tokens(_: str) -> User | None:
    return None


class Authenticator:
    """Finds out who asks. ``static_tokens``: token -> user, for administrators."""

    def __init__(self, static_tokens: Mapping[str, User], verify_token: VerifyToken = no_tokens) -> None:
        self._static = {token.encode(): user for token, user in static_tokens.items()}
        self._verify = verify_token

    def authenticate(self, request: ApiRequest) -> User:
        """The asking user; raises ``Unauthorized`` for credentials that are no good."""
        authorization = request.headers.get("authorization", "")
        if authorization[:7].lower() == "bearer " and authorization[7:].strip():
            return self.of_token(authorization[7:].strip())
        user = request.user
        if user is None:
            return ANONYMOUS
        return authenticated(user)

    def of_token(self, token: str) -> User:
        user = self.find(token)
        if user is None:
            raise Unauthorized("Unauthorized")
        return user

    def find(self, token: str) -> User | None:
        """The user a bearer token stands for."""
        raw = token.encode()
        for known, static in self._static.items():
            if hmac.compare_digest(known, raw):
                return authenticated(static)
        user = self._verify(token)
        return None if user is None else authenticated(user)


def authenticated(user: User) -> User:
    """The user as one whose credentials were good."""
    if AUTHENTICATED in user.groups:
        return user
    return dataclasses.replace(user, groups=(*user.groups, AUTHENTICATED))
