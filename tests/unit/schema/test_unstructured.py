"""The messages are those of a real server."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema import types
from anynode.schema.unstructured import conversion_error


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"metadata": {"generation": []}}, "unrecognized type: int64"),
        ({"metadata": {"ownerReferences": 1}}, "cannot restore slice from int64"),
        ({"metadata": {"labels": "s"}}, "cannot restore map from string"),
        ({"metadata": {"labels": {"a": 1}}}, "cannot convert int64 to string"),
        ({"metadata": {"deletionTimestamp": {}}}, "json: cannot unmarshal object into Go value of type string"),
        ({"spec": "x"}, "cannot restore struct from: string"),
        ({"spec": {"restartPolicy": 1}}, "cannot convert int64 to v1.RestartPolicy"),
        ({"spec": {"restartPolicy": True}}, "unrecognized type: string"),
        ({"spec": {"hostNetwork": "yes"}}, "unrecognized type: bool"),
        ({"spec": {"priority": 1.5}}, "cannot convert float64 to int32"),
        ({"spec": {"priority": 2.0, "containers": [None]}}, "as JSON"),
    ],
)
def test_what_does_not_fit(value: dict[str, Any], said: str) -> None:
    assert conversion_error(value, "io.k8s.api.core.v1.Pod", types.builtin(), "as JSON") == said


def test_bytes() -> None:
    secret = "io.k8s.api.core.v1.Secret"
    plain = "illegal base64 data at input byte 0"
    said = conversion_error({"data": {"a": "!!"}}, secret, types.builtin(), plain)
    assert said == f"error decoding from json: {plain}"
    assert conversion_error({"data": {"a": 1}}, secret, types.builtin(), "") == "cannot restore slice from int64"
