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

_OR, _AND, _RELATION, _SUM, _PRODUCT = range(1, 6)
_BINARY = {
    "||": (_OR, "_||_"), "&&": (_AND, "_&&_"), "<": (_RELATION, "_<_"), "<=": (_RELATION, "_<=_"),
    ">=": (_RELATION, "_>=_"), ">": (_RELATION, "_>_"), "==": (_RELATION, "_==_"), "!=": (_RELATION, "_!=_"),
    "in": (_RELATION, "@in"), "+": (_SUM, "_+_"), "-": (_SUM, "_-_"), "*": (_PRODUCT, "_*_"), "/": (_PRODUCT, "_/_"),
    "%": (_PRODUCT, "_%_"),
}  # fmt: skip
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
        result = self._operators(_OR)
        if self._kind == "?":
            at = self._next().offset
            if_true = self._operators(_OR)
            self._expect(":")
            result = Call(at, "_?_:_", [result, if_true, self._expression()])
        self._depth -= 1
        return result

    def _operators(self, least: int) -> Node:
        """Operands joined by operators that bind as tightly as ``least`` or more."""
        left = self._operand()
        chain = 0
        while (found := _BINARY.get(self._kind)) is not None and found[0] >= least:
            precedence, name = found
            if precedence <= _AND:
                left = self._logic(left, precedence, name)
                continue
            chain = self._longer(chain)
            at = self._next().offset
            left = Call(at, name, [left, self._operators(precedence + 1)])
        return left

    def _logic(self, first: Node, precedence: int, name: str) -> Node:
        """Terms joined by one logical operator, as a balanced tree."""
        terms, offsets = [first], []
        operator = self._kind
        while self._kind == operator:
            offsets.append(self._next().offset)
            terms.append(self._operators(precedence + 1))
        return _balanced(name, terms, offsets, 0, len(offsets) - 1)

    def _longer(self, chain: int) -> int:
        if chain >= _MOST_DEPTH:
            raise _TooDeep("max recursion depth exceeded")
        return chain + 1

    # --- members ------------------------------------------------------------------------------------------------------

    def _operand(self) -> Node:
        """A primary with its signs and everything selected from it; one frame, as parentheses may nest deeply."""
        sign = self._kind
        at = count = 0
        if sign == "!" or (sign == "-" and self._tokens[self._at + 1].kind not in ("NUM_INT", "NUM_FLOAT")):
            at = self._next().offset
            count = 1
            while self._kind == sign:
                if sign == "-" and self._tokens[self._at + 1].kind in ("NUM_INT", "NUM_FLOAT"):
                    count += 1
                    self._next()
                    break
                self._next()
                count += 1
        if self._kind == "(":
            self._next()
            result = self._expression()
            self._expect(")")
        else:
            result = self._primary()
        chain = 0
        while self._kind == "." or self._kind == "[":
            result = self._selected(result)
            chain = self._longer(chain)
        return result if count % 2 == 0 else Call(at, f"{sign}_", [result])

    def _selected(self, operand: Node) -> Node:
        """The operand with one selection, call or index."""
        at = self._tokens[self._at].offset
        if self._next().kind == "[":
            function = "_[?_]" if self._question() else "_[_]"
            index = self._expression()
            self._expect("]")
            return Call(at, function, [operand, index])
        if self._question():
            field_at, field = self._field_name()
            return Call(at, "_?._", [operand, Literal(field_at, field)])
        if self._kind == "IDENTIFIER" and self._tokens[self._at + 1].kind == "(":
            function = self._next().text
            at = self._next().offset
            return self._called(at, function, operand, self._arguments())
        return Select(at, operand, self._field_name()[1])

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
