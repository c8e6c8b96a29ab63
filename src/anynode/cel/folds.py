"""What runs: logic that takes in errors, choices, calls, and the loops of macros.

Closures over a frame are made here (see ``planner``). A loop looks at the cost before every step, so no expression runs
on past its limit. Source: cel-go ``interpreter/interpretable.go``, ``cel/library.go``, v0.26.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from anynode.cel import values
from anynode.cel.charges import Charge
from anynode.cel.errors import CelEvaluationError, CostExceeded, NoSuchOverload
from anynode.cel.operators import compare, no_overload, refused
from anynode.cel.values import LISTS, MAPS, MISSING, Optional

Frame = list[Any]
Run = Callable[[Frame], Any]
UNSET: Any = object()
_PAID_AHEAD = frozenset({"matches", "find", "findAll"})
"""Functions that must not even begin what cannot be paid for."""


def conjunction(left: Run, right: Run) -> Run:
    """``&&``: false wins over an error on the other side."""

    def run(frame: Frame) -> Any:
        try:
            value = left(frame)
            if value is False:
                return False
            if value is True:
                value = None
            else:
                value = no_overload()
        except CelEvaluationError as error:
            value = error
        if value is None:
            value = right(frame)
            if value is True or value is False:
                return value
            raise no_overload()
        if _or_none(right, frame) is False:
            return False
        raise value

    return run


def disjunction(left: Run, right: Run) -> Run:
    """``||``: true wins over an error on the other side."""

    def run(frame: Frame) -> Any:
        try:
            value = left(frame)
            if value is True:
                return True
            if value is False:
                value = None
            else:
                value = no_overload()
        except CelEvaluationError as error:
            value = error
        if value is None:
            value = right(frame)
            if value is True or value is False:
                return value
            raise no_overload()
        if _or_none(right, frame) is True:
            return True
        raise value

    return run


def _or_none(run: Run, frame: Frame) -> Any:
    try:
        return run(frame)
    except CelEvaluationError:
        return None


def conditional(condition: Run, chosen: Run, other: Run) -> Run:
    def run(frame: Frame) -> Any:
        value = condition(frame)
        if value is True:
            return chosen(frame)
        if value is False:
            return other(frame)
        raise no_overload()

    return run


def optional_or(left: Run, right: Run, *, unwrap: bool) -> Run:
    """``or`` and ``orValue``: the right side only runs if it is needed."""

    def run(frame: Frame) -> Any:
        value = left(frame)
        if type(value) is not Optional:
            return value
        if value.value is MISSING:
            return right(frame)
        return value.value if unwrap else value

    return run


def lazily(slot: int, init: Run) -> Run:
    """A bound name: evaluated when first used, its failure kept."""

    def run(frame: Frame) -> Any:
        value = frame[slot]
        if value is UNSET:
            try:
                value = init(frame)
            except CelEvaluationError as error:
                value = error
            frame[slot] = value
        if isinstance(value, CelEvaluationError):
            raise value
        return value

    return run


# --- calls -----------------------------------------------------------------------------------------------------------


def call(function: str, body: Callable[..., Any], runs: list[Run], charge: Charge | int) -> Run:
    """A call of a function on evaluated arguments."""
    paid_ahead = function in _PAID_AHEAD
    priced: Charge = (lambda _args, _result: charge) if isinstance(charge, int) else charge
    if len(runs) == 2:
        special = _COMPARED.get(function)
        if special is not None and charge == 1:
            return special(runs[0], runs[1])
        return _binary(function, body, runs[0], runs[1], charge)
    if len(runs) == 1 and isinstance(charge, int):
        return _unary(function, body, runs[0], charge)

    def run(frame: Frame) -> Any:
        args = [each(frame) for each in runs]
        if paid_ahead and frame[0] + priced(args, None) > frame[1]:
            raise CostExceeded
        try:
            result = body(*args)
        except NoSuchOverload:
            raise refused(function, args) from None
        frame[0] += priced(args, result)
        if frame[0] > frame[1]:
            raise CostExceeded
        return result

    return run


def _unary(function: str, body: Callable[..., Any], operand: Run, charge: int) -> Run:
    def run(frame: Frame) -> Any:
        frame[0] += charge
        value = operand(frame)
        try:
            return body(value)
        except NoSuchOverload:
            raise refused(function, (value,)) from None

    return run


def _binary(function: str, body: Callable[..., Any], left: Run, right: Run, charge: Charge | int) -> Run:
    """Both sides are evaluated and paid for even if the first one fails."""
    fixed = charge if isinstance(charge, int) else 0
    priced = None if isinstance(charge, int) else charge
    least = fixed or 1
    ahead = None if function not in _PAID_AHEAD else priced

    def run(frame: Frame) -> Any:
        try:
            one = left(frame)
        except CelEvaluationError:
            _or_none(right, frame)
            frame[0] += least
            raise
        try:
            other = right(frame)
        except CelEvaluationError:
            frame[0] += least
            raise
        if ahead is not None and frame[0] + ahead((one, other), None) > frame[1]:
            raise CostExceeded
        try:
            result = body(one, other)
        except NoSuchOverload:
            frame[0] += least
            raise refused(function, (one, other)) from None
        if priced is None:
            frame[0] += fixed
            return result
        frame[0] += priced((one, other), result)
        if frame[0] > frame[1]:
            raise CostExceeded
        return result

    return run


def _less_equals(left: Run, right: Run) -> Run:
    def run(frame: Frame) -> Any:
        one, other = left(frame), right(frame)
        frame[0] += 1
        if type(one) is int and type(other) is int:
            return one <= other
        try:
            return compare(one, other) <= 0
        except NoSuchOverload:
            raise refused("_<=_", (one, other)) from None

    return run


def _less(left: Run, right: Run) -> Run:
    def run(frame: Frame) -> Any:
        one, other = left(frame), right(frame)
        frame[0] += 1
        if type(one) is int and type(other) is int:
            return one < other
        try:
            return compare(one, other) < 0
        except NoSuchOverload:
            raise refused("_<_", (one, other)) from None

    return run


def _greater_equals(left: Run, right: Run) -> Run:
    def run(frame: Frame) -> Any:
        one, other = left(frame), right(frame)
        frame[0] += 1
        if type(one) is int and type(other) is int:
            return one >= other
        try:
            return compare(one, other) >= 0
        except NoSuchOverload:
            raise refused("_>=_", (one, other)) from None

    return run


def _greater(left: Run, right: Run) -> Run:
    def run(frame: Frame) -> Any:
        one, other = left(frame), right(frame)
        frame[0] += 1
        if type(one) is int and type(other) is int:
            return one > other
        try:
            return compare(one, other) > 0
        except NoSuchOverload:
            raise refused("_>_", (one, other)) from None

    return run


_COMPARED: dict[str, Callable[[Run, Run], Run]] = {
    "_<=_": _less_equals,
    "_<_": _less,
    "_>=_": _greater_equals,
    "_>_": _greater,
}


# --- loops -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Loop:
    """A fold's range and where its variables go; ``second`` is -1 when there is one variable."""

    range: Run
    init: Run
    accumulator: int
    first: int
    second: int

    def elements(self, frame: Frame) -> Iterable[Any]:
        """What the loop goes over: elements, or pairs when there are two variables."""
        value = self.range(frame)
        kind = type(value)
        if self.second < 0:
            if kind in LISTS or kind in MAPS:
                return value  # type: ignore[no-any-return]
            raise CelEvaluationError(f"got '{_go_type(value)}', expected iterable type")
        if kind in LISTS:
            return enumerate(value)
        if kind in MAPS:
            return [(key, values.find(value, key)) for key in value]
        raise CelEvaluationError(f"unsupported comprehension range type: {_go_type(value)}")

    def set(self, frame: Frame, element: Any) -> None:
        if self.second < 0:
            frame[self.first] = element
        else:
            frame[self.first], frame[self.second] = element


def _go_type(value: Any) -> str:
    names = {"bool": "types.Bool", "int": "types.Int", "uint": "types.Uint", "double": "types.Double"}
    names |= {"string": "types.String", "bytes": "types.Bytes", "null_type": "types.Null"}
    names |= {"google.protobuf.Timestamp": "types.Timestamp", "google.protobuf.Duration": "types.Duration"}
    names |= {"optional_type": "*types.Optional", "type": "*types.Type", "net.IP": "cel.IP", "net.CIDR": "cel.CIDR"}
    names |= {f"kubernetes.{name}": f"cel.{name}" for name in ("URL", "Quantity", "Semver")}
    return names.get(values.kind_name(value), values.kind_name(value))


def quantifier(loop: Loop, predicate: Run, *, wanted: bool) -> Run:
    """``exists`` (``wanted``) and ``all``: an answer ends the loop and wins over errors before it."""
    asking = 3 if wanted else 2  # what it costs to ask whether to go on
    single = loop.second < 0
    first = loop.first

    def run(frame: Frame) -> Any:
        failure: CelEvaluationError | None = None
        decided = False
        for element in loop.elements(frame):
            frame[0] += asking
            if decided:
                break
            if single:
                frame[first] = element
            else:
                loop.set(frame, element)
            frame[0] += 1
            if frame[0] > frame[1]:
                raise CostExceeded
            try:
                value = predicate(frame)
            except CelEvaluationError as error:
                failure = failure or error
                continue
            if value is wanted:
                decided = True
            elif type(value) is not bool:
                failure = failure or no_overload()
        frame[0] += 1
        if decided:
            return wanted
        if failure is not None:
            raise failure
        return not wanted

    return run


def appending(loop: Loop, condition: Run | None, element: Run, cost: int) -> Run:
    """``map``, ``filter`` and ``transformList``. A failure lets the loop go on, and a later condition's replaces it."""

    def run(frame: Frame) -> Any:
        found: list[Any] = []
        failure: CelEvaluationError | None = None
        for each in loop.elements(frame):
            loop.set(frame, each)
            if frame[0] > frame[1]:
                raise CostExceeded
            try:
                if condition is not None and not _decided(condition(frame)):
                    continue
            except CelEvaluationError as error:
                failure = error
                continue
            try:
                found.append(element(frame))
            except CelEvaluationError as error:
                failure = failure or error
            frame[0] += cost
        frame[0] += 1
        if failure is not None:
            raise failure
        return found

    return run


def inserting(loop: Loop, condition: Run | None, inserted: list[Run]) -> Run:
    """``transformMap`` and ``transformMapEntry``."""

    def insert(frame: Frame, found: dict[Any, Any]) -> None:
        parts = [part(frame) for part in inserted]
        entries = {parts[0]: parts[1]} if len(parts) == 2 else parts[0]
        for key in entries:
            if key in found:
                raise CelEvaluationError(f"insert failed: key {key} already exists")
            found[key] = values.find(entries, key)

    def run(frame: Frame) -> Any:
        found: dict[Any, Any] = {}
        failure: CelEvaluationError | None = None
        for each in loop.elements(frame):
            loop.set(frame, each)
            if frame[0] > frame[1]:
                raise CostExceeded
            try:
                if condition is not None and not _decided(condition(frame)):
                    continue
            except CelEvaluationError as error:
                failure = error
                continue
            frame[0] += 2
            try:
                insert(frame, found)
            except CelEvaluationError as error:
                failure = failure or error
        frame[0] += 1
        if failure is not None:
            raise failure
        return found

    return run


def counting(loop: Loop, condition: Run) -> Run:
    """``exists_one``."""

    def run(frame: Frame) -> Any:
        count = 0
        failure: CelEvaluationError | None = None
        for each in loop.elements(frame):
            loop.set(frame, each)
            if frame[0] > frame[1]:
                raise CostExceeded
            try:
                if _decided(condition(frame)):
                    count += 1
                    frame[0] += 2
            except CelEvaluationError as error:
                failure = error
        frame[0] += 2
        if failure is not None:
            raise failure
        return count == 1

    return run


def _decided(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise no_overload()


def fold(loop: Loop, condition: Any, step: Run, result: Run) -> Run:
    """Any other fold, as it is written."""

    def run(frame: Frame) -> Any:
        elements = loop.elements(frame)
        frame[loop.accumulator] = loop.init(frame)
        for each in elements:
            loop.set(frame, each)
            if frame[0] > frame[1]:
                raise CostExceeded
            asked = condition(frame) if callable(condition) else condition
            if asked is False:
                break
            frame[loop.accumulator] = step(frame)
        return result(frame)

    return run
