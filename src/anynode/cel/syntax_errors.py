"""What is wrong with a text that is no expression.

Tokens come in; places and sentences go out. Source: cel-go ``parser/parser.go``, v0.26.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.cel.lexer import LexicalError, Token


def complaints(tokens: Sequence[Token], unreadable: Sequence[LexicalError]) -> list[tuple[int, str]]:
    """Offsets and complaints; never empty."""
    found = [(each.offset, f"Syntax error: token recognition error at: '{each.text}'") for each in unreadable]
    return found or [(tokens[-1].offset, "Syntax error: mismatched input '<EOF>'")]
