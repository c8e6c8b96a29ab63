"""Label and field selectors: read, printed and compiled into plain functions that match.

Text or a ``LabelSelector`` comes in; ``matches(labels)`` and a canonical text go out. A wrong selector raises
``SelectorError`` with upstream's sentence. Source: apimachinery ``pkg/labels/selector.go``, ``pkg/fields/selector.go``,
``pkg/apis/meta/v1/helpers.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from anynode.api import names
from anynode.api.remembering import remembered

Matcher = Callable[[Mapping[str, str]], bool]

_BINARY = ("in", "notin", "=", "==", "!=", "gt", "lt")
_WORDS = {
    "In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt",
}  # fmt: skip
_LABEL_SELECTOR_WORDS = ("In", "NotIn", "Exists", "DoesNotExist")


class SelectorError(ValueError):
    """A selector that cannot be read; its text is upstream's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one key; ``operator`` is one of =, ==, !=, in, notin, exists, !, gt, lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.operator == "exists":
            return self.key
        if self.operator == "!":
            return f"!{self.key}"
        listed = ",".join(sorted(self.values))
        if self.operator in ("in", "notin"):
            return f"{self.key} {self.operator} ({listed})"
        return f"{self.key}{ {'gt': '>', 'lt': '<'}.get(self.operator, self.operator) }{listed}"


class LabelSelector:
    """Requirements that must all hold. No requirement matches everything."""

    __slots__ = ("matches", "requirements")

    def __init__(self, requirements: Iterable[Requirement]) -> None:
        self.requirements = tuple(sorted(requirements, key=lambda each: each.key))
        self.matches: Matcher = _compiled(self.requirements)

    @property
    def empty(self) -> bool:
        return not self.requirements

    def required_value(self, key: str) -> str | None:
        """The one value ``key`` must have to match, if the selector names exactly one."""
        for each in self.requirements:
            if each.key == key:
                return each.values[0] if each.operator in ("=", "==", "in") and len(each.values) == 1 else None
        return None

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.requirements)

    def __repr__(self) -> str:
        return f"LabelSelector({str(self)!r})"


class _Nothing(LabelSelector):
    """Matches no object: what an absent ``LabelSelector`` means."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(())
        self.matches = _never

    @property
    def empty(self) -> bool:
        return False


def _never(_: Mapping[str, str]) -> bool:
    return False


def _always(_: Mapping[str, str]) -> bool:
    return True


def _integer(text: str) -> int | None:
    """As Go's ``ParseInt(text, 10, 64)``; None where that fails."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _test(requirement: Requirement) -> Matcher:
    key, values = requirement.key, frozenset(requirement.values)
    if requirement.operator in ("=", "==", "in"):
        if len(values) == 1:
            (only,) = values
            return lambda labels: labels.get(key) == only
        return lambda labels: labels.get(key) in values
    if requirement.operator in ("!=", "notin"):
        return lambda labels: labels.get(key) not in values
    if requirement.operator == "exists":
        return lambda labels: key in labels
    if requirement.operator == "!":
        return lambda labels: key not in labels
    bound, greater = _integer(requirement.values[0]) or 0, requirement.operator == "gt"

    def compare(labels: Mapping[str, str]) -> bool:
        found = _integer(labels.get(key, ""))
        return found is not None and (found > bound if greater else found < bound)

    return compare


def _compiled(requirements: Sequence[Requirement]) -> Matcher:
    tests = tuple(_test(each) for each in requirements)
    if not tests:
        return _always
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda labels: first(labels) and second(labels)
    return lambda labels: all(test(labels) for test in tests)


EVERYTHING = LabelSelector(())
NOTHING: LabelSelector = _Nothing()


def requirement(key: str, operator: str, values: Sequence[str], path: str = "") -> Requirement:
    """A checked requirement; ``path`` stands before ``key`` and ``values`` in messages."""
    prefix = f"{path}." if path else ""
    errors = _key_errors(key, f"{prefix}key")
    at = f"{prefix}values"
    if operator in ("in", "notin") and not values:
        errors.append(f"{at}: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    elif operator in ("=", "==", "!=") and len(values) != 1:
        errors.append(
            f"{at}: Invalid value: {json.dumps(list(values))}: exact-match compatibility requires one single value"
        )
    elif operator in ("exists", "!") and values:
        shown = json.dumps(list(values), separators=(",", ":"))
        errors.append(f"{at}: Invalid value: {shown}: values set must be empty for exists and does not exist")
    elif operator in ("gt", "lt"):
        if len(values) != 1:
            shown = json.dumps(list(values), separators=(",", ":"))
            errors.append(f"{at}: Invalid value: {shown}: for 'Gt', 'Lt' operators, exactly one value is required")
        errors.extend(
            f"{at}[{index}]: Invalid value: {json.dumps(value)}: for 'Gt', 'Lt' operators, the value must be an integer"
            for index, value in enumerate(values)
            if _integer(value) is None
        )
    for index, value in enumerate(values):
        complaints = names.label_value(value)
        if complaints:
            shown = json.dumps(value, ensure_ascii=False)
            errors.append(f"{at}[{index}][{key}]: Invalid value: {shown}: {'; '.join(complaints)}")
    if errors:
        raise SelectorError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return Requirement(key, operator, tuple(values))


def _key_errors(key: str, path: str) -> list[str]:
    complaints = names.label_key(key)
    if not complaints:
        return []
    return [f"{path}: Invalid value: {json.dumps(key, ensure_ascii=False)}: {'; '.join(complaints)}"]


# The written form


_SYMBOLS = {")": ")", ",": ",", "!": "!", "==": "==", "=": "=", ">": "gt", "<": "lt", "!=": "!=", "(": "("}
_SPECIAL = frozenset("=!(),><")
_SPACE = frozenset(" \t\r\n")
_END, _WORD, _BAD = "end", "word", "error"


def _scan(text: str) -> list[tuple[str, str]]:
    """``(token, literal)`` pairs, the last one ``_END``."""
    items: list[tuple[str, str]] = []
    position, end = 0, len(text)
    while True:
        while position < end and text[position] in _SPACE:
            position += 1
        if position >= end or text[position] == "\0":
            items.append((_END, ""))
            return items
        start = position
        if text[position] in _SPECIAL:
            position += 1
            while position < end and text[position] in _SPECIAL and text[start : position + 1] in _SYMBOLS:
                position += 1
            literal = text[start:position]
            items.append((_SYMBOLS.get(literal, _BAD), literal))
            continue
        while position < end and text[position] not in _SPECIAL and text[position] not in _SPACE:
            position += 1
        literal = text[start:position]
        items.append((literal if literal in ("in", "notin") else _WORD, literal))


class _Parser:
    """Reads one selector; ``in`` and ``notin`` are words wherever a key or a value is expected."""

    def __init__(self, text: str) -> None:
        self._items = _scan(text)
        self._position = 0

    def _peek(self) -> tuple[str, str]:
        token, literal = self._items[min(self._position, len(self._items) - 1)]
        return (_WORD if token in ("in", "notin") else token), literal

    def _take(self, *, operator: bool = False) -> tuple[str, str]:
        found = self._items[min(self._position, len(self._items) - 1)] if operator else self._peek()
        self._position += 1
        return found

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            token, literal = self._peek()
            if token == _END:
                return found
            if token not in (_WORD, "!"):
                raise SelectorError(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            token, literal = self._take()
            if token == _END:
                return found
            if token != ",":
                raise SelectorError(f"found '{literal}', expected: ',' or 'end of string'")
            token, literal = self._peek()
            if token not in (_WORD, "!"):
                raise SelectorError(f"found '{literal}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        token, key = self._take()
        absent = token == "!"
        if absent:
            token, key = self._take()
        if token != _WORD:
            raise SelectorError(f"found '{key}', expected: identifier")
        errors = _key_errors(key, "<nil>")
        if errors:
            raise SelectorError(errors[0])
        if absent or self._peek()[0] in (_END, ","):
            return requirement(key, "!" if absent else "exists", ())
        operator, literal = self._take(operator=True)
        if operator not in _BINARY:
            raise SelectorError(f"found '{literal}', expected: {', '.join(_BINARY)}")
        values = self._values() if operator in ("in", "notin") else [self._exact_value()]
        return requirement(key, operator, sorted(set(values)))

    def _exact_value(self) -> str:
        if self._peek()[0] in (_END, ","):
            return ""
        token, literal = self._take()
        if token != _WORD:
            raise SelectorError(f"found '{literal}', expected: identifier")
        return literal

    def _values(self) -> list[str]:
        token, literal = self._take()
        if token != "(":
            raise SelectorError(f"found '{literal}' expected: '('")
        token, literal = self._peek()
        if token == ")":
            self._take()
            return [""]
        if token not in (_WORD, ","):
            raise SelectorError(f"found '{literal}', expected: ',', ')' or identifier")
        found = self._listed()
        self._take()
        return found

    def _listed(self) -> list[str]:
        """The values up to, not including, the closing parenthesis."""
        found: list[str] = []
        while True:
            token, literal = self._take()
            if token == _WORD:
                found.append(literal)
                token, literal = self._peek()
                if token == ")":
                    return found
                if token != ",":
                    raise SelectorError(f"found '{literal}', expected: ',' or ')'")
            elif token == ",":
                if not found:
                    found.append("")
                token = self._peek()[0]
                if token in (")", ","):
                    found.append("")
                if token == ")":
                    return found
            else:
                raise SelectorError(f"found '{literal}', expected: ',', or identifier")


@remembered(1024)
def parse_labels(text: str) -> LabelSelector:
    """The label selector a ``labelSelector`` parameter means; raises ``SelectorError``."""
    return LabelSelector(_Parser(text).parse()) if text else EVERYTHING


def of_label_selector(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A ``metav1.LabelSelector``, compiled: None matches nothing, an empty one everything; raises ``SelectorError``."""
    if selector is None:
        return NOTHING
    found = [requirement(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        word = each.get("operator", "")
        if word not in _LABEL_SELECTOR_WORDS:
            raise SelectorError(f"{json.dumps(word)} is not a valid label selector operator")
        found.append(requirement(each.get("key", ""), _WORDS[word], tuple(each.get("values") or ())))
    return LabelSelector(found)


def of_labels(labels: Mapping[str, str] | None) -> LabelSelector:
    """A plain ``spec.selector`` map (Service, ReplicationController), compiled; an empty one matches everything."""
    return LabelSelector(Requirement(key, "=", (value,)) for key, value in (labels or {}).items())


def of_expressions(expressions: Iterable[Mapping[str, Any]]) -> LabelSelector:
    """Node selector terms' ``matchExpressions`` (``Gt`` and ``Lt`` allowed), compiled; raises ``SelectorError``."""
    found = []
    for each in expressions:
        word = each.get("operator", "")
        if word not in _WORDS:
            raise SelectorError(f"{json.dumps(word)} is not a valid node selector operator")
        found.append(requirement(each.get("key", ""), _WORDS[word], tuple(each.get("values") or ())))
    return LabelSelector(found)


# Field selectors


@dataclasses.dataclass(frozen=True, slots=True)
class FieldTerm:
    field: str
    value: str
    equal: bool = True

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
        return f"{self.field}{'=' if self.equal else '!='}{escaped}"


class FieldSelector:
    """Terms that must all hold for ``fields`` (``"status.phase" -> text``; an absent field is the empty text)."""

    __slots__ = ("matches", "terms")

    def __init__(self, terms: Iterable[FieldTerm]) -> None:
        self.terms = tuple(terms)
        self.matches: Matcher = _compiled_terms(self.terms)

    @property
    def empty(self) -> bool:
        return not self.terms

    def required_value(self, field: str) -> str | None:
        """The value ``field`` must equal, if a term says so."""
        return next((each.value for each in self.terms if each.equal and each.field == field), None)

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.terms)

    def __repr__(self) -> str:
        return f"FieldSelector({str(self)!r})"


def _term_test(term: FieldTerm) -> Matcher:
    field, value = term.field, term.value
    if term.equal:
        return lambda fields: fields.get(field, "") == value
    return lambda fields: fields.get(field, "") != value


def _compiled_terms(terms: Sequence[FieldTerm]) -> Matcher:
    tests = tuple(_term_test(each) for each in terms)
    if not tests:
        return _always
    return tests[0] if len(tests) == 1 else lambda fields: all(test(fields) for test in tests)


def _split_terms(text: str) -> list[str]:
    terms, start, escaped = [], 0, False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            terms.append(text[start:index])
            start = index + 1
    return [*terms, text[start:]]


def _unescape(text: str) -> str:
    found, escaped = [], False
    for char in text:
        if escaped:
            if char not in "\\,=":
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{char}")
            found.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in ",=":
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(char)}")
        else:
            found.append(char)
    if escaped:
        raise SelectorError("invalid field selector: invalid escape sequence: \\")
    return "".join(found)


def _split_term(term: str) -> tuple[str, str, str] | None:
    for index in range(len(term)):
        for operator in ("!=", "==", "="):
            if term.startswith(operator, index):
                return term[:index], operator, term[index + len(operator) :]
    return None


@remembered(1024)
def parse_fields(text: str) -> FieldSelector:
    """The field selector a ``fieldSelector`` parameter means; raises ``SelectorError``.

    Whether a kind knows the fields is the caller's to check: see ``FieldSelector.terms``.
    """
    terms = []
    for part in sorted(_split_terms(text)):
        if not part:
            continue
        split = _split_term(part)
        if split is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, value = split
        terms.append(FieldTerm(field, _unescape(value), operator != "!="))
    return FieldSelector(terms)
