"""Paths into a schema: ``.spec.a['b c']``, as rules, selectable fields and messages use them.

Source: apiextensions-apiserver ``pkg/apiserver/schema/cel/validation.go`` (ValidFieldPath), 1.36.
"""

from __future__ import annotations

import dataclasses
import re

from anynode.schema.custom.structural import Structural

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


class FieldPathError(ValueError):
    """A path that leads nowhere; the text is upstream's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Where a path leads: printed (``spec.a[b]``), its first step, and the schema there."""

    path: str
    root: str
    node: Structural


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    position = 0
    while position < len(text):
        if text[position] == "'":
            end = position + 1
            while end < len(text) and not (text[end] == "'" and text[end - 1] != "\\"):
                end += 1
            found.append(text[position : end + 1])
            position = end + 1
            continue
        end = position
        while end < len(text) and text[end] not in ".[]":
            end += 1
        end = max(end, position + 1)
        found.append(text[position:end])
        position = end
    return found


def _unescaped(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        if match[0][1] not in _ESCAPES:
            raise FieldPathError(f"invalid string literal: invalid escape char {match[0]}")
        return _ESCAPES[match[0][1]]

    return re.sub(r"\\.", read, text)


def valid_field_path(text: str, node: Structural, *, arrays: bool = True) -> Found:
    """Where ``text`` leads in ``node``; ``arrays``: steps may stand in brackets. Raises ``FieldPathError``."""
    tokens = iter(_tokens(text))
    path = root = ""

    def take() -> str:
        token = next(tokens, None)
        if token is None:
            raise FieldPathError("unexpected end of JSON path")
        return token

    for token in tokens:
        if token == "[":
            if not arrays:
                raise FieldPathError("array notation is not allowed")
            name = take()
            if len(name) < 2 or name[0] != "'" or name[-1] != "'":
                raise FieldPathError(f"expected single quoted string but got {name}")
            path, root, node = _step(path, root, node, _unescaped(name[1:-1]))
            closing = take()
            if closing != "]":
                raise FieldPathError(f"expected ] but got {closing}")
        elif token == ".":
            path, root, node = _step(path, root, node, take())
        else:
            raise FieldPathError(f"expected [ or . but got: {token}")
    return Found(path, root, node)


def _step(path: str, root: str, node: Structural, name: str) -> tuple[str, str, Structural]:
    if node.properties:
        inner = node.properties.get(name)
        if inner is None:
            raise FieldPathError("does not refer to a valid field")
        return f"{path}.{name}" if path else name, root or name, inner
    if node.additional is None:
        raise FieldPathError("does not refer to a valid field")
    return f"{path}[{name}]", root or name, node.additional
