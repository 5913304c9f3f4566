"""Chooses what the peer sends, at random but with an eye on what makes sense now."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeAlias

from h2.stream import StreamClosedBy, StreamState

from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.engine_stream import EngineStream
from dynamo_h2.http2.fast import COPY_LIMIT
from dynamo_h2.http2.frames import HEADER_LENGTH
from tests.differential.blocks import announced, block, size_update
from tests.differential.mutate import mutated
from tests.differential.pools import BODY
from tests.differential.steps import Receive
from tests.differential.unusual import PRIORITY_UPDATE, ignored, priority_update, push_promise
from tests.differential.wire import frames_of
from tests.http2 import frame_factory as ff

__all__ = ["CODES", "WINDOWS", "Peer", "weighted"]

CODES: Final = (0, 1, 2, 5, 7, 8, 11, 13, 0xFFFF_FFFF)
_SIZES: Final = (0, 1, 2, 5, 5, 5, 10, 40, 40, 60, 300)
_LARGE: Final = (4_096, 4_097, 8_192, 8_193, 16_384, 16_385, 20_000, 40_000)
_LONG: Final = (COPY_LIMIT, COPY_LIMIT + 1, 5_000)
_BYTEWISE: Final = ("byte", "payload")
_LEAPS: Final = (COPY_LIMIT, COPY_LIMIT + 1, COPY_LIMIT + 100)
_NUMBERS: Final = (1, 1, 5, 5, 100, 100, 1_000, 1_000, 65_535, 65_535)
_ODD_NUMBERS: Final = (0, 2**31 - 1, 2**31, 2**32 - 1)
_TABLE_SIZES: Final = (0, 0, 50, 100, 200, 1_024, 4_096, 4_096, 8_192, 2**32 - 1)
WINDOWS: Final = (0, 0, 5, 20, 100, 65_535, 200_000, 2**31 - 1)
_NO_PRIORITIES: Final = 9
_HTTP_1: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"
_TRAILERS: Final = (b"", b"\x00\x01x\x01y", b"\x40\x01x\x01y")
# More answers than are queued for a peer that does not take them.
_FLOOD: Final = 1_001

_Weighted: TypeAlias = tuple[Sequence[Callable[[], object]], list[float]]


class Peer:
    """Makes the peer's bytes.

    Args:
        random: Where all choices come from.
        hostile: Whether the bytes are damaged now and then.
        cutting: How they come: "whole", at a "few" places, byte by "byte", or so only in the
            "payload" of frames.
    """

    def __init__(self, random: Random, *, hostile: bool, cutting: str) -> None:
        self._random = random
        # Byte by byte, long frames take long: only `_long` makes some.
        self._sizes = _SIZES[:-2] if cutting in _BYTEWISE else _SIZES
        self._large = self._sizes if cutting in _BYTEWISE else _LARGE
        self._hostile = hostile
        self._cutting = cutting
        self._engine: Engine
        self._blocks: list[bytes] = []
        # What is left of frames that were cut in two, with calls in between.
        self._rest = b""
        # Every sequence is fond of something: the state that takes many steps is reached so.
        self._fond = heads, data = random.choice(((1, 1), (1, 1), (1, 1), (5, 1), (1, 4)))
        self._frames = weighted(
            (self._head, 18 * heads),
            (self._data, 16 * data),
            (self._response, 14),
            (self._aged, 2),
            (self._long, 1.5),
            (self._trailers, 3),
            (lambda: ff.rst(self._stream(), random.choice(CODES)), 2),
            (self._window_update, 7),
            (self._settings, 4),
            (self._settings_ack, 3),
            (lambda: ff.ping(ack=random.random() < 0.3), 2),
            (self._goaway, 0.6),
            (self._other, 2.5),
            (self._interrupted, 0.7),
            (self._anything, 0.7),
            (self._flood, 0.0 if cutting == "byte" else 0.02),
        )
        self._frames_without_stream = weighted(
            (lambda: ff.window_update(0, self._increment()), 3),
            (self._settings, 5),
            (self._settings_ack, 1),
            (lambda: ff.ping(ack=random.random() < 0.3), 1),
            (self._goaway, 0.3),
            (self._late, 2),
        )

    def ending(self, engine: Engine) -> Receive:
        """What no server may send to a client that never allowed push, whatever went before."""
        self._engine = engine
        random = self._random
        stream = self._stream()
        if random.random() < 0.3:
            return self._receive(priority_update(random, stream))
        frames = push_promise(random, stream, self._block())
        if random.random() < 0.1:
            frames = ff.frame(ff.HEADERS, 0, stream, b"\x88") + frames
        return self._receive(frames)

    def _first(self) -> Receive:
        """What comes before anything else came: SETTINGS, or what is wrong there."""
        chance = self._random.random()
        if chance < 0.05:
            return Receive(b"")
        if chance < 0.07:
            return self._receive(_HTTP_1)
        return self._receive(self._settings() if chance < 0.97 else self._flight())

    def _pick(self, weighted: _Weighted) -> object:
        made, weights = weighted
        return self._random.choices(made, cum_weights=weights)[0]()

    def _stream(self) -> int:
        """A stream: most often one that is open."""
        random, engine = self._random, self._engine
        chance = random.random()
        if chance < 0.97 and engine.streams:
            return random.choice(list(engine.streams))
        if chance < 0.99 and (closed := list(engine._closed_streams)):
            return random.choice(closed)
        highest = engine.highest_outbound_stream_id
        return random.choice((highest + 2, 2, 0, highest | 0x8000_0000))

    def _receiving(self, *, headed: bool) -> int:
        """A stream on which a response may begin, or go on; now and then any."""
        fitting = self._fitting(headed=headed)
        if not fitting or self._random.random() < 0.08:
            return self._stream()
        return self._random.choice(fitting)

    def _fitting(self, *, headed: bool) -> list[int]:
        return [
            number
            for number, stream in self._engine.streams.items()
            if bool(stream.state_machine.headers_received) is headed
            and stream.state_machine.state is not StreamState.HALF_CLOSED_REMOTE
        ]

    def _size(self) -> int:
        random = self._random
        return random.choice(self._large if random.random() < 0.04 else self._sizes)

    def _receive(self, data: bytes) -> Receive:
        """One or more reads of the bytes that are due."""
        random = self._random
        data, self._rest = self._rest + data, b""
        if self._cutting != "whole" and random.random() < 0.3:
            keep = self._place(data)
            data, self._rest = data[:keep], data[keep:]
        cuts: tuple[int, ...] = ()
        if self._cutting in _BYTEWISE:
            cuts = self._bytewise(data)
        elif self._cutting == "few":
            cuts = tuple(sorted(self._place(data) for _ in range(3)))
            cuts += cuts[: random.random() < 0.2]
        return Receive(data, cuts, random.random() < 0.2)

    def _bytewise(self, data: bytes) -> tuple[int, ...]:
        """Cut everywhere, or everywhere but in the frames' headers; half the time with leaps.

        Those are in long frames, and as long as what is copied at most, or a little longer.
        """
        random, leap, at = self._random, self._random.choice(_LEAPS), 0
        leaps = random.random() < 0.5
        places = set(range(1, len(data)))
        for frame in frames_of(data):
            begin, spare = at + HEADER_LENGTH, len(frame) - HEADER_LENGTH - leap
            if self._cutting == "payload":
                places.difference_update(range(at + 1, begin))
            if leaps and spare > 0:
                start = begin + random.randrange(spare)
                places.difference_update(range(start + 1, start + leap))
            at += len(frame)
        return tuple(sorted(places))

    def _place(self, data: bytes) -> int:
        """Where to cut: anywhere, or about the end of a frame's header."""
        random = self._random
        if random.random() < 0.6 or len(data) < 9:
            return random.randrange(len(data) + 1)
        at = 0
        while random.random() < 0.5 and at + 9 < len(data):
            at += 9 + int.from_bytes(data[at : at + 3], "big")
        return min(at + 9 + random.randrange(3), len(data))

    def _flight(self) -> bytes:
        random = self._random
        count = 1 if random.random() < 0.7 else random.randint(2, 4)
        quiet = not self._engine.streams and random.random() < 0.97
        frames = [
            self._pick(self._frames_without_stream if quiet else self._frames) for _ in range(count)
        ]
        flight = [bytes(frame) for frame in frames if isinstance(frame, bytes)]
        if self._engine._settings_in_flight and random.random() < 0.2:
            flight.insert(0, ff.settings_ack())
        if self._hostile and random.random() < 0.25:
            flight = mutated(random, flight)
        return b"".join(flight)

    def _block(self) -> bytes:
        """A field block, perhaps one that was there before."""
        random = self._random
        if self._blocks and random.random() < 0.4:
            return random.choice(self._blocks[-3:])
        decoder = self._engine.decoder
        fields = block(random, len(decoder.header_table.dynamic_entries))
        if decoder.header_table.maxsize > decoder.max_allowed_table_size and random.random() < 0.8:
            return size_update(random.choice((0, decoder.max_allowed_table_size))) + fields
        self._blocks.append(fields)
        return fields

    def _headers(self, stream: int, fields: bytes, end_stream: bool) -> bytes:
        """HEADERS with everything that may be around a field block."""
        random = self._random
        flags = int(end_stream)
        chance = random.random()
        if chance < 0.8:
            return ff.frame(ff.HEADERS, flags | ff.END_HEADERS, stream, fields)
        if chance < 0.88:
            return self._with_continuation(flags, stream, fields)
        pad = b""
        if chance < 0.96:
            pad = bytes(random.randrange(10))
            flags |= ff.PADDED
        if chance > 0.93:
            fields = struct.pack(">IB", random.randrange(10), 15) + fields
            flags |= ff.PRIORITY_FLAG
        if flags & ff.PADDED:
            fields = bytes((len(pad),)) + fields + pad
        return ff.frame(ff.HEADERS, flags | ff.END_HEADERS, stream, fields)

    def _with_continuation(self, flags: int, stream: int, fields: bytes) -> bytes:
        places = (0, len(fields), self._random.randrange(len(fields) + 1))
        cut, other = sorted(self._random.choice(places) for _ in range(2))
        out = ff.frame(ff.HEADERS, flags, stream, fields[:cut])
        if self._random.random() < 0.5:
            return out + ff.continuation(stream, fields[cut:])
        return (
            out
            + ff.continuation(stream, fields[cut:other], end=False)
            + ff.continuation(stream, fields[other:])
        )

    def _interrupted(self) -> bytes:
        """A frame, right by itself, where a field block has to go on."""
        random = self._random
        begun = ff.frame(ff.HEADERS, random.randrange(2), self._stream(), self._block())
        if random.random() < 0.5:
            begun += ff.continuation(self._stream(), b"\x90", end=False)
        return begun + random.choice((self._head, self._data, self._window_update, ff.ping))()

    def _head(self) -> bytes:
        fields = self._block()
        end_stream = self._random.random() < (0.15 if announced(fields) else 0.25)
        stream = self._receiving(headed=False)
        live = self._engine.streams.get(stream)
        if live is not None and live.state_machine.headers_received and self._random.random() < 0.8:
            return ff.ping()
        return self._headers(stream, fields, end_stream)

    def _trailers(self) -> bytes:
        random = self._random
        fields = random.choice(_TRAILERS) if random.random() < 0.9 else self._block()
        return self._headers(self._receiving(headed=True), fields, random.random() < 0.9)

    def _response(self) -> bytes:
        """A whole response: a head that is most often seen before, DATA, an end."""
        random = self._random
        stream = self._receiving(headed=False)
        live = self._engine.streams.get(stream)
        if live is not None and live.state_machine.headers_received and random.random() < 0.9:
            return self._data()
        fields = self._block()
        sizes = [self._size() for _ in range(random.randrange(3))]
        if (length := announced(fields)) is not None and random.random() < 0.9:
            sizes = [length] if length else []
        chunks = [ff.data(stream, BODY[:size]) for size in sizes]
        if not chunks or random.random() < 0.2:
            return self._headers(stream, fields, not chunks) + b"".join(chunks)
        if random.random() < 0.5:
            chunks.append(ff.data(stream, end_stream=True))
        else:
            chunks[-1] = ff.data(stream, BODY[: sizes[-1]], end_stream=True)
        return self._headers(stream, fields, end_stream=False) + b"".join(chunks)

    def _long(self) -> bytes:
        """A response of several frames about as long as what is copied at most."""
        random, engine = self._random, self._engine
        room = engine.connection_receive_window.current_window_size
        fitting = [
            number
            for number in self._fitting(headed=False)
            if (window := engine.stream_window(number)) is not None
            and min(window.current_window_size, room) >= sum(_LONG)
        ]
        if not fitting:
            return self._response()
        stream, count = random.choice(fitting), random.randint(1, 3)
        chunks = [ff.data(stream, BODY[: random.choice(_LONG)]) for _ in range(count - 1)]
        last = ff.data(stream, BODY[: random.choice(_LONG)], end_stream=random.random() < 0.5)
        return ff.frame(ff.HEADERS, ff.END_HEADERS, stream, b"\x88") + b"".join([*chunks, last])

    def _aged(self) -> bytes:
        """The same block before and behind an insertion, which makes it mean something else."""
        random, fitting = self._random, self._fitting(headed=False)
        if len(fitting) < 2 or not self._engine.decoder.header_table.dynamic_entries:
            return self._response()
        one, other = random.sample(fitting, 2)
        fields, inserted = b"\x88\xbe", random.choice(_TRAILERS[1:])
        return (
            ff.frame(ff.HEADERS, ff.END_HEADERS, one, fields)
            + ff.frame(ff.HEADERS, ff.END_HEADERS | ff.END_STREAM, one, inserted)
            + ff.frame(ff.HEADERS, ff.END_HEADERS, other, fields)
        )

    def _data(self) -> bytes:
        random = self._random
        stream = self._receiving(headed=True)
        size = self._size()
        live = self._engine.streams.get(stream)
        end_stream = random.random() < 0.3
        if isinstance(live, EngineStream):
            if not live.state_machine.headers_received and random.random() < 0.85:
                return self._head()
            window, expected = live.receive_window, live._expected_content_length
            chance = random.random()
            if expected is not None and chance < 0.7:
                size = max(0, expected - live._actual_content_length)
                end_stream = random.random() < 0.8
            elif chance < 0.1 and window.current_window_size < 100:
                # What is left of a window, or a byte too many.
                size = max(0, window.current_window_size) + random.randrange(2)
        payload = BODY[: min(size, len(BODY))]
        if random.random() < 0.08:
            return ff.padded_data(stream, payload, random.randrange(12), end_stream=end_stream)
        return ff.data(stream, payload, end_stream=end_stream)

    def _window_update(self) -> bytes:
        random = self._random
        stream = 0 if random.random() < 0.3 else self._stream()
        return ff.window_update(stream, self._increment())

    def _increment(self) -> int:
        random = self._random
        return random.choice(_ODD_NUMBERS if random.random() < 0.03 else _NUMBERS)

    def _settings(self) -> bytes:
        random = self._random
        pairs = [self._setting() for _ in range(random.randrange(4))]
        return ff.settings(*pairs)

    def _setting(self) -> tuple[int, int]:
        random = self._random
        code = random.choice((1, 1, 1, ff.ENABLE_PUSH, 3, 4, 4, 5, 6, 8, 10))
        if (chance := random.random()) < 0.02:
            return _NO_PRIORITIES, random.randrange(3)
        if chance < 0.03:
            return code, random.choice(_ODD_NUMBERS)
        values: Sequence[int] = {
            ff.HEADER_TABLE_SIZE: _TABLE_SIZES,
            ff.ENABLE_PUSH: (0, 0, 0, 1),
            ff.MAX_STREAMS: (0, 1, 2, 5, 100, 2**32 - 1),
            ff.INITIAL_WINDOW: WINDOWS,
            ff.MAX_FRAME: (16_384, 16_384, 20_000, 2**24 - 1),
        }.get(code, (0, 1))
        return code, random.choice(values)

    def _goaway(self) -> bytes:
        random = self._random
        last = random.choice((0, 1, self._stream() & 0x7FFF_FFFF, 2**31 - 1))
        return ff.goaway(last, random.choice(CODES), b"bye")

    def _other(self) -> bytes:
        stream = 0 if self._random.random() < 0.2 else self._stream()
        return ignored(self._random, stream)

    def _settings_ack(self) -> bytes:
        asked = self._engine._settings_in_flight
        return ff.settings_ack() if asked or self._random.random() < 0.03 else ff.ping()

    def _late(self) -> bytes:
        """A frame on a stream that we reset or have forgotten."""
        random = self._random
        by_reset = [
            stream
            for stream, by in self._engine._closed_streams.items()
            if by is not StreamClosedBy.RECV_END_STREAM and by is not StreamClosedBy.SEND_END_STREAM
        ]
        if not by_reset:
            return ff.ping()
        stream = random.choice(by_reset)
        match random.randrange(4):
            case 0:
                return self._headers(stream, self._block(), random.random() < 0.3)
            case 1:
                return ff.rst(stream)
            case 2:
                return ff.window_update(stream, 5)
            case _:
                return ff.data(stream, BODY[: self._size()], end_stream=random.random() < 0.3)

    def _anything(self) -> bytes:
        random = self._random
        kind = random.choice((*range(13), PRIORITY_UPDATE))
        return ff.frame(kind, random.randrange(256), self._stream(), BODY[: self._size()])

    def _flood(self) -> bytes:
        return ff.ping() * _FLOOD


def weighted(*choices: tuple[Callable[[], object], float]) -> _Weighted:
    made, weights, total = [], [], 0.0
    for make, weight in choices:
        total += weight
        made.append(make)
        weights.append(total)
    return made, weights
