"""Reads the header blocks of an HTTP/2 peer that was told to keep no table. Pure.

In: one block's bytes. Out: its (name, value) pairs. A peer whose table has no room repeats itself, so equal blocks mean
the same and a reader may remember them. Raises ``ValueError``. Source: RFC 7541; appendix B's code is canonical, so the
lengths of its words are all there is to know.
"""

# ruff: noqa: SIM905
from __future__ import annotations

from collections.abc import Mapping

_STATIC = tuple(
    (name, value.replace("_", " "))
    for name, _, value in (
        each.partition("=")
        for each in (
            ":authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 "
            ":status=204 :status=206 :status=304 :status=400 :status=404 :status=500 accept-charset "
            "accept-encoding=gzip,_deflate accept-language accept-ranges accept access-control-allow-origin age "
            "allow authorization cache-control content-disposition content-encoding content-language "
            "content-length content-location content-range content-type cookie date etag expect expires from host "
            "if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link location "
            "max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after server "
            "set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate "
        ).split()
    )
)
"""Appendix A; 1 is the first."""
_LENGTHS = tuple(
    int(each)
    for each in (
        "13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 "
        "6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 "
        "13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6 "
        "15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 "
        "20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 "
        "22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 "
        "26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27 "
        "20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 "
        "30 "
    ).split()
)
"""Bits of each byte's word in appendix B, and of the end's."""
_END = 256


def _words() -> Mapping[tuple[int, int], int]:
    """(length, word) -> byte."""
    words: dict[tuple[int, int], int] = {}
    word = length = 0
    for symbol in sorted(range(len(_LENGTHS)), key=lambda each: (_LENGTHS[each], each)):
        word <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        words[length, word] = symbol
        word += 1
    return words


_WORDS = _words()


def header_pairs(block: bytes) -> list[tuple[str, str]]:
    """The fields of ``block``, in order."""
    pairs: list[tuple[str, str]] = []
    position = 0
    try:
        while position < len(block):
            first = block[position]
            if first & 0x80:
                number, position = _number(block, position, 7)
                pairs.append(_static(number))
            elif first & 0xE0 == 0x20:
                _, position = _number(block, position, 5)  # the table's new size, which is none
            else:
                number, position = _number(block, position, 6 if first & 0x40 else 4)
                if number:
                    name = _static(number)[0]
                else:
                    name, position = _text(block, position)
                value, position = _text(block, position)
                pairs.append((name, value))
    except IndexError as error:
        raise ValueError("a header block cut short") from error
    return pairs


def _static(number: int) -> tuple[str, str]:
    if not 1 <= number <= len(_STATIC):
        raise ValueError(f"a header block names entry {number} of a table that is empty")
    return _STATIC[number - 1]


def _number(block: bytes, position: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    number = block[position] & most
    position += 1
    if number < most:
        return number, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        number += (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, position
        if shift > 28:
            raise ValueError("a number too long in a header block")


def _text(block: bytes, position: int) -> tuple[str, int]:
    packed = block[position] & 0x80
    length, position = _number(block, position, 7)
    end = position + length
    if end > len(block):
        raise ValueError("a header block cut short")
    content = block[position:end]
    return (_unpacked(content) if packed else content).decode(errors="replace"), end


def _unpacked(content: bytes) -> bytes:
    out = bytearray()
    word = length = 0
    for byte in content:
        for shift in range(7, -1, -1):
            word = word << 1 | byte >> shift & 1
            length += 1
            symbol = _WORDS.get((length, word))
            if symbol is not None:
                if symbol == _END:
                    raise ValueError("an end within a header's text")
                out.append(symbol)
                word = length = 0
            elif length > 30:
                raise ValueError("a header's text makes no sense")
    if length > 7 or word != (1 << length) - 1:
        raise ValueError("a header's text ends within a letter")
    return bytes(out)
