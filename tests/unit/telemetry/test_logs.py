"""Log lines carry their fields and never a secret."""

from __future__ import annotations

import json
import logging

from anynode.telemetry.logs import JsonFormatter, TextFormatter


def record(**extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "anynode.node", "levelname": "INFO", "msg": "pod started", **extra})


def test_a_text_line_ends_with_its_fields() -> None:
    assert TextFormatter().format(record(pod="default/a")).endswith("INFO node pod started pod=default/a")


def test_secrets_are_replaced_in_both_forms() -> None:
    told = record(bearer_token="t0p", clientSecret="s3cret", pod="a")
    assert "t0p" not in TextFormatter().format(told)
    found = json.loads(JsonFormatter().format(told))
    assert found["bearer_token"] == found["clientSecret"] == "***"
    assert found["pod"] == "a"
