"""Audit events to a file, or standard output: one JSON line each, written by a thread, rotated by size.

In: lines. Out: lines in order, in files their owner alone may read. Nothing is lost while the disk keeps up; when
``MOST_WAITING`` lines wait, requests wait, too. Source: apiserver ``plugin/pkg/audit/log``; lumberjack's file names.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import datetime
import logging
import os
import pathlib
import sys
import threading
from collections.abc import Callable
from typing import IO

from anynode.aio.clock import Clock

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
DEFAULT_MEGABYTES = 100


class RotatedFile:
    """A file that is put aside when it is full. Used by one thread at a time."""

    def __init__(
        self,
        path: pathlib.Path,
        *,
        now: Callable[[], datetime.datetime],
        most_bytes: int = DEFAULT_MEGABYTES << 20,
        most_backups: int = 0,
        most_days: int = 0,
    ) -> None:
        """``most_backups`` and ``most_days`` 0: old files stay. Raises ``OSError`` when the file cannot be made."""
        self._path = path
        self._now = now
        self._most_bytes = most_bytes
        self._most_backups = most_backups
        self._most_days = most_days
        self._file = self._opened()

    def _opened(self) -> IO[bytes]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "ab")

    def write(self, data: bytes) -> None:
        size = self._file.tell()
        if size and size + len(data) > self._most_bytes:
            self._rotate()
        self._file.write(data)
        self._file.flush()

    def _rotate(self) -> None:
        self._file.close()
        stamp = self._now().strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
        backup = self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")
        os.replace(self._path, backup)
        self._file = self._opened()
        backups = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))
        old = backups[: -self._most_backups] if self._most_backups else []
        if self._most_days:
            limit = self._now().timestamp() - self._most_days * 86_400
            old += [each for each in backups if each not in old and each.stat().st_mtime < limit]
        for each in old:
            each.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()


class StandardOutput:
    """Lines to standard output."""

    def write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def close(self) -> None:
        sys.stdout.buffer.flush()


class AuditLog:
    """Takes lines at once and writes them off the loop; ``run`` does the writing and ends the file when cancelled."""

    def __init__(self, output: RotatedFile | StandardOutput, clock: Clock) -> None:
        self._output = output
        self._clock = clock
        self._lines: collections.deque[bytes] = collections.deque()
        self._turn = threading.Lock()
        """One writes at a time: a thread still at work when ``run`` is cancelled, or ``run`` for the last time."""
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._failed = False

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        self._filled.set()

    async def room(self) -> None:
        """Return when not too many lines wait."""
        while len(self._lines) >= MOST_WAITING:
            self._emptied.clear()
            await self._emptied.wait()

    async def run(self) -> None:
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                await asyncio.to_thread(self._put_all)
                self._emptied.set()
        finally:
            self._put_all()
            with contextlib.suppress(OSError):
                self._output.close()

    def _put_all(self) -> None:
        with self._turn:
            lines = []
            while self._lines:
                lines.append(self._lines.popleft())
            self._put(b"".join(lines))

    def _put(self, data: bytes) -> None:
        if not data:
            return
        try:
            self._output.write(data)
        except (OSError, ValueError) as error:
            if not self._failed:  # once: it would be said for every request
                logger.error("audit events could not be written", exc_info=error)
            self._failed = True
        else:
            self._failed = False
