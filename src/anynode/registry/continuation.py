"""Tokens that continue a chunked list: opaque to clients, in upstream's format.

Source: apiserver ``pkg/storage/continue.go``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

import orjson

from anynode.api.errors import BadRequest
from anynode.storage.types import Revision

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")
INCONSISTENT = -1
"""The revision of a token that goes on from where the list stopped, in the newest state."""


class Continuation(NamedTuple):
    """Where to go on: the first key not yet given (relative to the list's prefix) and the list's revision."""

    start: str
    revision: int


def encode(last_key: str, revision: Revision | int) -> str:
    """The token for what comes after ``last_key``."""
    body = {"v": "meta.k8s.io/v1", "rv": revision, "start": last_key + "\0"}
    return base64.urlsafe_b64encode(orjson.dumps(body)).rstrip(b"=").decode()


def decode(token: str) -> Continuation:
    """The token's meaning; raises ``BadRequest`` in upstream's words."""
    read = _decoded(token)
    if not isinstance(read, dict):
        raise _bad("json: cannot unmarshal array into Go value of type storage.continueToken")
    version = read.get("v") or ""
    if version != "meta.k8s.io/v1":
        raise _bad(f"server does not recognize this encoded version {version}")
    revision, start = read.get("rv") or 0, read.get("start") or ""
    if revision == 0:
        raise _bad(f"incorrect encoded start resourceVersion (version {version})")
    if not start:
        raise _bad(f"encoded start key empty (version {version})")
    cleaned = _cleaned(start)
    if cleaned != start:
        raise _bad(start, "continue key is not valid")
    return Continuation(start, int(revision))


def _decoded(token: str) -> object:
    good = _ALPHABET.match(token)
    length = good.end() if good else 0
    if length != len(token):
        raise _bad(f"illegal base64 data at input byte {length}")
    if length % 4 == 1:
        raise _bad(f"illegal base64 data at input byte {length - 1}")
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError) as error:
        raise _bad(f"illegal base64 data at input byte {len(token)}") from error
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        shown = raw[:1].decode("latin-1") or ""
        said = (
            f"invalid character '{shown}' looking for beginning of value" if shown else "unexpected end of JSON input"
        )
        raise _bad(said) from error


def _cleaned(key: str) -> str:
    """The key without steps that lead out of the prefix."""
    return "/".join(part for part in key.split("/") if part not in (".", "..")) if ".." in key else key


def _bad(why: str, what: str = "continue key is not valid") -> BadRequest:
    return BadRequest(f"invalid continue token: {what}: {why}")
