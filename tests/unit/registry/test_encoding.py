from __future__ import annotations

import orjson

from anynode.api.resources import known
from anynode.registry.encoding import (
    canonical,
    encode,
    head_of,
    object_with_revision,
    pieces_behind,
    with_revision,
)
from anynode.storage.types import Revision

PODS = known("pods")


def test_bytes_begin_with_the_head_and_take_their_version_in_the_hole() -> None:
    stored = canonical({"spec": {}, "metadata": {"labels": {"a": "b"}, "name": "p", "uid": "u"}}, PODS)
    value = with_revision(encode(stored), Revision(12))
    assert value.startswith(head_of(PODS))
    assert value == (
        b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","uid":"u","resourceVersion":"12","labels":{"a":"b"}},'
        b'"spec":{}}'
    )
    assert orjson.loads(value) == object_with_revision(stored, Revision(12))
    assert b"".join(pieces_behind(encode(stored), 7, Revision(12))) == value[7:]


def test_text_that_looks_like_the_hole_is_left_alone() -> None:
    evil = '"resourceVersion":""'
    stored = canonical({"metadata": {"name": evil, "annotations": {evil: evil}}}, PODS)
    read = orjson.loads(with_revision(encode(stored), Revision(3)))
    assert read["metadata"] == {"name": evil, "resourceVersion": "3", "annotations": {evil: evil}}


def test_a_zero_grace_period_is_kept_and_empty_metadata_is_not() -> None:
    metadata = {"name": "p", "deletionGracePeriodSeconds": 0, "generation": 0, "finalizers": [], "labels": {}}
    assert canonical({"metadata": metadata}, PODS)["metadata"] == {
        "name": "p",
        "resourceVersion": "",
        "deletionGracePeriodSeconds": 0,
    }
