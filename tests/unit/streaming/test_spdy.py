"""Two ends against each other: scripted, and random walks in which nothing may be lost, doubled or swapped."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anynode.streaming.spdy import (
    DataReceived,
    GoneAway,
    PongReceived,
    ResetStatus,
    SpdyConnection,
    StreamAccepted,
    StreamOpened,
    StreamReset,
)
from anynode.streaming.spdy_frames import (
    DICTIONARY,
    FrameReader,
    FrameType,
    HeaderCodec,
    SpdyError,
    encode_control,
    encode_data,
)


def test_the_dictionary_is_the_drafts() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


NAMES = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=12)


@settings(deadline=None)
@given(st.lists(st.dictionaries(NAMES, st.text(max_size=30), max_size=5), min_size=1, max_size=5))
def test_header_blocks_share_one_compression(blocks: list[dict[str, str]]) -> None:
    sender, receiver = HeaderCodec(), HeaderCodec()
    for block in blocks:
        assert receiver.decode(sender.encode(block)) == block


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_header_block_breaks_the_decoder(block: bytes) -> None:
    with contextlib.suppress(SpdyError):
        HeaderCodec().decode(block)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=5), st.integers(1, 40))
def test_frames_arrive_whole_however_they_are_cut(payloads: list[bytes], cut: int) -> None:
    wire = b"".join(encode_data(7, payload) + encode_control(FrameType.PING, 0, b"\0\0\0\1") for payload in payloads)
    reader = FrameReader()
    frames = [frame for at in range(0, len(wire), cut) for frame in reader.feed(wire[at : at + cut])]
    assert len(frames) == 2 * len(payloads)


def test_another_version_is_refused() -> None:
    with pytest.raises(SpdyError):
        FrameReader().feed(b"\x80\x02\0\1\0\0\0\0")


def pair(*, flow_control: bool = False) -> tuple[SpdyConnection, SpdyConnection]:
    return (
        SpdyConnection(client=True, flow_control=flow_control),
        SpdyConnection(client=False, flow_control=flow_control),
    )


def test_a_stream_is_opened_answered_used_and_forgotten() -> None:
    client, server = pair()
    stream = client.open({"streamType": "stdin"})
    assert server.receive(client.data_to_send()) == [StreamOpened(1, {"streamtype": "stdin"})]
    server.reply(stream)
    assert client.receive(server.data_to_send()) == [StreamAccepted(1, {})]
    client.send(stream, b"in", fin=True)
    assert server.receive(client.data_to_send()) == [DataReceived(1, b"in", True)]
    assert client.send(stream, b"after the end") is False
    server.send(stream, b"out", fin=True)
    assert client.receive(server.data_to_send()) == [DataReceived(1, b"out", True)]
    assert (client.streams, server.streams) == (frozenset(), frozenset())


def test_long_writes_are_cut() -> None:
    client, server = pair()
    stream = client.open({})
    client.send(stream, b"x" * 200_000)
    pieces = server.receive(client.data_to_send())[1:]
    assert [len(piece.data) for piece in pieces if isinstance(piece, DataReceived)] == [65536, 65536, 65536, 3392]


def test_data_for_a_stream_that_is_none_is_answered_with_a_reset() -> None:
    client, server = pair()
    server.receive(encode_data(9, b"?"))
    assert server.data_to_send() == encode_control(FrameType.RST_STREAM, 0, b"\0\0\0\x09\0\0\0\x02")
    assert client.receive(encode_control(FrameType.RST_STREAM, 0, b"\0\0\0\x09\0\0\0\x02")) == []


@pytest.mark.parametrize("stream_id", [2, 0])
def test_a_stream_with_a_number_of_ours_is_refused(stream_id: int) -> None:
    _, server = pair()
    payload = stream_id.to_bytes(4, "big") + bytes(6) + HeaderCodec().encode({})
    assert server.receive(encode_control(FrameType.SYN_STREAM, 0, payload)) == []
    assert server.data_to_send()[3] == FrameType.RST_STREAM


def test_after_going_away_no_stream_is_taken() -> None:
    client, server = pair()
    server.go_away()
    assert client.receive(server.data_to_send()) == [GoneAway(0, 0)]
    stream = client.open({})
    assert server.receive(client.data_to_send()) == []
    assert client.receive(server.data_to_send()) == [StreamReset(stream, ResetStatus.REFUSED_STREAM)]


def test_pings_are_answered() -> None:
    client, server = pair()
    number = client.ping()
    assert server.receive(client.data_to_send()) == []
    assert client.receive(server.data_to_send()) == [PongReceived(number)]


def test_unknown_frames_and_settings_are_no_harm() -> None:
    _, server = pair()
    settings_frame = b"\0\0\0\x01" + b"\0\0\0\x07" + (1000).to_bytes(4, "big")
    assert server.receive(encode_control(FrameType.SETTINGS, 0, settings_frame)) == []
    assert server.receive(b"\x80\x03\0\x63\0\0\0\x02ab") == []


def test_without_flow_control_a_peer_that_opens_no_window_gets_everything() -> None:
    client, server = pair()
    stream = client.open({})
    client.send(stream, b"x" * 1_000_000)
    got = sum(len(each.data) for each in server.receive(client.data_to_send()) if isinstance(each, DataReceived))
    assert got == 1_000_000


def test_with_flow_control_a_sender_waits_for_the_window() -> None:
    client, server = pair(flow_control=True)
    stream = client.open({})
    client.send(stream, b"x" * 100_000)
    got = sum(len(each.data) for each in server.receive(client.data_to_send()) if isinstance(each, DataReceived))
    assert (got, client.held_bytes(stream)) == (65536, 100_000 - 65536)
    server.acknowledge(stream, got)
    client.receive(server.data_to_send())
    assert client.held_bytes(stream) == 0


def test_a_peer_that_ignores_the_window_is_reset() -> None:
    _, server = pair(flow_control=True)
    client = SpdyConnection(client=True)
    stream = client.open({})
    client.send(stream, b"x" * 100_000)
    events = server.receive(client.data_to_send())
    assert events[-1] == StreamReset(stream, ResetStatus.FLOW_CONTROL_ERROR)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_machine(data: bytes) -> None:
    with contextlib.suppress(SpdyError):
        SpdyConnection(client=False).receive(data)


class Conversation(RuleBasedStateMachine):
    """Both ends open, write, end and reset; the wire delivers pieces. What arrives is a prefix of what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = pair(flow_control=True)
        self.wires = [b"", b""]
        self.sent: dict[tuple[int, int], bytes] = {}
        self.got: dict[tuple[int, int], bytes] = {}
        self.ended: set[tuple[int, int]] = set()
        self.reset_streams: set[int] = set()
        self.known: list[set[int]] = [set(), set()]

    def collect(self) -> None:
        for end in (0, 1):
            self.wires[end] += self.ends[end].data_to_send()

    @rule(end=st.integers(0, 1))
    def open(self, end: int) -> None:
        self.known[end].add(self.ends[end].open({"n": "1"}))

    @precondition(lambda self: self.known[0] or self.known[1])
    @rule(data=st.data(), size=st.sampled_from([0, 1, 1000, 70_000]), fin=st.booleans())
    def send(self, data: st.DataObject, size: int, fin: bool) -> None:
        end, stream = data.draw(st.sampled_from([(end, each) for end in (0, 1) for each in sorted(self.known[end])]))
        payload = bytes([len(self.sent) % 251]) * size
        if self.ends[end].send(stream, payload, fin=fin):
            key = (end, stream)
            assert key not in self.ended
            self.sent[key] = self.sent.get(key, b"") + payload
            if fin:
                self.ended.add(key)

    @precondition(lambda self: self.known[0])
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.known[0])))
        self.reset_streams.add(stream)
        self.ends[0].reset(stream)

    @rule(end=st.integers(0, 1), size=st.sampled_from([1, 7, 5000, 10_000_000]))
    def deliver(self, end: int, size: int) -> None:
        self.collect()
        piece, self.wires[end] = self.wires[end][:size], self.wires[end][size:]
        for event in self.ends[1 - end].receive(piece):
            if isinstance(event, StreamOpened):
                self.known[1 - end].add(event.stream_id)
                self.ends[1 - end].reply(event.stream_id)
            elif isinstance(event, DataReceived):
                key = (end, event.stream_id)
                self.got[key] = self.got.get(key, b"") + event.data
                self.ends[1 - end].acknowledge(event.stream_id, len(event.data))
                if event.fin:
                    assert key in self.ended
                    assert self.got[key] == self.sent[key]

    @invariant()
    def what_arrived_was_sent(self) -> None:
        for key, data in self.got.items():
            assert self.sent.get(key, b"").startswith(data)

    def teardown(self) -> None:
        for _ in range(200):
            self.deliver(0, 10_000_000)
            self.deliver(1, 10_000_000)
        for key, data in self.sent.items():
            if key[1] not in self.reset_streams:
                assert self.got.get(key, b"") == data


Conversation.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestConversation = Conversation.TestCase
