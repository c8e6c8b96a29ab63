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

import orjson
import yaml

from anynode.api.wire import ByteReader
from anynode.apiserver.binary_forms import ProtobufForm
from anynode.apiserver.forms import ListForm, WholeForm
from anynode.registry.items import Item

SHORT, SHORT_YAML = 1_000, 20
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
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

    def __init__(
        self, form: ListForm, items: Sequence[Item], metadata: Mapping[str, Any], *, in_yaml: bool = False
    ) -> None:
        if isinstance(form, ProtobufForm):
            self._pieces = _messages(form, items, metadata)
        else:
            self._pieces = (_yaml_pieces if in_yaml else _pieces)(form, items, metadata)
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
    step = _WHOLE if isinstance(form, WholeForm) else _MADE
    for begin in range(0, len(items), step):
        piece = form.join(items[begin : begin + step], metadata).rstrip()
        mark = min(at + len(each) for each in _MARKS if (at := piece.find(each)) >= 0)
        start = mark if begin else 0
        yield (b"," if begin else b"") + piece[start:-2]
    yield _END


def _yaml_pieces(form: ListForm, items: Sequence[Item], metadata: Mapping[str, Any]) -> Iterator[bytes | None]:
    """The same, as YAML: what is not the items stands before them."""
    for begin in range(0, len(items), SHORT_YAML):
        made = orjson.loads(form.join(items[begin : begin + SHORT_YAML], metadata))
        field = "items" if "items" in made else "rows"
        rows = made.pop(field)
        head = in_yaml(made) + f"{field}:\n".encode() if not begin else b""
        yield head + in_yaml(rows)


def _messages(form: ProtobufForm, items: Sequence[Item], metadata: Mapping[str, Any]) -> Iterator[bytes | None]:
    """A message begins with its length: all in it is made before anything is sent."""
    made: list[bytes] = []
    for begin in range(0, len(items), _MADE):
        made.extend(form.element(item) for item in items[begin : begin + _MADE])
        yield None
    head = form.list_head(metadata)
    yield form.list_start(len(head) + sum(map(len, made))) + head
    for begin in range(0, len(made), _MADE):
        yield b"".join(made[begin : begin + _MADE])


def in_yaml(value: Any) -> bytes:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text.encode()
