"""What can go wrong with an expression, by the moment it goes wrong.

An ``Issue`` is a place and a sentence; issues print as cel-go prints them, with the line and a caret. Source: cel-go
``common/error.go``, ``common/errors.go``, v0.26.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

_LONGEST_SNIPPET = 16384
_MOST_ISSUES = 100


class CelError(ValueError):
    """Anything wrong with an expression or its evaluation."""


@dataclasses.dataclass(frozen=True, slots=True)
class Issue:
    """One complaint at ``line`` (from 1) and ``column`` (from 0, in code points); -1 and -1: at no place."""

    line: int
    column: int
    message: str

    def display(self, lines: Sequence[str]) -> str:
        """The complaint as cel-go prints it."""
        text = f"ERROR: <input>:{self.line}:{self.column + 1}: {self.message}"
        if self.column < 0 or not 1 <= self.line <= len(lines) or len(lines[self.line - 1].encode()) > _LONGEST_SNIPPET:
            return text
        snippet = lines[self.line - 1].replace("\t", " ")
        dots = "".join("\uff0e" if ord(each) > 127 else "." for each in snippet[: self.column])
        wide = self.column < len(snippet) and ord(snippet[self.column]) > 127
        return f"{text}\n | {snippet}\n | {dots}{chr(0xFF3E) if wide else '^'}"


class CelIssues(CelError):
    """Complaints about a text that does not compile; ``str()`` is cel-go's."""

    def __init__(self, text: str, issues: Iterable[Issue]) -> None:
        self.issues = sorted(issues, key=lambda each: (each.line, each.column))
        lines = text.split("\n")
        shown = [each.display(lines) for each in self.issues[:_MOST_ISSUES]]
        if len(self.issues) > _MOST_ISSUES:
            shown.append(f"{len(self.issues) - _MOST_ISSUES} more errors were truncated")
        super().__init__("\n".join(shown))


class CelSyntaxError(CelIssues):
    """The text is not an expression."""


class CelTypeError(CelIssues):
    """The expression's types do not fit, or a literal in it is wrong."""


class CelResultError(CelError):
    """The expression is well typed, but its result is not what the caller asked for."""


class CelProgramError(CelError):
    """A checked expression that cannot be run: a constant regular expression that is wrong, say."""


class CelEvaluationError(CelError):
    """Evaluation came to an error value: ``no such key: x``."""


class NoSuchOverload(CelEvaluationError):
    """A function was called on values it does not take; the call puts its name and their types into the text."""

    def __init__(self, message: str = "no such overload") -> None:
        super().__init__(message)


class CostExceeded(CelError):
    """Evaluation went on longer than allowed."""

    def __init__(self, message: str = "operation cancelled: actual cost limit exceeded") -> None:
        super().__init__(message)
