"""Credit for the peer: returned on arrival and on consumption, in few frames, and never lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.stream import Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, Link, body, credit, ended, kinds, resets

pytestmark = pytest.mark.usefixtures("each_engine")

KIB = 1024
WINDOW = 100_000
CONNECTION_WINDOW = 400_000
SMALL = Http2Config(
    initial_stream_window=WINDOW,
    initial_connection_window=CONNECTION_WINDOW,
    adaptive_window=False,
)


def begun(*, limit: int | None = None) -> tuple[Link, Stream]:
    """A response whose head has come."""
    link = Link(SMALL)
    stream = link.open(limit=limit)
    link.flush()
    link.feed(ff.headers(1, ff.OK))
    return link, stream


def test_connection_credit_returns_when_bytes_arrive_though_nobody_reads() -> None:
    link, stream = begun()
    granted = Counter[int]()
    for _ in range(WINDOW // 10_000):
        link.feed(ff.data(1, bytes(10_000)))
        granted += credit(link.sent())
    assert granted == {0: WINDOW}
    assert stream.unread == WINDOW


def test_stream_credit_returns_when_bytes_are_read() -> None:
    link, stream = begun()
    link.feed(*[ff.data(1, bytes(10_000)) for _ in range(10)])
    link.flush()
    granted = Counter[int]()
    while stream.read():
        granted += credit(link.sent())
    assert granted[1] == 90_000
    assert stream.window.owed == 10_000


def test_credit_that_is_due_asks_for_a_write() -> None:
    link, stream = begun()
    link.feed(*[ff.data(1, bytes(10_000)) for _ in range(3)])
    link.flush()
    wanted = []
    for _ in range(3):
        stream.read()
        wanted.append(link.wanted_output)
    assert wanted == [False, False, True]
    assert credit(link.sent()) == {1: 30_000}


def test_a_slow_reader_stops_its_own_stream_and_no_other() -> None:
    link = Link(SMALL)
    slow, fast = link.open(), link.open()
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.headers(3, ff.OK), ff.data(1, bytes(WINDOW)))
    granted = credit(link.sent())
    for _ in range(100):
        link.feed(ff.data(3, bytes(20_000)))
        assert fast.read() is not None
        granted += credit(link.sent())
    assert slow.unread == WINDOW
    assert granted[1] == 0
    assert granted[3] >= 100 * 20_000 - WINDOW // 4
    assert not link.connection.closed


def test_a_buffered_response_needs_no_reader() -> None:
    link, stream = begun(limit=PLENTY)
    granted = Counter[int]()
    for _ in range(100):
        link.feed(ff.data(1, bytes(10_000)))
        granted += credit(link.sent())
    assert stream.unread == 1_000_000
    assert granted[1] >= 1_000_000 - WINDOW // 4
    assert granted[0] >= 1_000_000 - CONNECTION_WINDOW // 4


def test_a_small_response_brings_no_credit() -> None:
    for limit in (None, PLENTY):
        link, stream = begun(limit=limit)
        link.feed(ff.data(1, bytes(20_000)), ff.data(1, b"end", end_stream=True))
        while stream.read():
            pass
        assert link.sent() == []


def test_after_the_end_no_stream_credit_returns() -> None:
    link, stream = begun()
    link.feed(ff.data(1, bytes(90_000)), ff.data(1, bytes(5_000), end_stream=True))
    assert set(credit(link.sent())) <= {0}
    while stream.read():
        pass
    assert link.sent() == []


def test_the_last_frame_brings_no_stream_credit_even_while_the_upload_goes_on() -> None:
    link = Link(SMALL)
    stream = link.open(bytes(1 << 20), limit=PLENTY)
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, bytes(90_000), end_stream=True))
    assert link.sent() == []
    assert not stream.done


def test_after_an_error_no_stream_credit_returns() -> None:
    link, stream = begun()
    link.feed(ff.data(1, bytes(WINDOW)), ff.rst(1))
    link.flush()
    assert stream.read() == bytes(WINDOW)
    assert link.sent() == []


def test_after_a_cancel_no_stream_credit_returns() -> None:
    link, stream = begun()
    link.feed(ff.data(1, bytes(50_000)))
    link.connection.cancel(stream, link.now)
    link.flush()
    assert stream.read() is None
    assert link.sent() == []


def test_credit_comes_in_few_frames() -> None:
    link, stream = begun()
    updates = Counter[int]()
    for _ in range(1000):
        link.feed(ff.data(1, bytes(1_000)))
        stream.read()
        updates.update(frame.stream for frame in link.sent())
    assert updates == {1: 1_000_000 // (WINDOW // 4), 0: 1_000_000 // (CONNECTION_WINDOW // 4)}


def test_padding_is_credit_that_nobody_has_to_read() -> None:
    link, stream = begun()
    granted = Counter[int]()
    for _ in range(1000):
        link.feed(ff.padded_data(1, b"x", 254))
        granted += credit(link.sent())
    # 255 of each 256 bytes are padding and its length.
    assert granted[0] + link.connection._engine.connection_receive_window.owed == 256_000
    assert granted[1] + stream.window.owed == 255_000
    assert stream.unread == 1000
    while stream.read():
        pass
    assert granted[1] + credit(link.sent())[1] + stream.window.owed == 256_000


def test_a_frame_of_padding_alone_is_returned_whole() -> None:
    link, stream = begun()
    granted = Counter[int]()
    for _ in range(400):
        link.feed(ff.padded_data(1, b"", 255))
        granted += credit(link.sent())
    assert granted[1] + stream.window.owed == 400 * 256


def test_late_data_returns_connection_credit_and_no_reset() -> None:
    link, stream = begun()
    link.connection.cancel(stream, link.now)
    assert resets(link.sent()) == [(1, ff.CANCEL)]
    granted = Counter[int]()
    for _ in range(100):
        link.feed(ff.data(1, bytes(10_000)), ff.padded_data(1, b"", 99))
        sent = link.sent()
        assert resets(sent) == []
        granted += credit(sent)
    window = link.connection._engine.connection_receive_window
    assert set(granted) == {0}
    assert granted[0] + window.owed == 100 * 10_100


def test_data_that_is_an_error_of_its_stream_returns_connection_credit() -> None:
    link, stream = begun()
    link.feed(ff.data(1, bytes(WINDOW)), ff.data(1, bytes(50_000)))
    sent = link.sent()
    assert resets(sent) == [(1, ff.FLOW_CONTROL_ERROR)]
    assert stream.done
    window = link.connection._engine.connection_receive_window
    assert credit(sent)[0] + window.owed == WINDOW + 50_000


def test_a_response_that_is_too_large_keeps_the_connection_window_whole() -> None:
    link, stream = begun(limit=1000)
    link.feed(*[ff.data(1, bytes(10_000)) for _ in range(50)])
    window = link.connection._engine.connection_receive_window
    assert stream.done
    assert credit(link.sent())[0] + window.owed == 500_000


@given(st.lists(st.integers(0, 40_000), max_size=30), st.data())
def test_a_frame_that_arrives_in_pieces_is_credited_once(
    sizes: list[int], data: st.DataObject
) -> None:
    link, stream = begun()
    granted = Counter[int]()
    total = 0
    for size in sizes:
        wire = ff.data(1, bytes(size))
        cut = data.draw(st.integers(0, len(wire)))
        link.feed(wire[:cut])
        link.feed(wire[cut:])
        total += size
        while stream.read():
            pass
        granted += credit(link.sent())
    window = link.connection._engine.connection_receive_window
    assert granted[0] + window.owed == total
    assert granted[1] + stream.window.owed == total


class Peer(RuleBasedStateMachine):
    """A peer that keeps books of all that it was granted, while requests come, read and go."""

    @initialize(buffered=st.booleans())
    def begin(self, buffered: bool) -> None:
        self.link = Link(SMALL)
        self.limit = PLENTY if buffered else None
        self.room = Counter({0: CONNECTION_WINDOW})
        self.headed: set[int] = set()
        self.streams: dict[int, Stream] = {}

    def settle(self) -> None:
        """Take what was sent, and enter the credit in the books."""
        sent = self.link.sent()
        self.room += credit(sent)
        assert all(frame.stream in {0, *self.streams} for frame in sent)

    def live(self) -> list[int]:
        """Streams whose response may go on."""
        return [one.stream_id for one in self.streams.values() if not (one.done or one.ended)]

    @precondition(lambda self: len(self.live()) < 5)
    @rule(upload=st.booleans())
    def request(self, upload: bool) -> None:
        stream = self.link.open(upload=upload, limit=self.limit)
        self.streams[stream.stream_id] = stream
        self.room[stream.stream_id] = WINDOW

    def pick(self, data: st.DataObject, among: list[int]) -> int:
        return data.draw(st.sampled_from(sorted(among)))

    @precondition(lambda self: self.streams)
    @rule(
        data=st.data(),
        share=st.floats(0, 1),
        pad=st.integers(-1, 255),
        end=st.booleans(),
        give_up=st.booleans(),
    )
    def respond(
        self, data: st.DataObject, share: float, pad: int, end: bool, give_up: bool
    ) -> None:
        """DATA on any stream, gone or not, as far as the peer's books allow.

        With ``give_up`` the stream is cancelled in the middle of the frame.
        """
        stream_id = self.pick(data, list(self.streams))
        stream = self.streams[stream_id]
        if stream.ended or (stream.done and stream.error is not None):
            return
        if stream_id not in self.headed:
            self.link.feed(ff.headers(stream_id, ff.OK))
            self.headed.add(stream_id)
        room = min(self.room[0], self.room[stream_id])
        if pad + 1 > room:
            return
        size = min(int(share * (room - pad - 1)), 60_000)
        length = size + pad + 1
        frame = (
            ff.data(stream_id, bytes(size), end_stream=end)
            if pad < 0
            else ff.padded_data(stream_id, bytes(size), pad, end_stream=end)
        )
        cut = data.draw(st.integers(0, len(frame)))
        self.link.feed(frame[:cut])
        if give_up:
            self.link.connection.cancel(stream, self.link.now)
        self.link.feed(frame[cut:])
        self.room[0] -= length
        self.room[stream_id] -= length
        self.settle()

    @precondition(lambda self: self.limit is None and self.streams)
    @rule(data=st.data(), most=st.integers(1, 5))
    def read(self, data: st.DataObject, most: int) -> None:
        stream = self.streams[self.pick(data, list(self.streams))]
        for _ in range(most):
            stream.read()
        self.settle()

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        stream = self.streams[self.pick(data, self.live())]
        self.link.connection.cancel(stream, self.link.now)
        self.settle()

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        self.link.feed(ff.rst(self.pick(data, self.live())))
        self.settle()

    @invariant()
    def windows_are_whole(self) -> None:
        """At rest what was granted and not used is the window, on both sides."""
        connection = self.link.connection
        assert not connection.closed
        window = connection._engine.connection_receive_window
        assert window.current_window_size == self.room[0]
        assert window.current_window_size + window.owed == CONNECTION_WINDOW
        for stream_id in self.live():
            stream = self.streams[stream_id]
            unread = 0 if self.limit is not None else stream.unread
            assert stream.window.current_window_size == self.room[stream_id]
            assert self.room[stream_id] + stream.window.owed + unread == WINDOW
        assert set(connection.streams) <= set(self.streams)


def test_windows_are_whole_whatever_comes_and_goes() -> None:
    run_state_machine_as_test(Peer, settings=settings(max_examples=200, stateful_step_count=30))


@given(
    grants=st.lists(st.tuples(st.booleans(), st.integers(1, 100_000)), max_size=20),
    sizes=st.lists(st.integers(1, 120_000), min_size=1, max_size=4),
    initial=st.integers(0, 150_000),
)
def test_we_send_what_we_were_granted_to_the_last_byte_and_no_more(
    grants: list[tuple[bool, int]], sizes: list[int], initial: int
) -> None:
    link = Link(pairs=((ff.INITIAL_WINDOW, initial),))
    room = Counter({0: 65_535})
    left = {}
    for size in sizes:
        stream_id = link.open(bytes(size)).stream_id
        left[stream_id], room[stream_id] = size, initial

    def settle() -> None:
        sent = link.sent()
        for stream_id in list(left):
            size = len(body(sent, stream_id))
            room[0] -= size
            room[stream_id] -= size
            left[stream_id] -= size
            assert ended(sent, stream_id) == (size > 0 and left[stream_id] == 0)
        assert min(room.values()) >= 0
        ready = [stream_id for stream_id in left if left[stream_id] and room[stream_id]]
        assert not (ready and room[0]), "there is credit, and it is not used"
        assert link.connection._uploads.connection_window == room[0]

    settle()
    for on_connection, amount in grants:
        stream_id = 0 if on_connection else 1 + 2 * (amount % len(sizes))
        link.feed(ff.window_update(stream_id, amount))
        if stream_id == 0 or left[stream_id]:
            room[stream_id] += amount
        settle()
    assert kinds(link.sent()) == []
