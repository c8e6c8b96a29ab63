"""Regular expressions as Go's ``regexp`` understands them, matched in time that grows with the text alone.

Whoever takes a pattern from a request uses these: Python's own ``re`` can be kept busy for years by a short pattern
and a short text. Source: https://github.com/google/re2/wiki/Syntax, Go's ``regexp/syntax`` (the messages).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import re2

_SAID: Final = {
    "invalid escape sequence": "invalid escape sequence",
    "invalid character class": "invalid character class",
    "invalid character class range": "invalid character class range",
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "unexpected )": "unexpected )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid UTF-8": "invalid UTF-8",
    "invalid named capture group": "invalid named capture",
    "pattern too large - compile failed": "expression too large",
}
"""What RE2 says -> what Go says."""


class PatternError(ValueError):
    """A pattern that is none; the text is Go's."""


@functools.lru_cache(maxsize=1024)
def compiled(text: str) -> Any:
    """The pattern with ``search``, ``match``, ``finditer``, ``sub`` and the like of ``re``; raises ``PatternError``."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options=options)
    except re2.error as error:
        raise PatternError(_worded(error.args[0] if error.args else "", text)) from None


def _worded(said: str | bytes, text: str) -> str:
    plain = said.decode(errors="replace") if isinstance(said, bytes) else said
    for known in sorted(_SAID, key=len, reverse=True):
        if plain.startswith(known):
            rest = plain[len(known) :].removeprefix(": ")
            return f"error parsing regexp: {_SAID[known]}: `{'' if known.startswith('trailing') else rest or text}`"
    return f"error parsing regexp: {plain}: `{text}`"


@functools.lru_cache(maxsize=1024)
def searcher(text: str) -> Callable[[str], bool]:
    """Whether the pattern occurs in a text; raises ``PatternError``."""
    search = compiled(text).search
    return lambda value: search(value) is not None
