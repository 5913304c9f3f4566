"""What a reset costs: a token of the budget, and in silence the slot of its stream."""

from __future__ import annotations

import pytest

from dynamo_h2.http2.resets import REFILL, Resets

NOW = 1000.0


def resets(budget: int = 3, *, asks: bool = True) -> Resets:
    return Resets(budget, NOW, asks=asks)


# The budget.


@pytest.mark.parametrize("budget", [1, 2, 200])
def test_the_last_token_of_a_burst_says_so(budget: int) -> None:
    bucket = resets(budget)
    assert [bucket.spend(NOW) for _ in range(budget)] == [True] * (budget - 1) + [False]


def test_ten_tokens_come_back_each_second() -> None:
    bucket = resets(200)
    for _ in range(199):
        assert bucket.spend(NOW)
    later = NOW + 2
    assert [bucket.spend(later) for _ in range(2 * REFILL)] == [True] * (2 * REFILL)
    assert not bucket.spend(later)


def test_resets_below_the_pace_of_the_refill_go_on_for_ever() -> None:
    bucket = resets(2)
    assert all(bucket.spend(NOW + number / 8) for number in range(1, 1000))


def test_a_rest_fills_the_bucket_and_no_more() -> None:
    bucket = resets(3)
    assert [bucket.spend(NOW + 1e6) for _ in range(3)] == [True, True, False]


# The slots.


def test_a_byte_frees_what_was_written() -> None:
    slots = resets()
    slots.hold(written=True)
    slots.hold(written=True)
    assert slots.held == 2
    assert slots.heard()
    assert slots.held == 0
    assert not slots.heard()


def test_a_byte_says_nothing_of_what_was_not_written() -> None:
    slots = resets()
    slots.hold(written=False)
    assert not slots.heard()
    assert slots.held == 1
    assert not slots.written()
    assert slots.held == 1
    assert slots.heard()
    assert slots.held == 0


def test_where_nobody_asks_it_is_enough_that_a_reset_was_written() -> None:
    slots = resets(asks=False)
    slots.hold(written=False)
    slots.hold(written=False)
    assert slots.written()
    assert (slots.held, slots.unwritten) == (0, 0)
