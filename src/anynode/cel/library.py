"""All functions by name, and what is made ready of them when arguments are known.

Source: apiserver ``pkg/cel/environment/base.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynode.cel import (
    authorizer,
    clocks,
    named_formats,
    networks,
    operators,
    regexes,
    resource_values,
    sequences,
    strings,
)
from anynode.cel.errors import CelEvaluationError, CelProgramError
from anynode.cel.operators import no_overload, to_string

Function = Callable[..., Any]


def _pattern(pattern: Any) -> regexes.Pattern:
    if type(pattern) is not str:
        raise no_overload()
    return regexes.compiled(pattern)


def _matches(text: Any, pattern: Any) -> bool:
    if type(text) is not str:
        raise no_overload()
    try:
        return _pattern(pattern).matches(text)
    except regexes.RegexError as error:
        raise CelEvaluationError(str(error)) from None


def _find(text: Any, pattern: Any) -> str:
    if type(text) is not str:
        raise no_overload()
    try:
        return _pattern(pattern).find(text)
    except regexes.RegexError as error:
        raise CelEvaluationError(f"Illegal regex: {error}") from None


def _find_all(text: Any, pattern: Any, most: Any = -1) -> list[str]:
    if type(text) is not str or type(most) is not int:
        raise no_overload()
    try:
        return _pattern(pattern).find_all(text, most)
    except regexes.RegexError as error:
        raise CelEvaluationError(f"Illegal regex: {error}") from None


FUNCTIONS: dict[str, Function] = {
    **operators.FUNCTIONS,
    **clocks.FUNCTIONS,
    **sequences.FUNCTIONS,
    **strings.FUNCTIONS,
    **networks.FUNCTIONS,
    **resource_values.FUNCTIONS,
    **named_formats.FUNCTIONS,
    **authorizer.FUNCTIONS,
    "matches": _matches,
    "find": _find,
    "findAll": _find_all,
}


def prepared(function: str, body: Function, constants: Sequence[Any]) -> Function:
    """The function with a constant regular expression compiled; raises ``CelProgramError`` if it is wrong."""
    if function not in ("matches", "find", "findAll") or len(constants) < 2 or type(constants[1]) is not str:
        return body
    try:
        pattern = regexes.compiled(constants[1])
    except regexes.RegexError as error:
        raise CelProgramError(str(error)) from error
    if function == "matches":
        return _matching(pattern)
    if function == "find":
        return lambda text, _pattern: pattern.find(_text(text))
    return lambda text, _pattern, most=-1: pattern.find_all(_text(text), most)


def _matching(pattern: regexes.Pattern) -> Function:
    matches = pattern.matches

    def run(text: Any, _pattern: Any) -> bool:
        if type(text) is not str:
            raise no_overload()
        return matches(text)

    return run


def _text(value: Any) -> str:
    if type(value) is not str:
        raise no_overload()
    return value


def shown(value: Any) -> str:
    """A value as error texts print it."""
    try:
        return str(to_string(value))
    except CelEvaluationError:
        return str(value)
