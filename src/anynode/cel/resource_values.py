"""The quantity and semver libraries.

Source: apiserver ``pkg/cel/library/{quantity,semverlib}.go``, 1.36; github.com/blang/semver v4.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from anynode.api.formats import Quantity
from anynode.api.go_text import go_quoted
from anynode.cel.errors import CelEvaluationError
from anynode.cel.operators import MAX_INT, MIN_INT, no_overload

_NANO = 10**9


class QuantityValue:
    """An exact amount; equal amounts are equal however they were written."""

    __slots__ = ("amount",)
    type_name = "kubernetes.Quantity"

    def __init__(self, amount: Quantity) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantityValue) and other.amount.nano == self.amount.nano

    def __hash__(self) -> int:
        return hash(self.amount.nano)

    def __repr__(self) -> str:
        return str(self.amount)


@functools.total_ordering
class Semver:
    """A semantic version. Order and equality leave the build out, as semver says."""

    __slots__ = ("numbers", "prerelease")
    type_name = "kubernetes.Semver"

    def __init__(self, numbers: tuple[int, int, int], prerelease: tuple[int | str, ...]) -> None:
        self.numbers = numbers
        self.prerelease = prerelease

    def _key(self) -> tuple[Any, ...]:
        pre = tuple((0, each, "") if isinstance(each, int) else (1, 0, each) for each in self.prerelease)
        return (self.numbers, not pre, pre)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and other._key() == self._key()

    def __lt__(self, other: Semver) -> bool:
        return bool(self._key() < other._key())

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        pre = ".".join(map(str, self.prerelease))
        return ".".join(map(str, self.numbers)) + (f"-{pre}" if pre else "")


def _quantity(text: Any) -> QuantityValue:
    if type(text) is not str:
        raise no_overload()
    try:
        return QuantityValue(Quantity.parse(text))
    except ValueError as error:
        raise CelEvaluationError(str(error)) from None


def _is_quantity(text: Any) -> bool:
    if type(text) is not str:
        raise no_overload()
    try:
        Quantity.parse(text)
    except ValueError:
        return False
    return True


def _amount(value: Any) -> Quantity:
    if type(value) is not QuantityValue:
        raise no_overload()
    return value.amount


def _is_integer(value: Any) -> bool:
    nano = _amount(value).nano
    return nano % _NANO == 0 and MIN_INT <= nano // _NANO <= MAX_INT


def _as_integer(value: Any) -> int:
    if not _is_integer(value):
        raise CelEvaluationError("cannot convert value to integer")
    return _amount(value).nano // _NANO


def _combined(sign: int) -> Callable[[Any, Any], QuantityValue]:
    def combine(value: Any, other: Any) -> QuantityValue:
        amount = _amount(value)
        nano = other * _NANO if type(other) is int else _amount(other).nano
        return QuantityValue(Quantity(amount.nano + sign * nano, amount.form))

    return combine


def _compare(value: Any, other: Any) -> int:
    if type(value) is QuantityValue and type(other) is QuantityValue:
        one, two = value.amount.nano, other.amount.nano
        return -1 if one < two else 1 if one > two else 0
    if type(value) is Semver and type(other) is Semver:
        return -1 if value < other else 1 if other < value else 0
    raise no_overload()


def _sign(value: Any) -> int:
    nano = _amount(value).nano
    return -1 if nano < 0 else 1 if nano > 0 else 0


# --- semver ----------------------------------------------------------------------------------------------------------

_DIGITS = frozenset("0123456789")
_LETTERS = _DIGITS | frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-")


class _SemverError(ValueError):
    pass


def _parse_semver(text: str) -> Semver:
    if not text:
        raise _SemverError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise _SemverError("No Major.Minor.Patch elements found")
    major, minor = _number(parts[0], "Major"), _number(parts[1], "Minor")
    patch, plus, build = parts[2].partition("+")
    patch, minus, prerelease = patch.partition("-")
    numbers = (major, minor, _number(patch, "Patch"))
    found: list[int | str] = []
    for each in prerelease.split(".") if minus else ():
        if not each:
            raise _SemverError("Prerelease is empty")
        if set(each) <= _DIGITS:
            if len(each) > 1 and each[0] == "0":
                raise _SemverError(f"Numeric PreRelease version must not contain leading zeroes {go_quoted(each)}")
            found.append(_in_range(each))
        elif set(each) <= _LETTERS:
            found.append(each)
        else:
            raise _SemverError(f"Invalid character(s) found in prerelease {go_quoted(each)}")
    for each in build.split(".") if plus else ():
        if not each:
            raise _SemverError("Build meta data is empty")
        if not set(each) <= _LETTERS:
            raise _SemverError(f"Invalid character(s) found in build meta data {go_quoted(each)}")
    return Semver(numbers, tuple(found))


def _number(text: str, name: str) -> int:
    if not set(text) <= _DIGITS:
        raise _SemverError(f"Invalid character(s) found in {name.lower()} number {go_quoted(text)}")
    if len(text) > 1 and text[0] == "0":
        raise _SemverError(f"{name} number must not contain leading zeroes {go_quoted(text)}")
    return _in_range(text)


def _in_range(text: str) -> int:
    if not text:
        raise _SemverError('strconv.ParseUint: parsing "": invalid syntax')
    if len(text) > 20 or int(text) >= 2**64:
        raise _SemverError(f"strconv.ParseUint: parsing {go_quoted(text)}: value out of range")
    return int(text)


def _normalized(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for index, part in enumerate(parts):
        if len(part) > 1:
            part = part.lstrip("0")
            parts[index] = part if re.match("[0-9]", part) else f"0{part}"
    if len(parts) < 3:
        if re.search(r"[+-]", parts[-1]):
            raise _SemverError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)


def _semver(text: Any, normalize: Any = False) -> Semver:
    if type(text) is not str or type(normalize) is not bool:
        raise no_overload()
    try:
        return _parse_semver(_normalized(text) if normalize else text)
    except _SemverError as error:
        raise CelEvaluationError(str(error)) from None


def _is_semver(text: Any, normalize: Any = False) -> bool:
    if type(text) is not str or type(normalize) is not bool:
        raise no_overload()
    try:
        _parse_semver(_normalized(text) if normalize else text)
    except _SemverError:
        return False
    return True


def _numbered(index: int) -> Callable[[Any], int]:
    def read(version: Any) -> int:
        if type(version) is not Semver:
            raise no_overload()
        return version.numbers[index]

    return read


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "quantity": _quantity,
    "isQuantity": _is_quantity,
    "sign": _sign,
    "isInteger": _is_integer,
    "asInteger": _as_integer,
    "asApproximateFloat": lambda value: _amount(value).nano / _NANO,
    "add": _combined(1),
    "sub": _combined(-1),
    "compareTo": _compare,
    "isGreaterThan": lambda value, other: _compare(value, other) > 0,
    "isLessThan": lambda value, other: _compare(value, other) < 0,
    "semver": _semver,
    "isSemver": _is_semver,
    "major": _numbered(0),
    "minor": _numbered(1),
    "patch": _numbered(2),
}
