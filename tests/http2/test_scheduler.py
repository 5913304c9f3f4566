"""Who sends next, with plain numbers for windows and plain bytes for bodies."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.http2.scheduler import Scheduler

KIB = 1024
PLENTY = 1 << 40


@dataclass(eq=False)
class Upload:
    """A body of so many bytes on a stream with a window of its own."""

    stream_id: int
    queued: int
    window: int = PLENTY
    urgency: int = 3

    def take(self, limit: int, frame: int, now: float) -> bytes:
        size = min(limit, frame, self.queued)
        assert size > 0
        self.queued -= size
        return bytes(size)


@dataclass
class Line:
    """Writes down the frames, and counts what it is asked."""

    connection_window: int = PLENTY
    uploads: dict[int, Upload] = field(default_factory=dict)
    frames: list[tuple[int, int]] = field(default_factory=list)
    asked: int = 0

    def send_window(self, stream_id: int) -> int:
        self.asked += 1
        return min(self.connection_window, self.uploads[stream_id].window)

    def send_body(self, sender: Upload, data: bytes | memoryview) -> None:
        size = len(data)
        assert 0 < size <= self.send_window(sender.stream_id)
        self.connection_window -= size
        sender.window -= size
        self.frames.append((sender.stream_id, size))


class Rig:
    """A scheduler with its line."""

    def __init__(self, quantum: int = 64 * KIB, frame_size: int = 16 * KIB) -> None:
        self.line = Line()
        self.scheduler: Scheduler[Upload] = Scheduler(quantum)
        self.scheduler.peer_frame_size(frame_size)

    def upload(self, size: int, window: int = PLENTY, urgency: int = 3) -> Upload:
        """Let a body of ``size`` bytes wait for its turn."""
        upload = Upload(2 * len(self.line.uploads) + 1, size, window, urgency)
        self.line.uploads[upload.stream_id] = upload
        self.scheduler.add(upload)
        return upload

    def run(self, budget: int = PLENTY) -> list[tuple[int, int]]:
        """Send about ``budget`` bytes; the frames of this run as (stream, size)."""
        self.line.frames = []
        sent = self.scheduler.run(self.line, budget, 0.0)
        assert sent == sum(size for _, size in self.line.frames)
        return self.line.frames

    def order(self, budget: int = PLENTY) -> list[int]:
        """The streams in the order of their turns."""
        turns: list[int] = []
        for stream, _ in self.run(budget):
            if turns[-1:] != [stream]:
                turns.append(stream)
        return turns


def test_an_empty_ring_sends_nothing() -> None:
    rig = Rig()
    assert rig.run() == []
    assert not rig.scheduler


def test_a_sender_without_bytes_does_not_enter() -> None:
    rig = Rig()
    rig.upload(0)
    assert len(rig.scheduler) == 0


def test_a_sender_stands_in_the_ring_once() -> None:
    rig = Rig()
    upload = rig.upload(40 * KIB)
    rig.scheduler.add(upload)
    assert len(rig.scheduler) == 1
    assert rig.run() == [(1, 16 * KIB), (1, 16 * KIB), (1, 8 * KIB)]
    assert len(rig.scheduler) == 0


def test_senders_take_turns_of_one_quantum() -> None:
    rig = Rig(quantum=32 * KIB)
    for _ in range(3):
        rig.upload(80 * KIB)
    turn = [16 * KIB, 16 * KIB]
    rest = [16 * KIB]
    expected = [(s, n) for sizes in (turn, turn, rest) for s in (1, 3, 5) for n in sizes]
    assert rig.run() == expected


@pytest.mark.parametrize(
    ("quantum", "frame_size", "longest"),
    [
        (64 * KIB, 16 * KIB, 16 * KIB),
        (64 * KIB, 1 << 20, 64 * KIB),
        (1 << 20, 1 << 20, 1 << 20),
        (1000, 16 * KIB, 1000),
    ],
)
def test_a_frame_is_never_longer_than_the_quantum_or_the_peers_frame_size(
    quantum: int, frame_size: int, longest: int
) -> None:
    rig = Rig(quantum, frame_size)
    rig.upload(3 << 20)
    assert max(size for _, size in rig.run()) == longest


def test_frames_are_short_until_the_peer_allows_longer_ones() -> None:
    assert Scheduler[Upload](1 << 20).frame_limit == 16 * KIB


def test_a_frame_size_that_changes_holds_for_the_next_frame() -> None:
    rig = Rig()
    rig.upload(1 << 20)
    assert {size for _, size in rig.run(64 * KIB)} == {16 * KIB}
    rig.scheduler.peer_frame_size(32 * KIB)
    assert {size for _, size in rig.run(64 * KIB)} == {32 * KIB}
    rig.scheduler.peer_frame_size(20 * KIB)
    assert [size for _, size in rig.run(64 * KIB)] == [20 * KIB, 20 * KIB, 20 * KIB, 4 * KIB]


def test_a_small_body_waits_for_one_quantum_of_each_big_one() -> None:
    rig = Rig()
    for _ in range(8):
        rig.upload(64 << 20)
    rig.run(100 * 64 * KIB)
    small = rig.upload(KIB)
    frames = rig.run(9 * 64 * KIB)
    before = Counter[int]()
    for stream, size in frames:
        if stream == small.stream_id:
            break
        before[stream] += size
    assert small.queued == 0
    assert len(before) == 8
    assert max(before.values()) <= 64 * KIB


def test_eight_uploads_advance_side_by_side() -> None:
    rig = Rig()
    for _ in range(8):
        rig.upload(64 << 20)
    sent = Counter[int]()
    for _ in range(200):
        for stream, size in rig.run(100_000):
            sent[stream] += size
    assert len(sent) == 8
    assert max(sent.values()) - min(sent.values()) <= 64 * KIB


def test_a_run_overruns_its_budget_by_less_than_a_quantum() -> None:
    rig = Rig()
    rig.upload(64 << 20)
    for budget in (1, 64 * KIB, 64 * KIB + 1, 1 << 20):
        sent = sum(size for _, size in rig.run(budget))
        assert budget <= sent < budget + 64 * KIB


def test_a_run_without_budget_sends_nothing() -> None:
    rig = Rig()
    rig.upload(KIB)
    assert rig.run(0) == []
    assert len(rig.scheduler) == 1


def test_a_used_up_connection_window_ends_the_run_and_keeps_the_order() -> None:
    rig = Rig()
    rig.line.connection_window = 64 * KIB + 5
    for _ in range(3):
        rig.upload(1 << 20)
    assert rig.order() == [1, 3]
    assert rig.line.connection_window == 0
    assert rig.run() == []
    rig.line.connection_window = 3 * 64 * KIB
    assert rig.order() == [5, 1, 3]


@pytest.mark.parametrize("window", [0, -50_000])
def test_a_sender_without_a_window_leaves_the_ring_until_it_is_brought_back(window: int) -> None:
    rig = Rig()
    shut, fine = rig.upload(KIB, window), rig.upload(KIB)
    assert rig.run() == [(fine.stream_id, KIB)]
    assert (len(rig.scheduler), shut.queued) == (0, KIB)
    shut.window = 100
    rig.scheduler.add(shut)
    assert rig.run() == [(shut.stream_id, 100)]
    assert (len(rig.scheduler), shut.queued) == (0, KIB - 100)


def test_a_discarded_sender_is_gone_at_once() -> None:
    rig = Rig()
    uploads = [rig.upload(KIB) for _ in range(3)]
    rig.scheduler.discard(uploads[1])
    rig.scheduler.discard(uploads[1])
    assert len(rig.scheduler) == 2
    assert rig.order() == [1, 5]


def test_senders_that_give_up_behind_a_shut_connection_leave_nothing_behind() -> None:
    rig = Rig()
    rig.line.connection_window = 0
    rig.upload(KIB)
    for _ in range(1000):
        rig.scheduler.discard(rig.upload(KIB))
        assert rig.run() == []
    assert len(rig.scheduler) == 1
    assert sum(map(sys.getsizeof, rig.scheduler.rings.values())) < 10_000


# Urgency (RFC 9218).


def test_the_more_urgent_go_first_and_their_equals_in_turns() -> None:
    rig = Rig()
    for urgency in (7, 3, 0, 3, 0):
        rig.upload(100 * KIB, urgency=urgency)
    assert rig.order() == [5, 9, 5, 9, 3, 7, 3, 7, 1]
    assert not rig.scheduler


def test_an_urgent_body_waits_for_no_more_than_the_turn_that_is_running() -> None:
    rig = Rig()
    uploads = [rig.upload(64 << 20) for _ in range(8)]
    rig.run(100 * 64 * KIB)
    urgent = rig.upload(100 * KIB, urgency=0)
    assert rig.order(200 * KIB) == [urgent.stream_id, *(u.stream_id for u in uploads[4:6])]


def test_the_less_urgent_have_the_line_while_the_urgent_have_no_window() -> None:
    rig = Rig()
    urgent, usual = rig.upload(200 * KIB, 100 * KIB, urgency=1), rig.upload(200 * KIB)
    assert rig.order(180 * KIB) == [urgent.stream_id, usual.stream_id]
    assert rig.order(1) == [usual.stream_id]
    urgent.window = PLENTY
    rig.scheduler.add(urgent)
    assert rig.order() == [urgent.stream_id, usual.stream_id]


def test_what_is_out_with_its_last_byte_may_leave_at_once() -> None:
    rig = Rig()
    last = rig.upload(KIB)
    rig.upload(KIB)
    send_body = rig.line.send_body

    def send_and_finish(sender: Upload, data: bytes | memoryview) -> None:
        send_body(sender, data)
        rig.scheduler.discard(sender)

    rig.line.send_body = send_and_finish  # type: ignore[method-assign]
    assert rig.order() == [last.stream_id, 3]
    assert (len(rig.scheduler), bool(rig.scheduler)) == (0, False)


def test_a_discarded_sender_leaves_no_empty_ring_behind() -> None:
    rig = Rig()
    uploads = [rig.upload(KIB, urgency=urgency) for urgency in (0, 5)]
    rig.scheduler.discard(uploads[0])
    rig.scheduler.discard(Upload(99, KIB, urgency=7))
    assert len(rig.scheduler) == 1
    assert rig.order() == [uploads[1].stream_id]


def steps(ready: int, turns: int) -> int:
    """The lines of Python that are run in ``turns`` turns with so many senders ready."""
    rig = Rig()
    for number in range(ready):
        rig.upload(64 << 20, urgency=number % 8)
    for upload in list(rig.line.uploads.values())[: ready // 2]:
        rig.scheduler.discard(upload)
        rig.scheduler.add(upload)
    count = 0

    def trace(frame: object, event: str, _argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        rig.run(turns * 64 * KIB)
    finally:
        sys.settrace(before)
    return count


def test_a_turn_costs_the_same_however_many_are_ready() -> None:
    assert steps(1000, 50) == steps(10, 50)


@given(
    sizes=st.lists(st.integers(1, 30_000), min_size=1, max_size=8),
    quantum=st.integers(1_024, 20_000),
    frame_size=st.integers(1_000, 20_000),
    budgets=st.lists(st.integers(1, 20_000), min_size=1, max_size=5),
    windows=st.lists(st.integers(500, 20_000), min_size=1, max_size=5),
    urgencies=st.lists(st.integers(0, 7), min_size=1, max_size=8),
)
def test_everything_is_sent_within_every_limit(
    sizes: list[int],
    quantum: int,
    frame_size: int,
    budgets: list[int],
    windows: list[int],
    urgencies: list[int],
) -> None:
    rig = Rig(quantum, frame_size)
    rig.line.connection_window = 0
    urgency = cycle(urgencies)
    uploads = [rig.upload(size, 0, next(urgency)) for size in sizes]
    sent = Counter[int]()
    room, grants = cycle(budgets), cycle(windows)
    while any(upload.queued for upload in uploads):
        rig.line.connection_window += next(grants)
        for upload in uploads:
            if upload.window <= 0:
                upload.window += next(grants)
                rig.scheduler.add(upload)
        frames = rig.run(next(room))
        assert frames, "bytes, windows and budget, and nothing was sent"
        for stream, size in frames:
            assert size <= min(quantum, frame_size)
            sent[stream] += size
    assert sent == {upload.stream_id: size for upload, size in zip(uploads, sizes, strict=True)}
    assert len(rig.scheduler) == 0
