"""One end of a SPDY/3.1 connection as a state machine: bytes in, events out; calls in, bytes out. No I/O.

Kubernetes' peers (moby/spdystream) neither honour nor send WINDOW_UPDATE, so flow control is off unless asked for:
against such a peer a sender that waits for windows waits for ever after 64 KiB. Back-pressure is then TCP's.
Source: SPDY Protocol draft 3.1; apimachinery ``pkg/util/httpstream/spdy`` for how Kubernetes uses it.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Mapping

from anynode.streaming.spdy_frames import (
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    ControlFrame,
    DataFrame,
    FrameReader,
    FrameType,
    HeaderCodec,
    SpdyError,
    encode_control,
    encode_data,
)

INITIAL_WINDOW_BYTES = 64 * 1024
MAX_DATA_BYTES = 64 * 1024
"""Larger writes are cut, so that streams take turns."""
SETTINGS_INITIAL_WINDOW = 7


class ResetStatus(enum.IntEnum):
    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9


@dataclasses.dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream; answer with ``reply`` or ``reset``."""

    stream_id: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class StreamAccepted:
    """The peer answered a stream of ours (SYN_REPLY)."""

    stream_id: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of a stream; with ``fin`` (then ``data`` may be empty) the peer sends no more."""

    stream_id: int
    data: bytes
    fin: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class StreamReset:
    stream_id: int
    status: int


@dataclasses.dataclass(frozen=True, slots=True)
class WindowOpened:
    """What was held back may have been sent."""

    stream_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class PongReceived:
    ping_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer will take no new streams."""

    last_stream_id: int
    status: int


Event = StreamOpened | StreamAccepted | DataReceived | StreamReset | WindowOpened | PongReceived | GoneAway


@dataclasses.dataclass(slots=True)
class _Stream:
    send_window: int
    receive_window: int
    local_fin: bool = False
    remote_fin: bool = False
    held: collections.deque[tuple[bytes, bool]] = dataclasses.field(default_factory=collections.deque)


class SpdyConnection:
    """Streams over one connection. Client streams have odd numbers, the server's even ones."""

    def __init__(self, *, client: bool, flow_control: bool = False) -> None:
        self._reader = FrameReader()
        self._headers = HeaderCodec()
        self._streams: dict[int, _Stream] = {}
        self._out: list[bytes] = []
        self._client = client
        self._next_id = 1 if client else 2
        self._next_ping = 1 if client else 2
        self._last_peer_id = 0
        self._flow_control = flow_control
        self._send_window = INITIAL_WINDOW_BYTES
        self._peer_initial_window = INITIAL_WINDOW_BYTES
        self.going_away = False

    def data_to_send(self) -> bytes:
        """What must go to the peer now; each byte is given once."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    @property
    def streams(self) -> frozenset[int]:
        """The streams not closed on both sides."""
        return frozenset(self._streams)

    def held_bytes(self, stream_id: int) -> int:
        """What waits for the peer's window."""
        stream = self._streams.get(stream_id)
        return sum(len(data) for data, _ in stream.held) if stream is not None else 0

    # What we do

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> int:
        """Open a stream; returns its number."""
        stream_id = self._next_id
        self._next_id += 2
        self._streams[stream_id] = _Stream(self._peer_initial_window, INITIAL_WINDOW_BYTES, local_fin=fin)
        payload = stream_id.to_bytes(4, "big") + bytes(6) + self._headers.encode(headers)
        self._out.append(encode_control(FrameType.SYN_STREAM, FLAG_FIN if fin else 0, payload))
        return stream_id

    def reply(self, stream_id: int, headers: Mapping[str, str] | None = None, *, fin: bool = False) -> None:
        """Accept a stream of the peer's."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        payload = stream_id.to_bytes(4, "big") + self._headers.encode(headers or {})
        self._out.append(encode_control(FrameType.SYN_REPLY, FLAG_FIN if fin else 0, payload))
        if fin:
            stream.local_fin = True
            self._forget_if_done(stream_id, stream)

    def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> bool:
        """Send bytes, and with ``fin`` that no more will come; False when our side of the stream is closed."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.local_fin:
            return False
        stream.local_fin = fin
        if not self._flow_control:
            self._write(stream_id, data, fin)
            self._forget_if_done(stream_id, stream)
            return True
        stream.held.append((data, fin))
        self._release(stream_id, stream)
        return True

    def reset(self, stream_id: int, status: int = ResetStatus.CANCEL) -> None:
        """End a stream both ways at once."""
        if self._streams.pop(stream_id, None) is not None:
            self._write_reset(stream_id, status)

    def ping(self) -> int:
        """Ask for a sign of life; returns the number the answer will carry."""
        ping_id = self._next_ping
        self._next_ping += 2
        self._out.append(encode_control(FrameType.PING, 0, ping_id.to_bytes(4, "big")))
        return ping_id

    def go_away(self, status: int = 0) -> None:
        """Take no more streams."""
        if not self.going_away:
            self.going_away = True
            payload = self._last_peer_id.to_bytes(4, "big") + status.to_bytes(4, "big")
            self._out.append(encode_control(FrameType.GOAWAY, 0, payload))

    def acknowledge(self, stream_id: int, size: int) -> None:
        """``size`` received bytes were consumed: open the peer's windows again (with flow control only)."""
        if not self._flow_control or size <= 0:
            return
        self._write_window(0, size)
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.remote_fin:
            stream.receive_window += size
            self._write_window(stream_id, size)

    def _write(self, stream_id: int, data: bytes, fin: bool) -> None:
        while len(data) > MAX_DATA_BYTES:
            self._out.append(encode_data(stream_id, data[:MAX_DATA_BYTES]))
            data = data[MAX_DATA_BYTES:]
        if data or fin:
            self._out.append(encode_data(stream_id, data, fin=fin))

    def _write_reset(self, stream_id: int, status: int) -> None:
        payload = stream_id.to_bytes(4, "big") + int(status).to_bytes(4, "big")
        self._out.append(encode_control(FrameType.RST_STREAM, 0, payload))

    def _write_window(self, stream_id: int, size: int) -> None:
        payload = stream_id.to_bytes(4, "big") + size.to_bytes(4, "big")
        self._out.append(encode_control(FrameType.WINDOW_UPDATE, 0, payload))

    def _release(self, stream_id: int, stream: _Stream) -> None:
        """Send as much of what is held as the windows allow."""
        while stream.held:
            data, fin = stream.held[0]
            room = max(0, min(stream.send_window, self._send_window))
            if len(data) > room:
                if not room:
                    return
                stream.held[0] = (data[room:], fin)
                data, fin = data[:room], False
            else:
                stream.held.popleft()
            stream.send_window -= len(data)
            self._send_window -= len(data)
            self._write(stream_id, data, fin)
        self._forget_if_done(stream_id, stream)

    def _forget_if_done(self, stream_id: int, stream: _Stream) -> None:
        if stream.local_fin and stream.remote_fin and not stream.held:
            self._streams.pop(stream_id, None)

    # What the peer does

    def receive(self, data: bytes) -> list[Event]:
        """What the peer did. Raises ``SpdyError`` when it broke the protocol beyond a single stream."""
        events: list[Event] = []
        for frame in self._reader.feed(data):
            if isinstance(frame, DataFrame):
                self._take_data(frame, events)
            else:
                self._take_control(frame, events)
        return events

    def _take_data(self, frame: DataFrame, events: list[Event]) -> None:
        stream = self._streams.get(frame.stream_id)
        size = len(frame.data)
        if stream is None or stream.remote_fin:
            self._write_reset(frame.stream_id, ResetStatus.INVALID_STREAM)
            self.acknowledge(0, size)
            return
        if self._flow_control:
            stream.receive_window -= size
            if stream.receive_window < 0:
                self.reset(frame.stream_id, ResetStatus.FLOW_CONTROL_ERROR)
                events.append(StreamReset(frame.stream_id, ResetStatus.FLOW_CONTROL_ERROR))
                return
        fin = bool(frame.flags & FLAG_FIN)
        stream.remote_fin = fin
        events.append(DataReceived(frame.stream_id, frame.data, fin))
        self._forget_if_done(frame.stream_id, stream)

    def _take_control(self, frame: ControlFrame, events: list[Event]) -> None:
        payload = frame.payload
        match frame.kind:
            case FrameType.SYN_STREAM:
                self._take_open(frame, events)
            case FrameType.SYN_REPLY:
                self._take_reply(frame, events)
            case FrameType.HEADERS:
                self._headers.decode(payload[4:])  # keeps the shared compression in step
            case FrameType.RST_STREAM:
                stream_id, status = _numbers(payload)
                if self._streams.pop(stream_id, None) is not None:
                    events.append(StreamReset(stream_id, status))
            case FrameType.PING:
                self._take_ping(payload, events)
            case FrameType.GOAWAY:
                last, status = _numbers(payload)
                events.append(GoneAway(last, status))
            case FrameType.WINDOW_UPDATE:
                stream_id, size = _numbers(payload)
                self._take_window(stream_id & 0x7FFF_FFFF, size & 0x7FFF_FFFF, events)
            case FrameType.SETTINGS:
                self._take_settings(payload)
            case _:
                pass  # unknown frames are to be ignored

    def _take_open(self, frame: ControlFrame, events: list[Event]) -> None:
        if len(frame.payload) < 10:
            raise SpdyError("a SYN_STREAM is too short")
        stream_id = int.from_bytes(frame.payload[:4], "big") & 0x7FFF_FFFF
        headers = self._headers.decode(frame.payload[10:])
        if stream_id % 2 == (1 if not self._client else 0) and stream_id > self._last_peer_id:
            self._last_peer_id = stream_id
        else:
            self._write_reset(stream_id, ResetStatus.PROTOCOL_ERROR)
            return
        if self.going_away:
            self._write_reset(stream_id, ResetStatus.REFUSED_STREAM)
            return
        fin = bool(frame.flags & FLAG_FIN)
        one_way = bool(frame.flags & FLAG_UNIDIRECTIONAL)
        stream = _Stream(self._peer_initial_window, INITIAL_WINDOW_BYTES, local_fin=one_way, remote_fin=fin)
        self._streams[stream_id] = stream
        events.append(StreamOpened(stream_id, headers, fin))
        self._forget_if_done(stream_id, stream)

    def _take_reply(self, frame: ControlFrame, events: list[Event]) -> None:
        if len(frame.payload) < 4:
            raise SpdyError("a SYN_REPLY is too short")
        stream_id = int.from_bytes(frame.payload[:4], "big") & 0x7FFF_FFFF
        headers = self._headers.decode(frame.payload[4:])
        stream = self._streams.get(stream_id)
        if stream is None:
            self._write_reset(stream_id, ResetStatus.INVALID_STREAM)
            return
        fin = bool(frame.flags & FLAG_FIN)
        events.append(StreamAccepted(stream_id, headers, fin))
        if fin:
            stream.remote_fin = True
            self._forget_if_done(stream_id, stream)

    def _take_ping(self, payload: bytes, events: list[Event]) -> None:
        if len(payload) < 4:
            raise SpdyError("a PING is too short")
        ping_id = int.from_bytes(payload[:4], "big")
        if ping_id % 2 == self._next_ping % 2:
            events.append(PongReceived(ping_id))
        else:
            self._out.append(encode_control(FrameType.PING, 0, payload[:4]))

    def _take_window(self, stream_id: int, size: int, events: list[Event]) -> None:
        if not self._flow_control:
            return
        if stream_id == 0:
            self._send_window += size
            for each, stream in tuple(self._streams.items()):
                self._release(each, stream)
        elif (found := self._streams.get(stream_id)) is not None:
            found.send_window += size
            self._release(stream_id, found)
        events.append(WindowOpened(stream_id))

    def _take_settings(self, payload: bytes) -> None:
        count = int.from_bytes(payload[:4], "big")
        for index in range(min(count, (len(payload) - 4) // 8)):
            at = 4 + index * 8
            identifier = int.from_bytes(payload[at + 1 : at + 4], "big")
            if identifier == SETTINGS_INITIAL_WINDOW:
                size = int.from_bytes(payload[at + 4 : at + 8], "big") & 0x7FFF_FFFF
                change, self._peer_initial_window = size - self._peer_initial_window, size
                for stream_id, stream in tuple(self._streams.items()):
                    stream.send_window += change
                    if self._flow_control:
                        self._release(stream_id, stream)


def _numbers(payload: bytes) -> tuple[int, int]:
    if len(payload) < 8:
        raise SpdyError("a control frame is too short")
    return int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
