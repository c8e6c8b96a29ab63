"""Who asks: client certificate, bearer token, or nobody. Source: apiserver ``pkg/authentication``, 1.36."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from anynode.api.errors import Unauthorized
from anynode.api.wire import ApiRequest, User

AUTHENTICATED = "system:authenticated"
ANONYMOUS = User(name="system:anonymous", groups=("system:unauthenticated",))
FindToken = Callable[[str], User | None]


class Authenticator:
    """Finds out who asks. ``find_token``: whom a bearer token stands for, None when it is (or is no longer) no good."""

    def __init__(self, find_token: FindToken) -> None:
        self._find_token = find_token

    def authenticate(self, request: ApiRequest) -> User:
        """The asking user; raises ``Unauthorized`` for credentials that are no good, and what ``find_token`` raises."""
        authorization = request.headers.get("authorization", "")
        if authorization[:7].lower() == "bearer " and authorization[7:].strip():
            user = self._find_token(authorization[7:].strip())
            if user is None:
                raise Unauthorized("Unauthorized")
            return authenticated(user)
        user = request.user
        if user is None:
            return ANONYMOUS
        return authenticated(user)


def authenticated(user: User) -> User:
    """The user as one whose credentials were good."""
    if AUTHENTICATED in user.groups:
        return user
    return dataclasses.replace(user, groups=(*user.groups, AUTHENTICATED))
