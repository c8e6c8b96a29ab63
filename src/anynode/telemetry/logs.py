"""Log set-up for programs; the library itself never calls it.

A line is time, level, logger, the constant sentence and its fields: ``12:00:01.250 INFO node pod started pod=web-0``.
Fields whose name speaks of secrets are never printed.
"""

from __future__ import annotations

import json
import logging
from typing import IO

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
SECRET_WORDS = ("token", "secret", "password", "authorization", "private")


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The ``extra`` fields of a record, secrets replaced."""
    return {
        name: "***" if any(word in name.lower() for word in SECRET_WORDS) else value
        for name, value in vars(record).items()
        if name not in STANDARD
    }


class TextFormatter(logging.Formatter):
    """One line per record for people."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = self.formatTime(record, "%H:%M:%S")
        name = record.name.removeprefix("anynode.")
        parts = [f"{stamp}.{int(record.msecs):03d}", record.levelname, name, record.getMessage()]
        parts += [f"{key}={value}" for key, value in fields_of(record).items()]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per record for machines."""

    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, object] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            found["error"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str)


def set_up(level: str, *, form: str = "text", stream: IO[str] | None = None) -> None:
    """Send everything at or above ``level`` to ``stream`` (standard error), as ``text`` or ``json``."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel("WARNING")
