"""What Go says of a text that is no JSON.

The decoder proper is orjson; this scanner runs only over what orjson refused, to word the refusal. Source: Go
``encoding/json`` ``scanner.go``.
"""

from __future__ import annotations

import re

_END = "unexpected end of JSON input"
_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = b"0123456789abcdefABCDEF"
_MOST_DEPTH = 10_000


class _Wrong(Exception):
    """The scan ended; the text says why."""


def complaint(body: bytes) -> str:
    """Go's message for ``body``; empty when Go would take it for JSON."""
    try:
        _Scanner(body).scan()
    except _Wrong as wrong:
        return str(wrong)
    return ""


def _quoted(char: int) -> str:
    if char == 0x27:
        return "'\\''"
    if char == 0x22:
        return "'\"'"
    named = {0x5C: "\\\\", 0x07: "\\a", 0x08: "\\b", 0x0C: "\\f", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x0B: "\\v"}
    if char in named:
        return f"'{named[char]}'"
    if char < 0x20 or char == 0x7F:
        return f"'\\x{char:02x}'"
    shown = chr(char)  # Go makes a rune of the byte
    return f"'{shown}'" if shown.isprintable() else f"'\\u{char:04x}'"


class _Scanner:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def _peek(self) -> int:
        """The next byte; raises at the end."""
        if self._at >= len(self._body):
            raise _Wrong(_END)
        return self._body[self._at]

    def _skip_space(self) -> None:
        match = _SPACE.match(self._body, self._at)
        self._at = match.end() if match else self._at

    def _wrong(self, context: str) -> _Wrong:
        return _Wrong(f"invalid character {_quoted(self._peek())} {context}")

    def scan(self) -> None:
        """Walk the whole text with an explicit stack of open containers."""
        stack: list[int] = []
        self._skip_space()
        self._begin(stack)
        while stack:
            self._skip_space()
            char = self._peek()
            closing = 0x7D if stack[-1] == 0x7B else 0x5D
            if char == closing:
                self._at += 1
                stack.pop()
            elif char == 0x2C:
                self._at += 1
                self._skip_space()
                if stack[-1] == 0x7B:
                    self._key()
                    self._skip_space()
                self._begin(stack)
            else:
                place = "after object key:value pair" if stack[-1] == 0x7B else "after array element"
                raise self._wrong(place)
        self._skip_space()
        if self._at < len(self._body):
            raise self._wrong("after top-level value")

    def _begin(self, stack: list[int]) -> None:
        """One value; of containers the beginning up to and with the first value in them."""
        while True:
            char = self._peek()
            if char not in (0x7B, 0x5B):
                self._scalar(char)
                return
            self._at += 1
            stack.append(char)
            if len(stack) > _MOST_DEPTH:
                raise _Wrong("exceeded max depth")
            self._skip_space()
            if self._peek() == (0x7D if char == 0x7B else 0x5D):
                self._at += 1
                stack.pop()
                return
            if char == 0x7B:
                self._key()
                self._skip_space()

    def _key(self) -> None:
        if self._peek() != 0x22:
            raise self._wrong("looking for beginning of object key string")
        self._string()
        self._skip_space()
        if self._peek() != 0x3A:
            raise self._wrong("after object key")
        self._at += 1

    def _scalar(self, char: int) -> None:
        if char == 0x22:
            self._string()
        elif char == 0x2D or 0x30 <= char <= 0x39:
            self._number()
        elif char in b"tfn":
            self._literal({0x74: b"true", 0x66: b"false", 0x6E: b"null"}[char])
        else:
            raise self._wrong("looking for beginning of value")

    def _literal(self, word: bytes) -> None:
        for expected in word:
            if self._peek() != expected:
                raise self._wrong(f"in literal {word.decode()} (expecting {_quoted(expected)})")
            self._at += 1

    def _string(self) -> None:
        self._at += 1
        while True:
            match = _PLAIN.match(self._body, self._at)
            self._at = match.end() if match else self._at
            char = self._peek()
            if char == 0x22:
                self._at += 1
                return
            if char != 0x5C:
                raise self._wrong("in string literal")
            self._at += 1
            char = self._peek()
            if char not in b'bfnrt\\/"u':
                raise self._wrong("in string escape code")
            self._at += 1
            for _ in range(4 if char == 0x75 else 0):
                if self._peek() not in _HEX:
                    raise self._wrong("in \\u hexadecimal character escape")
                self._at += 1

    def _digits(self) -> None:
        while self._at < len(self._body) and 0x30 <= self._body[self._at] <= 0x39:
            self._at += 1

    def _number(self) -> None:
        if self._peek() == 0x2D:
            self._at += 1
        char = self._peek()
        if not 0x30 <= char <= 0x39:
            raise self._wrong("in numeric literal")
        self._at += 1
        if char != 0x30:
            self._digits()
        if self._at < len(self._body) and self._body[self._at] == 0x2E:
            self._at += 1
            if not 0x30 <= self._peek() <= 0x39:
                raise self._wrong("after decimal point in numeric literal")
            self._digits()
        if self._at < len(self._body) and self._body[self._at] in b"eE":
            self._at += 1
            if self._peek() in b"+-":
                self._at += 1
            if not 0x30 <= self._peek() <= 0x39:
                raise self._wrong("in exponent of numeric literal")
            self._digits()
