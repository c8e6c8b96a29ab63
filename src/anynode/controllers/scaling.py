"""Numbers that may be percentages, and names with a hash: what rollouts of all kinds share.

Source: apimachinery ``pkg/util/intstr`` and ``pkg/util/rand`` (SafeEncodeString), 1.36.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_NAME_MOST = 253


def scaled(value: int | str | None, total: int, *, round_up: bool) -> int:
    """``value`` as a count: a number is itself, ``"25%"`` is that share of ``total``, None is zero.

    Raises ``ValueError`` for any other text.
    """
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError(f"invalid value for IntOrString: invalid type: string is not a percentage: {value}")
    share = int(value[:-1]) * total
    return -(-share // 100) if round_up else share // 100


def template_hash(template: Mapping[str, Any], collision_count: int | None = None) -> str:
    """A short name for the contents of a pod template, in letters that make no words."""
    digest = hashlib.blake2b(orjson.dumps(template, option=orjson.OPT_SORT_KEYS), digest_size=4)
    if collision_count is not None:
        digest.update(str(collision_count).encode())
    return encoded(int.from_bytes(digest.digest()))


def encoded(number: int) -> str:
    """``number`` in decimal, each digit as a letter of the safe alphabet."""
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(number))


def hashed_name(name: str, hash_text: str) -> str:
    """``<name>-<hash>``, the name cut so that the whole stays a valid object name."""
    return f"{name[: _NAME_MOST - 1 - len(hash_text)]}-{hash_text}"


def equal_templates(first: Any, second: Any) -> bool:
    """Whether two parts of defaulted objects mean the same: null, an empty list and absence do not differ."""
    return bool(first == second) or _plain(first) == _plain(second)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None and each != []}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
