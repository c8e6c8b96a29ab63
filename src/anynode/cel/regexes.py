"""Regular expressions that never take more than linear time.

A pattern is compiled once. Python's own engine runs it where its way back cannot grow beyond a small bound; everything
else runs on an automaton made state by state, or for the bounds of a match on a simulation of threads. Source: Go
``regexp``; R. Cox, "Regular Expression Matching Can Be Simple And Fast".
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Callable

from anynode.cel.errors import CostExceeded
from anynode.cel.regex_syntax import (
    Assertion,
    Chars,
    Choice,
    RegexError,
    Repeat,
    Sequence_,
    Tree,
    parse,
)

__all__ = ["Pattern", "RegexError", "compiled"]

_MOST_STEPS = 200_000
"""What Python's engine may need at worst."""
_MOST_STATES = 4_000
_MOST_WORK = 1_500_000
"""How many steps of the machine one match may visit; what is looked up in the table is free."""
_WORD_CODES = frozenset(map(ord, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"))
_PYTHON_ASSERTIONS = {
    "\\A": r"\A", "\\z": r"\Z", "^": "(?m:^)", "$": "(?m:$)", "\\b": r"(?a:\b)", "\\B": r"(?:(?a:\B)|\A\Z)",
}  # fmt: skip


@functools.lru_cache(maxsize=512)
def compiled(pattern: str) -> Pattern:
    """The pattern ready to match; raises ``RegexError``."""
    return Pattern(parse(pattern))


class Pattern:
    """A compiled pattern."""

    __slots__ = ("_automaton", "_degree", "_search", "_tree")

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._degree = _degree(tree) + (0 if _anchored(tree) else 1)
        self._search: Callable[..., re.Match[str] | None] | None = None
        if self._degree <= 4:
            self._search = re.compile(_python(tree)).search
        self._automaton: _Automaton | None = None

    def _quick(self, text: str) -> bool:
        return self._search is not None and (len(text) + 1) ** self._degree <= _MOST_STEPS

    def _slow(self) -> _Automaton:
        if self._automaton is None:
            self._automaton = _Automaton(self._tree)
        return self._automaton

    def matches(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text."""
        if self._search is not None and self._quick(text):
            return self._search(text) is not None
        return self._slow().matches(text)

    def find(self, text: str) -> str:
        """The first match, empty if there is none."""
        found = self._bounds(text, 0)
        return "" if found is None else text[found[0] : found[1]]

    def find_all(self, text: str, most: int = -1) -> list[str]:
        """All matches, as far as they do not overlap; at most ``most`` if it is not below zero."""
        results: list[str] = []
        at, previous_end = 0, -1
        while at <= len(text) and (most < 0 or len(results) < most):
            found = self._bounds(text, at)
            if found is None:
                break
            start, end = found
            if start != end or start != previous_end:
                results.append(text[start:end])
            previous_end = end
            at = end if end > start else end + 1
        return results

    def _bounds(self, text: str, at: int) -> tuple[int, int] | None:
        if self._search is not None and self._quick(text):
            found = self._search(text, at)
            return None if found is None else found.span()
        return self._slow().bounds(text, at)


def _degree(tree: Tree) -> int:
    """The power of the text's length Python's engine may need; nested repeats count as too many."""
    if isinstance(tree, Repeat):
        inner = _degree(tree.part)
        if 0 <= tree.most <= 1 or (0 <= tree.most <= 8 and inner == 0):
            return inner
        return 1 if inner == 0 else 1 + 10 * inner
    if isinstance(tree, Sequence_):
        return sum(map(_degree, tree.parts))
    if isinstance(tree, Choice):
        return sum(map(_degree, tree.options))
    return 0


def _anchored(tree: Tree) -> bool:
    while isinstance(tree, Sequence_) and tree.parts:
        tree = tree.parts[0]
    return isinstance(tree, Assertion) and tree.kind == "\\A"


def _python(tree: Tree) -> str:
    """The pattern in Python's syntax."""
    if isinstance(tree, Chars):
        return _python_class(tree)
    if isinstance(tree, Assertion):
        return _PYTHON_ASSERTIONS[tree.kind]
    if isinstance(tree, Sequence_):
        return "".join(map(_python, tree.parts)) if len(tree.parts) != 1 else f"(?:{_python(tree.parts[0])})"
    if isinstance(tree, Choice):
        return f"(?:{'|'.join(map(_python, tree.options))})"
    most = "" if tree.most < 0 else str(tree.most)
    return f"(?:{_python(tree.part)}){{{tree.least},{most}}}{'' if tree.greedy else '?'}"


def _python_class(tree: Chars) -> str:
    if not tree.ranges:
        return "(?!)"
    if len(tree.ranges) == 1 and tree.ranges[0][0] == tree.ranges[0][1]:
        return re.escape(chr(tree.ranges[0][0]))
    pieces = []
    for low, high in tree.ranges:
        pieces.append(_escaped(low) if low == high else f"{_escaped(low)}-{_escaped(high)}")
    return f"[{''.join(pieces)}]"


def _escaped(code: int) -> str:
    return f"\\U{code:08x}"


# --- automaton -------------------------------------------------------------------------------------------------------

_CHAR, _SPLIT, _ASSERT, _MATCH = range(4)


class _Automaton:
    """Thompson's machine: steps of (kind, argument, next, other next)."""

    def __init__(self, tree: Tree) -> None:
        self._steps: list[list[object]] = []
        self._start = self._build(tree, self._add(_MATCH, None, -1, -1))
        self._asserts = any(step[0] == _ASSERT for step in self._steps)
        bounds = {0}
        for step in self._steps:
            if isinstance(step[1], tuple):
                for low, high in step[1]:
                    bounds |= {low, high + 1}
        if self._asserts:
            bounds |= {10, 11, 48, 58, 65, 91, 95, 96, 97, 123}
        self._bounds = sorted(bounds)
        self._ascii = [bisect.bisect_right(self._bounds, code) - 1 for code in range(128)]
        self._reset()

    def _reset(self) -> None:
        self._table: dict[tuple[frozenset[int], int, int], frozenset[int] | None] = {}
        self._ends: dict[tuple[frozenset[int], int], bool] = {}

    def _add(self, kind: int, argument: object, following: int, other: int) -> int:
        self._steps.append([kind, argument, following, other])
        return len(self._steps) - 1

    def _build(self, tree: Tree, then: int) -> int:
        if isinstance(tree, Chars):
            return self._add(_CHAR, tree.ranges, then, -1)
        if isinstance(tree, Assertion):
            return self._add(_ASSERT, tree.kind, then, -1)
        if isinstance(tree, Sequence_):
            for part in reversed(tree.parts):
                then = self._build(part, then)
            return then
        if isinstance(tree, Choice):
            entry = self._build(tree.options[-1], then)
            for option in reversed(tree.options[:-1]):
                entry = self._add(_SPLIT, None, self._build(option, then), entry)
            return entry
        return self._build_repeat(tree, then)

    def _build_repeat(self, tree: Repeat, then: int) -> int:
        if tree.most < 0:
            loop = self._add(_SPLIT, None, -1, -1)
            body = self._build(tree.part, loop)
            self._steps[loop][2:] = [body, then] if tree.greedy else [then, body]
            then = loop
        else:
            end = then
            for _ in range(tree.most - tree.least):
                body = self._build(tree.part, then)
                then = self._add(_SPLIT, None, *((body, end) if tree.greedy else (end, body)))
        for _ in range(tree.least):
            then = self._build(tree.part, then)
        return then

    def _class_of(self, code: int) -> int:
        return self._ascii[code] if code < 128 else bisect.bisect_right(self._bounds, code) - 1

    def _holds(self, kind: object, before: int, after: int) -> bool:
        """Whether an assertion holds between two codes, -1 being the text's end."""
        if kind == "\\A":
            return before < 0
        if kind == "\\z":
            return after < 0
        if kind == "^":
            return before in (-1, 10)
        if kind == "$":
            return after in (-1, 10)
        return ((before in _WORD_CODES) != (after in _WORD_CODES)) is (kind == "\\b")

    def _closure(self, entries: frozenset[int] | list[int], before: int, after: int) -> list[int]:
        """The steps reached without reading, in order of preference."""
        seen: set[int] = set()
        found: list[int] = []
        stack = list(reversed(list(entries)))
        while stack:
            index = stack.pop()
            if index in seen:
                continue
            seen.add(index)
            kind, argument, following, other = self._steps[index]
            if kind == _SPLIT:
                stack.append(other)  # type: ignore[arg-type]
                stack.append(following)  # type: ignore[arg-type]
            elif kind == _ASSERT:
                if self._holds(argument, before, after):
                    stack.append(following)  # type: ignore[arg-type]
            else:
                found.append(index)
        return found

    def matches(self, text: str) -> bool:
        """Whether the machine accepts anywhere; each character is one look-up once its transition is known."""
        states: frozenset[int] = frozenset((self._start,))
        before_code, before = -1, -1
        table, class_of = self._table, self._class_of
        work = 0
        for code in map(ord, text):
            after = class_of(code)
            key = (states, before if self._asserts else -2, after)
            try:
                following = table[key]
            except KeyError:
                following = table[key] = self._transition(states, before_code, code)
                work += len(following or ()) + 4
                if work > _MOST_WORK:
                    raise CostExceeded from None
                if len(table) > _MOST_STATES:
                    self._reset()
                    table = self._table
            if following is None:
                return True
            states, before_code, before = following, code, after
        end = (states, before if self._asserts else -2)
        accepted = self._ends.get(end)
        if accepted is None:
            accepted = any(self._steps[each][0] == _MATCH for each in self._closure(states, before_code, -1))
            self._ends[end] = accepted
        return accepted

    def _transition(self, states: frozenset[int], before: int, code: int) -> frozenset[int] | None:
        """Where the states go on a code, None if they accept before it; a new start joins them."""
        found = {self._start}
        for index in self._closure(states, before, code):
            kind, argument, following, _ = self._steps[index]
            if kind == _MATCH:
                return None
            if _within(argument, code):
                found.add(following)  # type: ignore[arg-type]
        return frozenset(found)

    def bounds(self, text: str, at: int) -> tuple[int, int] | None:
        """Start and end of the leftmost match from ``at`` on, by the preference of the pattern."""
        threads: list[tuple[int, int]] = []
        best: tuple[int, int] | None = None
        work = 0
        for position in range(at, len(text) + 1):
            work += len(threads) + 1
            if work > _MOST_WORK:
                raise CostExceeded
            before = ord(text[position - 1]) if position else -1
            after = ord(text[position]) if position < len(text) else -1
            if best is None:
                threads.append((self._start, position))
            if not threads:
                break
            following: list[tuple[int, int]] = []
            entered: set[int] = set()
            seen: set[int] = set()
            for entry, start in threads:
                stop = False
                for index in self._closure([entry], before, after):
                    if index in seen:
                        continue
                    seen.add(index)
                    kind, argument, then, _ = self._steps[index]
                    if kind == _MATCH:
                        best = (start, position)
                        stop = True
                        break
                    if after >= 0 and _within(argument, after) and then not in entered:
                        entered.add(then)  # type: ignore[arg-type]
                        following.append((then, start))  # type: ignore[arg-type]
                if stop:
                    break
            threads = following
        return best


def _within(ranges: object, code: int) -> bool:
    assert isinstance(ranges, tuple)
    return any(low <= code <= high for low, high in ranges)
