"""Text cut into tokens, and what a string or bytes literal means.

Text goes in; tokens come out, ending with ``EOF``; stretches that are no token are reported and skipped as the ANTLR
lexer of cel-go does. Source: cel-go ``parser/gen/CEL.g4``, ``parser/unescape.go``, v0.26.
"""

from __future__ import annotations

import dataclasses
import re

_ESCAPE = r"""\\(?:[abfnrtv"'\\?`]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7][0-7])"""
_STRING = (
    rf'"""(?:{_ESCAPE}|[^\\])*?"""|' + rf"'''(?:{_ESCAPE}|[^\\])*?'''|"
    rf'"(?:{_ESCAPE}|[^\\"\n\r])*"|' + rf"'(?:{_ESCAPE}|[^\\'\n\r])*'|"
    r'[rR](?:"""[\s\S]*?"""|' + r"'''[\s\S]*?'''|" + r'"[^"\n\r]*"|' + r"'[^'\n\r]*')"
)
_TOKEN = re.compile(
    r"(?P<HIDDEN>[\t \r\n\f]+|//[^\n]*)"
    rf"|(?P<BYTES>[bB](?:{_STRING}))"
    rf"|(?P<STRING>{_STRING})"
    r"|(?P<NUM_FLOAT>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<NUM_UINT>0x[0-9a-fA-F]+[uU]|[0-9]+[uU])"
    r"|(?P<NUM_INT>0x[0-9a-fA-F]+|[0-9]+)"
    r"|(?P<IDENTIFIER>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<ESC_IDENTIFIER>`[A-Za-z0-9_.\-/ ]+`)"
    r"|(?P<OPERATOR>==|!=|<=|>=|&&|\|\||[<>\[\]{}().,\-!?:+*/%])"
)
_KEYWORDS = {"in": "in", "true": "true", "false": "false", "null": "null"}
_PARTIAL = re.compile(
    r"""[bB]?(?:"(?:"")?|'(?:'')?)"""  # how far an unfinished string is followed
)
_PARTIAL_ESCAPE = re.compile(r"\\(?:[xX][0-9a-fA-F]?|u[0-9a-fA-F]{0,3}|U[0-9a-fA-F]{0,7}|[0-3][0-7]?)?")
_SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"',
    "`": "`", "?": "?",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """``kind`` is the operator or keyword itself, or the grammar's name of the token."""

    kind: str
    text: str
    offset: int


@dataclasses.dataclass(frozen=True, slots=True)
class LexicalError:
    offset: int
    text: str


def tokens_of(text: str) -> tuple[list[Token], list[LexicalError]]:
    """The tokens of ``text`` and what could not be read."""
    tokens: list[Token] = []
    wrong: list[LexicalError] = []
    at = 0
    end = len(text)
    match = _TOKEN.match
    while at < end:
        found = match(text, at)
        if found is None:
            stop = _unreadable(text, at)
            wrong.append(LexicalError(at, text[at:stop]))
            at = stop
            continue
        kind = found.lastgroup or ""
        if kind != "HIDDEN":
            written = found[0]
            if kind == "OPERATOR":
                kind = written
            elif kind == "IDENTIFIER":
                kind = _KEYWORDS.get(written, kind)
            tokens.append(Token(kind, written, at))
        at = found.end()
    tokens.append(Token("EOF", "<EOF>", end))
    return tokens, wrong


def _unreadable(text: str, at: int) -> int:
    """Where reading goes on after the token at ``at`` failed: past the character that made it fail."""
    first = text[at]
    if first in "&|=`":
        stop = at + 1
        if first == "`":
            while stop < len(text) and re.match(r"[A-Za-z0-9_.\-/ ]", text[stop]):
                stop += 1
        return min(stop + 1, len(text))
    opening = _PARTIAL.match(text, at)
    if opening is None:
        return at + 1
    quote = opening[0].lstrip("bB")
    stop = opening.end()
    piece = re.compile(rf"{_ESCAPE}|[^\\]" if len(quote) == 3 else rf"{_ESCAPE}|[^\\\n\r]")
    while (found := piece.match(text, stop)) is not None:
        stop = found.end()
    if stop < len(text) and text[stop] == "\\":
        partial = re.compile(r"\\(?:[xX][0-9a-fA-F]?|u[0-9a-fA-F]{0,3}|U[0-9a-fA-F]{0,7}|[0-3][0-7]?)?").match(
            text, stop
        )
        stop = stop if partial is None else partial.end()
    return min(stop + 1, len(text))


class UnescapeError(ValueError):
    """A literal with a wrong escape; its text is cel-go's."""


def string_value(written: str) -> str:
    """What a string token means; raises ``UnescapeError``."""
    content, raw = _content(written)
    return content if raw or "\\" not in content else _unescaped(content, of_bytes=False)


def bytes_value(written: str) -> bytes:
    """What a bytes token (without its ``b``) means; raises ``UnescapeError``."""
    content, raw = _content(written)
    if raw or "\\" not in content:
        return content.encode()
    return _unescaped(content, of_bytes=True).encode("utf-8", "surrogateescape")


def _content(written: str) -> tuple[str, bool]:
    written = written.replace("\r\n", "\n").replace("\r", "\n")
    raw = written[0] in "rR"
    if raw:
        written = written[1:]
    if len(written) >= 6 and written[:3] in ('"""', "'''"):
        return written[3:-3], raw
    return written[1:-1], raw


def _unescaped(content: str, *, of_bytes: bool) -> str:
    parts: list[str] = []
    at = 0
    while at < len(content):
        slash = content.find("\\", at)
        if slash < 0:
            parts.append(content[at:])
            break
        parts.append(content[at:slash])
        letter = content[slash + 1]
        at = slash + 2
        if letter in _SIMPLE_ESCAPES:
            parts.append(_SIMPLE_ESCAPES[letter])
            continue
        if letter in "xXuU":
            width = {"x": 2, "X": 2, "u": 4, "U": 8}[letter]
            if of_bytes and letter in "uU":
                raise UnescapeError("unable to unescape string")
            code = int(content[at : at + width], 16)
            at += width
        else:
            code = int(content[slash + 1 : slash + 4], 8)
            at += 2
        if of_bytes:
            parts.append(chr(code) if code < 128 else chr(0xDC00 + code))  # surrogateescape: one byte
        elif code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise UnescapeError("invalid unicode code point")
        else:
            parts.append(chr(code))
    return "".join(parts)
