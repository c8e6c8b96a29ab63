"""Frames of both ends against each other, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.streaming.websocket import (
    CloseCode,
    Closed,
    Message,
    Opcode,
    Pong,
    WebSocket,
    WebSocketError,
    accept_key,
    choose_protocol,
    encode_frame,
    is_websocket,
    mask,
    upgrade_headers,
)


def test_the_handshake_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_protocol_is_chosen_in_the_clients_order() -> None:
    headers = {"sec-websocket-protocol": "SPDY/3.1+portforward.k8s.io, v4.channel.k8s.io"}
    assert choose_protocol(headers, ("v4.channel.k8s.io",)) == "v4.channel.k8s.io"
    both = ("v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io")
    assert choose_protocol(headers, both) == "SPDY/3.1+portforward.k8s.io"
    assert choose_protocol(headers, ("v5.channel.k8s.io",)) is None
    assert choose_protocol({}, ("",)) == ""


def test_no_protocol_asked_for_is_none_answered() -> None:
    assert "sec-websocket-protocol" not in upgrade_headers({"sec-websocket-key": "x"}, "")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"upgrade": "websocket", "connection": "keep-alive, Upgrade"}, True),
        ({"upgrade": "SPDY/3.1", "connection": "Upgrade"}, False),
        ({"upgrade": "websocket"}, False),
    ],
)
def test_who_asks_for_a_websocket(headers: dict[str, str], expected: bool) -> None:
    assert is_websocket(headers) is expected


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masking_twice_is_nothing(data: bytes, key: bytes) -> None:
    assert mask(mask(data, key), key) == data
    assert mask(data, key) == bytes(each ^ key[index % 4] for index, each in enumerate(data))


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=200), st.just(b"x" * 200), st.just(b"y" * 70_000)), max_size=6),
    st.integers(1, 50_000),
    st.booleans(),
    st.binary(min_size=4, max_size=4),
)
def test_messages_arrive_whole_and_in_order(messages: list[bytes], cut: int, client: bool, key: bytes) -> None:
    sender, receiver = WebSocket(client=client, key=key), WebSocket(client=not client)
    for message in messages:
        sender.send(message)
    wire = sender.data_to_send()
    got = [event for at in range(0, len(wire), cut) for event in receiver.receive(wire[at : at + cut])]
    assert got == [Message(message) for message in messages]


def test_fragments_are_joined_and_pings_answered_between_them() -> None:
    server = WebSocket(client=False)
    key = b"abcd"
    wire = (
        encode_frame(Opcode.TEXT, b"he", key=key, final=False)
        + encode_frame(Opcode.PING, b"?", key=key)
        + encode_frame(Opcode.CONTINUATION, b"llo", key=key)
    )
    assert server.receive(wire) == [Message(b"hello", text=True)]
    assert WebSocket(client=True).receive(server.data_to_send()) == [Pong(b"?")]


def test_closing_is_answered_once() -> None:
    client, server = WebSocket(client=True), WebSocket(client=False)
    client.close(CloseCode.GOING_AWAY, "bye")
    assert server.receive(client.data_to_send()) == [Closed(CloseCode.GOING_AWAY, "bye")]
    assert client.receive(server.data_to_send()) == [Closed(CloseCode.GOING_AWAY)]
    server.send(b"late")
    assert server.data_to_send() == b""
    assert client.data_to_send() == b""


@pytest.mark.parametrize(
    "wire",
    [
        encode_frame(Opcode.BINARY, b"unmasked"),
        encode_frame(Opcode.CONTINUATION, b"of nothing", key=b"abcd"),
        encode_frame(Opcode.BINARY, b"a", key=b"abcd", final=False) + encode_frame(Opcode.BINARY, b"b", key=b"abcd"),
        encode_frame(Opcode.PING, b"x" * 126, key=b"abcd"),
        encode_frame(Opcode.PING, b"", key=b"abcd", final=False),
        encode_frame(3, b"", key=b"abcd"),
        encode_frame(Opcode.CLOSE, b"x", key=b"abcd"),
        b"\xf2\x80abcd",
    ],
)
def test_broken_frames_close_with_a_protocol_error(wire: bytes) -> None:
    server = WebSocket(client=False)
    with pytest.raises(WebSocketError):
        server.receive(wire)
    assert server.data_to_send()[2:4] == (1002).to_bytes(2, "big")


def test_a_message_over_the_limit_is_refused_before_it_is_here() -> None:
    server = WebSocket(client=False, max_message_bytes=1000)
    with pytest.raises(WebSocketError) as refused:
        server.receive(encode_frame(Opcode.BINARY, b"x" * 1001, key=b"abcd")[:20])
    assert refused.value.code == CloseCode.TOO_BIG
