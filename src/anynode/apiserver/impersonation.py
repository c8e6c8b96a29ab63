"""Acting as another: who the headers ask for, and whether the asking user may.

Rights can be narrow (act as that node, but only to list pods) or wide (``impersonate``); the narrow ones are looked at
first, and the first refusal is the one told. Source: apiserver ``pkg/endpoints/filters/impersonation/{mode,
constrained_impersonation}.go``, 1.36; https://kep.k8s.io/5284.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence

from anynode.api import names
from anynode.api.errors import BadRequest, Forbidden
from anynode.api.wire import ApiRequest, User
from anynode.apiserver.authorization import Authorizer, refusal
from anynode.apiserver.identity import ANONYMOUS, AUTHENTICATED
from anynode.security.rbac import MASTERS, Attributes

AUTHENTICATION = "authentication.k8s.io"
NODES_GROUP = "system:nodes"
MOST_REMEMBERED = 10_000
_PREFIX = "impersonate-"
_EXTRA = "impersonate-extra-"
_ACCOUNT, _NODE = "system:serviceaccount:", "system:node:"
_NODE_NAME = "authentication.kubernetes.io/node-name"
_NODE_KEYS = "authentication.kubernetes.io/associated-node-keys"
_UNAUTHENTICATED = ANONYMOUS.groups[0]


def is_asked(request: ApiRequest) -> bool:
    for header in request.headers:  # noqa: SIM110 - of every request, and a generator costs as much as the loop
        if header.startswith(_PREFIX):
            return True
    return False


def wanted_user(request: ApiRequest) -> User | None:
    """The user the headers name, as they name him; None when they name nobody. Raises ``BadRequest``."""
    headers = request.headers
    name, uid = headers.get("impersonate-user", ""), headers.get("impersonate-uid", "")
    groups = tuple(part.strip() for part in headers.get("impersonate-group", "").split(",") if part.strip())
    extra = {
        urllib.parse.unquote(header.removeprefix(_EXTRA)): tuple(value.split(", "))
        for header, value in headers.items()
        if header.startswith(_EXTRA)
    }
    if not name:
        if groups or uid or extra:
            raise BadRequest(f"requested {_go_user(uid, groups, extra)} without impersonating a user name")
        return None
    return User(name=name, groups=groups, uid=uid, extra=extra)


class Impersonation:
    """Decides. Remembers which kind of right a user had last, and looks at that one first."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._last: dict[str, _Mode] = {}

    def impersonated(self, wanted: User, user: User, target: Attributes) -> User:
        """``wanted`` with the groups he has; ``target`` is what shall be done as him. Raises ``Forbidden``."""
        refused: Forbidden | None = None
        last = self._last.get(user.name)
        for mode in _MODES if last is None else (last, *(each for each in _MODES if each is not last)):
            if not mode.fits(wanted, user):
                continue
            try:
                passed = _Check(mode, user, self._authorizer).passed(wanted, target)
            except Forbidden as error:
                refused = refused or error
                continue
            if mode is not last:
                self._remember(user.name, mode)
            return passed
        assert refused is not None  # the last mode fits everybody
        raise refused

    def _remember(self, name: str, mode: _Mode) -> None:
        self._last.pop(name, None)
        if len(self._last) >= MOST_REMEMBERED:
            del self._last[next(iter(self._last))]
        self._last[name] = mode


@dataclasses.dataclass(frozen=True, slots=True)
class _Mode:
    """One kind of right. ``name`` empty: the wide one."""

    name: str
    fits: Callable[[User, User], bool]

    @property
    def verb(self) -> str:
        return f"impersonate:{self.name}" if self.name else "impersonate"


class _Check:
    """The rights that one mode asks of ``user``."""

    def __init__(self, mode: _Mode, user: User, authorizer: Authorizer) -> None:
        self._mode = mode
        self._any_node = mode.name == "associated-node"
        self._user = (
            dataclasses.replace(user, extra={_NODE_KEYS: tuple(sorted(user.extra))}) if self._any_node else user
        )
        self._authorizer = authorizer

    def passed(self, wanted: User, target: Attributes) -> User:
        if self._mode.name:
            verb = f"impersonate-on:{self._mode.name}:{target.verb}"
            self._authorizer.require(self._user, dataclasses.replace(target, verb=verb))
        groups = self._name(wanted)
        if wanted.uid:
            self._require(self._right("uids", wanted.uid))
        self._groups(wanted.groups)
        self._extra(wanted.extra)
        if wanted.name == ANONYMOUS.name:
            groups = _with(groups, _UNAUTHENTICATED)
        elif _UNAUTHENTICATED not in groups:
            groups = _with(groups, AUTHENTICATED)
        return dataclasses.replace(wanted, groups=groups)

    def _right(self, resource: str, name: str) -> Attributes:
        return Attributes(
            verb=self._mode.verb,
            group=AUTHENTICATION if self._mode.name or resource in ("uids", "userextras") else "",
            version="v1",
            resource=resource,
            name="*" if self._any_node else name,
        )

    def _require(self, right: Attributes) -> None:
        self._authorizer.require(self._user, right)

    def _name(self, wanted: User) -> tuple[str, ...]:
        """The groups that come with the name."""
        node, account = _node_of(wanted.name), _account_of(wanted.name)
        if account is not None:
            namespace, name = account
            self._require(dataclasses.replace(self._right("serviceaccounts", name), namespace=namespace))
            return wanted.groups or ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        if node and self._mode.name:
            self._require(self._right("nodes", node))
            return (NODES_GROUP,)
        self._require(self._right("users", wanted.name))
        return wanted.groups

    def _groups(self, groups: Sequence[str]) -> None:
        if self._mode.name and MASTERS in groups:
            why = f"impersonating the {MASTERS} group is not allowed"
            raise refusal(self._user, self._right("groups", MASTERS), why)
        for group in groups:
            self._require(self._right("groups", group))

    def _extra(self, extra: Mapping[str, Sequence[str]]) -> None:
        if self._mode.name:
            why = next(filter(None, map(_extra_error, extra.items())), "")
            if why:
                raise refusal(self._user, self._right("userextras", ""), why)
        for key, values in extra.items():
            for value in values:
                self._require(dataclasses.replace(self._right("userextras", value), subresource=key))


def _with(groups: tuple[str, ...], group: str) -> tuple[str, ...]:
    return groups if group in groups else (*groups, group)


def _extra_error(entry: tuple[str, Sequence[str]]) -> str:
    key, values = entry
    if not key:
        return "impersonating the empty string key in extra is not allowed"
    if key != key.lower():
        return f"impersonating a non-lowercase key in extra is not allowed: {json.dumps(key)}"
    if "" in values:
        return "impersonating the empty string value in extra is not allowed"
    return ""


def _node_of(name: str) -> str:
    """The node a user name stands for, empty for others."""
    node = name.removeprefix(_NODE)
    return node if node != name and not names.dns1123_subdomain(node) else ""


def _account_of(name: str) -> tuple[str, str] | None:
    """The namespace and name of a service account's user name."""
    namespace, _, account = name.removeprefix(_ACCOUNT).partition(":")
    if not name.startswith(_ACCOUNT) or names.dns1123_label(namespace) or names.dns1123_subdomain(account):
        return None
    return namespace, account


def _only_named(wanted: User) -> bool:
    return not (wanted.uid or wanted.groups or wanted.extra)


def _is_own_node(wanted: User, user: User) -> bool:
    """Whether a pod's service account asks for the node that the pod runs on."""
    node = _node_of(wanted.name)
    if not node or not _only_named(wanted) or _account_of(user.name) is None:
        return False
    return tuple(user.extra.get(_NODE_NAME) or ()) == (node,)


_MODES = (
    _Mode("associated-node", _is_own_node),
    _Mode("arbitrary-node", lambda wanted, _: _only_named(wanted) and bool(_node_of(wanted.name))),
    _Mode("serviceaccount", lambda wanted, _: _only_named(wanted) and _account_of(wanted.name) is not None),
    _Mode("user-info", lambda wanted, _: not _node_of(wanted.name) and _account_of(wanted.name) is None),
    _Mode("", lambda _, __: True),
)


def _go_user(uid: str, groups: Sequence[str], extra: Mapping[str, Sequence[str]]) -> str:
    """As Go prints the structure, which is what upstream says."""

    def texts(values: Sequence[str]) -> str:
        listed = ", ".join(json.dumps(value) for value in values)
        return f"[]string{{{listed}}}" if values else "[]string(nil)"

    more = ", ".join(f"{json.dumps(key)}:{texts(values)}" for key, values in sorted(extra.items()))
    shown = f"map[string][]string{{{more}}}" if extra else "map[string][]string(nil)"
    return f'&user.DefaultInfo{{Name:"", UID:{json.dumps(uid)}, Groups:{texts(groups)}, Extra:{shown}}}'
