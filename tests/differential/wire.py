"""The bytes themselves: where in the peer's frames an input stands, and what an output means."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import hpack
from hpack.struct import NeverIndexedHeaderTuple

from tests.http2.frame_factory import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADER_TABLE_SIZE,
    HEADERS,
    MAX_FRAME,
    SETTINGS,
)

__all__ = ["Inbound", "Outbound", "Partial", "frames_of"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_31_BITS = 0x7FFF_FFFF


def frames_of(data: bytes) -> Iterator[bytes]:
    """Cut the peer's bytes into frames by their lengths; the last may not be whole."""
    at = 0
    while at < len(data):
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        yield data[at:end]
        at = end


class Partial(NamedTuple):
    """A frame that is not whole yet: its header, and the payload that is here."""

    kind: int
    stream: int
    length: int
    here: bytes


class Inbound:
    """Follows the peer's frames, whatever they are worth, by their lengths.

    Attributes:
        number: How many frames are whole.
        data_ends: The sums of the lengths of DATA frames, one at the end of each.
        settings: Of each SETTINGS that is whole, the codes and values in order.
    """

    def __init__(self) -> None:
        self.number = 0
        self._rest = b""
        self._data_sum = 0
        self.data_ends: set[int] = {0}
        self.settings: list[list[tuple[int, int]]] = []

    def feed(self, data: bytes) -> None:
        """Note bytes that are about to be received."""
        had = len(self._rest)
        buffer = self._rest + data
        at, size = 0, len(buffer)
        while size - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            end = at + 9 + length
            # The header is noted once: in the read that brings its last byte.
            if at + 9 > had and buffer[at + 3] == DATA:
                self._data_sum += length
                self.data_ends.add(self._data_sum)
            if end > size:
                break
            if buffer[at + 3] == SETTINGS:
                self._note_settings(buffer[at:end])
            at = end
            self.number += 1
        self._rest = buffer[at:]

    def _note_settings(self, frame: bytes) -> None:
        if not frame[4] & ACK and len(frame) % 6 == 3:
            self.settings.append(list(struct.iter_unpack(">HL", frame[9:])))

    @property
    def partial(self) -> Partial | None:
        """The frame that the input stands in; None at a frame boundary or inside a header."""
        rest = self._rest
        if len(rest) < 9:
            return None
        stream = int.from_bytes(rest[5:9], "big") & _31_BITS
        return Partial(rest[3], stream, int.from_bytes(rest[:3], "big"), rest[9:])

    @property
    def into(self) -> int:
        """How many bytes of a frame are here; 0 at a frame boundary."""
        return len(self._rest)


class Outbound:
    """Reads what an engine sends as its peer does: a decoder that holds the engine to its word.

    Args:
        settings: What the peer announces, in order; each counts from its ACK on.
    """

    def __init__(self, settings: list[list[tuple[int, int]]]) -> None:
        self.decoder = hpack.Decoder()
        self._settings = settings
        self._acknowledged = 0
        self._longest = 16_384
        # The smallest size since the last block, which has to be signalled (RFC 7541 §4.2).
        self._smallest: int | None = None

    def read(self, data: bytes) -> list[tuple[object, ...]]:
        """Cut output into frames, with field blocks decoded."""
        data = data.removeprefix(_PREFACE)
        out: list[tuple[object, ...]] = []
        at, block, first_flags = 0, b"", 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 3], "big")
            kind, flags, stream = struct.unpack_from(">BBL", data, at + 3)
            payload = data[at + 9 : at + 9 + length]
            assert len(payload) == length, "half a frame was sent"
            assert length <= self._longest, f"a frame of {length} bytes, {self._longest} may be"
            at += 9 + length
            if kind in {HEADERS, CONTINUATION}:
                if kind == HEADERS:
                    block, first_flags = b"", flags
                block += payload
                if flags & END_HEADERS:
                    fields = self._fields(block)
                    out.append((HEADERS, first_flags | END_HEADERS, stream, fields))
                continue
            if kind == SETTINGS and flags & ACK:
                self._acknowledge()
            out.append((kind, flags, stream, payload))
        return out

    def _acknowledge(self) -> None:
        for code, value in self._settings[self._acknowledged]:
            if code == MAX_FRAME:
                self._longest = value
            elif code == HEADER_TABLE_SIZE:
                self.decoder.max_allowed_table_size = value
                self._smallest = value if self._smallest is None else min(self._smallest, value)
        self._acknowledged += 1

    def _fields(self, block: bytes) -> list[tuple[bytes, bytes, bool]]:
        if self._smallest is not None and self._smallest < self.decoder.header_table_size:
            first = int(hpack.hpack.decode_integer(block, 5)[0])
            assert block[0] & 0xE0 == 0x20, "a table size update is owed"
            assert first <= self._smallest, "the smallest table size was not signalled"
        self._smallest = None
        fields = self.decoder.decode(block, raw=True)
        return [
            (name, value, isinstance(field, NeverIndexedHeaderTuple))
            for field in fields
            for name, value in [field]
        ]
