"""Mount paths without mounts: where a process of the host finds its volumes.

At isolation level 0 nothing can be mounted, so every volume is a link below the container's root (ANYNODE_ROOT), and
mount paths that stand in command, args, environment and exec commands are rewritten to it. The rule: a mount path is
replaced where it stands as a whole path or the beginning of one, that is, not preceded by a letter, digit, ``_``,
``.``, ``-`` or ``/`` and followed by ``/``, the end, or a character that cannot go on a file name. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence


class PathRewriter:
    """Mount paths -> paths below a container's root; longest first."""

    def __init__(self, root: str, paths: Iterable[str]) -> None:
        cleaned = sorted({each.rstrip("/") for each in paths} - {""}, key=len, reverse=True)
        self._root = root
        self._pattern = (
            re.compile(r"(?<![\w./-])(" + "|".join(re.escape(each) for each in cleaned) + r")(?![\w.-])")
            if cleaned
            else None
        )

    def text(self, value: str) -> str:
        if self._pattern is None or "/" not in value:
            return value
        return self._pattern.sub(lambda match: self._root + match.group(1), value)

    def words(self, values: Sequence[str]) -> list[str]:
        return [self.text(each) for each in values]

    def environment(self, values: Mapping[str, str]) -> dict[str, str]:
        return {key: self.text(value) for key, value in values.items()}
