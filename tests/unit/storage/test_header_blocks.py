"""Header blocks: RFC 7541's own examples, and what is broken."""

from __future__ import annotations

import pytest

from anynode.storage.header_blocks import header_pairs


@pytest.mark.parametrize(
    ("block", "pairs"),
    [
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", [
            (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]),
        ("0a70 6173 7377 6f72 6406 7365 6372 6574".replace("0a", "1008", 1), [("password", "secret")]),
        ("040c 2f73 616d 706c 652f 7061 7468", [(":path", "/sample/path")]),
        ("20 88", [(":status", "200")]),
        ("", []),
    ],
)  # fmt: skip
def test_the_standards_examples(block: str, pairs: list[tuple[str, str]]) -> None:
    assert header_pairs(bytes.fromhex(block.replace(" ", ""))) == pairs


@pytest.mark.parametrize("block", ["be", "80", "41", "418c f1e3", "7fffffffffff7f", "4181 fe00".replace("00", "")])
def test_what_is_broken_is_refused(block: str) -> None:
    with pytest.raises(ValueError):
        header_pairs(bytes.fromhex(block.replace(" ", "")))
