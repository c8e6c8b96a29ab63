"""Long lists sent in pieces, so that no reader keeps the others waiting.

A list of more than ``SHORT`` objects is no body but a stream: each piece is made when the connection can take it, and
between two pieces everybody else has a turn. What is listed was settled before: the pieces are of one moment. Source:
apiserver ``pkg/endpoints/handlers/responsewriters``, 1.36.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anynode.api.wire import ByteReader
from anynode.apiserver.binary_forms import ProtobufForm
from anynode.apiserver.forms import ListForm, WholeForm
from anynode.registry.items import Item

SHORT = 1_000
_WHOLE, _MADE = 500, 100
"""Objects in a piece: where their bytes are there already, and where they are made."""
_MARKS = (b'"items":[', b'"rows":[')
_END = b"]}\n"


class Compressed:
    """The same, as one gzip stream."""

    def __init__(self, source: ByteReader, level: int) -> None:
        self._source = source
        self._packer: zlib._Compress | None = zlib.compressobj(level, wbits=31)

    async def read(self) -> bytes:
        while self._packer is not None:
            data = await self._source.read()
            if not data:
                packed, self._packer = self._packer.flush(), None
                return packed
            packed = self._packer.compress(data)
            if packed:
                return packed
        return b""

    async def close(self) -> None:
        await self._source.close()


class LongList:
    """An ``api.wire.ByteReader`` of one list."""

    def __init__(self, form: ListForm, items: Sequence[Item], metadata: Mapping[str, Any]) -> None:
        self._pieces = _pieces(form, items, metadata)
        self._began = False

    async def read(self) -> bytes:
        while True:
            if self._began:
                await asyncio.sleep(0)
            self._began = True
            piece = next(self._pieces, b"")
            if piece is not None:
                return piece

    async def close(self) -> None:
        self._pieces = iter(())


def _pieces(form: ListForm, items: Sequence[Item], metadata: Mapping[str, Any]) -> Iterator[bytes | None]:
    """The body; None where there was work but nothing to send yet."""
    if isinstance(form, ProtobufForm):
        yield from _messages(form, items, metadata)
        return
    step = _WHOLE if isinstance(form, WholeForm) else _MADE
    for begin in range(0, len(items), step):
        piece = form.join(items[begin : begin + step], metadata).rstrip()
        mark = min(at + len(each) for each in _MARKS if (at := piece.find(each)) >= 0)
        start = mark if begin else 0
        yield (b"," if begin else b"") + piece[start:-2]
    yield _END


def _messages(form: ProtobufForm, items: Sequence[Item], metadata: Mapping[str, Any]) -> Iterator[bytes | None]:
    """A message begins with its length: all of it is made before anything is sent."""
    made: list[bytes] = []
    for begin in range(0, len(items), _MADE):
        made.extend(form.message(item) for item in items[begin : begin + _MADE])
        yield None
    body = form.joined(made, metadata)
    step = 1024 * 1024
    for begin in range(0, len(body), step):
        yield body[begin : begin + step]
