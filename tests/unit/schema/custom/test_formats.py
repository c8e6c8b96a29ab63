"""String formats: what a kube-apiserver 1.36 took and refused, format by format."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anynode.schema.custom import formats

TAKEN: dict[str, Sequence[str]] = {
    "bsonobjectid": ["507f1f77bcf86cd799439011"],
    "uri": ["http://a.b/c", "/x", "a:b", "http://", "//a", "http://[::1]:80/", "*", "mailto:a@b", "http://ü/"],
    "email": ["a@b", "a@b.c", "<a@b>", "A <a@b>", '"a b"@c', "a@[1.2.3.4]", "ü@b"],
    "hostname": ["a", "a.bc", "A.BC", "ü.de"],
    "ipv4": ["1.2.3.4", "01.2.3.4", "::ffff:1.2.3.4"],
    "ipv6": ["::1", "::ffff:1.2.3.4", "::"],
    "cidr": ["1.2.3.4/24", "::/0", "01.2.3.4/8"],
    "mac": ["00:00:5e:00:53:01", "00-00-5e-00-53-01", "0000.5e00.5301", "02:00:5e:10:00:00:00:01", "00005e005301"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000"],
    "uuid3": ["123e4567-e89b-32d3-a456-426614174000"],
    "uuid4": ["123e4567-e89b-42d3-a456-426614174000"],
    "uuid5": ["123E4567-E89B-52D3-A456-426614174000"],
    "isbn": ["0321751043", "978-0321751041"],
    "isbn10": ["0-321-75104-3", "080442957X"],
    "isbn13": ["978 0321751041"],
    "creditcard": ["4111 1111 1111 1111"],
    "ssn": ["111-22-3333", "111 22 3333"],
    "hexcolor": ["#FFF", "FFFFFF"],
    "rgbcolor": ["rgb(1,2,3)", "rgb( 1 , 2 , 255 )"],
    "byte": ["aGk="],
    "password": ["", "x"],
    "date": ["2020-01-02", "0000-01-01", "2000-02-29"],
    "duration": ["1h", "1 h", "3 days", "22 ns", "2 weeks", "-1s"],
    "date-time": ["2020-01-02T03:04:05Z", "2020-01-02t03:04:05z", "2020-01-02T03:04:05.123+01:00"],
    "k8s-short-name": ["a", "a-b", "1"],
    "k8s-long-name": ["a.b"],
}
REFUSED: dict[str, Sequence[str]] = {
    "bsonobjectid": ["x", "507F1F77BCF86CD79943901g"],
    "uri": ["a b", "x", "", "http://a b/", "http://a:b/", "http://a/%zz", "?x", "#a"],
    "email": ["a", "a b@c", "a@", "@b", "a..b@c", "a@b@c", "a@b."],
    "hostname": ["-a", "a.b", "a_b", "a..b", "a b", "", "a" * 64],
    "ipv4": ["1.2.3", "256.1.1.1", "::1", " 1.2.3.4", "1.2.3.4.5", ""],
    "ipv6": ["1.2.3.4", "fe80::1%eth0", "::ffff:01.2.3.4", "1::2::3", "g::"],
    "cidr": ["1.2.3.4", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/-1"],
    "mac": ["00:00:5e", "00:00-5e:00:53:01", "0:0:0:0:0:0", "00005e0053012"],
    "uuid": ["x"],
    "uuid3": ["123e4567-e89b-12d3-a456-426614174000"],
    "uuid4": ["123e4567-e89b-42d3-c456-426614174000"],
    "uuid5": ["x"],
    "isbn": ["x", "0321751044"],
    "isbn10": ["x"],
    "isbn13": ["9780321751042"],
    "creditcard": ["4111111111111112", ""],
    "ssn": ["111223333", "1"],
    "hexcolor": ["#FFFF", "red"],
    "rgbcolor": ["rgb(1,2,256)", "rgb(1)"],
    "byte": ["aGk", "***", "", "aGk=\n"],
    "date": ["2020-13-01", "2020-02-30", "20-1-2", "1900-02-29"],
    "duration": ["x", "", "5"],
    "date-time": ["2020-01-02 03:04:05Z", "2020-01-02T24:00:00Z", "2020-01-02T03:04:05", "x"],
    "k8s-short-name": ["A", "-a", "a.b", "", "a" * 64],
    "k8s-long-name": ["a..b", "A", "a-.b", "", "a" * 254],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in TAKEN.items() for text in texts])
def test_taken(name: str, text: str) -> None:
    check = formats.check(name)
    assert check is not None
    assert check(text)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in REFUSED.items() for text in texts])
def test_refused(name: str, text: str) -> None:
    check = formats.check(name)
    assert check is not None
    assert not check(text)


def test_an_unknown_format_has_no_test() -> None:
    assert formats.check("colour") is None


@pytest.mark.parametrize(
    ("name", "kind", "counts"),
    [
        ("date-time", "string", True), ("datetime", "", True), ("foo", "string", False), ("int32", "integer", True),
        ("int16", "integer", False), ("float", "number", True), ("int32", "number", False), ("byte", "array", False),
    ],
)  # fmt: skip
def test_a_format_counts_for_its_types_only(name: str, kind: str, counts: bool) -> None:
    assert formats.recognized(name, (kind,)) is counts
