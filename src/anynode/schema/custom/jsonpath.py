"""JSONPath as kubectl and Table columns speak it: ``{.spec.a}``, ``{.items[0:2].b}``, ``{.l[?(@.k=="x")].v}``.

A template comes in once (``JsonPath``), then objects; out come, per action in braces, the values found. Members that
are missing give nothing. ``range`` and ``end`` are for templates with several actions, which columns are not: a path
with them is refused. Source: client-go ``util/jsonpath/{parser,jsonpath}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from anynode.api.go_text import go_float, go_json

_TERMINATORS = frozenset(" \t\r\n.,[]$@{}")
_DICT_KEY = re.compile(r"'([^']*)'")
_SLICE = re.compile(r"(-?[0-9]*)(:-?[0-9]*)?(:-?[0-9]*)?", re.ASCII)
_FILTER = re.compile(r"([^!<>=]+)([!<>=]+)(.+?)", re.DOTALL)
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, ">": operator.gt, "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_MOST_DEPTH = 50

Step = Callable[[list[Any]], list[Any]]


class JsonPathError(ValueError):
    """A template that cannot be read, or a path that does not fit the object."""


class JsonPath:
    """One template."""

    def __init__(self, template: str) -> None:
        """Raises ``JsonPathError``."""
        self._actions = _Parser(template).template()

    def results(self, obj: Any) -> list[list[Any]]:
        """The values each action finds. Raises ``JsonPathError`` for an object the path does not fit."""
        return [_run(steps, [obj]) for steps in self._actions]


def _run(steps: Sequence[Step], values: list[Any]) -> list[Any]:
    for step in steps:
        values = step(values)
    return values


def printed(value: Any) -> str:
    """One value as text."""
    if isinstance(value, dict | list):
        return go_json(value)
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return go_float(value) if isinstance(value, float) else str(value)


# Steps


def _constant(value: Any) -> Step:
    return lambda values: [value for _ in values]


def _text(value: str) -> Step:
    return lambda _: [value]


def _field(name: str) -> Step:
    return lambda values: [each[name] for each in values if isinstance(each, dict) and name in each]


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value[key] for key in sorted(value)]
    return list(value) if isinstance(value, list) else []


def _wildcard(values: list[Any]) -> list[Any]:
    return [inner for each in values for inner in _inside(each)]


def _recursive(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for each in values:
        inside = _inside(each)
        if inside:
            found.append(each)
            found.extend(_recursive(inside))
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class _Slice:
    """``[start:end:step]``; ``single``: an index was given, so the end is derived from it."""

    start: int | None
    end: int | None
    step: int | None
    single: bool

    def __call__(self, values: list[Any]) -> list[Any]:
        found: list[Any] = []
        for each in values:
            if each is None:
                continue
            if not isinstance(each, list):
                raise JsonPathError(f"{type(each).__name__} is not array or slice")
            part = self._of(each)
            if part is None:
                return found
            found.extend(part)
        return found

    def _of(self, items: list[Any]) -> list[Any] | None:
        size, start = len(items), self.start or 0
        end = size if self.end is None else self.end
        start = start + size if start < 0 else start
        if end < 0 or (end == 0 and self.single):
            end += size
        if start == end:
            return None
        if not 0 <= start < size:
            raise JsonPathError(f"array index out of bounds: index {start}, length {size}")
        if not 0 <= end <= size:
            raise JsonPathError(f"array index out of bounds: index {end - 1}, length {size}")
        if start > end:
            raise JsonPathError(f"starting index {start} is greater than ending index {end}")
        if self.step is not None and self.step <= 0:
            raise JsonPathError("step must be > 0")
        return items[start : end : self.step or 1]


def _union(parts: Sequence[Sequence[Step]]) -> Step:
    return lambda values: [found for steps in parts for found in _run(steps, values)]


@dataclasses.dataclass(frozen=True, slots=True)
class _Filter:
    left: Sequence[Step]
    right: Sequence[Step]
    order: str

    def __call__(self, values: list[Any]) -> list[Any]:
        found: list[Any] = []
        for each in values:
            if not isinstance(each, list):
                raise JsonPathError("value is not array or slice and cannot be filtered")
            found.extend(item for item in each if self._passes(item))
        return found

    def _passes(self, item: Any) -> bool:
        lefts = _run(self.left, [item])
        if not self.order:
            return bool(lefts)
        rights = _run(self.right, [item]) if lefts else []
        if not lefts or not rights:
            return False
        if len(lefts) > 1 or len(rights) > 1:
            raise JsonPathError("can only compare one element at a time")
        compare = _ORDERS.get(self.order)
        if compare is None:
            raise JsonPathError(f"unrecognized filter operator {self.order}")
        left, right = lefts[0], rights[0]
        if left.__class__ is not right.__class__ or (left is None or isinstance(left, dict | list)):
            raise JsonPathError("incompatible types for comparison")
        if isinstance(left, bool) and self.order not in ("==", "!="):
            raise JsonPathError("invalid type for comparison")
        return compare(left, right)


# The parser


class _Parser:
    def __init__(self, text: str, depth: int = 0) -> None:
        if depth > _MOST_DEPTH:
            raise JsonPathError("path is nested too deep")
        self._text = text
        self._position = 0
        self._depth = depth

    def template(self) -> list[list[Step]]:
        actions: list[list[Step]] = []
        while self._position < len(self._text):
            start = self._text.find("{", self._position)
            if start != self._position:
                end = len(self._text) if start < 0 else start
                actions.append([_text(self._text[self._position : end])])
            if start < 0:
                break
            self._position = start + 1
            actions.append(self._action())
        return actions

    def _nested(self, text: str) -> list[Step]:
        """The steps of a path inside another one."""
        return _Parser(f"{{{text}}}", self._depth + 1).template()[0]

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _until(self, stop: Callable[[str], bool]) -> str:
        start = self._position
        while self._position < len(self._text) and not stop(self._text[self._position]):
            self._position += 1
        return self._text[start : self._position]

    def _action(self) -> list[Step]:
        steps: list[Step] = []
        while True:
            if self._text.startswith("}", self._position):
                self._position += 1
                return steps
            if self._text.startswith("[?(", self._position):
                self._position += 3
                steps.append(self._filter())
                continue
            if self._text.startswith("..", self._position):
                if steps and steps[-1] is _recursive:
                    raise JsonPathError("invalid multiple recursive descent")
                self._position += 2
                steps.append(_recursive)
                if self._peek().isalnum() or self._peek() == "_":
                    steps.append(self._name())
                continue
            steps.extend(self._step())

    def _step(self) -> Iterable[Step]:
        char = self._peek()
        if char in ("", "\r", "\n"):
            raise JsonPathError("unclosed action")
        if char in " @$":
            self._position += 1
            return ()
        if char == "[":
            return self._array()
        if char in "\"'":
            return (_text(self._quoted(char)),)
        if char == ".":
            self._position += 1
            return (self._name(),)
        if char in "+-" or char.isdigit():
            return (self._number(),)
        if char.isalnum() or char == "_":
            word = self._until(lambda each: each in _TERMINATORS)
            if word in ("true", "false"):
                return (_constant(word == "true"),)
            raise JsonPathError(f"unrecognized identifier {word}")
        raise JsonPathError(f"unrecognized character in action: U+{ord(char):04X} '{char}'")

    def _name(self) -> Step:
        start = self._position
        while self._position < len(self._text) and self._text[self._position] not in _TERMINATORS:
            self._position += 2 if self._text[self._position] == "\\" else 1
        name = self._text[start : self._position]
        return _wildcard if name == "*" else _field(name.replace("\\", ""))

    def _number(self) -> Step:
        start = self._position
        if self._peek() in "+-":
            self._position += 1
        self._until(lambda each: each != "." and not each.isdigit())
        text = self._text[start : self._position]
        try:
            return _constant(int(text))
        except ValueError:
            pass
        try:
            return _constant(float(text))
        except ValueError:
            raise JsonPathError(f"cannot parse number {text}") from None

    def _quoted(self, quote: str) -> str:
        start = self._position
        self._position += 1
        while True:
            char = self._peek()
            if char in ("", "\n"):
                raise JsonPathError("unterminated quoted string")
            self._position += 1
            if char == quote and self._text[self._position - 2] != "\\":
                break
        return _unescaped(self._text[start + 1 : self._position - 1], quote)

    def _array(self) -> Iterable[Step]:
        end = self._text.find("]", self._position)
        if end < 0 or "\n" in self._text[self._position : end]:
            raise JsonPathError("unterminated array")
        text = self._text[self._position + 1 : end]
        self._position = end + 1
        text = ":" if text == "*" else text
        if "," in text:
            return (_union([self._nested(f"[{each.strip(' ')}]") for each in text.split(",")]),)
        key = _DICT_KEY.fullmatch(text)
        if key:
            return self._nested(f".{key[1]}")
        match = _SLICE.fullmatch(text)
        if match is None:
            raise JsonPathError(f"invalid array index {text}")
        return (_slice(match),)

    def _filter(self) -> Step:
        start, quote, begun, ended = self._position, "", False, False
        while True:
            char = self._peek()
            if char in ("", "\n"):
                raise JsonPathError("unterminated filter")
            self._position += 1
            if char in "\"'":
                if not begun:
                    begun, quote = True, char
                elif self._text[self._position - 2] != "\\" and char == quote:
                    ended = True
            elif char == ")" and begun == ended:
                break
        text = self._text[start : self._position - 1]
        if self._peek() != "]":
            raise JsonPathError("unclosed array expect ]")
        self._position += 1
        match = _FILTER.fullmatch(text)
        if match is None:
            return _Filter(self._nested(text), (), "")
        return _Filter(self._nested(match[1]), self._nested(match[3]), match[2])


def _slice(match: re.Match[str]) -> _Slice:
    def number(text: str | None) -> int | None:
        text = (text or "").removeprefix(":")
        if text == "-":
            raise JsonPathError("array index - is not a number")
        return int(text) if text else None

    start, end, step = number(match[1]), number(match[2]), number(match[3])
    single = not match[2]
    return _Slice(start, (start or 0) + 1 if single else end, step, single)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\"}


def _unescaped(text: str, quote: str) -> str:
    def read(match: re.Match[str]) -> str:
        char = match[1]
        if char in _ESCAPES or char == quote:
            return _ESCAPES.get(char, char)
        raise JsonPathError("invalid syntax")

    return re.sub(r"\\(.)", read, text) if "\\" in text else text
