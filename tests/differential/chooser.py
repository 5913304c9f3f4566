"""Chooses the next step of a sequence, at random but with an eye on what makes sense now."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, cast

from dynamo_h2.http2.engine import Engine
from tests.differential.peer import CODES, WINDOWS, Peer, weighted
from tests.differential.pools import FIELDS, HEADS, TRAILERS
from tests.differential.steps import (
    FLUSHES,
    Arm,
    Call,
    Change,
    End,
    Exhaust,
    Forget,
    GoAway,
    Grant,
    Narrow,
    Open,
    Ping,
    Receive,
    Remember,
    Request,
    Reset,
    SendBody,
    SendData,
    SendTrailers,
    Step,
)
from tests.differential.watcher import ACTIONS, EVENTS
from tests.differential.wire import Partial
from tests.http2 import frame_factory as ff

__all__ = ["Chooser"]

_ACTIONS: Final = tuple(ACTIONS)
_NARROW: Final = (0, 4, 40, 300, 8_193)


class Chooser(Peer):
    """Makes steps.

    Args:
        random: Where all choices come from.
        hostile: Whether the peer's bytes are damaged now and then.
        cutting: How its bytes come, see `Peer`.
        huffman: Whether requests are Huffman-coded.
    """

    def __init__(self, random: Random, *, hostile: bool, cutting: str, huffman: bool) -> None:
        super().__init__(random, hostile=hostile, cutting=cutting)
        # Huffman codes of the longest heads take too long.
        self._heads = HEADS[:5] if huffman else HEADS
        heads, data = self._fond
        self._calls = weighted(
            (self._open, 8 * heads),
            (self._request, 10 * heads),
            (self._send_data, 10 * data),
            (self._send_trailers, 2),
            (self._reset, 2),
            (lambda: Forget(self._stream()), 0.5),
            (self._grant, 3),
            (Ping, 0.5),
            (lambda: GoAway(random.choice(CODES)), 0.4),
            (self._change, 3),
            (self._exhaust, 0.2),
            (End, 0.2),
            (lambda: Narrow(random.random() < 0.5, random.choice(_NARROW)), 1.2),
            (lambda: Remember(random.randint(1, 4)), 0.4),
            (self._arm, 3),
        )

    def step(self, engine: Engine, partial: Partial | None) -> Step:
        """The next step.

        Args:
            engine: Stands where the last steps have led it.
            partial: The frame that the input stands in.
        """
        self._engine = engine
        random = self._random
        if partial is not None and partial.stream in engine.streams and random.random() < 0.5:
            return self._inside(partial.stream)
        calls = 0.36 if engine.streams else 0.7
        if random.random() < calls:
            return self._call()
        if not engine.settings_received:
            return self._first()
        return self._receive(self._flight())

    def _call(self) -> Step:
        step = self._pick(self._calls)
        assert isinstance(step, tuple)
        return cast("Step", step)

    def _open(self) -> Call:
        random = self._random
        return Open(self._which(self._heads), self._which(FIELDS), random.random() < 0.5)

    def _request(self) -> Call:
        random = self._random
        head, fields, size = self._which(self._heads), self._which(FIELDS), self._size() or 1
        flush = "" if random.random() < 0.5 else random.choice(FLUSHES)
        return Request(head, fields, size, random.random() < 0.3, flush)

    def _which(self, pool: Sequence[object]) -> int:
        """A number in a pool: low ones more often."""
        return int(len(pool) * self._random.random() ** 2.5)

    def _send_data(self) -> Call:
        random = self._random
        stream, size = self._stream(), self._size()
        end_stream, view = random.random() < 0.4, random.random() < 0.3
        if random.random() < 0.9:
            return SendBody(stream, size, end_stream, view)
        return SendData(stream, size, end_stream, random.choice((None, 0, 3, 255)), view)

    def _inside(self, stream: int) -> Step:
        """What concerns the stream of the frame that the input stands in."""
        match self._random.randrange(5):
            case 0:
                return Reset(stream, 8)
            case 1:
                return Forget(stream)
            case 2:
                return SendBody(stream, 0, end_stream=True, view=False)
            case _:
                return Receive(b"")

    def _send_trailers(self) -> Call:
        return SendTrailers(self._stream(), self._which(TRAILERS))

    def _reset(self) -> Call:
        return Reset(self._stream(), self._random.choice(CODES))

    def _grant(self) -> Call:
        random = self._random
        stream = 0 if random.random() < 0.4 else self._stream()
        return Grant(stream, random.choice((1, 5, 100, 10_000)))

    def _change(self) -> Call:
        random = self._random
        pairs = (
            (ff.INITIAL_WINDOW, random.choice(WINDOWS[:-1])),
            (ff.HEADER_TABLE_SIZE, random.choice((0, 100, 200, 4_096))),
            (ff.MAX_LIST, random.choice((50, 90, 400, 65_536))),
            (ff.MAX_FRAME, random.choice((16_384, 20_000))),
        )
        return Change(tuple(random.sample(pairs, random.randint(1, 2))))

    def _exhaust(self) -> Call:
        return Exhaust(self._random.randint(0, 3))

    def _arm(self) -> Step:
        random = self._random
        return Arm(random.choice(EVENTS), random.choice(_ACTIONS))
