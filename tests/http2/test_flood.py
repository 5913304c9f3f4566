"""Limits against frames that carry nothing: a burst passes, a steady stream above them does not."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from h2.exceptions import DenialOfServiceError
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.http2.flood import ALLOWANCE, FloodGuard, Idle

NOW = 5000.0


def allowed(guard: FloodGuard, kind: Idle, now: float, most: int = 1_000_000) -> int:
    """How many frames of a kind pass at one moment."""
    for count in range(most):
        try:
            guard.count(kind, now)
        except DenialOfServiceError:
            return count
    return most


@pytest.mark.parametrize("kind", Idle)
def test_a_burst_of_one_seconds_allowance_passes_and_no_more(kind: Idle) -> None:
    assert allowed(FloodGuard(NOW), kind, NOW) == ALLOWANCE[kind]


@pytest.mark.parametrize("kind", Idle)
def test_the_error_asks_for_calm_and_names_the_frames(kind: Idle) -> None:
    guard = FloodGuard(NOW)
    allowed(guard, kind, NOW)
    with pytest.raises(
        DenialOfServiceError, match=rf"{ALLOWANCE[kind]} {kind.name} frames"
    ) as info:
        guard.count(kind, NOW)
    assert info.value.error_code == ErrorCodes.ENHANCE_YOUR_CALM


def test_each_kind_has_an_allowance_of_its_own() -> None:
    assert len(ALLOWANCE) == len(Idle)
    guard = FloodGuard(NOW)
    allowed(guard, Idle.SETTINGS, NOW)
    for kind in Idle:
        if kind is not Idle.SETTINGS:
            guard.count(kind, NOW)


def test_a_bucket_refills_with_time_and_never_above_one_second() -> None:
    guard = FloodGuard(NOW)
    rate = ALLOWANCE[Idle.PING]
    assert allowed(guard, Idle.PING, NOW) == rate
    assert allowed(guard, Idle.PING, NOW + 0.5) == rate // 2
    assert allowed(guard, Idle.PING, NOW + 3600) == rate


def test_a_steady_stream_at_the_rate_goes_on_for_ever() -> None:
    guard = FloodGuard(NOW)
    rate = ALLOWANCE[Idle.SETTINGS]
    for count in range(20 * rate):
        guard.count(Idle.SETTINGS, NOW + count / rate)


def test_a_steady_stream_above_the_rate_ends() -> None:
    guard = FloodGuard(NOW)
    rate = ALLOWANCE[Idle.SETTINGS]
    passed = sum(
        allowed(guard, Idle.SETTINGS, NOW + n / (1.25 * rate), 1) for n in range(20 * rate)
    )
    # 100 in the bucket, and 100 for each of the 16 seconds, of which the first finds it full.
    assert 16 * rate <= passed <= 17 * rate


@given(st.lists(st.floats(0, 2), max_size=400))
def test_no_second_ever_passes_more_than_two_allowances(gaps: list[float]) -> None:
    # A full bucket and what refills it within a second: that is all.
    guard = FloodGuard(NOW)
    now, passed = NOW, []
    for gap in gaps:
        now += gap / 50
        passed += [now] * allowed(guard, Idle.SETTINGS, now, 60)
    rate = ALLOWANCE[Idle.SETTINGS]
    for start in passed:
        assert sum(start <= at < start + 1 for at in passed) <= 2 * rate
