"""Text made into a tree, macros expanded.

Text comes in; the tree comes out, or ``CelSyntaxError`` with every complaint. The straight grammar is read here; a text
that is no expression is read again by ``syntax_errors``, which words the complaints as cel-go's parser does. Source:
cel-go ``parser/{parser,helper}.go``, ``parser/gen/CEL.g4``, v0.26.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping

from anynode.cel import syntax_errors
from anynode.cel.errors import CelSyntaxError, Issue
from anynode.cel.escaping import RESERVED
from anynode.cel.lexer import Token, UnescapeError, bytes_value, string_value, tokens_of
from anynode.cel.macros import Macro, MacroError, MacroKey
from anynode.cel.syntax import Call, Entry, Ident, ListNode, Literal, MapNode, Node, Select, Struct
from anynode.cel.values import Uint

_RELATIONS = {"<": "_<_", "<=": "_<=_", ">=": "_>=_", ">": "_>_", "==": "_==_", "!=": "_!=_", "in": "@in"}
_SUMS = {"+": "_+_", "-": "_-_"}
_PRODUCTS = {"*": "_*_", "/": "_/_", "%": "_%_"}
_MOST_CODE_POINTS = 100_000
_MOST_DEPTH = 250


class Source:
    """A text and where its lines begin."""

    __slots__ = ("starts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0]
        self.starts += [at + 1 for at, letter in enumerate(text) if letter == "\n"]

    def issue(self, offset: int, message: str) -> Issue:
        """A complaint at a code point; below zero: at no place."""
        if offset < 0:
            return Issue(-1, -1, message)
        if not self.text:
            return Issue(1, -1, message)
        line = bisect.bisect_right(self.starts, offset)
        return Issue(line, offset - self.starts[line - 1], message)


def parse(text: str, macros: Mapping[MacroKey, Macro]) -> tuple[Node, Source]:
    """The tree of ``text``; raises ``CelSyntaxError``."""
    source = Source(text)
    if len(text) > _MOST_CODE_POINTS:
        complaint = f"expression code point size exceeds limit: size: {len(text)}, limit {_MOST_CODE_POINTS}"
        raise CelSyntaxError(text, [Issue(-1, -1, complaint)])
    tokens, unreadable = tokens_of(text)
    parser = _Parser(tokens, macros)
    try:
        tree = None if unreadable else parser.start()
    except _Stuck:
        tree = None
    except (RecursionError, _TooDeep) as error:
        deep = str(error) if isinstance(error, _TooDeep) else f"expression recursion limit exceeded: {_MOST_DEPTH}"
        raise CelSyntaxError(text, [Issue(-1, -1, deep)]) from None
    if tree is None:
        found = syntax_errors.complaints(tokens, unreadable, text)
        raise CelSyntaxError(text, [source.issue(offset, message) for offset, message in found])
    if parser.complaints:
        raise CelSyntaxError(text, [source.issue(offset, message) for offset, message in parser.complaints])
    return tree, source


class _Stuck(Exception):
    """The next token fits nowhere."""


class _TooDeep(Exception):
    """More nested than cel-go reads."""


class _Parser:
    """One pass over the tokens, by recursive descent."""

    def __init__(self, tokens: list[Token], macros: Mapping[MacroKey, Macro]) -> None:
        self.complaints: list[tuple[int, str]] = []
        self._tokens = tokens
        self._at = 0
        self._kind = tokens[0].kind
        self._macros = macros
        self._depth = 0

    def start(self) -> Node:
        tree = self._expression()
        if self._kind != "EOF":
            raise _Stuck
        return tree

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        self._kind = self._tokens[self._at].kind if self._at < len(self._tokens) else "EOF"
        return token

    def _expect(self, kind: str) -> Token:
        if self._kind != kind:
            raise _Stuck
        return self._next()

    def _complain(self, offset: int, message: str) -> Node:
        self.complaints.append((offset, message))
        return Node(offset)

    # --- operators -------------------------------------------------------------------------------------------------

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise _TooDeep(f"expression recursion limit exceeded: {_MOST_DEPTH}")
        result = self._logic("||")
        if self._kind == "?":
            at = self._next().offset
            if_true = self._logic("||")
            self._expect(":")
            result = Call(at, "_?_:_", [result, if_true, self._expression()])
        self._depth -= 1
        return result

    def _logic(self, operator: str) -> Node:
        """Terms joined by one logical operator, as a balanced tree."""
        first = self._logic("&&") if operator == "||" else self._relation()
        if self._kind != operator:
            return first
        terms, offsets = [first], []
        while self._kind == operator:
            offsets.append(self._next().offset)
            terms.append(self._logic("&&") if operator == "||" else self._relation())
        return _balanced(f"_{operator}_", terms, offsets, 0, len(offsets) - 1)

    def _relation(self) -> Node:
        left = self._sum()
        chain = 0
        while (name := _RELATIONS.get(self._kind)) is not None:
            chain = self._longer(chain)
            at = self._next().offset
            left = Call(at, name, [left, self._sum()])
        return left

    def _sum(self) -> Node:
        left = self._product()
        chain = 0
        while (name := _SUMS.get(self._kind)) is not None:
            chain = self._longer(chain)
            at = self._next().offset
            left = Call(at, name, [left, self._product()])
        return left

    def _product(self) -> Node:
        left = self._unary()
        chain = 0
        while (name := _PRODUCTS.get(self._kind)) is not None:
            chain = self._longer(chain)
            at = self._next().offset
            left = Call(at, name, [left, self._unary()])
        return left

    def _longer(self, chain: int) -> int:
        if chain >= _MOST_DEPTH:
            raise _TooDeep("max recursion depth exceeded")
        return chain + 1

    def _unary(self) -> Node:
        kind = self._kind
        if kind != "!" and kind != "-":
            return self._member()
        if kind == "-" and self._tokens[self._at + 1].kind in ("NUM_INT", "NUM_FLOAT"):
            return self._member()
        at = self._next().offset
        count = 1
        while self._kind == kind:
            self._next()
            count += 1
        operand = self._member()
        return operand if count % 2 == 0 else Call(at, f"{kind}_", [operand])

    # --- members ---------------------------------------------------------------------------------------------------

    def _member(self) -> Node:
        result = self._primary()
        chain = 0
        while True:
            if self._kind == ".":
                dot = self._next().offset
                if self._kind == "?":
                    self._next()
                    at, field = self._field_name()
                    result = Call(dot, "_?._", [result, Literal(at, field)])
                elif self._kind == "IDENTIFIER" and self._tokens[self._at + 1].kind == "(":
                    function = self._next().text
                    at = self._next().offset
                    result = self._called(at, function, result, self._arguments())
                else:
                    result = Select(dot, result, self._field_name()[1])
            elif self._kind == "[":
                at = self._next().offset
                function = "_[_]"
                if self._kind == "?":
                    self._next()
                    function = "_[?_]"
                index = self._expression()
                self._expect("]")
                result = Call(at, function, [result, index])
            else:
                return result
            chain = self._longer(chain)

    def _field_name(self) -> tuple[int, str]:
        if self._kind == "ESC_IDENTIFIER":
            token = self._next()
            self._complain(token.offset, "unsupported syntax: '`'")
            return token.offset, token.text
        token = self._expect("IDENTIFIER")
        return token.offset, token.text

    def _arguments(self) -> list[Node]:
        args: list[Node] = []
        if self._kind != ")":
            args.append(self._expression())
            while self._kind == ",":
                self._next()
                args.append(self._expression())
        self._expect(")")
        return args

    def _called(self, at: int, function: str, target: Node | None, args: list[Node]) -> Node:
        macro = self._macros.get((function, len(args), target is not None))
        if macro is not None:
            try:
                expanded = macro(at, target, args)
            except MacroError as error:
                return self._complain(error.offset, str(error))
            if expanded is not None:
                return expanded
        return Call(at, function, args, target)

    # --- primaries -------------------------------------------------------------------------------------------------

    def _primary(self) -> Node:
        kind = self._kind
        if kind == "IDENTIFIER" or kind == ".":
            return self._named()
        if kind == "STRING" or kind == "BYTES":
            return self._text()
        if kind.startswith("NUM_") or kind == "-":
            return self._number()
        if kind == "true" or kind == "false":
            return Literal(self._next().offset, kind == "true")
        if kind == "null":
            return Literal(self._next().offset, None)
        if kind == "(":
            self._next()
            result = self._expression()
            self._expect(")")
            return result
        if kind == "[":
            return self._list()
        if kind == "{":
            return self._map()
        raise _Stuck

    def _named(self) -> Node:
        start = self._tokens[self._at].offset
        dot = ""
        if self._kind == ".":
            self._next()
            dot = "."
        token = self._expect("IDENTIFIER")
        if self._kind == "(":
            at = self._next().offset
            args = self._arguments()
            if token.text in RESERVED:
                return self._complain(start, f"reserved identifier: {token.text}")
            return self._called(at, dot + token.text, None, args)
        if self._kind in ("{", ".") and (struct := self._struct(dot + token.text)) is not None:
            return struct
        if token.text in RESERVED:
            return self._complain(start, f"reserved identifier: {token.text}")
        return Ident(token.offset, dot + token.text)

    def _struct(self, name: str) -> Node | None:
        """``a.b.C{...}``, looked ahead for: only the brace tells it from a selection."""
        at = self._at
        tokens = self._tokens
        while tokens[at].kind == "." and tokens[at + 1].kind == "IDENTIFIER":
            name += f".{tokens[at + 1].text}"
            at += 2
        if tokens[at].kind != "{":
            return None
        self._at = at
        brace = self._next().offset
        entries: list[Entry] = []
        if self._kind == ",":
            self._next()
            self._expect("}")
            return Struct(brace, name, entries)
        while self._kind != "}":
            optional = self._question()
            field = self._field_name()[1]
            colon = self._expect(":").offset
            entries.append(Entry(colon, None, field, self._expression(), optional=optional))
            if not self._comma():
                break
        self._expect("}")
        return Struct(brace, name, entries)

    def _question(self) -> bool:
        if self._kind != "?":
            return False
        self._next()
        return True

    def _comma(self) -> bool:
        if self._kind != ",":
            return False
        self._next()
        return True

    def _list(self) -> Node:
        at = self._next().offset
        elements: list[Node] = []
        optionals: set[int] = set()
        if self._kind == ",":
            self._next()
        else:
            while self._kind != "]":
                if self._question():
                    optionals.add(len(elements))
                elements.append(self._expression())
                if not self._comma():
                    break
        self._expect("]")
        return ListNode(at, elements, frozenset(optionals))

    def _map(self) -> Node:
        at = self._next().offset
        entries: list[Entry] = []
        if self._kind == ",":
            self._next()
        else:
            while self._kind != "}":
                optional = self._question()
                key = self._expression()
                colon = self._expect(":").offset
                entries.append(Entry(colon, key, "", self._expression(), optional=optional))
                if not self._comma():
                    break
        self._expect("}")
        return MapNode(at, entries)

    def _text(self) -> Node:
        token = self._next()
        try:
            if token.kind == "STRING":
                return Literal(token.offset, string_value(token.text))
            return Literal(token.offset, bytes_value(token.text[1:]))
        except UnescapeError as error:
            return self._complain(token.offset, str(error))

    def _number(self) -> Node:
        start = self._tokens[self._at].offset
        sign = ""
        if self._kind == "-":
            self._next()
            sign = "-"
        token = self._next()
        text = token.text
        if token.kind == "NUM_FLOAT":
            value = float(sign + text)
            if value in (float("inf"), float("-inf")):
                return self._complain(start, "invalid double literal")
            return Literal(start, value)
        if token.kind == "NUM_UINT" and not sign:
            number = _integer(text[:-1])
            if number >= 2**64:
                return self._complain(start, "invalid uint literal")
            return Literal(start, Uint(number))
        if token.kind != "NUM_INT":
            raise _Stuck
        number = -_integer(text) if sign else _integer(text)
        if not -(2**63) <= number < 2**63:
            return self._complain(start, "invalid int literal")
        return Literal(start, number)


def _integer(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:], 16)
    return int(text) if len(text) < 40 else 2**64  # longer ones are out of range: never converted


def _balanced(function: str, terms: list[Node], offsets: list[int], low: int, high: int) -> Node:
    middle = (low + high + 1) // 2
    left = terms[middle] if middle == low else _balanced(function, terms, offsets, low, middle - 1)
    right = terms[middle + 1] if middle == high else _balanced(function, terms, offsets, middle + 1, high)
    return Call(offsets[middle], function, [left, right])
