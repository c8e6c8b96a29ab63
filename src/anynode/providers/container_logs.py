"""Reads a container's log file (CRI format) as ``PodLogOptions`` ask, following it while the container runs.

Comes in: the path of the file and ``LogOptions``; goes out: the container's own bytes. Source: kubelet
``pkg/kubelet/kuberuntime/logs/logs.go`` (1.36): tail counts lines of the file, limit counts bytes handed out, a
partial entry (P) goes on in the next one without a new line.
"""

from __future__ import annotations

import datetime
import errno
import os
import pathlib
import stat
from collections.abc import Callable

from anynode.aio.clock import Clock
from anynode.provider import LogOptions

CHUNK_BYTES = 256 * 1024
FOLLOW_SECONDS = 0.1
TAIL_BLOCK_BYTES = 64 * 1024


def open_log(path: pathlib.Path) -> int:
    """A descriptor of the regular file ``path``; raises ``OSError`` for anything else a container may have put there.

    A link could lead to what is not the container's, and a pipe would keep the caller waiting for ever.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def tail_offset(fd: int, lines: int) -> int:
    """Where the last ``lines`` lines of the file begin."""
    end = os.fstat(fd).st_size
    if lines == 0:
        return end
    position, found = end, 0
    first = True
    while position > 0:
        size = min(TAIL_BLOCK_BYTES, position)
        position -= size
        block = os.pread(fd, size, position)
        search = len(block)
        if first:
            first = False
            if block.endswith(b"\n"):
                search -= 1
        while (index := block.rfind(b"\n", 0, search)) >= 0:
            found += 1
            if found == lines:
                return position + index + 1
            search = index
    return 0


def last_output(path: pathlib.Path, lines: int, limit_bytes: int) -> bytes:
    """The end of the output, at most so many lines and bytes: the message of a container that left none."""
    try:
        fd = open_log(path)
    except OSError:
        return b""
    try:
        data = os.pread(fd, 1 << 20, tail_offset(fd, lines))
    finally:
        os.close(fd)
    entries = Entries(LogOptions(), None)
    return entries.feed(data)[-limit_bytes:]


class Entries:
    """CRI lines in, the container's bytes out."""

    def __init__(self, options: LogOptions, since: str | None) -> None:
        self._stream = {"Stdout": b"stdout", "Stderr": b"stderr"}.get(options.stream)
        self._timestamps = options.timestamps
        self._since = since.encode() if since else None
        self._rest = b""
        self._line_began = False

    def feed(self, data: bytes) -> bytes:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        out: list[bytes] = []
        for line in lines:
            parts = line.split(b" ", 3)
            if len(parts) < 4 or (self._stream and parts[1] != self._stream):
                continue
            if self._since is not None and parts[0][:30] < self._since:
                continue
            if self._timestamps and not self._line_began:
                out.append(parts[0] + b" ")
            out.append(parts[3])
            self._line_began = parts[2].startswith(b"P")
            if not self._line_began:
                out.append(b"\n")
        return b"".join(out)


class LogReader:
    """A ``ByteReader`` over one log file."""

    def __init__(self, path: pathlib.Path, options: LogOptions, clock: Clock, running: Callable[[], bool]) -> None:
        self._fd = open_log(path)
        self._path = path
        self._options = options
        self._clock = clock
        self._running = running
        self._left = options.limit_bytes
        self._offset = tail_offset(self._fd, options.tail_lines) if options.tail_lines is not None else 0
        self._entries = Entries(options, _since(options, clock))

    async def read(self) -> bytes:
        while self._fd >= 0 and self._left != 0:
            running = self._running()  # asked before reading: what was written before the end is then seen
            data = os.pread(self._fd, CHUNK_BYTES, self._offset)
            if data:
                self._offset += len(data)
                out = self._entries.feed(data)
                if self._left is not None:
                    out = out[: self._left]
                    self._left -= len(out)
                if out:
                    return out
            elif self._rotated():
                continue
            elif not self._options.follow or not running:
                return b""
            else:
                await self._clock.sleep(FOLLOW_SECONDS)
        return b""

    def _rotated(self) -> bool:
        """Whether the file was moved away while we followed it; then the new one is open."""
        if not self._options.follow:
            return False
        try:
            if os.stat(self._path).st_ino == os.fstat(self._fd).st_ino:
                return False
            fd = open_log(self._path)
        except OSError:
            return False
        os.close(self._fd)
        self._fd, self._offset = fd, 0
        return True

    async def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _since(options: LogOptions, clock: Clock) -> str | None:
    moment = options.since_time
    try:
        if options.since_seconds is not None:
            moment = clock.now() - datetime.timedelta(seconds=options.since_seconds)
        if moment is None:
            return None
        return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
    except OverflowError:  # before or after all that calendars know
        return None
