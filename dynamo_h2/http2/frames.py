"""Frames as bytes (RFC 9113 §4 and §6): packing, parsing, and what can be told without streams.

Everything that a frame's nine-byte header decides is judged there, before a byte of the payload is
kept: its length, whether its type belongs on a stream, the lengths that RFC 9113 fixes, whether a
field block is open, and how long a field block may become.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ACK",
    "END_HEADERS",
    "END_STREAM",
    "HEADER_LENGTH",
    "LEAST_BLOCK_LIMIT",
    "PADDED",
    "PREFACE",
    "PRIORITY",
    "PRIORITY_LENGTH",
    "SETTING_LENGTH",
    "FrameHeader",
    "FrameReader",
    "FrameType",
    "NotHttp2",
    "PeerError",
    "StreamError",
    "body_of",
    "check_header",
    "pack_frame",
    "pack_goaway",
    "pack_rst_stream",
    "pack_settings",
    "pack_window_update",
    "parse_goaway",
    "parse_header",
    "parse_settings",
    "parse_u31",
    "parse_u32",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_LENGTH: Final = 9

# Flags; a bit means different things on different types of frame.
END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
PRIORITY: Final = 0x20

# The top bit of stream identifiers and increments is reserved, and ignored (RFC 9113 §4.1, §6.9).
_31_BITS: Final = 0x7FFF_FFFF

_HEADER = struct.Struct(">HBBBL")
_U32 = struct.Struct(">L")
_GOAWAY = struct.Struct(">LL")
_SETTING = struct.Struct(">HL")

PRIORITY_LENGTH: Final = 5
SETTING_LENGTH: Final = _SETTING.size

# A field block may be this many times as long encoded as its list may be decoded: Huffman codes
# lengthen rare bytes, up to four times. Less than one frame of the least size is never refused.
BLOCK_FACTOR: Final = 2
LEAST_BLOCK_LIMIT: Final = 16_384
# A sender fills its frames, of 16 KiB at least, except for the last one: one frame per KiB, and a
# few, is generous.
BYTES_PER_CONTINUATION: Final = 1024
FREE_CONTINUATIONS: Final = 8

# How much of an HTTP/1 status line is waited for, in bytes.
MAX_FIRST_LINE: Final = 256


class FrameType(IntEnum):
    """The frame types of RFC 9113 §6, and that of RFC 9218 §7.1."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9
    PRIORITY_UPDATE = 0x10


_ON_STREAM = frozenset(
    {
        FrameType.DATA,
        FrameType.HEADERS,
        FrameType.PRIORITY,
        FrameType.RST_STREAM,
        FrameType.PUSH_PROMISE,
        FrameType.CONTINUATION,
    }
)
_ON_CONNECTION = frozenset({FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY})
_PADDED_TYPES = frozenset({FrameType.DATA, FrameType.HEADERS})
# PRIORITY has a fixed length too, but there a wrong one is an error of the stream (§6.3).
_FIXED_LENGTH: dict[int, int] = {
    FrameType.RST_STREAM: 4,
    FrameType.PING: 8,
    FrameType.WINDOW_UPDATE: 4,
}


class PeerError(ProtocolError):
    """The peer broke a rule that ends the connection (RFC 9113 §5.4.1).

    Args:
        reason: What it did, in a few words; it is also sent as the debug data of our GOAWAY.
        code: The error code of that GOAWAY.
    """

    def __init__(self, reason: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.error_code = code


class NotHttp2(PeerError):
    """The peer answered in HTTP/1.x.

    Attributes:
        first_line: The first line of its answer, as far as it was received.
    """

    def __init__(self, first_line: str) -> None:
        super().__init__(f"the peer speaks HTTP/1: {first_line}")
        self.first_line = first_line


class StreamError(Exception):
    """The peer broke a rule that ends one stream and no other (RFC 9113 §5.4.2).

    Args:
        reason: What it did, in a few words.
        code: The error code of our RST_STREAM.
    """

    def __init__(self, reason: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.code = code


class FrameHeader(NamedTuple):
    """The nine bytes in front of every frame: payload length in bytes, type, flags, stream."""

    length: int
    type: int
    flags: int
    stream_id: int

    @property
    def name(self) -> str:
        """The frame type as RFC 9113 spells it."""
        if self.type in FrameType._value2member_map_:
            return FrameType(self.type).name
        return f"frame type {self.type:#x}"


# Parsing


def parse_header(buffer: bytes | bytearray | memoryview, offset: int = 0) -> FrameHeader:
    """Read the frame header at ``offset``, where at least nine bytes must be."""
    high, low, frame_type, flags, stream_id = _HEADER.unpack_from(buffer, offset)
    return FrameHeader(high << 8 | low, frame_type, flags, stream_id & _31_BITS)


def check_header(header: FrameHeader, max_frame_size: int) -> None:
    """Judge what a frame header alone can tell.

    Args:
        header: The header of a frame that was received.
        max_frame_size: The longest payload that we announced, in bytes.

    Raises:
        PeerError: FRAME_SIZE_ERROR (RFC 9113 §4.2) or PROTOCOL_ERROR.
    """
    if header.length > max_frame_size:
        raise PeerError(
            f"{header.name} of {header.length} bytes, {max_frame_size} are allowed",
            ErrorCodes.FRAME_SIZE_ERROR,
        )
    if header.stream_id:
        if header.type in _ON_CONNECTION:
            raise PeerError(f"{header.name} on stream {header.stream_id}")
    elif header.type in _ON_STREAM:
        raise PeerError(f"{header.name} on stream 0")
    if header.type == FrameType.PRIORITY_UPDATE:
        raise PeerError("PRIORITY_UPDATE, which is the client's to send")
    if not _length_is_possible(header):
        raise PeerError(f"{header.name} of {header.length} bytes", ErrorCodes.FRAME_SIZE_ERROR)


def _length_is_possible(header: FrameHeader) -> bool:
    length, frame_type, flags, _ = header
    if frame_type == FrameType.SETTINGS:
        return length == 0 if flags & ACK else length % _SETTING.size == 0
    if frame_type == FrameType.GOAWAY:
        return length >= _GOAWAY.size
    return length == _FIXED_LENGTH.get(frame_type, length)


def body_of(header: FrameHeader, payload: bytes) -> bytes:
    """Strip padding and priority from the payload of a DATA or HEADERS frame.

    Raises:
        PeerError: The payload has no room for them (RFC 9113 §6.1, §6.2).
    """
    start = 1 if header.flags & PADDED else 0
    if header.type == FrameType.HEADERS and header.flags & PRIORITY:
        start += PRIORITY_LENGTH
    if not start:
        return payload
    if len(payload) < start:
        raise PeerError(f"{header.name} of {len(payload)} bytes", ErrorCodes.FRAME_SIZE_ERROR)
    end = len(payload) - (payload[0] if header.flags & PADDED else 0)
    if end < start:
        raise PeerError(f"padding is longer than the {header.name} frame")
    return payload[start:end]


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Read the (identifier, value) pairs of SETTINGS, in order and with duplicates."""
    return list(_SETTING.iter_unpack(payload))


def parse_goaway(payload: bytes) -> tuple[int, int, bytes]:
    """Read the last stream identifier, the error code and the debug data of GOAWAY."""
    last_stream_id, code = _GOAWAY.unpack_from(payload)
    return last_stream_id & _31_BITS, code, payload[_GOAWAY.size :]


def parse_u32(payload: bytes) -> int:
    """Read the error code of RST_STREAM."""
    (value,) = _U32.unpack(payload)
    return int(value)


def parse_u31(payload: bytes) -> int:
    """Read the increment of WINDOW_UPDATE, in bytes."""
    return parse_u32(payload) & _31_BITS


class _FieldBlock:
    """A field block that is spread over HEADERS and CONTINUATION frames (RFC 9113 §4.3)."""

    __slots__ = ("continuations", "fragments", "header")

    def __init__(self, header: FrameHeader, fragment: bytes) -> None:
        self.header = header
        self.fragments = bytearray(fragment)
        self.continuations = 0


class FrameReader:
    """Cuts the bytes that a client receives into frames that are right by themselves.

    Args:
        max_frame_size: The longest payload that we announced, in bytes.
        max_header_list_size: The longest header list that we announced, in bytes.

    Attributes:
        started: Whether the first frame, which must be SETTINGS, is complete (RFC 9113 §3.4).
    """

    __slots__ = ("_block", "_buffer", "max_frame_size", "max_header_list_size", "started")

    def __init__(self, max_frame_size: int, max_header_list_size: int) -> None:
        self.max_frame_size = max_frame_size
        self.max_header_list_size = max_header_list_size
        self.started = False
        self._buffer = bytearray()
        self._block: _FieldBlock | None = None

    @property
    def at_boundary(self) -> bool:
        """Whether nothing is kept: neither part of a frame nor part of a field block."""
        return not self._buffer and self._block is None

    @property
    def missing(self) -> int:
        """How many more bytes complete the frame that has begun, or at first its header."""
        have = len(self._buffer)
        if have < HEADER_LENGTH:
            return HEADER_LENGTH - have
        return HEADER_LENGTH + parse_header(self._buffer).length - have

    def take_header_part(self) -> bytes:
        """Give back the beginning of a frame's header, where that is all that is kept."""
        if self._block is not None or len(self._buffer) >= HEADER_LENGTH:
            return b""
        part = bytes(self._buffer)
        self._buffer.clear()
        return part

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what is kept."""
        self._buffer.clear()
        self._block = None

    def frames(self) -> Iterator[tuple[FrameHeader, bytes]]:
        """Yield the frames that are complete, with padding and priority stripped.

        A field block comes as one HEADERS frame, whatever number of frames it took.

        Raises:
            PeerError: The next frame breaks a rule of its own; `NotHttp2` when it is not one.
        """
        if not self.started and self._is_http1():
            return
        at = 0
        try:
            while len(self._buffer) - at >= HEADER_LENGTH:
                header = parse_header(self._buffer, at)
                self._check(header)
                start = at + HEADER_LENGTH
                end = start + header.length
                if end > len(self._buffer):
                    return
                at = end
                frame = self._finish(header, bytes(self._buffer[start:end]))
                if frame is not None:
                    yield frame
        finally:
            del self._buffer[:at]

    def finish(self) -> None:
        """Judge what is there when the connection ends.

        Raises:
            NotHttp2: It is the beginning of an answer in HTTP/1, shorter than a line.
        """
        if not self.started and self._buffer.startswith(b"HTTP/"):
            raise NotHttp2(_text(self._buffer))

    def _is_http1(self) -> bool:
        """Whether an HTTP/1 status line has begun; raises `NotHttp2` when it is complete."""
        if not self._buffer.startswith(b"HTTP/"):
            return False
        line, end, _ = self._buffer[:MAX_FIRST_LINE].partition(b"\n")
        if end or len(line) == MAX_FIRST_LINE:
            raise NotHttp2(_text(line))
        return True

    def _check(self, header: FrameHeader) -> None:
        """Judge a frame before its payload is kept."""
        # First: what is no HTTP/2 at all has no frame sizes (§3.4).
        if not self.started and (header.type != FrameType.SETTINGS or header.flags & ACK):
            raise PeerError(f"the first frame is {header.name} and not SETTINGS")
        check_header(header, self.max_frame_size)
        if header.type == FrameType.PUSH_PROMISE:
            raise PeerError("PUSH_PROMISE, where push was never allowed")
        block = self._block
        if header.type == FrameType.CONTINUATION:
            if block is None or block.header.stream_id != header.stream_id:
                raise PeerError(f"CONTINUATION on stream {header.stream_id} continues nothing")
            self._check_block(len(block.fragments) + header.length, block.continuations + 1)
        elif block is not None:
            raise PeerError(f"{header.name} inside a field block")
        elif header.type == FrameType.HEADERS:
            self._check_block(header.length, 0)

    def _check_block(self, length: int, continuations: int) -> None:
        limit = max(BLOCK_FACTOR * self.max_header_list_size, LEAST_BLOCK_LIMIT)
        if length > limit:
            raise PeerError(f"field block of over {limit} bytes", ErrorCodes.ENHANCE_YOUR_CALM)
        if continuations > FREE_CONTINUATIONS + limit // BYTES_PER_CONTINUATION:
            raise PeerError(f"{continuations} CONTINUATION frames", ErrorCodes.ENHANCE_YOUR_CALM)

    def _finish(self, header: FrameHeader, payload: bytes) -> tuple[FrameHeader, bytes] | None:
        """Return a complete frame, None while its field block goes on."""
        self.started = True
        if header.type == FrameType.CONTINUATION:
            return self._continue_block(header, payload)
        if header.type not in _PADDED_TYPES:
            return header, payload
        body = body_of(header, payload)
        if header.type == FrameType.HEADERS and not header.flags & END_HEADERS:
            self._block = _FieldBlock(header, body)
            return None
        return header, body

    def _continue_block(
        self, header: FrameHeader, payload: bytes
    ) -> tuple[FrameHeader, bytes] | None:
        block = cast("_FieldBlock", self._block)
        block.fragments += payload
        block.continuations += 1
        if not header.flags & END_HEADERS:
            return None
        self._block = None
        return block.header, bytes(block.fragments)


def _text(line: bytearray) -> str:
    return line.decode("latin-1").strip()


# Packing


def pack_frame(frame_type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Pack a frame; the payload must fit the peer's MAX_FRAME_SIZE."""
    length = len(payload)
    return _HEADER.pack(length >> 8, length & 0xFF, frame_type, flags, stream_id) + payload


def pack_settings(settings: dict[int, int]) -> bytes:
    """Pack SETTINGS in the order given (RFC 9113 §6.5.1)."""
    numbers = [number for setting in settings.items() for number in setting]
    return pack_frame(FrameType.SETTINGS, 0, 0, struct.pack(">" + "HI" * len(settings), *numbers))


def pack_window_update(stream_id: int, increment: int) -> bytes:
    """Pack WINDOW_UPDATE; the increment is 1 to 2**31 - 1 bytes (RFC 9113 §6.9)."""
    return pack_frame(FrameType.WINDOW_UPDATE, 0, stream_id, _U32.pack(increment))


def pack_rst_stream(stream_id: int, code: int) -> bytes:
    """Pack RST_STREAM (RFC 9113 §6.4)."""
    return pack_frame(FrameType.RST_STREAM, 0, stream_id, _U32.pack(code))


def pack_goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """Pack GOAWAY (RFC 9113 §6.8)."""
    return pack_frame(FrameType.GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug)
