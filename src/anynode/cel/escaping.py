"""Property names as CEL can write them: ``spec.my-field`` is ``spec.my__dash__field``.

A property name comes in and its CEL name goes out, and back; None where there is none. Source: apiserver
``pkg/cel/escaping.go``, 1.36.
"""

from __future__ import annotations

import functools
import re

RESERVED = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
_WRITTEN = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_READ = {"underscores": "__", "dot": ".", "dash": "-", "slash": "/"}
_TO_ESCAPE = re.compile(r"__|[-./]")
_ESCAPED = re.compile(r"__[^_]+__")
_ALLOWED = re.compile(r"[A-Za-z_./-][A-Za-z0-9_./-]*")


@functools.lru_cache(maxsize=4096)
def escape(name: str) -> str | None:
    """The CEL name of a property, or None if CEL cannot name it."""
    if name in RESERVED:
        return f"__{name}__"
    if not _ALLOWED.fullmatch(name):
        return None
    return _TO_ESCAPE.sub(lambda found: _WRITTEN[found[0]], name)


@functools.lru_cache(maxsize=4096)
def unescape(name: str) -> str | None:
    """The property a CEL name means, or None if it means none."""
    if "__" not in name:
        return name
    wrong = False

    def read(found: re.Match[str]) -> str:
        nonlocal wrong
        content = found[0][2:-2]
        if content in _READ:
            return _READ[content]
        if content not in RESERVED or len(found[0]) != len(name):
            wrong = True
        return content

    result = _ESCAPED.sub(read, name)
    return None if wrong else result
