"""Receive windows: what arrives, what goes back, and that nothing is lost in between."""

from __future__ import annotations

import pytest
from h2.exceptions import FlowControlError
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.http2.flow import GRANT_FRACTION, ReceiveWindow

LARGEST = 2**31 - 1


def test_a_new_window_has_its_size() -> None:
    window = ReceiveWindow(1000)
    assert (window.current_window_size, window.max_window_size, window.owed) == (1000, 1000, 0)


def test_what_arrives_lowers_the_window() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(300)
    window.window_consumed(700)
    assert window.current_window_size == 0


def test_one_byte_more_than_granted_is_a_flow_control_error() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(1000)
    with pytest.raises(FlowControlError, match="1 bytes of DATA where 0 were granted"):
        window.window_consumed(1)
    assert window.current_window_size == 0


def test_an_empty_frame_is_allowed_whatever_the_window() -> None:
    window = ReceiveWindow(0)
    window.current_window_size = -500
    window.window_consumed(0)
    assert window.current_window_size == -500
    with pytest.raises(FlowControlError):
        window.window_consumed(1)


def test_credit_is_granted_when_a_quarter_of_the_size_is_owed() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(600)
    assert window.process_bytes(249) == 0
    assert window.owed == 249
    assert window.process_bytes(1) == 250
    assert window.owed == 0


def test_a_grant_counts_only_when_it_is_made() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(400)
    increment = window.process_bytes(400)
    assert (increment, window.current_window_size) == (400, 600)
    window.window_opened(increment)
    assert window.current_window_size == 1000


def test_granting_leaves_the_size_as_it_is() -> None:
    window = ReceiveWindow(1000)
    window.window_opened(500)
    assert (window.current_window_size, window.max_window_size) == (1500, 1000)


def test_a_window_never_passes_the_largest() -> None:
    window = ReceiveWindow(LARGEST)
    with pytest.raises(FlowControlError, match=str(LARGEST)):
        window.window_opened(1)
    assert window.current_window_size == LARGEST
    window.window_consumed(10)
    window.window_opened(10)
    assert window.current_window_size == LARGEST


def test_a_lower_target_withholds_credit_until_the_window_has_shrunk() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(800)
    assert window.process_bytes(100) == 0
    window.owed += 400
    assert window.due(400) == 0
    assert (window.current_window_size, window.max_window_size, window.owed) == (200, 500, 0)
    window.owed += 300
    assert window.due(400) == 200
    window.window_opened(200)
    assert (window.current_window_size, window.max_window_size) == (400, 400)


def test_a_higher_target_grants_nothing_by_itself() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(1000)
    window.owed += 1000
    assert window.due(4000) == 1000
    assert window.max_window_size == 1000


def test_a_window_grows_by_the_difference_whatever_is_under_way() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(700)
    window.owed += 100
    increment = window.grow(4000)
    assert increment == 3000
    window.window_opened(increment)
    assert (window.current_window_size, window.max_window_size, window.owed) == (3300, 4000, 100)


def test_a_window_does_not_shrink_when_it_is_told_to_grow() -> None:
    window = ReceiveWindow(1000)
    assert window.grow(1000) == window.grow(10) == 0
    assert window.max_window_size == 1000


def test_a_target_of_zero_grants_nothing() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(1000)
    window.owed += 1000
    assert window.due(0) == 0
    assert (window.current_window_size, window.max_window_size, window.owed) == (0, 0, 0)


def test_a_negative_window_recovers_as_it_is_read() -> None:
    # INITIAL_WINDOW_SIZE was lowered by 900 after 600 bytes had come (RFC 9113 §6.9.2).
    window = ReceiveWindow(1000)
    window.window_consumed(600)
    window.window_opened(-900)
    window.max_window_size = 100
    assert window.current_window_size == -500
    window.window_opened(window.process_bytes(600))
    assert window.current_window_size == 100


def test_a_size_below_zero_grows_from_there() -> None:
    window = ReceiveWindow(1000)
    window.window_consumed(300)
    window.owed += 300
    assert window.due(100) == 0
    window.window_opened(-1000)
    window.max_window_size -= 1000
    window.window_opened(window.grow(50))
    assert (window.current_window_size, window.max_window_size) == (50, 50)


@given(
    target=st.integers(1, 100_000),
    steps=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=60),
)
def test_no_credit_is_ever_lost(target: int, steps: list[tuple[float, float]]) -> None:
    window = ReceiveWindow(target)
    unread = 0
    for arriving, reading in steps:
        size = int(arriving * window.current_window_size)
        window.window_consumed(size)
        unread += size
        taken = int(reading * unread)
        unread -= taken
        window.window_opened(window.process_bytes(taken))
        assert window.current_window_size + window.owed + unread == target
        # However little is read at a time, the peer may always send three quarters of what is not
        # held up by the reader.
        assert window.owed * GRANT_FRACTION < target


@given(
    targets=st.lists(st.integers(0, 50_000), min_size=1, max_size=20),
    sizes=st.lists(st.floats(0, 1), min_size=20, max_size=60),
)
def test_the_parts_of_a_window_add_up_to_its_size(targets: list[int], sizes: list[float]) -> None:
    window = ReceiveWindow(50_000)
    held_up = 0
    for step, share in enumerate(sizes):
        target, before = targets[step % len(targets)], window.max_window_size
        size = int(share * window.current_window_size)
        window.window_consumed(size)
        window.owed += size - size // 3
        held_up += size // 3
        increment = window.due(target) if step % 3 else window.grow(target)
        assert increment >= 0
        window.window_opened(increment)
        assert window.current_window_size + window.owed + held_up == window.max_window_size
        assert min(before, target) <= window.max_window_size <= max(before, target)
