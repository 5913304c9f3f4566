"""Two engines side by side: every step is done with both, and all that can be seen is compared.

What is equal, and when:

1. At a frame boundary everything is: events with adjacent DATA of one stream joined, bytes out with
   field blocks decoded, exceptions with their codes and words, what calls return, stream states,
   windows both ways, what is remembered of closed streams, settings, and the decoder's table.
2. Each encoder's table is that of a reference decoder that is fed with the bytes out.
3. Inside a DATA frame the fast engine may be ahead by what it judged at the frame's header (the
   frame's length in both windows and in the content received) and by the payload so far. Then it is
   ahead by all of that and by nothing else; otherwise it is equal.
4. Inside any other frame both are equal.

Differences that are allowed, by name:

- ``ahead``: number 3.
- ``closed-inside``: the client closed the stream of a DATA frame of which a part was delivered. The
  stock engine calls the whole frame late, the fast engine only the rest.
- ``asked-late``: what a receiver does at a piece of DATA it does here at the end of the frame: the
  stock engine tells of the frame only then.
- ``after-failure``: a SETTINGS frame that ends the connection may be half applied; what a stream
  that cannot be opened any more would be given is not asked.
- ``written-first``: while a request is being flushed, the stock engine has made its stream already
  and the fast engine has not; what is queued, and the identifiers in use, are the same.
"""

from __future__ import annotations

from h2.exceptions import ProtocolError

from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.fast import FastEngine
from dynamo_h2.http2.frames import HEADER_LENGTH
from tests.differential.pools import CONFIGS, FIRST_WINDOWS
from tests.differential.states import State, differences, state_of
from tests.differential.steps import Arm, Call, Narrow, Receive, Sequence, Step
from tests.differential.watcher import Event, Watcher, joined
from tests.differential.wire import Inbound, Outbound, Partial
from tests.http2.frame_factory import DATA

__all__ = ["Difference", "Pair", "replay"]

# Inside a frame that comes byte by byte, states are compared where its header ends and this often
# (bytes); everything else always is.
_LOOK_EVERY = 16


class Difference(AssertionError):
    """The engines differ.

    Args:
        what: In which respect.
        one: What the authority has.
        other: What the engine has that is held against it.
    """

    def __init__(self, what: str, one: object, other: object) -> None:
        super().__init__(f"{what}:\n  expected: {one!r}\n  found:    {other!r}")
        self.what = what


class _Side:
    """One engine, and all that watches it."""

    def __init__(self, kind: type[Engine], config: int, inbound: Inbound) -> None:
        self.watcher = Watcher(inbound.data_ends)
        self.engine = self.watcher.engine = kind(CONFIGS[config], self.watcher)
        self.outbound = Outbound(inbound.settings)
        if config in FIRST_WINDOWS:
            self.engine.begin_with_stream_window(FIRST_WINDOWS[config])
        self.engine.initiate()

    def call(self, step: Call) -> object:
        """Make a call; return its result or its error."""
        try:
            return step.run(self.engine)
        except ProtocolError as error:
            return type(error), error.error_code, str(error)

    def receive(self, data: bytes | memoryview) -> object:
        """Receive bytes; return the error, if there is one."""
        try:
            self.engine.receive(data)
        except ProtocolError as error:
            return type(error), error.error_code, str(error)
        return None

    def sent(self) -> bytes:
        return b"".join(self.engine.take_output())

    def check_encoder(self) -> None:
        """Hold the encoder's table against that of a decoder which got the same blocks."""
        encoder, decoder = self.engine.encoder, self.outbound.decoder
        if encoder.header_table.resized:
            # The decoder will hear of it with the next block.
            return
        ours = encoder.header_table_size, encoder.header_table.dynamic_entries
        theirs = decoder.header_table_size, decoder.header_table.dynamic_entries
        if ours != theirs:
            raise Difference("encoder's table and its peer's", ours, theirs)


class Pair:
    """A stock and a fast engine that live the same life.

    Args:
        config: A number in `CONFIGS`.
        fast: The engine that is held against `Engine`.

    Attributes:
        inbound: Where the input stands.
        stock: The stock engine.
    """

    def __init__(self, config: int, fast: type[Engine] = FastEngine) -> None:
        self.inbound = Inbound()
        self._stock = _Side(Engine, config, self.inbound)
        self._fast = _Side(fast, config, self.inbound)
        self.stock = self._stock.engine
        # The number of the DATA frame inside of which the client closed its stream.
        self._closed_inside: int | None = None
        self._check(None, None, closely=True)

    def run(self, step: Step) -> None:
        """Do a step with both.

        Raises:
            Difference: They differ.
        """
        if isinstance(step, Receive):
            for piece in step.pieces():
                self._receive(piece, step.view)
        elif isinstance(step, Arm):
            self._stock.watcher.armed[step.event] = step.action
            self._fast.watcher.armed[step.event] = step.action
        else:
            self._call(step)

    def _receive(self, piece: bytes, view: bool) -> None:
        self.inbound.feed(piece)
        data = memoryview(piece) if view else piece
        stock, fast = self._stock.receive(data), self._fast.receive(data)
        into = self.inbound.into
        closely = len(piece) != 1 or into == HEADER_LENGTH or into % _LOOK_EVERY == 0
        self._check(stock, fast, closely=closely)

    def _call(self, step: Call) -> None:
        partial = self.inbound.partial
        if partial is not None and isinstance(step, Narrow):
            # It would cover up who is ahead.
            return
        stream = None if partial is None else self.stock.streams.get(partial.stream)
        stock, fast = self._stock.call(step), self._fast.call(step)
        self._check(stock, fast, closely=True)
        if stream is not None and stream.closed:
            self._closed_inside = self.inbound.number

    def _check(self, stock_result: object, fast_result: object, *, closely: bool) -> None:
        if stock_result != fast_result:
            raise Difference("results", stock_result, fast_result)
        self._compare_output()
        if not closely:
            partial = self.inbound.partial
            ahead = partial is not None and self._fast_is_ahead()
            self._compare_events(self._lead(partial) if partial and ahead else [])
            return
        stock, fast = state_of(self.stock), state_of(self._fast.engine)
        if stock == fast:
            self._compare_to_come(0)
            self._compare_events([])
        else:
            self._compare_lead(stock, fast)

    def _fast_is_ahead(self) -> bool:
        stock, fast = self.stock, self._fast.engine
        window = stock.connection_receive_window.current_window_size
        return window != fast.connection_receive_window.current_window_size

    def _compare_output(self) -> None:
        stock, fast = self._stock.sent(), self._fast.sent()
        if not stock and not fast:
            return
        stock_frames = self._stock.outbound.read(stock)
        fast_frames = self._fast.outbound.read(fast)
        if stock_frames != fast_frames:
            raise Difference("bytes out", stock_frames, fast_frames)
        self._stock.check_encoder()
        self._fast.check_encoder()

    def _compare_lead(self, stock: State, fast: State) -> None:
        """Compare where the states differ, which they may inside a DATA frame only."""
        partial = self.inbound.partial
        if partial is None or partial.kind != DATA:
            raise Difference("states", *differences(stock, fast))
        expected = state_of(self.stock, partial)
        if expected != fast:
            raise Difference("states inside DATA", *differences(expected, fast))
        self._compare_to_come(partial.length - len(partial.here))
        self._compare_events(self._lead(partial))

    def _compare_to_come(self, expected: int) -> None:
        """Compare what the fast engine says of the frame that it has judged already."""
        found = self._fast.engine.data_to_come
        if found != expected:
            raise Difference("bytes to come", expected, found)

    def _lead(self, partial: Partial) -> list[Event]:
        """What an engine tells of a DATA frame before it is whole."""
        here = partial.here
        before = len(here)
        if self._closed_inside == self.inbound.number:
            # Nothing else happened since: all that was told as DATA is of this frame.
            told = joined(self._fast.watcher.calls)
            before = _length_of(told[0]) if told and told[0][0] == "data" else 0
        lead: list[Event] = []
        if before:
            lead.append(("data", partial.stream, here[:before], before, False))
        if before < len(here):
            lead.append(("late_data", len(here) - before))
        return lead

    def _compare_events(self, lead: list[Event]) -> None:
        """Compare events; the fast engine has told ``lead`` in addition, and will tell the rest."""
        stock, fast = self._stock.watcher.calls, self._fast.watcher.calls
        if stock or fast:
            if self._closed_inside is not None and self._closed_inside != self.inbound.number:
                stock = _late_rest(stock, fast)
                self._closed_inside = None
            if lead or stock != fast:
                stock = [*stock, *lead]
                if joined(stock) != joined(fast):
                    raise Difference("events", stock, fast)
            self._stock.watcher.calls, self._fast.watcher.calls = [], lead


def replay(sequence: Sequence, fast: type[Engine] = FastEngine) -> None:
    """Run a sequence.

    Raises:
        Difference: The engines differ.
    """
    pair = Pair(sequence.config, fast)
    for step in sequence.steps:
        pair.run(step)


def _late_rest(stock: list[Event], fast: list[Event]) -> list[Event]:
    """What the stock engine would tell, had it delivered what came before the stream was closed."""
    if not stock or not fast or stock[0][0] != "late_data" or fast[0][0] != "data":
        return stock
    before = _length_of(fast[0])
    return [fast[0], ("late_data", _length_of(stock[0]) - before), *stock[1:]]


def _length_of(event: Event) -> int:
    """The flow-controlled bytes of DATA, late or not."""
    length = event[3] if event[0] == "data" else event[1]
    assert isinstance(length, int)
    return length
