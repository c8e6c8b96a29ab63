"""Which flow a request belongs to, and what each priority level may: the configuration of priority and fairness. Pure.

In: FlowSchema and PriorityLevelConfiguration objects. Out: ``FlowConfig``, which gives every request a schema and every
level its share of the seats. Source: apiserver ``pkg/util/flowcontrol/{rule,apf_controller}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from anynode.api.objects import Object, get_path, meta, name_of, uid_of
from anynode.api.wire import User
from anynode.apiserver.requestinfo import RequestInfo

EXEMPT, CATCH_ALL = "exempt", "catch-all"
DANGLING = "Dangling"
MOST_LIST_SEATS = 100
SEAT_SHARE = 0.15
"""How much of a level's seats one request may have."""
_ACCOUNT = "system:serviceaccount:"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Queuing:
    """How requests wait: in ``queues`` of at most ``length``, each flow in the shortest of its ``hand``."""

    queues: int
    hand: int
    length: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LevelConfig:
    """A priority level: its ``nominal`` seats, those ``guaranteed`` that nobody else gets, ``most`` it may borrow up
    to."""

    name: str
    uid: str
    exempt: bool
    nominal: int
    guaranteed: int
    most: int
    most_per_request: int
    queuing: Queuing | None


class Schema(NamedTuple):
    """A flow schema."""

    name: str
    uid: str
    level: str
    distinguisher: str
    rules: tuple[Object, ...]


class FlowConfig:
    """All schemas in the order they are asked, and the levels they lead to."""

    def __init__(self, schemas: Iterable[Object], levels: Iterable[Object], seats: int) -> None:
        found = {name_of(each): each for each in levels if _is_whole(each)}
        for name, default in _MANDATORY_LEVELS.items():
            found.setdefault(name, default)
        shares = sum(_shares(each) for each in found.values()) or 1
        self.levels = {name: _level(each, shares, seats) for name, each in found.items()}
        kept = [each for each in schemas if _level_name(each) in self.levels]
        for name, default in _MANDATORY_SCHEMAS.items():
            if all(name_of(each) != name for each in kept):
                kept.append(default)
        kept.sort(key=_precedence)
        self.schemas = [_schema(each) for each in kept]

    def schema_of(self, user: User, info: RequestInfo) -> Schema:
        """The first schema that matches; the last takes everything."""
        for schema in self.schemas:
            if any(_matches(rule, user, info) for rule in schema.rules):
                return schema
        return self.schemas[-1]


def distinguisher_of(schema: Schema, user: User, info: RequestInfo) -> str:
    """What tells the flows of one schema apart."""
    if schema.distinguisher == "ByUser":
        return user.name
    return info.namespace if schema.distinguisher == "ByNamespace" else ""


def hand_of(schema: str, distinguisher: str, queuing: Queuing) -> tuple[int, ...]:
    """The queues a flow may wait in: a hand dealt by its name, without two alike."""
    digest = hashlib.sha256(f"{len(schema)},{schema},{distinguisher}".encode()).digest()
    entropy = int.from_bytes(digest[:8], "little")
    deck = list(range(queuing.queues))
    hand = []
    for _ in range(min(queuing.hand, queuing.queues)):
        entropy, at = divmod(entropy, len(deck))
        hand.append(deck.pop(at))
    return tuple(hand)


def dangling(schema: Object, levels: Iterable[str]) -> Object:
    """The condition that says whether a schema's priority level is there; without its time."""
    name = _level_name(schema)
    said = f'This FlowSchema references the PriorityLevelConfiguration object named "{name}"'
    if name in levels:
        return {"type": DANGLING, "status": "False", "reason": "Found", "message": f"{said} and it exists"}
    return {
        "type": DANGLING,
        "status": "True",
        "reason": "NotFound",
        "message": f"{said} but there is no such object",
    }


def _level_name(schema: Object) -> str:
    name: str = get_path(schema, "spec", "priorityLevelConfiguration", "name", default="")
    return name


def _precedence(schema: Object) -> tuple[int, str]:
    return get_path(schema, "spec", "matchingPrecedence", default=0), name_of(schema)


def _schema(obj: Object) -> Schema:
    method = get_path(obj, "spec", "distinguisherMethod", "type", default="")
    rules = tuple(get_path(obj, "spec", "rules", default=None) or ())
    return Schema(name_of(obj), uid_of(obj) if meta(obj).get("uid") else "", _level_name(obj), method, rules)


# --- levels


def _is_whole(level: Object) -> bool:
    """Whether a level says what its type asks for; others are taken for missing."""
    spec = level.get("spec") or {}
    exempt = spec.get("type") == "Exempt"
    if exempt != (name_of(level) == EXEMPT):
        return False
    if exempt:
        return spec.get("limited") is None
    response = (spec.get("limited") or {}).get("limitResponse") or {}
    return (response.get("type") == "Queue") == (response.get("queuing") is not None)


def _shares(level: Object) -> int:
    spec = level.get("spec") or {}
    if spec.get("type") == "Exempt":
        return int((spec.get("exempt") or {}).get("nominalConcurrencyShares") or 0)
    shares = (spec.get("limited") or {}).get("nominalConcurrencyShares")
    return 30 if shares is None else int(shares)


def _level(obj: Object, shares: int, seats: int) -> LevelConfig:
    spec = obj.get("spec") or {}
    limited = spec.get("limited") or spec.get("exempt") or {}
    nominal = math.ceil(seats * _shares(obj) / shares)
    lent = round(nominal * (limited.get("lendablePercent") or 0) / 100)
    borrowing = limited.get("borrowingLimitPercent")
    found = (limited.get("limitResponse") or {}).get("queuing")
    queuing, most_per_request = None, 1
    if found is not None:
        queuing = Queuing(
            queues=found.get("queues") or 64,
            hand=found.get("handSize") or 8,
            length=found.get("queueLengthLimit") or 50,
        )
        most_per_request = max(1, min(math.ceil(nominal * SEAT_SHARE), nominal // queuing.hand, MOST_LIST_SEATS))
    return LevelConfig(
        name=name_of(obj),
        uid=meta(obj).get("uid") or "",
        exempt=spec.get("type") == "Exempt",
        nominal=nominal,
        guaranteed=nominal - lent,
        most=nominal + (seats if borrowing is None else round(nominal * borrowing / 100)),
        most_per_request=most_per_request,
        queuing=queuing,
    )


def _everything(*groups: str) -> Sequence[Object]:
    subjects = [{"kind": "Group", "group": {"name": group}} for group in groups]
    resource = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    other = {"verbs": ["*"], "nonResourceURLs": ["*"]}
    return [{"subjects": subjects, "resourceRules": [resource], "nonResourceRules": [other]}]


_MANDATORY_LEVELS: Mapping[str, Object] = {
    EXEMPT: {"metadata": {"name": EXEMPT}, "spec": {"type": "Exempt", "exempt": {}}},
    CATCH_ALL: {
        "metadata": {"name": CATCH_ALL},
        "spec": {
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0},
        },
    },
}
_MANDATORY_SCHEMAS: Mapping[str, Object] = {
    EXEMPT: {
        "metadata": {"name": EXEMPT},
        "spec": {
            "matchingPrecedence": 1,
            "priorityLevelConfiguration": {"name": EXEMPT},
            "rules": _everything("system:masters"),
        },
    },
    CATCH_ALL: {
        "metadata": {"name": CATCH_ALL},
        "spec": {
            "matchingPrecedence": 10000,
            "priorityLevelConfiguration": {"name": CATCH_ALL},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": _everything("system:unauthenticated", "system:authenticated"),
        },
    },
}
"""What holds while the object is missing."""


# --- matching


def _matches(rule: Object, user: User, info: RequestInfo) -> bool:
    if not any(_is_subject(each, user) for each in rule.get("subjects") or ()):
        return False
    if info.is_resource:
        return any(_matches_resource(each, info) for each in rule.get("resourceRules") or ())
    return any(
        _listed(each.get("verbs"), info.verb) and _matches_url(each.get("nonResourceURLs") or (), info.path)
        for each in rule.get("nonResourceRules") or ()
    )


def _is_subject(subject: Object, user: User) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        return (subject.get("user") or {}).get("name") in ("*", user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return name == "*" or name in user.groups
    account = subject.get("serviceAccount")
    if kind != "ServiceAccount" or account is None:
        return False
    home = f"{_ACCOUNT}{account.get('namespace', '')}:"
    name = account.get("name", "")
    return user.name.startswith(home) if name == "*" else user.name == f"{home}{name}"


def _matches_resource(rule: Object, info: RequestInfo) -> bool:
    if not _listed(rule.get("verbs"), info.verb) or not _listed(rule.get("resources"), info.resource_path):
        return False
    if not _listed(rule.get("apiGroups"), info.group):
        return False
    if not info.namespace:
        return bool(rule.get("clusterScope"))
    return _listed(rule.get("namespaces"), info.namespace)


def _listed(words: Sequence[str] | None, word: str) -> bool:
    return words is not None and (list(words) == ["*"] or word in words)


def _matches_url(urls: Sequence[str], path: str) -> bool:
    for url in urls:
        if url in ("*", path):
            return True
        prefix = url.removesuffix("*")
        if path.startswith(prefix if prefix.endswith("/") else f"{prefix}/"):
            return True
    return False
