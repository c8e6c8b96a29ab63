"""NaCl's secretbox: XSalsa20 for secrecy, Poly1305 against change. Pure but for the nonce, which the caller draws.

Source: https://nacl.cr.yp.to/secretbox.html, https://cr.yp.to/snuffle/xsalsa-20081128.pdf, RFC 8439 (Poly1305).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

NONCE_BYTES, TAG_BYTES = 24, 16
_BLOCK = 64
_SIGMA = np.frombuffer(b"expand 32-byte k", dtype="<u4")
_State = npt.NDArray[np.uint32]
_DIAGONALS = ((0, 5, 10, 15), (4, 9, 14, 3), (8, 13, 2, 7), (12, 1, 6, 11))
"""Where the four words of each step stand in the state."""


def seal(message: bytes, nonce: bytes, key: bytes) -> bytes:
    """Tag and cipher text."""
    stream = _stream(len(message) + 32, nonce, key)
    sealed = _xor(message, stream[32:])
    return Poly1305.generate_tag(stream[:32], sealed) + sealed


def unseal(box: bytes, nonce: bytes, key: bytes) -> bytes | None:
    """The message; None when the box was changed or is another key's."""
    tag, sealed = box[:TAG_BYTES], box[TAG_BYTES:]
    stream = _stream(len(sealed) + 32, nonce, key)
    try:
        Poly1305.verify_tag(stream[:32], sealed, tag)
    except InvalidSignature:
        return None
    return _xor(sealed, stream[32:])


def _xor(left: bytes, right: bytes) -> bytes:
    pair = np.frombuffer(left, dtype=np.uint8), np.frombuffer(right, dtype=np.uint8)
    return np.bitwise_xor(*pair).tobytes()


def _stream(size: int, nonce: bytes, key: bytes) -> bytes:
    """The first ``size`` bytes of XSalsa20."""
    blocks = -(-size // _BLOCK)
    start = _state(_subkey(key, nonce[:16]), nonce[16:] + bytes(8), blocks)
    counters = np.arange(blocks, dtype=np.uint64)
    start[8], start[9] = counters.astype(np.uint32), (counters >> np.uint64(32)).astype(np.uint32)
    mixed = _mixed(start) + start
    return mixed.T.astype("<u4").tobytes()[:size]


def _subkey(key: bytes, nonce: bytes) -> bytes:
    mixed = _mixed(_state(key, nonce, 1))
    return mixed[[0, 5, 10, 15, 6, 7, 8, 9], 0].astype("<u4").tobytes()


def _state(key: bytes, middle: bytes, blocks: int) -> _State:
    """The 16 words of each block, one block a column."""
    words = np.empty(16, dtype=np.uint32)
    words[[0, 5, 10, 15]] = _SIGMA
    words[1:5] = np.frombuffer(key[:16], dtype="<u4")
    words[11:15] = np.frombuffer(key[16:], dtype="<u4")
    words[6:10] = np.frombuffer(middle, dtype="<u4")
    return np.repeat(words[:, None], blocks, axis=1)


def _mixed(state: _State) -> _State:
    """Twenty rounds, four words at a time."""
    a, b, c, d = (state[list(each)] for each in _DIAGONALS)
    for _ in range(10):
        a, b, c, d = _round(a, b, c, d)
        b, c, d = np.roll(d, -1, axis=0), np.roll(c, -2, axis=0), np.roll(b, 1, axis=0)
        a, b, c, d = _round(a, b, c, d)
        b, c, d = np.roll(d, -1, axis=0), np.roll(c, 2, axis=0), np.roll(b, 1, axis=0)
    mixed = np.empty_like(state)
    for each, place in zip((a, b, c, d), _DIAGONALS, strict=True):
        mixed[list(place)] = each
    return mixed


def _round(a: _State, b: _State, c: _State, d: _State) -> tuple[_State, _State, _State, _State]:
    b = b ^ _turned(a + d, 7)
    c = c ^ _turned(b + a, 9)
    d = d ^ _turned(c + b, 13)
    a = a ^ _turned(d + c, 18)
    return a, b, c, d


def _turned(words: _State, bits: int) -> _State:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
