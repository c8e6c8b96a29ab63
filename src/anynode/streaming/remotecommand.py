"""The remote command protocols v1 to v5: their names, their channels, and how a command's end is told. No I/O.

Over WebSocket the first byte of a message names its channel; over SPDY a stream's ``streamType`` header does. From v4
on the error channel ends with a Status object, before with a sentence or nothing. Source: cri-streaming
``pkg/streaming/remotecommand``, client-go ``tools/remotecommand``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum

import orjson

from anynode.api.objects import Object, get_path

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
V3 = "v3.channel.k8s.io"
V2 = "v2.channel.k8s.io"
V1 = "channel.k8s.io"
V4_BASE64 = "v4.base64.channel.k8s.io"
V1_BASE64 = "base64.channel.k8s.io"

WEBSOCKET_PROTOCOLS = (V5, V4, V4_BASE64, V1, V1_BASE64, "")
SPDY_PROTOCOLS = (V4, V3, V2, V1)
"""What a serving end takes over SPDY; v5 says nothing there that v4 does not."""

CLOSE_SIGNAL = 255
NON_ZERO_EXIT_CODE = "NonZeroExitCode"
EXIT_CODE = "ExitCode"


class Channel(enum.IntEnum):
    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """Which of the command's streams the user joins."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    def channels(self, protocol: str) -> frozenset[Channel]:
        """The channels a session has, error always among them."""
        found = {Channel.ERROR}
        if self.stdin:
            found.add(Channel.STDIN)
        if self.stdout:
            found.add(Channel.STDOUT)
        if self.stderr and not self.tty:
            found.add(Channel.STDERR)
        if self.tty and resizes(protocol):
            found.add(Channel.RESIZE)
        return frozenset(found)


def resizes(protocol: str) -> bool:
    return protocol not in (V1, V2, "")


def tells_status(protocol: str) -> bool:
    """Whether the error channel ends with a Status object."""
    return protocol in (V5, V4, V4_BASE64)


def half_closes(protocol: str) -> bool:
    """Whether, over WebSocket, one channel can be ended alone."""
    return protocol == V5


def is_base64(protocol: str) -> bool:
    return protocol in (V4_BASE64, V1_BASE64)


def encode_message(protocol: str, channel: int, data: bytes) -> bytes:
    """One WebSocket message of a channel."""
    if is_base64(protocol):
        return b"%d%b" % (channel, base64.b64encode(data))
    return bytes((channel,)) + data


def decode_message(protocol: str, message: bytes) -> tuple[int, bytes] | None:
    """Channel and bytes of a WebSocket message; None when it says nothing. (255, channel) ends a channel in v5."""
    if not message:
        return None
    if not is_base64(protocol):
        return message[0], message[1:]
    try:
        return message[0] - ord("0"), base64.b64decode(message[1:])
    except binascii.Error:
        return None


def encode_size(width: int, height: int) -> bytes:
    return orjson.dumps({"Width": width, "Height": height}) + b"\n"


class SizeReader:
    """Bytes of the resize channel -> sizes. Sizes are JSON objects one after the other, cut anywhere."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        """(width, height) of each size now complete; what is no size is dropped."""
        self._buffer += data
        sizes = []
        while b"}" in self._buffer:
            text, _, self._buffer = self._buffer.partition(b"}")
            try:
                size = orjson.loads(text.strip() + b"}")
                sizes.append((int(size["Width"]), int(size["Height"])))
            except (ValueError, KeyError, TypeError):
                continue
        if len(self._buffer) > 4096:
            self._buffer = b""
        return sizes


def success() -> Object:
    return {"metadata": {}, "status": "Success"}


def exit_status(code: int) -> Object:
    """The Status of a command that ended with ``code``."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": NON_ZERO_EXIT_CODE,
        "details": {"causes": [{"reason": EXIT_CODE, "message": str(code)}]},
    }


def failure(message: str) -> Object:
    """The Status of a command that could not be run."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def encode_status(protocol: str, status: Object) -> bytes:
    """What the error channel carries at the end; empty when the protocol says success by silence."""
    if tells_status(protocol):
        return orjson.dumps(status)
    return b"" if status.get("status") == "Success" else str(status.get("message") or "").encode()


def decode_status(protocol: str, data: bytes) -> Object:
    """The Status an error channel ended with."""
    if not data:
        return success()
    if tells_status(protocol):
        try:
            status = orjson.loads(data)
        except ValueError:
            status = None
        if isinstance(status, dict):
            return status
    return {"status": "Failure", "message": f"error executing remote command: {data.decode('utf-8', 'replace')}"}


def exit_code_of(status: Object) -> int | None:
    """The command's exit code; None when it did not run to an end."""
    if status.get("status") == "Success":
        return 0
    if status.get("reason") != NON_ZERO_EXIT_CODE:
        return None
    for cause in get_path(status, "details", "causes", default=()):
        if cause.get("reason") == EXIT_CODE and str(cause.get("message")).isdigit():
            return int(cause["message"])
    return None
