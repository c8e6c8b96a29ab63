"""What is wrong with a text that is no expression, in the words of the ANTLR parser cel-go is made with.

Tokens come in; places and sentences go out. The grammar is walked with ANTLR's default strategy: at a token that does
not fit one is left out or put in if that helps, else the rule is given up and tokens are skipped to where one of the
rules around it can go on. Source: ANTLR 4 ``DefaultErrorStrategy``; cel-go ``parser/{parser.go,gen/CEL.g4}``, v0.26.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence

from anynode.cel.escaping import RESERVED
from anynode.cel.lexer import LexicalError, Token

_EPSILON = "epsilon"
_ORDER = (
    "EOF", "==", "!=", "in", "<", "<=", ">=", ">", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?",
    ":", "+", "*", "/", "%", "true", "false", "null", "NUM_FLOAT", "NUM_INT", "NUM_UINT", "STRING", "BYTES",
    "IDENTIFIER",
    "ESC_IDENTIFIER",
)  # fmt: skip
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}
_MOST_COMPLAINTS = 100
_MOST_RECOVERIES = 30

Set = frozenset[str]


def _set(*kinds: str) -> Set:
    return frozenset(kinds)


_FIRST = _set(
    "[", "{", "(", ".", "-", "!", "true", "false", "null", "NUM_FLOAT", "NUM_INT", "NUM_UINT", "STRING", "BYTES",
    "IDENTIFIER",
)  # fmt: skip
_PRIMARY = _FIRST - {"!"}
_RELATIONS = _set("<", "<=", ">=", ">", "==", "!=", "in")
_PRODUCTS = _set("*", "/", "%")
_SUMS = _set("+", "-")
_END = _set(_EPSILON)
_AFTER_RELATION = _RELATIONS | _END
_AFTER_CALC = _PRODUCTS | _SUMS | _END
_AFTER_MEMBER = _set(".", "[", _EPSILON)
_AFTER_ITEM = _set(",", _EPSILON)
_NAMES = _set("IDENTIFIER", "ESC_IDENTIFIER")
_RESERVED = re.compile(r"no viable alternative at input '.(true|false|null)'")


class _Wrong(Exception):
    """A rule cannot go on; ``state`` tells the place in the grammar."""

    def __init__(self, state: str, message: str, token: Token) -> None:
        super().__init__(message)
        self.state = state
        self.token = token


class _GivenUp(Exception):
    """Too many recoveries."""


def complaints(tokens: Sequence[Token], unreadable: Sequence[LexicalError], text: str) -> list[tuple[int, str]]:
    """Offsets and complaints; never empty."""
    found = [(each.offset, f"Syntax error: token recognition error at: '{each.text}'") for each in unreadable]
    for each in unreadable:  # what is no token is no part of what is quoted
        text = text[: each.offset] + "\0" * len(each.text) + text[each.offset + len(each.text) :]
    walk = _Walk(tokens, text)
    with contextlib.suppress(_GivenUp, RecursionError):
        walk.start()
    found.extend((offset, f"Syntax error: {message}") for offset, message in walk.found)
    found.extend(walk.reserved)
    if len(found) > _MOST_COMPLAINTS:
        last = found[_MOST_COMPLAINTS][0]
        found[_MOST_COMPLAINTS:] = [(last, f"Syntax error: More than {_MOST_COMPLAINTS} syntax errors")]
    return found or [(tokens[-1].offset, "Syntax error: mismatched input '<EOF>'")]


def _display(kinds: Set) -> str:
    ordered = sorted(kinds, key=_RANK.__getitem__)
    names = ["<EOF>" if kind == "EOF" else kind if kind.isupper() else f"'{kind}'" for kind in ordered]
    return names[0] if len(names) == 1 else f"{{{', '.join(names)}}}"


def _shown(text: str) -> str:
    escaped = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f"'{escaped}'"


class _Walk:
    def __init__(self, tokens: Sequence[Token], text: str) -> None:
        self.found: list[tuple[int, str]] = []
        self.reserved: list[tuple[int, str]] = []
        self._tokens = tokens
        self._text = text
        self._at = 0
        self._follows: list[Set] = []
        self._recovering = False
        self._last_at = -1
        self._last_states: set[str] = set()
        self._recoveries = 0

    # --- the strategy ----------------------------------------------------------------------------------------------

    def _kind(self, ahead: int = 1) -> str:
        return self._tokens[min(self._at + ahead - 1, len(self._tokens) - 1)].kind

    def _token(self) -> Token:
        return self._tokens[min(self._at, len(self._tokens) - 1)]

    def _consume(self) -> None:
        if self._at < len(self._tokens) - 1:
            self._at += 1

    def _expected(self, local: Set) -> Set:
        found = local
        for follow in reversed(self._follows):
            if _EPSILON not in found:
                break
            found = (found - _END) | follow
        return (found - _END) | {"EOF"} if _EPSILON in found else found

    def _report(self, token: Token, message: str) -> None:
        if self._recovering:
            return
        self._recovering = True
        if "no viable alternative" in message:
            message = _RESERVED.sub(r"mismatched input '\1' expecting IDENTIFIER", message)
        self.found.append((token.offset, message))

    def _attempt(self) -> None:
        self._recoveries += 1
        if self._recoveries > _MOST_RECOVERIES:
            self.found.append((self._token().offset, f"error recovery attempt limit exceeded: {_MOST_RECOVERIES}"))
            raise _GivenUp

    def _rule(self, body: Callable[[], None], follow: Set) -> None:
        """Run a rule; what comes after it is one of ``follow``."""
        self._follows.append(follow)
        try:
            body()
        except _Wrong as wrong:
            self._report(wrong.token, str(wrong))
            self._recover(wrong.state)
        finally:
            self._follows.pop()

    def _recover(self, state: str) -> None:
        self._attempt()
        if self._last_at == self._at and state in self._last_states:
            self._consume()
        if self._last_at != self._at:
            self._last_states = set()
        self._last_at = self._at
        self._last_states.add(state)
        following: set[str] = set().union(*self._follows) - {_EPSILON}
        while self._kind() != "EOF" and self._kind() not in following:
            self._consume()

    def _mismatch(self, state: str, local: Set) -> _Wrong:
        token = self._token()
        return _Wrong(
            state, f"mismatched input {_shown(token.text)} expecting {_display(self._expected(local))}", token
        )

    def _no_viable(self, state: str, width: int) -> _Wrong:
        """No alternative fits the next ``width`` tokens."""
        first, last = self._token(), self._tokens[min(self._at + width - 1, len(self._tokens) - 1)]
        end = last.offset if last.kind == "EOF" else last.offset + len(last.text)
        shown = "'<EOF>'" if first.kind == "EOF" else _shown(self._without_spaces(first.offset, end))
        return _Wrong(state, f"no viable alternative at input {shown}", last)

    def _without_spaces(self, start: int, end: int) -> str:
        quoted = self._text[start:end].replace("\0", "")
        return quoted.rstrip() if end >= len(self._text) else quoted

    def _delete(self, local: Set) -> bool:
        """Leave the next token out if the one after it fits."""
        expected = self._expected(local)
        if self._kind(2) not in expected or self._kind() == "EOF":
            return False
        token = self._token()
        self._report(token, f"extraneous input {_shown(token.text)} expecting {_display(expected)}")
        self._consume()
        self._recovering = False
        return True

    def _sync(self, state: str, local: Set) -> None:
        """Before a choice: the next token must begin one of its ways."""
        if self._recovering or self._kind() in local or _EPSILON in local:
            return
        if not self._delete(local):
            raise self._mismatch(state, local)

    def _match(self, state: str, kind: str, after: Set) -> None:
        if self._kind() == kind:
            self._consume()
            self._recovering = False
            return
        self._attempt()
        local = _set(kind)
        if self._delete(local):
            self._consume()
            return
        if self._kind() in self._expected(after):
            token = self._token()
            self._report(token, f"missing {_display(local)} at {_shown(token.text)}")
            return
        raise self._mismatch(state, local)

    # --- the grammar -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        try:
            self._rule(self._expr, _set("EOF"))
            self._match("start", "EOF", _set("EOF"))
        except _Wrong as wrong:
            self._report(wrong.token, str(wrong))

    def _expr(self) -> None:
        self._rule(self._or, _set("?", _EPSILON))
        if self._kind() == "?":
            self._take()
            self._rule(self._or, _set(":"))
            self._match("expr:", ":", _FIRST)
            self._rule(self._expr, _END)

    def _take(self) -> None:
        self._consume()
        self._recovering = False

    def _or(self) -> None:
        self._rule(self._and, _set("||", _EPSILON))
        while self._kind() == "||":
            self._take()
            self._rule(self._and, _set("||", _EPSILON))

    def _and(self) -> None:
        self._rule(self._relation, _set("&&", _EPSILON))
        while self._kind() == "&&":
            self._take()
            self._rule(self._relation, _set("&&", _EPSILON))

    def _relation(self) -> None:
        self._rule(lambda: self._calc(0), _AFTER_RELATION)
        while self._kind() in _RELATIONS:
            self._take()
            self._rule(lambda: self._rule(lambda: self._calc(0), _AFTER_RELATION), _AFTER_RELATION)

    def _calc(self, precedence: int) -> None:
        self._rule(self._unary, _AFTER_CALC)
        while True:
            if self._kind() in _PRODUCTS and precedence <= 2:
                self._take()
                self._rule(lambda: self._calc(3), _AFTER_CALC)
            elif self._kind() in _SUMS and precedence <= 1:
                self._take()
                self._rule(lambda: self._calc(2), _AFTER_CALC)
            else:
                return

    def _unary(self) -> None:
        self._sync("unary", _FIRST)
        kind = self._kind()
        if kind == "-" and self._kind(2) not in ("NUM_INT", "NUM_FLOAT"):
            if self._kind(2) not in _PRIMARY:
                raise self._no_viable("unary", 2)
            while self._kind() == "-" and self._kind(2) not in ("NUM_INT", "NUM_FLOAT"):
                self._take()
        elif kind == "!":
            while self._kind() == "!":
                self._take()
                self._unwanted(_PRIMARY | {"!"})
        elif kind not in _FIRST:
            raise self._no_viable("unary", 1)
        self._rule(self._member, _END)

    def _unwanted(self, local: Set) -> None:
        """At the end of a round of a loop: what cannot follow is skipped."""
        if self._recovering or self._kind() in local:
            return
        expected = self._expected(local)
        token = self._token()
        self._report(token, f"extraneous input {_shown(token.text)} expecting {_display(expected)}")
        following: set[str] = set().union(*self._follows, expected) - {_EPSILON}
        while self._kind() != "EOF" and self._kind() not in following:
            self._consume()

    def _member(self) -> None:
        self._rule(self._primary, _AFTER_MEMBER)
        while True:
            if self._kind() == "[":
                self._take()
                self._sync("index", _FIRST | {"?"})
                if self._kind() == "?":
                    self._take()
                self._rule(self._expr, _set("]"))
                self._match("index]", "]", _AFTER_MEMBER)
            elif self._kind() == ".":
                self._selected()
            else:
                return

    def _selected(self) -> None:
        following = self._kind(2)
        if following == "IDENTIFIER" and self._kind(3) == "(":
            self._take()
            self._take()
            self._arguments(_AFTER_MEMBER)
            return
        if following not in _NAMES and following != "?":
            raise self._no_viable("member", 2)
        self._take()
        if self._kind() == "?":
            self._take()
        self._rule(self._name, _AFTER_MEMBER)

    def _name(self) -> None:
        self._sync("escapeIdent", _NAMES)
        if self._kind() not in _NAMES:
            raise self._no_viable("escapeIdent", 1)
        self._take()

    def _arguments(self, after: Set) -> None:
        self._take()
        self._sync("arguments", _FIRST | {")"})
        if self._kind() in _FIRST:
            self._rule(self._expressions, _set(")"))
        self._match("arguments)", ")", after)

    def _expressions(self) -> None:
        self._rule(self._expr, _AFTER_ITEM)
        while self._kind() == ",":
            self._take()
            self._rule(self._expr, _AFTER_ITEM)

    def _primary(self) -> None:
        self._sync("primary", _PRIMARY)
        kind = self._kind()
        if kind in (".", "IDENTIFIER"):
            self._named()
        elif kind == "(":
            self._take()
            self._rule(self._expr, _set(")"))
            self._match("nested)", ")", _END)
        elif kind == "[":
            self._list()
        elif kind == "{":
            self._map()
        elif kind in _PRIMARY:
            if kind == "-":
                self._take()
            self._take()
        else:
            raise self._no_viable("primary", 1)

    def _named(self) -> None:
        ahead = 1
        if self._kind() == ".":
            if self._kind(2) != "IDENTIFIER":
                raise self._no_viable("primary", 2)
            ahead = 2
        name, at = self._tokens[self._at + ahead - 1].text, self._token().offset
        if self._kind(ahead + 1) == "(":
            for _ in range(ahead):
                self._take()
            self._note(name, at)
            self._arguments(_END)
            return
        last = ahead
        while self._kind(last + 1) == "." and self._kind(last + 2) == "IDENTIFIER":
            last += 2
        if self._kind(last + 1) != "{":
            self._note(name, at)
            for _ in range(ahead):
                self._take()
            return
        for _ in range(last + 1):
            self._take()
        self._sync("message", _set("?", "IDENTIFIER", "ESC_IDENTIFIER", ",", "}"))
        if self._kind() in _NAMES or self._kind() == "?":
            self._rule(self._fields, _set(",", "}"))
        self._closed("}", "message")

    def _note(self, name: str, at: int) -> None:
        if name in RESERVED:
            self.reserved.append((at, f"reserved identifier: {name}"))

    def _closed(self, kind: str, state: str) -> None:
        self._sync(f"{state},", _set(",", kind))
        if self._kind() == ",":
            self._take()
        self._match(f"{state}{kind}", kind, _END)

    def _fields(self) -> None:
        while True:
            self._rule(self._field, _set(":"))
            self._match("field:", ":", _FIRST)
            self._rule(self._expr, _AFTER_ITEM)
            if self._kind() != "," or self._kind(2) not in _NAMES | {"?"}:
                return
            self._take()

    def _field(self) -> None:
        self._sync("optField", _NAMES | {"?"})
        if self._kind() == "?":
            self._take()
        self._rule(self._name, _END)

    def _list(self) -> None:
        self._take()
        self._sync("list", _FIRST | {"?", ",", "]"})
        if self._kind() in _FIRST | {"?"}:
            self._rule(self._elements, _set(",", "]"))
        self._closed("]", "list")

    def _elements(self) -> None:
        self._rule(self._optional, _AFTER_ITEM)
        while self._kind() == "," and self._kind(2) in _FIRST | {"?"}:
            self._take()
            self._rule(self._optional, _AFTER_ITEM)

    def _optional(self) -> None:
        self._sync("optExpr", _FIRST | {"?"})
        if self._kind() == "?":
            self._take()
        self._rule(self._expr, _END)

    def _map(self) -> None:
        self._take()
        self._sync("map", _FIRST | {"?", ",", "}"})
        if self._kind() in _FIRST | {"?"}:
            self._rule(self._pairs, _set(",", "}"))
        self._closed("}", "map")

    def _pairs(self) -> None:
        while True:
            self._rule(self._optional, _set(":"))
            self._match("pair:", ":", _FIRST)
            self._rule(self._expr, _AFTER_ITEM)
            if self._kind() != "," or self._kind(2) not in _FIRST | {"?"}:
                return
            self._take()
