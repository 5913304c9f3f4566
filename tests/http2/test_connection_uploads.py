"""Bodies on their way out: windows, turns, back-pressure, early responses."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.stream import EARLY_RESPONSE_GRACE, Need, SendHalf, Stream
from dynamo_h2.http2.uploads import DIRECT_BODY
from tests.behaviours import noise
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import (
    OPEN_WINDOWS,
    PLENTY,
    SHUT,
    Link,
    body,
    ended,
    kinds,
    resets,
    succeeded,
)
from tests.http2.test_connection import answer

pytestmark = pytest.mark.usefixtures("each_engine")

KIB = 1024
MIB = 1 << 20
LARGEST = 2**31 - 1
CONTENT = bytes(range(256)) * 4 * KIB


def fast_peer(config: Http2Config | None = None, *pairs: tuple[int, int]) -> Link:
    """A peer that takes everything."""
    link = Link(config, pairs=(OPEN_WINDOWS, *pairs))
    link.feed(ff.window_update(0, LARGEST - 65_535))
    return link


def half(stream: Stream) -> SendHalf:
    """The send half, which has to be there."""
    assert stream.send is not None
    return stream.send


# Windows.


def test_a_body_larger_than_the_window_waits_for_credit() -> None:
    link = Link()
    link.open(CONTENT)
    sent = link.sent()
    assert body(sent, 1) == CONTENT[:65_535]
    assert link.sent() == []
    link.feed(ff.window_update(0, 10_000))
    assert link.sent() == []
    link.feed(ff.window_update(1, 20_000))
    assert body(link.sent(), 1) == CONTENT[65_535:75_535]
    link.feed(ff.window_update(0, MIB), ff.window_update(1, MIB))
    rest = link.sent()
    assert body(rest, 1) == CONTENT[75_535:]
    assert ended(rest, 1)


def test_whatever_order_the_credit_comes_in_nobody_is_forgotten() -> None:
    # The first upload takes the whole connection window; the second starts with none left.
    link = Link(pairs=(OPEN_WINDOWS,))
    link.open(CONTENT)
    assert len(body(link.sent(), 1)) == 65_535
    link.open(CONTENT)
    fed = link.open(upload=True)
    link.upload(fed, CONTENT, end=True)
    assert kinds(link.sent()) == [(ff.HEADERS, 3), (ff.HEADERS, 5)]
    link.feed(ff.window_update(0, 8 * MIB))
    sent = link.sent()
    assert body(sent, 1) == CONTENT[65_535:]
    assert body(sent, 3) == body(sent, 5) == CONTENT


def test_a_stream_window_that_opens_while_the_connections_is_shut_is_remembered() -> None:
    link = Link(pairs=((ff.INITIAL_WINDOW, 40_000),))
    link.open(CONTENT)
    link.open(CONTENT)
    link.flush()
    assert link.connection._uploads.connection_window == 0
    # The first has no window of its own any more, then gets one that the connection's holds up.
    link.feed(ff.window_update(1, MIB))
    assert link.sent() == []
    link.feed(ff.window_update(0, 4 * MIB))
    assert body(link.sent(), 1) == CONTENT[40_000:]


def test_raised_settings_while_the_connection_window_is_shut_are_remembered() -> None:
    link = Link(pairs=((ff.INITIAL_WINDOW, 65_535),))
    link.open(CONTENT)
    link.flush()
    link.feed(ff.settings((ff.INITIAL_WINDOW, MIB)))
    assert kinds(link.sent()) == [(ff.SETTINGS, 0)]
    link.feed(ff.window_update(0, 4 * MIB))
    assert body(link.sent(), 1) == CONTENT[65_535:]


def test_a_window_lowered_in_mid_upload_becomes_negative_and_recovers() -> None:
    link = fast_peer(None, (ff.INITIAL_WINDOW, 100_000))
    stream = link.open(CONTENT)
    assert len(body(link.sent(), 1)) == 100_000
    link.feed(ff.settings((ff.INITIAL_WINDOW, 30_000)))
    link.flush()
    assert link.connection._uploads.send_window(stream.stream_id) == -70_000
    link.feed(ff.window_update(1, 70_000))
    assert link.sent() == []
    link.feed(ff.window_update(1, 5_000))
    assert body(link.sent(), 1) == CONTENT[100_000:105_000]
    link.feed(ff.settings((ff.INITIAL_WINDOW, 2 * MIB)))
    sent = link.sent()
    assert body(sent, 1) == CONTENT[105_000:]
    assert ended(sent, 1)


def test_a_window_lowered_while_bytes_are_ready_holds_at_once() -> None:
    link = fast_peer(None, (ff.INITIAL_WINDOW, 500_000))
    link.open(CONTENT)
    link.open(CONTENT)
    first = link.sent(128 * KIB)
    link.feed(ff.settings((ff.INITIAL_WINDOW, 0)))
    assert body(link.sent(), 1) == body(link.sent(), 3) == b""
    link.feed(ff.settings((ff.INITIAL_WINDOW, LARGEST // 2)))
    rest = link.sent()
    assert body(first, 1) + body(rest, 1) == CONTENT
    assert body(first, 3) + body(rest, 3) == CONTENT


def test_the_end_of_a_body_needs_no_window() -> None:
    link = Link(pairs=((ff.INITIAL_WINDOW, 10),))
    stream = link.open(upload=True)
    link.upload(stream, bytes(10))
    assert len(body(link.sent(), 1)) == 10
    link.feed(ff.settings((ff.INITIAL_WINDOW, 0)))
    link.flush()
    assert link.connection._uploads.send_window(1) == -10
    link.upload(stream, end=True)
    (end,) = link.sent()
    assert (end.kind, end.flags, end.payload) == (ff.DATA, ff.END_STREAM, b"")


def test_trailers_follow_the_body_and_end_the_stream() -> None:
    link = Link(pairs=((ff.INITIAL_WINDOW, 3),))
    link.open(b"abcdef", trailers=[(b"checksum", b"7")])
    alone = link.open(trailers=[(b"only", b"these")])
    sent = link.sent()
    assert kinds(sent) == [(ff.HEADERS, 1), (ff.HEADERS, 3), (ff.HEADERS, 3), (ff.DATA, 1)]
    for head in sent[:2]:
        assert not head.flags & ff.END_STREAM
        link.fields(head)
    assert link.fields(sent[2]) == [(b"only", b"these")]
    assert sent[2].flags & ff.END_STREAM
    link.feed(ff.window_update(1, 3))
    data, trailers = link.sent()
    assert (data.payload, data.flags) == (b"def", 0)
    assert (link.fields(trailers), trailers.flags) == ([(b"checksum", b"7")], 5)
    link.feed(answer(3), answer(1))
    assert succeeded(alone)


# Frames.


def test_frames_follow_the_peers_limit_as_it_changes() -> None:
    link = fast_peer(Http2Config(send_quantum=MIB))
    link.open(CONTENT * 4)
    assert {len(f.payload) for f in link.sent(MIB) if f.kind == ff.DATA} == {16 * KIB}
    link.feed(ff.settings((ff.MAX_FRAME, 256 * KIB)))
    assert {len(f.payload) for f in link.sent(MIB) if f.kind == ff.DATA} == {256 * KIB}
    link.feed(ff.settings((ff.MAX_FRAME, 20_000)))
    assert max(len(f.payload) for f in link.sent() if f.kind == ff.DATA) == 20_000


def test_frames_are_never_longer_than_the_quantum() -> None:
    link = fast_peer(None, (ff.MAX_FRAME, MIB))
    link.open(CONTENT)
    sent = link.sent()
    assert {len(f.payload) for f in sent if f.kind == ff.DATA} == {64 * KIB}
    assert body(sent, 1) == CONTENT


def test_a_body_up_to_the_first_frame_limit_goes_with_its_head_before_settings() -> None:
    link = Link(pairs=None)
    link.open(bytes(16_384))
    link.open(bytes(16_385))
    sent = link.sent()
    assert [frame.kind for frame in sent[:3]] == [ff.HEADERS, ff.DATA, ff.HEADERS]
    assert ended(sent, 1)
    assert ended(sent, 3)
    assert max(len(frame.payload) for frame in sent) == 16_384


def test_small_chunks_share_a_frame() -> None:
    link = fast_peer()
    stream = link.open(upload=True)
    link.upload(stream, *[b"token "] * 100, end=True)
    head, data = link.sent()
    assert (head.flags, data.flags) == (ff.END_HEADERS, ff.END_STREAM)
    assert data.payload == b"token " * 100


def test_empty_chunks_are_nothing() -> None:
    link = fast_peer()
    stream = link.open(upload=True)
    link.flush()
    link.upload(stream, b"", b"")
    assert link.sent() == []
    link.upload(stream, b"", b"x", b"", end=True)
    (data,) = link.sent()
    assert (data.payload, data.flags) == (b"x", ff.END_STREAM)


def test_a_body_ends_once() -> None:
    link = fast_peer()
    stream = link.open(upload=True)
    link.upload(stream, b"x", end=True)
    link.upload(stream, end=True)
    assert ended(link.sent(), 1)
    link.upload(stream, end=True)
    assert link.sent() == []


@given(
    sizes=st.lists(st.integers(0, 60_000), min_size=1, max_size=4),
    chunk=st.integers(2_000, 70_000),
    budget=st.integers(1, 100_000),
    grants=st.lists(st.integers(3_000, 2**16), min_size=1, max_size=5),
    windows=st.lists(st.integers(0, 2**18), max_size=4),
    frame_sizes=st.lists(st.integers(16_384, 100_000), min_size=1, max_size=5),
)
def test_bytes_arrive_unharmed_whatever_the_peer_grants(
    sizes: list[int],
    chunk: int,
    budget: int,
    grants: list[int],
    windows: list[int],
    frame_sizes: list[int],
) -> None:
    link = Link(Http2Config(send_quantum=4_096))
    bodies = [noise(size, number) for number, size in enumerate(sizes)]
    streams = [link.open(upload=True) for _ in bodies]
    left = dict(zip(streams, bodies, strict=True))
    got = {stream.stream_id: b"" for stream in streams}
    settings = [
        ff.settings((ff.INITIAL_WINDOW, window), (ff.MAX_FRAME, size))
        for window, size in zip(windows, cycle(frame_sizes), strict=False)
    ]
    amounts = cycle(grants)
    done: set[int] = set()
    for _ in range(1_000):
        for stream, rest in left.items():
            if rest and not half(stream).full():
                link.upload(stream, rest[:chunk])
                left[stream] = rest[chunk:]
                link.upload(stream, end=not left[stream])
            elif not rest:
                link.upload(stream, end=True)
        sent = link.sent(budget)
        for frame in sent:
            if frame.kind == ff.DATA:
                got[frame.stream] += frame.payload
            if frame.kind == ff.DATA and frame.flags & ff.END_STREAM:
                done.add(frame.stream)
        if len(done) == len(streams):
            break
        if settings:
            link.feed(settings.pop())
        grown = next(amounts)
        link.feed(ff.window_update(0, grown))
        for stream in streams:
            window = link.connection._uploads.send_window(stream.stream_id)
            if stream.stream_id not in done and window <= 0:
                link.feed(ff.window_update(stream.stream_id, grown))
    assert list(got.values()) == bodies
    assert not link.connection.closed


# Turns.


def test_a_small_request_beside_eight_large_uploads_waits_for_a_quantum_of_each_at_most() -> None:
    link = fast_peer()
    piece = memoryview(bytes(64 * MIB))
    for _ in range(8):
        link.open(piece)
    link.flush(4 * MIB)
    small = link.open(upload=True)
    link.upload(small, bytes(KIB), end=True)
    sent = link.sent(MIB)
    position = [frame.stream for frame in sent if frame.kind == ff.DATA].index(small.stream_id)
    before = [frame.stream for frame in sent if frame.kind == ff.DATA][:position]
    for stream in range(1, 16, 2):
        assert before.count(stream) * 16 * KIB <= 64 * KIB


def test_a_small_request_with_its_body_in_hand_waits_for_nobody() -> None:
    link = fast_peer()
    for _ in range(8):
        link.open(bytes(MIB))
    link.flush(128 * KIB)
    small = link.open(bytes(KIB))
    sent = link.sent(MIB)
    assert kinds(sent)[:2] == [(ff.HEADERS, small.stream_id), (ff.DATA, small.stream_id)]


def test_small_bodies_pass_the_uploads_only_up_to_a_bound() -> None:
    link = fast_peer()
    upload = link.open(bytes(MIB))
    link.flush(64 * KIB)
    small = [link.open(bytes(10_000)) for _ in range(20)]
    order = [frame.stream for frame in link.sent() if frame.kind == ff.DATA]
    first = order.index(upload.stream_id)
    assert first == DIRECT_BODY // 10_000
    assert set(order) == {upload.stream_id, *(one.stream_id for one in small)}


def test_a_write_overruns_its_budget_by_a_quantum_at_most() -> None:
    link = fast_peer()
    link.open(bytes(8 * MIB))
    link.flush(0)
    for budget in (1, 64 * KIB, 200_000):
        size = sum(len(frame.payload) for frame in link.sent(budget))
        assert budget <= size <= budget + 64 * KIB


def test_without_budget_what_is_queued_still_goes_out() -> None:
    link = fast_peer()
    link.open(bytes(MIB))
    link.feed(ff.ping())
    assert kinds(link.sent(0)) == [(ff.HEADERS, 1), (ff.PING, 0)]
    assert link.connection.has_output


def test_control_frames_pass_the_uploads() -> None:
    link = fast_peer()
    link.open(bytes(MIB))
    link.flush(64 * KIB)
    link.feed(ff.ping())
    assert kinds(link.sent(MIB))[0] == (ff.PING, 0)


# Back-pressure.


def test_a_producer_waits_when_a_quantum_is_queued_and_goes_on_when_it_is_taken() -> None:
    link = Link(pairs=(SHUT,))
    stream = link.open(upload=True)
    link.upload(stream, bytes(64 * KIB - 1))
    assert not half(stream).full()
    link.upload(stream, b"x")
    assert half(stream).full()
    waiting = half(stream).wait()
    link.feed(ff.window_update(1, 1))
    assert not waiting.done()
    link.flush()
    assert waiting.done()
    assert not half(stream).full()


def test_a_body_that_may_change_is_copied_before_it_is_written() -> None:
    for size in (1_000, 200_000):
        link = fast_peer()
        content = bytearray(CONTENT[:size])
        link.open(memoryview(content), mutable=True)
        written = link.connection.data_to_send(PLENTY, link.now)
        content[:] = bytes(size)
        assert body(ff.parse(b"".join(written)), 1) == CONTENT[:size]


def test_a_cancel_lets_go_of_the_body() -> None:
    link = Link(pairs=(SHUT,))
    content = bytearray(200_000)
    stream = link.open(upload=True)
    link.connection.feed(stream, memoryview(content), link.now)
    link.flush()
    link.connection.cancel(stream, link.now)
    content += b"no view of it is left, or this would fail"


# A response before the body is out.


def test_a_response_may_come_and_end_while_the_body_goes_on() -> None:
    link = Link()
    stream = link.open(CONTENT, limit=PLENTY)
    head = link.wait_for(stream, Need.HEAD)
    first = link.sent()
    link.feed(ff.headers(1, ff.OK))
    assert head.done()
    end = link.wait_for(stream, Need.END)
    link.feed(ff.data(1, b"early", end_stream=True))
    assert end.done()
    assert not stream.done
    done = link.wait_for(stream, Need.DONE)
    link.feed(ff.window_update(0, MIB), ff.window_update(1, MIB))
    rest = link.sent()
    assert body(first, 1) + body(rest, 1) == CONTENT
    assert ended(rest, 1)
    assert done.done()
    assert succeeded(stream)
    assert not link.connection.streams


def test_full_duplex_an_echo_of_each_chunk_before_the_next() -> None:
    link = fast_peer()
    stream = link.open(upload=True)
    link.flush()
    link.feed(ff.headers(1, ff.OK))
    for number in range(5):
        link.upload(stream, bytes([number]))
        (data,) = link.sent()
        link.feed(ff.data(1, data.payload))
        assert stream.read() == bytes([number])
    link.upload(stream, end=True)
    link.feed(ff.data(1, end_stream=True))
    assert succeeded(stream)


def test_after_the_response_a_peer_that_takes_nothing_ends_the_upload_with_success() -> None:
    link = Link(Http2Config(keep_alive_interval=None))
    stream = link.open(CONTENT, limit=PLENTY, deadline=link.now + 60, write_timeout=60)
    link.flush()
    link.wait(20)
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"enough", end_stream=True))
    link.wait(EARLY_RESPONSE_GRACE - 0.01)
    assert not stream.done
    assert link.sent() == []
    link.wait(0.03)
    assert succeeded(stream)
    assert stream.body() == b"enough"
    assert resets(link.sent()) == [(1, ff.NO_ERROR)]
    assert not link.connection.streams


@pytest.mark.parametrize("status", [b"302", b"413", b"503"])
def test_a_response_that_did_not_work_out_ends_the_upload_at_once(status: bytes) -> None:
    link = fast_peer()
    stream = link.open(upload=True, limit=PLENTY)
    link.upload(stream, bytes(100_000))
    producer = half(stream).wait()
    link.flush(10_000)
    link.feed(ff.headers(1, (b":status", status)), ff.data(1, b"too large"))
    assert not stream.done
    link.feed(ff.data(1, end_stream=True))
    assert succeeded(stream)
    assert stream.body() == b"too large"
    assert producer.done()
    assert kinds(link.sent()) == [(ff.RST_STREAM, 1)]
    assert not link.connection.has_output


def test_after_the_response_a_peer_that_takes_a_little_gets_the_whole_body() -> None:
    link = Link(pairs=((ff.INITIAL_WINDOW, 1000),))
    stream = link.open(CONTENT[:6000])
    got = body(link.sent(), 1)
    link.feed(ff.headers(1, ff.OK, end_stream=True))
    for _ in range(5):
        link.wait(EARLY_RESPONSE_GRACE - 0.1)
        link.feed(ff.window_update(1, 1000))
        got += body(link.sent(), 1)
    assert got == CONTENT[:6000]
    assert succeeded(stream)
    assert link.sent() == []


def test_after_the_response_the_callers_own_pace_is_not_limited() -> None:
    link = fast_peer(Http2Config(keep_alive_interval=None))
    stream = link.open(upload=True, write_timeout=5)
    link.flush()
    link.feed(ff.headers(1, ff.OK, end_stream=True))
    for _ in range(5):
        link.wait(20)
        link.upload(stream, b"slow")
        assert body(link.sent(), 1) == b"slow"
    link.upload(stream, end=True)
    assert ended(link.sent(), 1)
    assert succeeded(stream)


def test_after_the_response_a_producer_that_was_slow_meets_the_grace_too() -> None:
    link = Link(pairs=(SHUT,))
    stream = link.open(upload=True)
    link.flush()
    link.feed(ff.headers(1, ff.OK, end_stream=True))
    link.wait(20)
    link.upload(stream, b"nobody wants it")
    link.wait(EARLY_RESPONSE_GRACE + 0.02)
    assert succeeded(stream)
    assert resets(link.sent()) == [(1, ff.NO_ERROR)]


def test_after_the_response_the_deadline_ends_the_upload_with_success() -> None:
    link = fast_peer()
    stream = link.open(upload=True, deadline=link.now + 5)
    link.flush()
    link.feed(ff.headers(1, ff.OK, end_stream=True))
    link.wait(5.02)
    assert succeeded(stream)
    assert resets(link.sent()) == [(1, ff.NO_ERROR)]
