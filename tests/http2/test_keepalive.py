"""When to ask whether the peer is there, and when to give up: a clock of plain numbers."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.http2.keepalive import KeepAlive, Verdict

NOW = 5000.0


def keep_alive(
    interval: float | None = 30.0,
    timeout: float = 10.0,
    *,
    while_idle: bool = True,
    jitter: float = 0.0,
) -> KeepAlive:
    return KeepAlive(interval, timeout, while_idle=while_idle, jitter=jitter, now=NOW)


def pinged(**options: bool) -> tuple[KeepAlive, bytes]:
    """One whose PING is in flight since NOW + 30."""
    alive = keep_alive(**options)
    assert alive.verdict(NOW + 30, streams=True) is Verdict.PING
    return alive, alive.ping(NOW + 30)


def test_silence_for_the_interval_asks_for_a_ping() -> None:
    alive = keep_alive()
    assert alive.next_timer(streams=False) == NOW + 30
    assert alive.verdict(NOW + 29.99, streams=False) is Verdict.WAIT
    assert alive.verdict(NOW + 30, streams=False) is Verdict.PING


def test_any_received_byte_starts_the_interval_anew() -> None:
    alive = keep_alive()
    alive.received(NOW + 29)
    assert alive.verdict(NOW + 30, streams=True) is Verdict.WAIT
    assert alive.next_timer(streams=True) == NOW + 59


@given(st.floats(0, 1))
def test_jitter_lengthens_the_interval_by_a_tenth_at_most(jitter: float) -> None:
    due = keep_alive(jitter=jitter).next_timer(streams=True)
    assert NOW + 30 <= due <= NOW + 33
    assert due == pytest.approx(NOW + 30 * (1 + jitter / 10))


def test_without_an_interval_nothing_is_ever_asked() -> None:
    for while_idle in (True, False):
        alive = keep_alive(None, while_idle=while_idle)
        assert alive.next_timer(streams=True) == inf
        assert alive.verdict(NOW + 1e9, streams=True) is Verdict.WAIT
        assert not alive.stream_opened(NOW + 1e9)


def test_no_second_ping_while_one_is_in_flight() -> None:
    alive, _ = pinged()
    assert alive.waiting
    for second in range(10):
        assert alive.verdict(NOW + 30 + second, streams=True) is Verdict.WAIT


def test_silence_for_the_timeout_after_a_ping_means_dead() -> None:
    alive, _ = pinged()
    assert alive.next_timer(streams=True) == NOW + 40
    assert alive.verdict(NOW + 39.99, streams=True) is Verdict.WAIT
    assert alive.verdict(NOW + 40, streams=True) is Verdict.DEAD


def test_the_ack_is_life_and_a_sample_of_the_round_trip() -> None:
    alive, payload = pinged()
    alive.received(NOW + 35)
    assert alive.acknowledged(payload, NOW + 35)
    assert alive.rtt == 5.0
    assert not alive.waiting
    assert alive.next_timer(streams=True) == NOW + 65


def test_bytes_without_the_ack_are_life_too() -> None:
    alive, _ = pinged()
    alive.received(NOW + 39)
    assert alive.verdict(NOW + 40, streams=True) is Verdict.WAIT
    assert alive.next_timer(streams=True) == NOW + 49
    # The ACK never came: the PING counts as lost, and the interval runs from the last byte.
    assert alive.verdict(NOW + 49, streams=True) is Verdict.WAIT
    assert not alive.waiting
    assert alive.next_timer(streams=True) == NOW + 69
    assert alive.verdict(NOW + 69, streams=True) is Verdict.PING


def test_bytes_of_the_moment_in_which_the_ping_was_written_are_no_answer() -> None:
    alive = keep_alive(while_idle=False)
    alive.ping(NOW + 30)
    alive.received(NOW + 30)
    assert alive.verdict(NOW + 40, streams=True) is Verdict.DEAD


def test_after_a_lost_ping_a_late_look_asks_again_at_once() -> None:
    alive, _ = pinged()
    alive.received(NOW + 31)
    assert alive.verdict(NOW + 500, streams=True) is Verdict.PING


def test_only_the_payload_in_flight_is_an_answer() -> None:
    alive, first = pinged()
    assert not alive.acknowledged(b"12345678", NOW + 31)
    assert not alive.acknowledged(b"", NOW + 31)
    assert alive.waiting
    assert alive.acknowledged(first, NOW + 31)
    assert not alive.acknowledged(first, NOW + 32)
    second = alive.ping(NOW + 61)
    assert second != first
    assert not alive.acknowledged(first, NOW + 62)
    assert alive.acknowledged(second, NOW + 62)


def test_a_payload_has_eight_bytes_however_many_pings_there_were() -> None:
    alive = keep_alive()
    alive._pings = 2**32 - 2
    payloads = [alive.ping(NOW + n) for n in range(4)]
    assert {len(payload) for payload in payloads} == {8}
    assert len(set(payloads)) == 4


def test_without_while_idle_silence_without_streams_asks_for_nothing() -> None:
    alive = keep_alive(while_idle=False)
    assert alive.next_timer(streams=False) == inf
    assert alive.verdict(NOW + 1000, streams=False) is Verdict.WAIT
    assert alive.verdict(NOW + 1000, streams=True) is Verdict.PING


def test_the_first_stream_after_long_silence_brings_a_ping() -> None:
    alive = keep_alive(while_idle=False)
    assert not alive.stream_opened(NOW + 29.9)
    assert alive.stream_opened(NOW + 30)
    alive.ping(NOW + 30)
    assert not alive.stream_opened(NOW + 31)


def test_with_while_idle_the_first_stream_needs_no_ping() -> None:
    assert not keep_alive().stream_opened(NOW + 1000)


def test_a_ping_in_flight_is_judged_although_the_streams_have_ended() -> None:
    alive, _ = pinged(while_idle=False)
    assert alive.next_timer(streams=False) == NOW + 40
    assert alive.verdict(NOW + 40, streams=False) is Verdict.DEAD


def test_silence_while_reading_is_paused_is_none() -> None:
    alive = keep_alive()
    alive.pause()
    assert alive.next_timer(streams=True) == inf
    assert alive.verdict(NOW + 1000, streams=True) is Verdict.WAIT
    alive.resume(NOW + 1000)
    assert alive.verdict(NOW + 1000, streams=True) is Verdict.WAIT
    assert alive.next_timer(streams=True) == NOW + 1030


def test_a_pause_after_the_ping_gives_the_peer_its_whole_time_again() -> None:
    alive, payload = pinged()
    alive.pause()
    alive.resume(NOW + 200)
    assert alive.verdict(NOW + 209.9, streams=True) is Verdict.WAIT
    assert alive.acknowledged(payload, NOW + 209.9)


def test_a_slow_peer_lives_for_ten_minutes() -> None:
    alive = keep_alive()
    now, pings = NOW, 0
    while now < NOW + 600:
        now = alive.next_timer(streams=True)
        assert alive.verdict(now, streams=True) is Verdict.PING
        payload = alive.ping(now)
        pings += 1
        now += 5
        assert alive.verdict(now, streams=True) is Verdict.WAIT
        alive.received(now)
        assert alive.acknowledged(payload, now)
    assert pings == 18


@given(
    interval=st.integers(1, 100),
    timeout=st.integers(1, 100),
    jitter=st.floats(0, 1),
    gaps=st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=50),
)
def test_dead_is_said_only_after_a_ping_and_a_whole_timeout_of_silence(
    interval: int, timeout: int, jitter: float, gaps: list[tuple[int, bool]]
) -> None:
    alive = keep_alive(interval, timeout, jitter=jitter)
    now = last = NOW
    asked: float | None = None
    for gap, bytes_come in gaps:
        now += gap
        if bytes_come:
            last = now
            alive.received(now)
            continue
        match alive.verdict(now, streams=True):
            case Verdict.PING:
                assert now - last >= interval
                asked = now
                alive.ping(now)
            case Verdict.DEAD:
                assert asked is not None
                assert asked >= last
                assert now - asked >= timeout
                return
            case Verdict.WAIT:
                assert alive.next_timer(streams=True) > now
