"""The same comparison, led by hypothesis, which makes what it finds short by itself."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.differential import blocks
from tests.differential.mutate import mutated
from tests.differential.pair import Pair
from tests.differential.pools import BODY, CONFIGS, FIELDS, HEADS, TRAILERS
from tests.differential.steps import (
    FLUSHES,
    Arm,
    Change,
    Forget,
    Grant,
    Narrow,
    Open,
    Receive,
    Request,
    Reset,
    SendBody,
    SendData,
    SendTrailers,
)
from tests.differential.watcher import ACTIONS, EVENTS
from tests.http2 import frame_factory as ff

streams = st.sampled_from([1, 1, 1, 3, 3, 5, 7, 0, 2])
sizes = st.sampled_from([0, 1, 5, 5, 40, 300, 8_192, 8_193, 16_385])
windows = st.sampled_from([0, 5, 40, 300, 65_535, 2**31 - 1])
table_sizes = st.sampled_from([0, 0, 100, 1_024, 4_096, 8_192])
codes = st.sampled_from([0, 1, 7, 8, 0xFFFF_FFFF])
field_blocks = st.one_of(
    st.sampled_from(blocks.COMMON),
    st.builds(
        lambda choice, entries: blocks.block(Random(choice), entries),
        st.integers(0, 200),
        st.integers(0, 3),
    ),
)
# How the bytes of a step come: at once, byte by byte, or cut at some places.
cutting = st.one_of(st.just(()), st.just(None), st.lists(st.integers(1, 60), max_size=3))


def numbers(pool: object) -> st.SearchStrategy[int]:
    assert isinstance(pool, tuple)
    return st.integers(0, len(pool) - 1)


class TwoEngines(RuleBasedStateMachine):
    """A stock and a fast engine, and all that can happen to them."""

    @initialize(config=numbers(CONFIGS), early=st.booleans())
    def connect(self, config: int, early: bool) -> None:
        self.pair = Pair(config)
        if early:
            self.pair.run(Receive(ff.settings()))

    def receive(self, frame: bytes, cuts: list[int] | None, view: bool = False) -> None:
        places = range(1, len(frame)) if cuts is None else cuts
        self.pair.run(Receive(frame, tuple(places), view))

    @property
    def alive(self) -> bool:
        return not self.pair.stock.failed

    # What the client calls

    @rule(head=numbers(HEADS[:5]), fields=numbers(FIELDS), end_stream=st.booleans())
    def open(self, head: int, fields: int, end_stream: bool) -> None:
        self.pair.run(Open(head, fields, end_stream))

    @rule(
        head=numbers(HEADS),
        fields=numbers(FIELDS),
        size=sizes,
        view=st.booleans(),
        flush=st.sampled_from(FLUSHES),
    )
    def request(self, head: int, fields: int, size: int, view: bool, flush: str) -> None:
        self.pair.run(Request(head, fields, size, view, flush))

    @rule(
        stream=streams, size=sizes, end_stream=st.booleans(), pad=st.sampled_from([None, None, 3])
    )
    def send_data(self, stream: int, size: int, end_stream: bool, pad: int | None) -> None:
        self.pair.run(SendData(stream, size, end_stream, pad, view=False))

    @rule(stream=streams, size=sizes, end_stream=st.booleans(), view=st.booleans())
    def send_body(self, stream: int, size: int, end_stream: bool, view: bool) -> None:
        self.pair.run(SendBody(stream, size, end_stream, view))

    @rule(stream=streams, fields=numbers(TRAILERS))
    def send_trailers(self, stream: int, fields: int) -> None:
        self.pair.run(SendTrailers(stream, fields))

    @rule(stream=streams, code=codes)
    def reset(self, stream: int, code: int) -> None:
        self.pair.run(Reset(stream, code))

    @rule(stream=streams)
    def forget(self, stream: int) -> None:
        self.pair.run(Forget(stream))

    @rule(stream=streams, increment=st.sampled_from([1, 100, 10_000]))
    def grant(self, stream: int, increment: int) -> None:
        self.pair.run(Grant(stream, increment))

    @rule(code=st.sampled_from([1, 4, 6]), value=st.sampled_from([0, 60, 100, 4_096, 65_536]))
    def change_settings(self, code: int, value: int) -> None:
        self.pair.run(Change(((code, value),)))

    @rule(sending=st.booleans(), size=st.sampled_from([0, 5, 300]))
    def narrow(self, sending: bool, size: int) -> None:
        self.pair.run(Narrow(sending, size))

    @rule(event=st.sampled_from(EVENTS), action=st.sampled_from(sorted(ACTIONS)))
    def arm(self, event: str, action: str) -> None:
        self.pair.run(Arm(event, action))

    # What the peer sends

    @rule(
        stream=streams,
        block=field_blocks,
        end_stream=st.booleans(),
        cuts=cutting,
        view=st.booleans(),
    )
    def head(
        self, stream: int, block: bytes, end_stream: bool, cuts: list[int] | None, view: bool
    ) -> None:
        flags = ff.END_HEADERS | end_stream
        self.receive(ff.frame(ff.HEADERS, flags, stream, block), cuts, view)

    @rule(stream=streams, block=field_blocks, cut=st.integers(0, 9), cuts=cutting)
    def continued_head(self, stream: int, block: bytes, cut: int, cuts: list[int] | None) -> None:
        first = ff.frame(ff.HEADERS, 0, stream, block[:cut])
        self.receive(first + ff.continuation(stream, block[cut:]), cuts)

    @rule(stream=streams, size=sizes, end_stream=st.booleans(), pad=st.booleans(), cuts=cutting)
    def data(
        self, stream: int, size: int, end_stream: bool, pad: bool, cuts: list[int] | None
    ) -> None:
        payload = BODY[: min(size, 300 if cuts is None else size)]
        frame = ff.data(stream, payload, end_stream=end_stream)
        if pad:
            frame = ff.padded_data(stream, payload, 3, end_stream=end_stream)
        self.receive(frame, cuts)

    @rule(stream=streams, size=st.integers(1, 40), cut=st.integers(1, 40), end_stream=st.booleans())
    def data_in_parts(self, stream: int, size: int, cut: int, end_stream: bool) -> None:
        """The rest comes with whatever comes next."""
        frame = ff.data(stream, BODY[:size], end_stream=end_stream)
        self.receive(frame[: 9 + min(cut, size - 1)], [])
        self.reset(stream, 8) if cut % 5 == 0 else self.forget(7)
        self.receive(frame[9 + min(cut, size - 1) :], [])

    @rule(stream=streams, code=codes)
    def rst(self, stream: int, code: int) -> None:
        self.receive(ff.rst(stream, code), [])

    @rule(stream=streams, increment=windows)
    def window_update(self, stream: int, increment: int) -> None:
        self.receive(ff.window_update(stream, increment), [])

    @rule(window=windows, table=table_sizes, limit=st.sampled_from([0, 1, 100]), which=streams)
    def settings(self, window: int, table: int, limit: int, which: int) -> None:
        pairs = (ff.INITIAL_WINDOW, window), (ff.HEADER_TABLE_SIZE, table), (ff.MAX_STREAMS, limit)
        self.receive(ff.settings(*pairs[which % 3 :]), [])

    @precondition(lambda self: self.alive and self.pair.stock._settings_in_flight)
    @rule()
    def settings_ack(self) -> None:
        self.receive(ff.settings_ack(), [])

    @rule(ack=st.booleans())
    def ping(self, ack: bool) -> None:
        self.receive(ff.ping(ack=ack), [])

    @rule(last=streams, code=codes)
    def goaway(self, last: int, code: int) -> None:
        self.receive(ff.goaway(last, code), [])

    @rule(stream=streams, kind=st.integers(0, 11), flags=st.integers(0, 255), choice=st.integers())
    def damage(self, stream: int, kind: int, flags: int, choice: int) -> None:
        frames = [ff.frame(kind, flags, stream, BODY[: choice % 10]), ff.data(stream, BODY[:5])]
        self.receive(b"".join(mutated(Random(choice), frames)), [])


TwoEngines.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestTwoEngines = TwoEngines.TestCase
