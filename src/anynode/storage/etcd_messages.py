"""etcd's v3 messages, as far as the engine speaks them: values to protocol buffers' bytes and back. Pure.

Source: etcd ``api/etcdserverpb/rpc.proto`` and ``api/mvccpb/kv.proto``, 3.4;
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

RANGE = "/etcdserverpb.KV/Range"
PUT = "/etcdserverpb.KV/Put"
DELETE = "/etcdserverpb.KV/DeleteRange"
TXN = "/etcdserverpb.KV/Txn"
COMPACT = "/etcdserverpb.KV/Compact"
WATCH = "/etcdserverpb.Watch/Watch"
ALL = b"\0"
"""As key and end of a range: everything there is."""
_DELETED = 1


@dataclasses.dataclass(slots=True)
class KeyValue:
    """One key's state. A deletion's has no value."""

    key: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    value: bytes = b""


@dataclasses.dataclass(slots=True)
class Event:
    """One change; ``previous`` only when the watch asked for it."""

    kv: KeyValue
    previous: KeyValue | None
    deleted: bool


@dataclasses.dataclass(slots=True)
class Answer:
    """What came back: the store's ``revision`` at that time and, by request, states, a count, whether a transaction
    held."""

    revision: int = 0
    cluster: int = 0
    kvs: list[KeyValue] = dataclasses.field(default_factory=list)
    count: int = 0
    succeeded: bool = False


@dataclasses.dataclass(slots=True)
class WatchAnswer:
    """One message of a watch. ``more``: further messages belong to the same revision."""

    revision: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    reason: str = ""
    more: bool = False
    events: list[Event] = dataclasses.field(default_factory=list)


# -- writing ----------------------------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def range_request(
    key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0, count_only: bool = False
) -> bytes:
    return (
        _bytes(1, key)
        + (_bytes(2, end) if end else b"")
        + _number(3, limit)
        + _number(4, revision)
        + _number(9, count_only)
    )


def put_request(key: bytes, value: bytes) -> bytes:
    return _bytes(1, key) + _bytes(2, value)


def delete_request(key: bytes) -> bytes:
    """The answer names the state that was there."""
    return _bytes(1, key) + _number(3, 1)


def swap_request(key: bytes, expected: int, value: bytes | None) -> bytes:
    """Put ``value``, or delete (None), if ``key`` was last changed at ``expected``; else say what is there."""
    compare = _number(2, 2) + _bytes(3, key) + b"\x30" + _varint(expected)
    done = _bytes(2, put_request(key, value)) if value is not None else _bytes(3, delete_request(key))
    return _bytes(1, compare) + _bytes(2, done) + _bytes(3, _bytes(1, range_request(key)))


def compact_request(revision: int) -> bytes:
    return _number(1, revision)


def watch_request(key: bytes, end: bytes, start: int, *, previous: bool = False) -> bytes:
    """A watch of [key, end) from revision ``start`` on, large messages in parts."""
    create = _bytes(1, key) + _bytes(2, end) + _number(3, start) + _number(6, previous) + _number(8, 1)
    return _bytes(1, create)


# -- reading ----------------------------------------------------------------------------------------------------------


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(field, number, bytes) of a message; raises ``ValueError`` when it is none."""
    position, size = 0, len(data)
    try:
        while position < size:
            tag = data[position]
            position += 1
            if tag > 127:
                tag, position = _long(data, position - 1)
            kind = tag & 7
            if kind > 2 and kind != 5:
                raise ValueError(f"no protocol buffer: wire type {kind}")
            if kind == 1 or kind == 5:
                position += 8 if kind == 1 else 4
                continue
            number = data[position]
            position += 1
            if number > 127:
                number, position = _long(data, position - 1)
            if kind == 0:
                yield tag >> 3, number, b""
                continue
            if position + number > size:
                raise ValueError("no protocol buffer: cut short")
            yield tag >> 3, 0, data[position : position + number]
            position += number
    except IndexError as error:
        raise ValueError("no protocol buffer: cut short") from error


def _long(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("no protocol buffer: a number too long")


def _key_value(data: bytes) -> KeyValue:
    found = KeyValue()
    for field, number, content in _fields(data):
        if field == 1:
            found.key = content
        elif field == 2:
            found.create_revision = number
        elif field == 3:
            found.mod_revision = number
        elif field == 5:
            found.value = content
    return found


def _header(data: bytes) -> tuple[int, int]:
    revision = cluster = 0
    for field, number, _ in _fields(data):
        if field == 3:
            revision = number
        elif field == 1:
            cluster = number
    return revision, cluster


def range_answer(data: bytes) -> Answer:
    answer = Answer()
    for field, number, content in _fields(data):
        if field == 1:
            answer.revision, answer.cluster = _header(content)
        elif field == 2:
            answer.kvs.append(_key_value(content))
        elif field == 4:
            answer.count = number
    return answer


def put_answer(data: bytes) -> Answer:
    answer = Answer()
    for field, _, content in _fields(data):
        if field == 1:
            answer.revision, answer.cluster = _header(content)
    return answer


def delete_answer(data: bytes) -> Answer:
    """``count`` deleted; ``kvs`` what was there."""
    answer = Answer()
    for field, number, content in _fields(data):
        if field == 1:
            answer.revision, answer.cluster = _header(content)
        elif field == 2:
            answer.count = number
        elif field == 3:
            answer.kvs.append(_key_value(content))
    return answer


def swap_answer(data: bytes) -> Answer:
    """``succeeded``, and in ``kvs`` what was deleted or, failed, is there."""
    answer = Answer()
    for field, number, content in _fields(data):
        if field == 1:
            answer.revision, answer.cluster = _header(content)
        elif field == 2:
            answer.succeeded = bool(number)
        elif field == 3:
            for kind, _, inner in _fields(content):
                if kind == 1:
                    answer.kvs = range_answer(inner).kvs
                elif kind == 3:
                    answer.kvs = delete_answer(inner).kvs
    return answer


def watch_answer(data: bytes) -> WatchAnswer:
    answer = WatchAnswer()
    for field, number, content in _fields(data):
        if field == 11:
            answer.events.append(_event(content))
        elif field == 1:
            answer.revision = _header(content)[0]
        elif field == 3:
            answer.created = bool(number)
        elif field == 4:
            answer.canceled = bool(number)
        elif field == 5:
            answer.compact_revision = number
        elif field == 6:
            answer.reason = content.decode(errors="replace")
        elif field == 7:
            answer.more = bool(number)
    return answer


def _event(data: bytes) -> Event:
    kv, previous, deleted = KeyValue(), None, False
    for field, number, content in _fields(data):
        if field == 2:
            kv = _key_value(content)
        elif field == 3:
            previous = _key_value(content)
        elif field == 1:
            deleted = number == _DELETED
    return Event(kv, previous, deleted)


def prefix_range_end(prefix: bytes) -> bytes:
    """The end of the range of keys that begin with ``prefix``, which is not empty."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else ALL
