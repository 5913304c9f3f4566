"""The two halves of a stream, and what it says of its time limits."""

from __future__ import annotations

import gc
import weakref
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.http2.flow import ReceiveWindow
from dynamo_h2.http2.request import Request
from dynamo_h2.http2.stream import (
    EARLY_RESPONSE_GRACE,
    FEW_PIECES,
    SMALL_PIECE,
    Expired,
    Need,
    ReceiveHalf,
    SendHalf,
    Stream,
)
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import Signal

NOW = 5000.0
ROOM = 1000


def send_half(*, mutable: bool = False) -> SendHalf:
    return SendHalf(1, ROOM, mutable=mutable, make_future=Signal, now=NOW)


def taken(send: SendHalf, limit: int = 100) -> list[bytes]:
    """All that is queued, in pieces of at most ``limit`` bytes."""
    pieces = []
    while send.queued:
        piece = send.take(limit, limit, NOW)
        assert 0 < len(piece) <= limit
        pieces.append(bytes(piece))
    return pieces


def signal_of(half: SendHalf) -> Signal:
    signal = half.wait()
    assert isinstance(signal, Signal)
    return signal


# The send half.


def test_a_chunk_goes_out_in_pieces_of_the_limit() -> None:
    send = send_half()
    send.feed(bytes(range(250)), NOW)
    assert send.queued == 250
    assert taken(send) == [bytes(range(100)), bytes(range(100, 200)), bytes(range(200, 250))]
    assert send.queued == 0


def test_small_chunks_are_joined() -> None:
    send = send_half()
    for number in range(30):
        send.feed(bytes([number]) * 7, NOW)
    pieces = taken(send)
    assert [len(piece) for piece in pieces] == [98, 98, 14]
    assert b"".join(pieces) == b"".join(bytes([number]) * 7 for number in range(30))


def test_large_chunks_go_out_whole_and_small_ones_joined_to_a_frame() -> None:
    send = send_half()
    for size in (250, 30, 30, 30, 30, 100, 90):
        send.feed(bytes(size), NOW)
    sizes = []
    while send.queued:
        sizes.append(len(send.take(200, 100, NOW)))
    assert sizes == [200, 80, 90, 100, 90]


def test_a_chunk_that_does_not_fit_is_not_cut_to_fill_a_piece() -> None:
    send = send_half()
    for size in (60, 60, 100, 30):
        send.feed(bytes(size), NOW)
    assert [len(piece) for piece in taken(send)] == [60, 60, 100, 30]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=30),
    limits=st.lists(st.integers(1, 400), min_size=1, max_size=30),
)
def test_bytes_come_out_as_they_went_in(chunks: list[bytes], limits: list[int]) -> None:
    send = send_half()
    out, step = b"", 0
    for chunk in chunks:
        send.feed(memoryview(chunk), NOW)
        limit = limits[step % len(limits)]
        out += send.take(limit, limit, NOW)
        step += 1
    while send.queued:
        out += send.take(limits[step % len(limits)], limits[step % len(limits)], NOW)
        step += 1
    assert out == b"".join(chunks)
    assert send.queued == 0


def test_a_body_that_may_change_is_copied_when_it_is_taken() -> None:
    body = bytearray(b"a" * 150)
    send = send_half(mutable=True)
    send.feed(memoryview(body), NOW)
    first = send.take(100, 100, NOW)
    second = send.take(100, 100, NOW)
    body[:] = b"b" * 150
    assert (first, second) == (b"a" * 100, b"a" * 50)
    body += b"no view of it is left, or this would fail"


@pytest.mark.parametrize("others", [0, 1])
def test_a_body_that_stays_is_not_copied(others: int) -> None:
    body = bytes(300)
    send = send_half()
    send.feed(body, NOW)
    for _ in range(others):
        send.feed(bytes(100), NOW)
    for _ in range(3):
        piece = send.take(100, 100, NOW)
        assert isinstance(piece, memoryview)
        assert (len(piece), piece.obj is body) == (100, True)


def test_a_chunk_of_just_the_limit_leaves_nothing_behind() -> None:
    body = bytearray(200)
    send = send_half()
    send.feed(memoryview(body), NOW)
    assert taken(send) == [bytes(100), bytes(100)]
    body += b"no view of it is left, or this would fail"


def test_chunks_that_fill_a_piece_to_the_byte_are_joined() -> None:
    send = send_half()
    for size in (30, 70, 40, 60):
        send.feed(bytes(size), NOW)
    assert [len(piece) for piece in taken(send)] == [100, 100]


def test_it_is_full_when_as_much_is_queued_as_there_is_room() -> None:
    send = send_half()
    send.feed(bytes(ROOM - 1), NOW)
    assert not send.full()
    send.feed(b"x", NOW)
    assert send.full()
    send.take(1, 1, NOW)
    assert not send.full()


def test_a_producer_goes_on_when_there_is_room_again() -> None:
    send = send_half()
    send.feed(bytes(ROOM + 150), NOW)
    signal = signal_of(send)
    send.take(150, 150, NOW)
    assert not signal.done()
    send.take(1, 1, NOW)
    assert signal.done()
    send.take(1, 1, NOW)


def test_a_producer_that_was_cancelled_is_left_alone() -> None:
    send = send_half()
    send.feed(bytes(ROOM), NOW)
    signal_of(send).cancel()
    send.take(10, 10, NOW)
    assert send.queued == ROOM - 10


def test_closing_drops_what_is_queued_and_lets_the_producer_go() -> None:
    body = bytearray(ROOM)
    send = send_half()
    send.feed(memoryview(body), NOW)
    signal = signal_of(send)
    send.close()
    assert signal.done()
    assert (send.closed, send.finished, send.queued, send.full()) == (True, True, 0, False)
    body += b"no view of it is left, or this would fail"


def test_it_is_finished_when_all_is_out_and_no_more_comes() -> None:
    send = send_half()
    assert not send.finished
    send.feed(b"12345", NOW)
    send.ended = True
    assert not send.finished
    send.take(3, 3, NOW)
    assert not send.finished
    send.take(3, 3, NOW)
    assert send.finished


def test_progress_is_the_last_piece_or_the_first_chunk_after_an_empty_queue() -> None:
    send = send_half()
    send.feed(bytes(10), NOW + 1)
    assert send.progress_at == NOW + 1
    send.feed(bytes(10), NOW + 2)
    assert send.progress_at == NOW + 1
    send.take(15, 15, NOW + 3)
    assert send.progress_at == NOW + 3
    send.take(15, 15, NOW + 4)
    send.feed(bytes(10), NOW + 9)
    assert send.progress_at == NOW + 9


# The receive half.


class Reader:
    """A receive half that writes down what is owed whenever it asks for credit."""

    def __init__(self, limit: int | None = None) -> None:
        self.credit: list[int] = []
        self.unread = self.buffered = 0
        self.half = ReceiveHalf(ReceiveWindow(ROOM), limit, Signal, self)

    def stream_returned(self, half: ReceiveHalf, /) -> None:
        assert half is self.half
        self.credit.append(half.window.owed)

    def wait(self, need: Need, now: float = NOW) -> Signal:
        signal = self.half.wait(need, now)
        assert isinstance(signal, Signal)
        return signal


def test_the_head_wakes_who_waits_for_it() -> None:
    reader = Reader()
    signal = reader.wait(Need.HEAD)
    assert not reader.half.has(Need.HEAD)
    reader.half.feed_head(200, [(b"a", b"b")], NOW)
    assert signal.done()
    assert reader.half.has(Need.HEAD)
    assert (reader.half.status, reader.half.fields) == (200, [(b"a", b"b")])


def test_data_wakes_who_waits_for_data_and_nobody_else() -> None:
    for need in (Need.DATA, Need.END, Need.DONE):
        reader = Reader()
        reader.half.feed_head(200, [], NOW)
        signal = reader.wait(need)
        reader.half.feed_data(b"x", NOW)
        assert signal.done() == reader.half.has(need) == (need is Need.DATA)


def test_the_end_wakes_all_but_who_waits_for_the_request_too() -> None:
    for need in Need:
        reader = Reader()
        signal = reader.wait(need)
        reader.half.feed_head(200, [], NOW)
        reader.half.feed_end()
        assert signal.done() == reader.half.has(need) == (need is not Need.DONE)
        reader.half.feed_done()
        assert signal.done()
        assert reader.half.has(need)


def test_an_error_wakes_everybody() -> None:
    for need in Need:
        reader = Reader()
        signal = reader.wait(need)
        reader.half.fail(OSError("gone"))
        assert signal.done()
        assert reader.half.has(need)


def test_the_first_error_stays() -> None:
    reader = Reader()
    first = OSError("first")
    reader.half.fail(first)
    reader.half.fail(OSError("second"))
    assert reader.half.error is first


def test_a_complete_response_does_not_fail() -> None:
    reader = Reader()
    reader.half.feed_end()
    reader.half.fail(OSError("too late"))
    assert reader.half.error is None


def test_only_one_may_wait_at_a_time() -> None:
    reader = Reader()
    signal = reader.wait(Need.DATA)
    with pytest.raises(RuntimeError, match="another task"):
        reader.wait(Need.DATA)
    signal.cancel()
    assert not reader.wait(Need.END).done()


def test_a_reader_that_was_cancelled_is_left_alone() -> None:
    reader = Reader()
    reader.wait(Need.DATA).cancel()
    reader.half.feed_data(b"x", NOW)
    assert reader.half.read() == b"x"


def test_reading_returns_the_chunks_one_by_one() -> None:
    half = Reader().half
    half.feed_data(b"abc", NOW)
    half.feed_data(memoryview(b"defgh"), NOW)
    assert (half.unread, half.window.owed) == (8, 0)
    assert half.read() == b"abc"
    assert (half.unread, half.window.owed) == (5, 3)
    second = half.read()
    assert type(second) is bytes
    assert second == b"defgh"
    assert half.read() is None
    assert (half.unread, half.window.owed) == (0, 8)


def test_credit_is_asked_for_whenever_something_is_read() -> None:
    reader = Reader()
    for size in (3, 1, 10):
        reader.half.feed_data(bytes(size), NOW)
    assert reader.credit == []
    while reader.half.read():
        pass
    assert reader.credit == [3, 4, 14]


def test_what_is_unread_is_counted_until_it_is_read_or_dropped() -> None:
    reader = Reader()
    reader.half.feed_data(b"abc", NOW)
    reader.half.feed_data(b"defgh", NOW)
    assert (reader.unread, reader.buffered) == (8, 0)
    reader.half.read()
    assert (reader.unread, reader.buffered) == (5, 0)
    reader.half.drop()
    reader.half.drop()
    assert (reader.unread, reader.buffered) == (0, 0)


def test_what_is_collected_is_counted_until_it_is_handed_over_or_dropped() -> None:
    for end in (ReceiveHalf.handed_over, ReceiveHalf.drop):
        reader = Reader(limit=100)
        reader.half.feed_data(b"abc", NOW)
        assert (reader.unread, reader.buffered) == (0, 3)
        end(reader.half)
        end(reader.half)
        assert (reader.unread, reader.buffered) == (0, 0)
        assert reader.half.body() == (b"abc" if end is ReceiveHalf.handed_over else b"")


def test_a_buffered_body_is_joined() -> None:
    reader = Reader(limit=100)
    assert reader.half.body() == b""
    reader.half.feed_data(memoryview(b"abc"), NOW)
    assert type(reader.half.body()) is bytes
    assert reader.half.body() == b"abc"
    reader.half.feed_data(b"def", NOW)
    assert reader.half.body() == b"abcdef"
    assert reader.credit == []


def test_a_body_of_tiny_pieces_is_kept_in_few() -> None:
    half = Reader(limit=1_000_000).half
    most = 0
    for number in range(20_000):
        half.feed_data(b"%05d" % number, NOW)
        most = max(most, len(half._later or ()))
    assert 0 < most <= FEW_PIECES
    assert half.unread == 100_000
    assert half.body() == b"".join(b"%05d" % number for number in range(20_000))


def test_long_pieces_are_not_copied_however_many_there_are() -> None:
    half = Reader().half
    piece = bytes(SMALL_PIECE)
    for _ in range(2 * FEW_PIECES):
        half.feed_data(piece, NOW)
    assert half.read() is piece
    assert half._later is not None
    assert len(half._later) == 2 * FEW_PIECES - 2


def test_what_is_dropped_cannot_be_read_and_gives_no_credit() -> None:
    reader = Reader()
    reader.half.feed_data(b"abc", NOW)
    reader.half.drop()
    assert reader.half.read() is None
    assert (reader.half.unread, reader.credit) == (0, [])


def test_something_of_a_response_is_a_head_or_a_1xx() -> None:
    nothing, interim, final = Reader().half, Reader().half, Reader().half
    interim.informational += 1
    final.feed_head(503, [], NOW)
    assert [half.got_response for half in (nothing, interim, final)] == [False, True, True]


# Time limits.


def stream(**options: float) -> Stream:
    request = Request(ff.request(), **options)  # type: ignore[arg-type]
    return Stream(1, request, ReceiveWindow(ROOM), Signal, Reader())


def uploading(now: float = NOW, **options: float) -> tuple[Stream, SendHalf]:
    """A stream whose body goes out, with 10 bytes queued."""
    one = stream(**options)
    one.send = send_half()
    one.send.feed(bytes(10), now)
    return one, one.send


def test_without_limits_nothing_is_due() -> None:
    one, _ = uploading()
    one.feed_head(200, [], NOW)
    one.wait(Need.DATA, NOW)
    assert one.due() == inf
    assert one.overdue(1e9) is None


def test_the_deadline_ends_the_request() -> None:
    one = stream(deadline=NOW + 5, read_timeout=1, write_timeout=1)
    assert one.due() == NOW + 5
    assert one.overdue(NOW + 4.9) is None
    assert one.overdue(NOW + 5) is Expired.REQUEST


def test_reading_is_limited_from_the_head_on_for_a_buffered_body() -> None:
    one = stream(read_timeout=2, limit=100)
    assert one.due() == inf
    one.feed_head(200, [], NOW)
    assert one.due() == NOW + 2
    one.feed_data(b"x", NOW + 1)
    assert one.overdue(NOW + 2) is None
    assert one.overdue(NOW + 3) is Expired.READ


def test_reading_is_limited_only_while_somebody_waits_for_the_body() -> None:
    one = stream(read_timeout=2)
    head = one.wait(Need.HEAD, NOW)
    one.feed_head(200, [], NOW)
    assert head.done()
    assert one.due() == inf
    signal = one.wait(Need.DATA, NOW + 100)
    assert one.due() == NOW + 102
    assert one.overdue(NOW + 102) is Expired.READ
    one.feed_data(b"x", NOW + 101)
    assert signal.done()
    assert one.due() == inf


def test_a_wait_for_the_head_has_no_limit_of_its_own() -> None:
    one = stream(read_timeout=2)
    one.wait(Need.HEAD, NOW)
    assert one.due() == inf


def test_a_reader_that_was_cancelled_does_not_wait() -> None:
    one = stream(read_timeout=2)
    one.feed_head(200, [], NOW)
    signal = one.wait(Need.DATA, NOW)
    assert isinstance(signal, Signal)
    assert one.waiting()
    signal.cancel()
    assert not one.waiting()
    assert one.due() == inf
    assert one.overdue(NOW + 100) is None


def test_writing_is_limited_while_bytes_are_queued() -> None:
    one, send = uploading(write_timeout=3)
    assert one.due() == NOW + 3
    send.take(5, 5, NOW + 2)
    assert one.overdue(NOW + 3) is None
    assert one.overdue(NOW + 5) is Expired.WRITE
    send.take(5, 5, NOW + 4)
    assert one.due() == inf  # it is the producer's turn
    assert one.overdue(NOW + 100) is None


def test_a_body_that_is_out_has_no_limit() -> None:
    one, send = uploading(write_timeout=3)
    send.ended = True
    send.take(10, 10, NOW)
    assert not one.uploading
    assert one.due() == inf


def test_after_the_response_the_peer_has_a_moment_to_take_more() -> None:
    for write_timeout, grace in ((30.0, EARLY_RESPONSE_GRACE), (0.5, 0.5), (inf, 1.0)):
        one, send = uploading(write_timeout=write_timeout, deadline=NOW + 100)
        one.feed_head(200, [], NOW)
        one.feed_end()
        assert one.due() == NOW + grace
        assert one.overdue(NOW + grace - 0.1) is None
        assert one.overdue(NOW + grace) is Expired.UPLOAD
        send.take(5, 5, NOW + 0.3)
        assert one.due() == NOW + 0.3 + grace


def test_the_deadline_of_a_complete_response_only_ends_the_upload() -> None:
    one, send = uploading(deadline=NOW + 5)
    one.feed_head(200, [], NOW)
    one.feed_end()
    send.take(10, 10, NOW)
    assert one.due() == NOW + 5
    assert one.overdue(NOW + 5) is Expired.UPLOAD


def test_a_stream_that_is_let_go_leaves_no_cycle() -> None:
    gc.collect()
    gc.disable()
    try:
        one, send = uploading()
        one.feed_head(200, [], NOW)
        one.feed_data(b"x", NOW)
        one.wait(Need.DONE, NOW)
        one.feed_done()
        seen = weakref.ref(send.wait())
        del one, send
        assert seen() is None
    finally:
        gc.enable()
