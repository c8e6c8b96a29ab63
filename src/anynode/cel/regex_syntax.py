"""Regular expressions as Go reads them: RE2's syntax, and what it refuses.

A pattern comes in; a tree of the few node types below goes out, or ``RegexError`` is raised with Go's sentence. Source:
Go ``regexp/syntax/{parse,perl_groups}.go``.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence

Ranges = tuple[tuple[int, int], ...]
MOST = sys.maxunicode
_MOST_REPEAT = 1000
_MOST_DEPTH = 200
_DIGIT: Ranges = ((48, 57),)
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_POSIX: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)), "alpha": ((65, 90), (97, 122)), "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)), "cntrl": ((0, 31), (127, 127)), "digit": _DIGIT, "graph": ((33, 126),),
    "lower": ((97, 122),), "print": ((32, 126),), "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)), "upper": ((65, 90),), "word": _WORD, "xdigit": ((48, 57), (65, 70), (97, 102)),
}  # fmt: skip
_SCRIPTS: dict[str, Ranges] = {
    "Latin": ((65, 90), (97, 122), (170, 170), (186, 186), (192, 214), (216, 246), (248, 696), (7680, 7935)),
    "Greek": ((880, 883), (885, 887), (890, 893), (895, 895), (900, 900), (902, 902), (904, 993), (7936, 8190)),
    "Cyrillic": ((1024, 1156), (1159, 1327), (7296, 7304), (11744, 11775), (42560, 42655)),
    "Hebrew": ((1425, 1479), (1488, 1514), (1519, 1524)), "Arabic": ((1536, 1540), (1542, 1791), (1872, 1919)),
    "Thai": ((3585, 3642), (3648, 3675)), "Hangul": ((4352, 4607), (12593, 12686), (44032, 55203)),
    "Hiragana": ((12353, 12438), (12445, 12447)), "Katakana": ((12449, 12538), (12541, 12543)),
    "Han": ((11904, 12019), (12293, 12293), (12295, 12295), (13312, 19903), (19968, 40959), (131072, 201546)),
}  # fmt: skip
_ESCAPES = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}


class RegexError(ValueError):
    """A wrong pattern; its text is Go's."""

    def __init__(self, code: str, piece: str) -> None:
        super().__init__(f"error parsing regexp: {code}: `{piece}`")


@dataclasses.dataclass(frozen=True, slots=True)
class Chars:
    """One character of some ranges."""

    ranges: Ranges


@dataclasses.dataclass(frozen=True, slots=True)
class Assertion:
    """``kind`` is one of ``\\A \\z ^ $ \\b \\B``; the middle two are those of lines."""

    kind: str


@dataclasses.dataclass(frozen=True, slots=True)
class Sequence_:
    parts: tuple[Tree, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[Tree, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Repeat:
    """``most`` is -1 where there is no limit."""

    part: Tree
    least: int
    most: int
    greedy: bool


Tree = Chars | Assertion | Sequence_ | Choice | Repeat


def parse(pattern: str) -> Tree:
    """The tree of a pattern; raises ``RegexError``."""
    parser = _Parser(pattern)
    tree = parser.choice(0)
    if parser.at < len(pattern):
        raise RegexError("unexpected )", pattern)
    if size_of(tree) > 20_000:
        raise RegexError("expression too large", "")
    return tree


def size_of(tree: Tree) -> int:
    """How many steps a machine for the tree has."""
    if isinstance(tree, Sequence_):
        return sum(map(size_of, tree.parts)) + 1
    if isinstance(tree, Choice):
        return sum(map(size_of, tree.options)) + len(tree.options)
    if isinstance(tree, Repeat):
        return size_of(tree.part) * max(tree.least, tree.most, 1) + 2
    return 1


def normalized(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The ranges sorted and merged."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def negated(ranges: Sequence[tuple[int, int]]) -> Ranges:
    found, at = [], 0
    for low, high in normalized(ranges):
        if low > at:
            found.append((at, low - 1))
        at = high + 1
    if at <= MOST:
        found.append((at, MOST))
    return tuple(found)


def _folded(ranges: Ranges) -> Ranges:
    """With the other case of every letter; ranges of thousands only by their ASCII part."""
    added: list[tuple[int, int]] = list(ranges)
    for low, high in ranges:
        for code in range(max(low, 65), min(high, 122) + 1):
            letter = chr(code)
            if letter.isalpha():
                added.append((ord(letter.swapcase()), ord(letter.swapcase())))
                if letter in "kK":
                    added.append((0x212A, 0x212A))
                if letter in "sS":
                    added.append((0x17F, 0x17F))
        if high - low < 1000:
            for code in range(max(low, 128), high + 1):
                added.extend(
                    (ord(each), ord(each)) for each in (chr(code).lower(), chr(code).upper()) if len(each) == 1
                )
    return normalized(added)


@functools.lru_cache(maxsize=64)
def _category(name: str) -> Ranges | None:
    if name in _SCRIPTS:
        return _SCRIPTS[name]
    if name == "Any":
        return ((0, MOST),)
    if not re.fullmatch(r"[CLMNPSZ][a-z]?", name) or name == "Cn":
        return None
    found: list[tuple[int, int]] = []
    for code in range(MOST + 1):
        category = unicodedata.category(chr(code))
        if category.startswith(name) and category != "Cn":
            if found and found[-1][1] == code - 1:
                found[-1] = (found[-1][0], code)
            else:
                found.append((code, code))
    return tuple(found) or None


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.fold = self.lines = self.dot_all = self.lazy = False

    def _peek(self, width: int = 1) -> str:
        return self.pattern[self.at : self.at + width]

    def choice(self, depth: int) -> Tree:
        if depth > _MOST_DEPTH:
            raise RegexError("expression nests too deeply", self.pattern)
        options = [self._sequence(depth)]
        while self._peek() == "|":
            self.at += 1
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, depth: int) -> Tree:
        parts: list[Tree] = []
        repeated_from = -1
        while self.at < len(self.pattern) and self._peek() not in "|)":
            start = self.at
            if self._peek() in "*+?" or (self._peek() == "{" and self._counts() is not None):
                self._repeat(parts, start, repeated_from)
                repeated_from = start if repeated_from < 0 else repeated_from
                continue
            repeated_from = -1
            if self._peek(2) == "\\Q":
                parts.extend(self._quoted())
                continue
            part = self._atom(depth)
            if part is not None:
                parts.append(part)
        return parts[0] if len(parts) == 1 else Sequence_(tuple(parts))

    def _counts(self) -> tuple[int, int, int] | None:
        found = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}", re.ASCII).match(self.pattern, self.at)
        if found is None or any(len(each or "") > 1 and (each or "")[0] == "0" for each in (found[1], found[3])):
            return None
        least = int(found[1][:8])
        most = least if found[2] is None else int(found[3][:8]) if found[3] else -1
        return least, most, found.end()

    def _repeat(self, parts: list[Tree], start: int, repeated_from: int) -> None:
        operator = self._peek()
        counts = self._counts() if operator == "{" else None
        if counts is not None:
            least, most, end = counts
        else:
            least, most = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}[operator]
            end = self.at + 1
        greedy = not self.lazy
        if self.pattern[end : end + 1] == "?":
            end += 1
            greedy = not greedy
        if not parts:
            raise RegexError("missing argument to repetition operator", self.pattern[start:end])
        if repeated_from >= 0:
            raise RegexError("invalid nested repetition operator", self.pattern[repeated_from:end])
        if counts is not None and (max(least, most) > _MOST_REPEAT or 0 <= most < least):
            raise RegexError("invalid repeat count", self.pattern[start:end])
        self.at = end
        made = Repeat(parts.pop(), least, most, greedy)
        if counts is not None and _repeats(made) > _MOST_REPEAT:
            raise RegexError("invalid repeat count", self.pattern[start:end])
        parts.append(made)

    def _atom(self, depth: int) -> Tree | None:
        letter = self._peek()
        if letter == "(":
            return self._group(depth)
        if letter == "[":
            return self._class()
        if letter == "\\":
            return self._escape()
        self.at += 1
        if letter == ".":
            return Chars(((0, MOST),) if self.dot_all else ((0, 9), (11, MOST)))
        if letter == "^":
            return Assertion("^" if self.lines else "\\A")
        if letter == "$":
            return Assertion("$" if self.lines else "\\z")
        return self._char(ord(letter))

    def _char(self, code: int) -> Chars:
        ranges: Ranges = ((code, code),)
        return Chars(_folded(ranges) if self.fold else ranges)

    def _group(self, depth: int) -> Tree | None:
        start = self.at
        before = (self.fold, self.lines, self.dot_all, self.lazy)
        self.at += 1
        if self._peek() == "?":
            left = len(self.pattern) - start
            if (self._peek(3) == "?P<" and left > 4) or (self._peek(2) == "?<" and left > 3):
                self._capture_name(start)
            elif self._flags(start):
                return None
        inner = self.choice(depth + 1)
        if self._peek() != ")":
            raise RegexError("missing closing )", self.pattern)
        self.at += 1
        self.fold, self.lines, self.dot_all, self.lazy = before
        return Sequence_((inner,))

    def _capture_name(self, start: int) -> None:
        found = re.compile(r"\(\?P?<([^>]*)>").match(self.pattern, start)
        if found is None:
            raise RegexError("invalid named capture", self.pattern[start:])
        if not re.fullmatch(r"\w+", found[1]):
            raise RegexError("invalid named capture", found[0])
        self.at = found.end()

    def _flags(self, start: int) -> bool:
        """Read ``(?flags)`` or ``(?flags:``; whether the group ended there."""
        self.at += 1
        sign, seen = True, False
        while self.at < len(self.pattern):
            letter = self._peek()
            self.at += 1
            if letter == "-" and sign:
                sign, seen = False, False
                continue
            if letter in ":)":
                if not sign and not seen:
                    break
                return letter == ")"
            if letter not in "imsU":
                break
            seen = True
            name = {"i": "fold", "m": "lines", "s": "dot_all", "U": "lazy"}[letter]
            setattr(self, name, sign)
        raise RegexError("invalid or unsupported Perl syntax", self.pattern[start : self.at])

    def _quoted(self) -> list[Tree]:
        """The characters of ``\\Q...\\E``."""
        end = self.pattern.find("\\E", self.at + 2)
        text = self.pattern[self.at + 2 : end if end >= 0 else len(self.pattern)]
        self.at = len(self.pattern) if end < 0 else end + 2
        return [self._char(ord(each)) for each in text]

    def _escape(self) -> Tree | None:
        start = self.at
        following = self._peek(2)[1:]
        if following in ("A", "z", "b", "B") and following:
            self.at += 2
            return Assertion("\\" + following)
        if following == "E":
            self.at += 2
            return None
        ranges = self._class_escape()
        if ranges is not None:
            return Chars(_folded(ranges) if self.fold else ranges)
        self.at = start
        return self._char(self._escaped_code())

    def _class_escape(self) -> Ranges | None:
        """``\\d`` and its like, ``\\pL``; None if it is another escape."""
        following = self._peek(2)[1:]
        if following and following in "dDsSwW":
            self.at += 2
            ranges = {"d": _DIGIT, "s": _SPACE, "w": _WORD}[following.lower()]
            return negated(ranges) if following.isupper() else ranges
        if not following or following not in "pP":
            return None
        found = re.compile(r"\\[pP](?:\{(\^?)([^}]*)\}|(.))", re.DOTALL).match(self.pattern, self.at)
        if found is None:
            raise RegexError("invalid character class range", self.pattern[self.at :])
        self.at = found.end()
        ranges_or_none = _category(found[2] if found[3] is None else found[3])
        if ranges_or_none is None:
            raise RegexError("invalid character class range", found[0])
        return negated(ranges_or_none) if (following == "P") != bool(found[1]) else ranges_or_none

    def _escaped_code(self) -> int:
        start = self.at
        self.at += 1
        if self.at >= len(self.pattern):
            raise RegexError("trailing backslash at end of expression", "")
        letter = self._peek()
        self.at += 1
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter in "01234567":
            found = re.compile(r"[0-7]{1,3}").match(self.pattern, self.at - 1)
            if found is not None and (letter == "0" or len(found[0]) > 1):
                self.at = found.end()
                return int(found[0], 8)
        elif letter == "x":
            found = re.compile(r"([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\}").match(self.pattern, self.at)
            if found is not None and int(found[1] or found[2], 16) <= MOST:
                self.at = found.end()
                return int(found[1] or found[2], 16)
            self._skip_hexadecimal()
        elif ord(letter) < 128 and not letter.isalnum():
            return ord(letter)
        raise RegexError("invalid escape sequence", self.pattern[start : self.at])

    def _skip_hexadecimal(self) -> None:
        """Go past what Go has read of a wrong ``\\x`` when it gives up."""
        if self._peek() != "{":
            self.at = min(self.at + 2, len(self.pattern))
            return
        self.at += 1
        code = 0
        while self.at < len(self.pattern):
            letter = self._peek()
            self.at += 1
            if letter not in "0123456789abcdefABCDEF":
                return
            code = code * 16 + int(letter, 16)
            if code > MOST:
                return

    def _class(self) -> Tree:
        start = self.at
        self.at += 1
        negative = self._peek() == "^"
        if negative:
            self.at += 1
        found: list[tuple[int, int]] = []
        first = True
        while first or self._peek() != "]":
            if self.at >= len(self.pattern):
                raise RegexError("missing closing ]", self.pattern[start:])
            first = False
            found.extend(self._class_part(start))
        self.at += 1
        ranges = normalized(found)
        if self.fold:
            ranges = _folded(ranges)
        return Chars(negated(ranges) if negative else ranges)

    def _class_part(self, start: int) -> Sequence[tuple[int, int]]:
        named = re.compile(r"\[:(\^?)([a-z]*):\]").match(self.pattern, self.at)
        if named is not None:
            if named[2] not in _POSIX:
                raise RegexError("invalid character class range", named[0])
            self.at = named.end()
            return negated(_POSIX[named[2]]) if named[1] else _POSIX[named[2]]
        at = self.at
        if self._peek() == "\\":
            ranges = self._class_escape()
            if ranges is not None:
                return ranges
        low = high = self._class_char(start)
        if self._peek() == "-" and self._peek(2)[1:] not in ("]", ""):
            self.at += 1
            high = self._class_char(start)
            if high < low:
                raise RegexError("invalid character class range", self.pattern[at : self.at])
        return ((low, high),)

    def _class_char(self, start: int) -> int:
        if self.at >= len(self.pattern):
            raise RegexError("missing closing ]", self.pattern[start:])
        if self._peek() == "\\":
            return self._escaped_code()
        self.at += 1
        return ord(self.pattern[self.at - 1])


def _repeats(tree: Tree) -> int:
    """How often counted repeats multiply, at most."""
    if isinstance(tree, Repeat):
        return max(tree.least, tree.most, 1) * _repeats(tree.part)
    if isinstance(tree, Sequence_):
        return max(map(_repeats, tree.parts), default=1)
    if isinstance(tree, Choice):
        return max(map(_repeats, tree.options), default=1)
    return 1
