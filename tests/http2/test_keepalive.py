"""When to ask whether the peer is there, and when to give up: a clock of plain numbers."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.http2.keepalive import ASK_AFTER, SUSPECT_AFTER, KeepAlive, Verdict

NOW = 5000.0


def write_ping(alive: KeepAlive, now: float) -> bytes:
    """Queue a PING that is written at once; its payload."""
    payload = alive.ping(now)
    alive.written(now)
    return payload


def keep_alive(
    interval: float | None = 30.0,
    timeout: float = 10.0,
    *,
    while_idle: bool = True,
    jitter: float = 0.0,
    write_timeout: float = inf,
) -> KeepAlive:
    return KeepAlive(
        interval,
        timeout,
        while_idle=while_idle,
        jitter=jitter,
        now=NOW,
        write_timeout=write_timeout,
    )


def pinged(**options: bool) -> tuple[KeepAlive, bytes]:
    """One whose PING is in flight since NOW + 30."""
    alive = keep_alive(**options)
    assert alive.verdict(NOW + 30, streams=True) is Verdict.PING
    return alive, write_ping(alive, NOW + 30)


def suspect(**options: bool) -> tuple[KeepAlive, bytes]:
    """One whose PING of NOW + 30 is overdue."""
    alive, payload = pinged(**options)
    assert alive.verdict(NOW + 30 + SUSPECT_AFTER, streams=True) is Verdict.SUSPECT
    return alive, payload


def at_work(
    rtt: float = 0.0,
    *,
    interval: float | None = 30.0,
    timeout: float = 10.0,
    while_idle: bool = True,
) -> KeepAlive:
    """One whose peer is ready ``rtt`` seconds away, and has a stream open since NOW."""
    alive = keep_alive(interval, timeout, while_idle=while_idle)
    alive.settings_acknowledged(rtt)
    alive.asked = False
    return alive


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
    alive, _ = suspect()
    assert alive.waiting
    for second in range(1, 10):
        assert alive.verdict(NOW + 30 + second, streams=True) is Verdict.WAIT


def test_silence_for_the_timeout_after_a_ping_means_dead() -> None:
    alive, _ = suspect()
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
    write_ping(alive, NOW + 30)
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
    second = write_ping(alive, NOW + 61)
    assert second != first
    assert not alive.acknowledged(first, NOW + 62)
    assert alive.acknowledged(second, NOW + 62)


def test_a_payload_has_eight_bytes_however_many_pings_there_were() -> None:
    alive = keep_alive()
    alive._pings = 2**32 - 2
    payloads = [write_ping(alive, NOW + n) for n in range(4)]
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
    write_ping(alive, NOW + 30)
    assert not alive.stream_opened(NOW + 31)


def test_with_while_idle_the_first_stream_needs_no_ping() -> None:
    assert not keep_alive().stream_opened(NOW + 1000)


def test_a_ping_in_flight_is_judged_although_the_streams_have_ended() -> None:
    alive, _ = suspect(while_idle=False)
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


# The early PING.


def test_a_second_of_silence_with_a_stream_open_asks_early() -> None:
    alive = at_work()
    assert alive.next_timer(streams=False) == NOW + 30
    assert alive.next_timer(streams=True) == NOW + 1
    assert alive.verdict(NOW + 0.99, streams=True) is Verdict.WAIT
    assert alive.verdict(NOW + 1, streams=True) is Verdict.PING


def test_four_round_trips_of_silence_are_needed_where_that_is_more() -> None:
    assert at_work(0.24).next_timer(streams=True) == NOW + 1
    assert at_work(0.5).next_timer(streams=True) == NOW + 2


def test_the_silence_counts_from_the_first_stream_and_from_the_last_byte() -> None:
    alive = at_work()
    alive.busy_since = NOW + 5
    assert alive.next_timer(streams=True) == NOW + 6
    alive.received(NOW + 5.5)
    assert alive.next_timer(streams=True) == NOW + 6.5


def asks_on_cancel(alive: KeepAlive, opened_at: float) -> bool:
    """Whether a PING goes with the RST_STREAM of a stream that was opened then."""
    return alive.silent_since(opened_at) and alive.ask(again=False)


def test_a_second_early_ping_needs_headers_or_data_in_between() -> None:
    alive = at_work()
    assert alive.verdict(NOW + 1, streams=True) is Verdict.PING
    payload = write_ping(alive, NOW + 1)
    alive.received(NOW + 1.1)
    assert alive.acknowledged(payload, NOW + 1.1)
    assert alive.next_timer(streams=True) == NOW + 31.1
    assert not asks_on_cancel(alive, NOW + 2)
    alive.received(NOW + 3)
    alive.asked = False
    assert alive.next_timer(streams=True) == NOW + 4


def test_a_ping_of_the_interval_is_not_counted_as_an_early_one() -> None:
    alive = at_work()
    assert alive.verdict(NOW + 30, streams=False) is Verdict.PING
    payload = write_ping(alive, NOW + 30)
    alive.received(NOW + 30)
    assert alive.acknowledged(payload, NOW + 30)
    alive.busy_since = NOW + 31
    assert alive.next_timer(streams=True) == NOW + 32


def test_an_interval_of_less_than_a_second_comes_first() -> None:
    alive = at_work(interval=0.5)
    assert alive.next_timer(streams=True) == NOW + 0.5
    assert alive.verdict(NOW + 0.5, streams=True) is Verdict.PING
    assert not alive.asked


def test_a_peer_that_was_never_heard_is_not_asked_early() -> None:
    alive = keep_alive()
    assert alive.next_timer(streams=True) == NOW + 30
    assert not asks_on_cancel(alive, NOW + 1)


def test_an_early_ping_never_brings_death_forward() -> None:
    alive = at_work()
    assert alive.verdict(NOW + 1, streams=True) is Verdict.PING
    write_ping(alive, NOW + 1)
    assert alive.verdict(NOW + 1.25, streams=True) is Verdict.SUSPECT
    assert alive.next_timer(streams=True) == NOW + 40
    assert alive.verdict(NOW + 39.99, streams=True) is Verdict.WAIT
    assert alive.verdict(NOW + 40, streams=True) is Verdict.DEAD


def test_without_an_interval_nothing_is_asked_early() -> None:
    alive = at_work(0.5, interval=None)
    assert alive.next_timer(streams=True) == inf
    assert alive.verdict(NOW + 1e9, streams=True) is Verdict.WAIT
    assert not asks_on_cancel(alive, NOW + 1)


def test_a_cancel_asks_when_nothing_came_since_the_stream_was_opened() -> None:
    alive = at_work()
    assert asks_on_cancel(alive, NOW + 0.5)
    write_ping(alive, NOW + 0.6)
    assert not asks_on_cancel(alive, NOW + 0.5)


def test_a_cancel_asks_nothing_when_a_byte_came_since() -> None:
    alive = at_work()
    alive.received(NOW + 1)
    assert not asks_on_cancel(alive, NOW + 0.5)
    assert not asks_on_cancel(alive, NOW + 1)
    assert asks_on_cancel(alive, NOW + 1.5)


def test_a_cancel_asks_nothing_while_a_ping_is_in_flight_or_nothing_is_read() -> None:
    alive = at_work()
    write_ping(alive, NOW + 1)
    assert not asks_on_cancel(alive, NOW + 2)
    alive = at_work()
    alive.pause()
    assert not asks_on_cancel(alive, NOW + 2)
    alive.resume(NOW + 3)
    assert not asks_on_cancel(alive, NOW + 2)
    assert asks_on_cancel(alive, NOW + 4)


def test_a_cancel_that_takes_the_last_slot_asks_again_but_never_twice_at_once() -> None:
    alive = at_work()
    assert alive.ask(again=False)
    payload = write_ping(alive, NOW + 0.1)
    assert not alive.ask(again=True)
    assert alive.acknowledged(payload, NOW + 0.2)
    assert not alive.ask(again=False)
    assert alive.ask(again=True)


# A PING that waits to be written.


def test_a_ping_that_waits_behind_a_transport_makes_suspect_but_not_dead() -> None:
    alive = keep_alive(write_timeout=60)
    alive.ping(NOW + 30)
    assert alive.unwritten
    assert alive.verdict(NOW + 30.25, streams=True) is Verdict.SUSPECT
    assert alive.next_timer(streams=True) == NOW + 90
    assert alive.verdict(NOW + 89, streams=True) is Verdict.WAIT
    assert alive.verdict(NOW + 90, streams=True) is Verdict.DEAD


def test_the_round_trip_and_the_timeout_count_from_the_writing() -> None:
    alive = keep_alive(write_timeout=60)
    payload = alive.ping(NOW + 30)
    alive.written(NOW + 50)
    assert not alive.unwritten
    assert alive.verdict(NOW + 59.9, streams=True) is not Verdict.DEAD
    assert alive.next_timer(streams=True) == NOW + 60
    assert alive.acknowledged(payload, NOW + 52)
    assert alive.rtt == 2


def test_a_ping_that_counts_as_lost_may_still_be_written() -> None:
    alive = keep_alive()
    alive.ping(NOW + 30)
    alive.received(NOW + 31)
    assert alive.verdict(NOW + 41, streams=False) is Verdict.WAIT
    assert not alive.waiting
    alive.written(NOW + 42)
    assert not alive.waiting


# Suspicion.


def test_a_ping_without_a_byte_for_250_ms_makes_the_peer_suspect() -> None:
    alive, _ = pinged()
    assert alive.next_timer(streams=True) == NOW + 30.25
    assert alive.verdict(NOW + 30.24, streams=True) is Verdict.WAIT
    before = alive.suspect
    assert alive.verdict(NOW + 30.25, streams=True) is Verdict.SUSPECT
    assert (before, alive.suspect) == (False, True)
    assert alive.next_timer(streams=True) == NOW + 40


def test_four_smoothed_round_trips_are_waited_for_where_that_is_more() -> None:
    alive = at_work(0.1)
    write_ping(alive, NOW + 30)
    assert alive.next_timer(streams=True) == NOW + 30.4


def test_any_byte_ends_the_suspicion_for_as_long_as_that_ping_is_in_flight() -> None:
    alive, _ = suspect()
    alive.received(NOW + 31)
    assert not alive.suspect
    assert alive.next_timer(streams=True) == NOW + 41
    assert alive.verdict(NOW + 40, streams=True) is Verdict.WAIT


def test_a_byte_before_the_time_is_up_leaves_no_suspicion() -> None:
    alive, _ = pinged()
    alive.received(NOW + 30.1)
    assert alive.verdict(NOW + 30.25, streams=True) is Verdict.WAIT
    assert not alive.suspect


def test_a_timeout_shorter_than_any_suspicion_kills_at_once() -> None:
    alive = keep_alive(30.0, 0.1)
    write_ping(alive, NOW + 30)
    assert alive.next_timer(streams=True) == NOW + 30.1
    assert alive.verdict(NOW + 30.1, streams=True) is Verdict.DEAD


def test_silence_while_reading_is_paused_makes_nobody_suspect() -> None:
    alive, _ = pinged()
    alive.pause()
    assert alive.verdict(NOW + 35, streams=True) is Verdict.WAIT
    alive.resume(NOW + 35)
    assert alive.verdict(NOW + 36, streams=True) is Verdict.WAIT
    assert not alive.suspect


# The round trip.


def ping_pong(alive: KeepAlive, rtt: float) -> None:
    """Let one PING and its ACK pass."""
    payload = write_ping(alive, NOW)
    assert alive.acknowledged(payload, NOW + rtt)


def test_the_round_trip_is_smoothed_as_tcp_does_it() -> None:
    alive = keep_alive()
    ping_pong(alive, 1.0)
    assert alive.srtt == 1.0
    ping_pong(alive, 2.0)
    assert (alive.rtt, alive.srtt) == (2.0, 1.125)
    assert alive.ask_after == 4.5


def test_the_ack_of_settings_tells_the_round_trip_until_a_ping_does() -> None:
    alive = keep_alive()
    alive.settings_acknowledged(0.5)
    assert (alive.rtt, alive.srtt) == (None, 0.5)
    ping_pong(alive, 0.25)
    assert (alive.rtt, alive.srtt) == (0.25, 0.25)
    alive.settings_acknowledged(8.0)
    assert alive.srtt == 0.25


@given(st.lists(st.floats(0, 100), min_size=1))
def test_the_smoothed_round_trip_lies_between_the_extremes(samples: list[float]) -> None:
    alive = keep_alive()
    seen = []
    for sample in samples:
        ping_pong(alive, sample)
        assert alive.rtt is not None
        seen.append(alive.rtt)
    assert min(seen) - 1e-9 <= alive.srtt <= max(seen) + 1e-9
    assert alive.ask_after == max(ASK_AFTER, 4 * alive.srtt)


# Both together.


def test_a_slow_peer_lives_for_ten_minutes() -> None:
    alive = keep_alive()
    now, pings = NOW, 0
    while now < NOW + 600:
        now = alive.next_timer(streams=True)
        assert alive.verdict(now, streams=True) is Verdict.PING
        payload = write_ping(alive, now)
        pings += 1
        now += 5
        assert alive.verdict(now, streams=True) is not Verdict.DEAD
        alive.received(now)
        assert alive.acknowledged(payload, now)
    assert pings == 18


@given(
    interval=st.integers(1, 100),
    timeout=st.integers(1, 100),
    jitter=st.floats(0, 1),
    # Never 0: no two things happen at the same moment.
    gaps=st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=50),
    early=st.booleans(),
)
def test_dead_is_said_only_after_a_ping_and_a_whole_timeout_of_silence(
    interval: int, timeout: int, jitter: float, gaps: list[tuple[int, bool]], early: bool
) -> None:
    alive = keep_alive(interval, timeout, jitter=jitter)
    alive.asked = not early
    now = last = NOW
    asked: float | None = None
    for gap, bytes_come in gaps:
        now += gap
        if bytes_come:
            last = now
            alive.received(now)
            alive.asked = not early
            continue
        match alive.verdict(now, streams=True):
            case Verdict.PING:
                assert now - last >= (ASK_AFTER if early else interval)
                asked = now
                write_ping(alive, now)
            case Verdict.DEAD:
                assert asked is not None
                assert asked >= last
                assert now - asked >= timeout
                assert now - last >= interval + timeout
                return
            case Verdict.SUSPECT:
                assert asked is not None
                assert asked >= last
                assert now - asked >= SUSPECT_AFTER
            case Verdict.WAIT:
                assert alive.next_timer(streams=True) > now
