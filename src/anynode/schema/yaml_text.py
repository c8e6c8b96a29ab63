"""YAML bodies as plain JSON values, with YAML 1.1 scalars read the way Kubernetes' YAML library reads them.

Differs from PyYAML's own loaders: ``y`` and ``n`` are booleans, ``12:30`` and dates are text, keys become strings, keys
said twice are reported with their line. Source: sigs.k8s.io/yaml, go.yaml.in/yaml v2 ``resolve.go``, ``decode.go``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import orjson
import yaml

_MOST_NODES = 1_000_000  # after aliases are followed; a body of 3 MB has fewer of its own
_MOST_DEPTH = 1_000  # the C library's composer calls itself for each level and knows no end
_TRUE = frozenset(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"))
_FALSE = frozenset(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"([-+]?)(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[0-9][0-9_]*)")
_TAG = "tag:yaml.org,2002:"
_Loader: Any = getattr(yaml, "CLoader", yaml.Loader)


class YamlError(ValueError):
    """A text that is no YAML; worded as the Go library words it."""


def load(body: bytes) -> tuple[Any, Sequence[str]]:
    """``(value of the first document, complaints such as 'line 5: key "a" already set in map')``.

    Mappings come with sorted keys, as a Go map is printed. Raises ``YamlError``.
    """
    if body[:1] in (b"{", b"["):
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            pass
        else:
            try:
                if len(orjson.dumps(value)) == len(body.rstrip()):
                    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)), ()
            except orjson.JSONEncodeError:
                raise YamlError("yaml: exceeded max depth") from None
    loader = _Loader(body)
    try:
        if _may_be_deep(body):
            _refuse_depth(body)
        node = loader.get_node() if loader.check_node() else None
        if node is None:
            return None, ()
        builder = _Builder(loader.resolve)
        return builder.value(node), [f'line {line}: key "{key}" already set in map' for line, key in builder.repeated]
    except yaml.MarkedYAMLError as error:
        raise YamlError(_worded(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YamlError(f"yaml: {getattr(error, 'reason', 'invalid Unicode character')}") from None
    except RecursionError:
        raise YamlError("yaml: exceeded max depth") from None
    finally:
        loader.dispose()


def _may_be_deep(body: bytes) -> bool:
    """Whether more than ``_MOST_DEPTH`` levels are possible: each needs a bracket of its own or one more column."""
    brackets = body.count(b"[") + body.count(b"{")
    return brackets + 2 * max(map(len, body.splitlines()), default=0) > _MOST_DEPTH


def _refuse_depth(body: bytes) -> None:
    """Walk the first document's events, which takes no stack, and raise ``YamlError`` when it goes too deep."""
    parser = _Loader(body)
    depth = 0
    try:
        while parser.check_event():
            event = parser.get_event()
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > _MOST_DEPTH:
                    raise YamlError("yaml: exceeded max depth")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.DocumentEndEvent):
                return
    finally:
        parser.dispose()


def _worded(error: yaml.MarkedYAMLError) -> str:
    line = 0
    for mark in (error.context_mark, error.problem_mark):
        if mark is not None and mark.line:
            line = mark.line + (1 if isinstance(error, yaml.scanner.ScannerError) else 0)
            break
    where = f"line {line}: " if line else ""
    problem = error.problem or error.context or "unknown problem parsing YAML content"
    if isinstance(error, yaml.composer.ComposerError) and "undefined alias" in problem:
        name = problem.split("'")[1] if "'" in problem else ""
        return f"yaml: unknown anchor '{name}' referenced"
    return f"yaml: {where}{problem}"


class _Builder:
    """Turns a node tree into plain values."""

    def __init__(self, resolve: Any) -> None:
        self._resolve = resolve
        self.repeated: list[tuple[int, str]] = []
        self._count = 0
        self._built: dict[int, tuple[Any, int]] = {}  # node id -> value, and how many nodes it stands for
        self._open: set[int] = set()

    def value(self, node: yaml.Node) -> Any:
        """The value; an alias is given the value its anchor has, and counts as much."""
        if isinstance(node, yaml.ScalarNode):
            self._counted(1)
            return self._scalar(node)
        key = id(node)
        if key in self._built:
            found, size = self._built[key]
            self._counted(size)
            return found
        if key in self._open:
            raise YamlError("yaml: anchor value contains itself")
        before = self._count
        self._counted(1)
        self._open.add(key)
        if isinstance(node, yaml.SequenceNode):
            found = [self.value(each) for each in node.value]
        else:
            found = self._mapping(node)
        self._open.discard(key)
        self._built[key] = found, self._count - before
        return found

    def _counted(self, size: int) -> None:
        self._count += size
        if self._count > _MOST_NODES:
            raise YamlError("yaml: document contains excessive aliasing")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.style:  # quoted, literal or folded; plain is None or empty
            return text
        if node.tag == f"{_TAG}str" and self._resolve(yaml.ScalarNode, text, (True, False)) != node.tag:
            return text  # said to be text by a tag of its own
        return _resolved(text)

    def _mapping(self, node: yaml.Node) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and not key_node.style and key_node.value == "<<":
                self._merge(merged, value_node)
                continue
            key = self._key(key_node)
            if key in found:
                self.repeated.append((key_node.start_mark.line + 1, key))
            found[key] = self.value(value_node)
        result = {**merged, **found}
        return {key: result[key] for key in sorted(result)}

    def _merge(self, into: dict[str, Any], node: yaml.Node) -> None:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            value = self.value(source)
            if not isinstance(value, dict):
                raise YamlError("yaml: map merge requires map or sequence of maps as the value")
            for key, item in value.items():
                into.setdefault(key, item)

    def _key(self, node: yaml.Node) -> str:
        value = self.value(node)
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float):
            return repr(value)
        raise YamlError(f"unsupported map key of type: {'<nil>' if value is None else type(value).__name__}")


def _resolved(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    first = text[0]
    if not (first.isdigit() or first in "+-."):
        return text
    match = _INTEGER.fullmatch(text)
    if match is not None:
        number = _integer(match.group(1), match.group(2).replace("_", "").lower())
        if number is not None and -(2**63) <= number < 2**64:
            return number
    plain = text.replace("_", "")
    if _FLOAT.fullmatch(plain):
        found = float(plain)
        if math.isfinite(found):
            return int(found) if found.is_integer() and abs(found) < 2**63 and "." not in plain else found
    return text


def _integer(sign: str, digits: str) -> int | None:
    try:
        if digits[:2] in ("0x", "0b", "0o"):
            number = int(digits[2:], {"x": 16, "b": 2, "o": 8}[digits[1]])
        elif len(digits) > 1 and digits[0] == "0":
            number = int(digits, 8)
        else:
            number = int(digits)
    except ValueError:
        return None
    return -number if sign == "-" else number
