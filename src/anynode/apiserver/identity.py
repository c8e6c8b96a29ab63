"""Who asks: client certificate, bearer token, impersonation headers, or nobody.

Source: apiserver ``pkg/authentication`` and ``pkg/endpoints/filters``, 1.36.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence

from anynode.api.errors import BadRequest, Unauthorized
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


def impersonated(request: ApiRequest) -> User | None:
    """The user the request wants to act as, None when it wants no such thing; raises ``BadRequest``."""
    headers = request.headers
    name, uid = headers.get("impersonate-user", ""), headers.get("impersonate-uid", "")
    groups = tuple(part.strip() for part in headers.get("impersonate-group", "").split(",") if part.strip())
    extra = {
        urllib.parse.unquote(header.removeprefix("impersonate-extra-")): tuple(value.split(", "))
        for header, value in headers.items()
        if header.startswith("impersonate-extra-")
    }
    if not name:
        if groups or uid or extra:
            raise BadRequest(f"requested {_go_user(uid, groups, extra)} without impersonating a user name")
        return None
    added: tuple[str, ...] = (AUTHENTICATED,)
    if name == ANONYMOUS.name:
        added = ANONYMOUS.groups
    elif ANONYMOUS.groups[0] in groups:
        added = ()
    elif name.startswith("system:serviceaccount:") and not groups:
        namespace = name.split(":")[2]
        added = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    missing = tuple(group for group in added if group not in groups)
    return User(name=name, groups=(*groups, *missing), uid=uid, extra=extra)


def _go_user(uid: str, groups: Sequence[str], extra: Mapping[str, Sequence[str]]) -> str:
    """As Go prints the structure, which is what upstream says."""

    def texts(values: Sequence[str]) -> str:
        listed = ", ".join(json.dumps(value) for value in values)
        return f"[]string{{{listed}}}" if values else "[]string(nil)"

    more = ", ".join(f"{json.dumps(key)}:{texts(values)}" for key, values in sorted(extra.items()))
    shown = f"map[string][]string{{{more}}}" if extra else "map[string][]string(nil)"
    return f'&user.DefaultInfo{{Name:"", UID:{json.dumps(uid)}, Groups:{texts(groups)}, Extra:{shown}}}'
