"""Staying awake for an answer that is due, and for nothing else."""

from __future__ import annotations

import asyncio
import selectors
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from math import inf, nan
from typing import Any

import pytest

from dynamo_h2 import ConfigError, Http2Config, HttpRequestClient
from dynamo_h2.metrics import Counters
from dynamo_h2.transport import busy_poll as module
from dynamo_h2.transport.busy_poll import (
    BUSY,
    CERTAIN,
    LEAVE_ALONE,
    LIKELY,
    MINUTE,
    RATIONED,
    TAKEN,
    WAKING,
    BusyPoll,
    LoneRequests,
)
from tests.behaviours import patient, turns, until
from tests.behaviours_wire import wired
from tests.http2.frame_factory import (
    INITIAL_WINDOW,
    OK,
    RST_STREAM,
    data,
    headers,
    settings,
    settings_ack,
    window_update,
)
from tests.peers.scripted import Connection, scripted_peer

LIMIT = 300e-6
IN_TIME = 20e-6
LATE = LIMIT + WAKING + 1e-6
AWAKE = 5  # turns in which a loop that may sleep does so
TURN = 1e-6  # seconds that a turn takes here


class Rig:
    """A client's polls, with a clock that the test turns, and with a core that it lends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.offers = 0
        self.offer_takes = TURN
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "sched_yield", self._offered)
        self.counters = Counters()
        self.polls = BusyPoll(LIMIT, self.counters)
        self.one = Peer(self)

    def _offered(self) -> None:
        self.offers += 1
        self.now += self.offer_takes

    def awake(self) -> bool:
        """Ask anew: type checkers take an attribute for something that does not change."""
        return self.polls.polled is not None


class Peer:
    """A connection, as far as polls know of it."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.streams: list[int] = []
        self.requests = LoneRequests(rig.polls, self.streams)
        self._last = -1

    def send(self) -> bool:
        """Write a request that is alone; whether the loop stays awake for its answer."""
        self._last += 2
        self.streams.append(self._last)
        self.requests.written(self._last, self._rig.now)
        return self._rig.awake()

    def answer(self, after: float = IN_TIME) -> None:
        """Let the response to the latest request end so many seconds from now."""
        self._rig.now += after
        self.streams.remove(self._last)
        self.requests.answered(self._rig.now)

    def repeat(self, times: int, after: float = IN_TIME) -> None:
        """Send so many requests, one after the other, which are answered after so many seconds."""
        for _ in range(times):
            self.send()
            self.answer(after)

    def likely(self) -> bool:
        """Whether an answer is expected in time: begins and ends a request."""
        expected = self.send()
        self.streams.clear()
        self._rig.polls.polled = None
        return expected


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


# For whom the loop stays awake


async def test_as_many_answers_in_time_as_it_takes_let_the_next_be_polled_for(rig: Rig) -> None:
    for _ in range(LIKELY):
        assert not rig.one.send()
        rig.one.answer()
    assert rig.one.send()
    await turns(AWAKE)
    assert rig.awake()
    rig.one.answer(0.0)
    assert not rig.awake()


@pytest.mark.parametrize(
    ("after", "in_time"), [(LIMIT + WAKING - 1e-6, True), (LIMIT + WAKING + 1e-6, False)]
)
async def test_who_sleeps_has_time_to_wake_up(rig: Rig, after: float, in_time: bool) -> None:
    rig.one.repeat(LIKELY, after)
    assert rig.one.likely() is in_time


async def test_one_late_answer_is_forgiven_to_those_who_are_reliable(rig: Rig) -> None:
    rig.one.repeat(9 * CERTAIN)
    rig.polls.polled = None
    rig.one.requests.missed()
    assert rig.one.likely()
    rig.one.requests.missed()
    assert not rig.one.likely()
    rig.one.repeat(LIKELY - 1)
    assert not rig.one.likely()
    rig.one.repeat(1)
    assert rig.one.likely()


async def test_late_answers_are_not_added_up(rig: Rig) -> None:
    rig.one.repeat(9, LATE)
    rig.one.repeat(LIKELY)
    assert rig.one.likely()


@pytest.mark.parametrize("fast", [1, 3, 7])
async def test_a_peer_that_is_fast_now_and_slow_then_is_not_waited_for(rig: Rig, fast: int) -> None:
    for _ in range(20):
        rig.one.repeat(fast)
        assert not rig.one.send()
        rig.one.answer(LATE)
    assert rig.counters.busy_poll_time == 0


async def test_each_connection_has_a_record_of_its_own(rig: Rig) -> None:
    rig.one.repeat(LIKELY)
    assert not Peer(rig).likely()
    assert rig.one.likely()


# When it sleeps again


async def test_it_sleeps_after_the_limit_and_that_is_a_late_answer(rig: Rig) -> None:
    rig.one.repeat(LIKELY)
    assert rig.one.send()
    await until(lambda: not rig.awake())
    assert rig.offers == pytest.approx(LIMIT / TURN, abs=1)
    assert rig.counters.busy_poll_time == pytest.approx(LIMIT, abs=2 * TURN)
    assert rig.one.requests.stream_id == 0  # it was judged
    rig.one.streams.clear()
    assert not rig.one.likely()


async def test_it_sleeps_when_another_request_is_in_flight_on_the_connection(rig: Rig) -> None:
    rig.one.repeat(LIKELY)
    assert rig.one.send()
    rig.one.streams.append(99)
    await turns(AWAKE)
    assert not rig.awake()


async def test_it_sleeps_when_the_request_was_given_up(rig: Rig) -> None:
    rig.one.repeat(LIKELY)
    assert rig.one.send()
    rig.one.streams.clear()
    await turns(AWAKE)
    assert not rig.awake()
    assert rig.one.send()


async def test_a_request_that_is_not_alone_does_not_inherit_from_one_given_up(rig: Rig) -> None:
    rig.one.repeat(LIKELY)
    assert rig.one.send()
    rig.one.streams[:] = [99]
    await turns(AWAKE)
    assert not rig.awake()


async def test_one_that_follows_a_request_given_up_in_the_same_turn_is_polled_for(
    rig: Rig,
) -> None:
    rig.one.repeat(LIKELY)
    assert rig.one.send()
    rig.one.streams.clear()
    assert rig.one.send()
    await turns(AWAKE)
    assert rig.awake()


@pytest.mark.parametrize("gap", [TAKEN + 1e-6, 0.001, RATIONED - 1e-6])
async def test_who_takes_the_core_is_left_alone_in_proportion(rig: Rig, gap: float) -> None:
    rig.one.repeat(CERTAIN)
    assert rig.one.send()
    rig.offer_takes = gap
    await turns(AWAKE)
    assert (rig.awake(), rig.offers) == (False, 1)
    rig.one.answer(0.0)
    rig.now += LEAVE_ALONE * gap - 1e-6
    assert not rig.one.likely()
    rig.now += 2e-6
    assert rig.one.likely()


async def test_where_time_is_rationed_there_is_none_to_spend_for_a_minute(rig: Rig) -> None:
    rig.one.repeat(CERTAIN)
    assert rig.one.send()
    rig.offer_takes = RATIONED + 1e-6
    await turns(AWAKE)
    assert not rig.awake()
    rig.one.answer(0.0)
    rig.now += MINUTE - 1e-3
    assert not rig.one.likely()
    rig.now += 2e-3
    assert rig.one.likely()


async def test_a_loop_with_other_work_is_awake_without_help(rig: Rig) -> None:
    rig.one.repeat(CERTAIN)
    assert rig.one.send()
    await turns(AWAKE)
    rig.now += BUSY + 1e-6
    await turns(AWAKE)
    assert not rig.awake()
    rig.one.answer(0.0)
    assert not rig.one.likely()


async def test_a_turn_with_little_to_do_is_none_of_somebody_else(rig: Rig) -> None:
    rig.one.repeat(CERTAIN)
    assert rig.one.send()
    for _ in range(AWAKE):
        rig.now += BUSY - 2e-6
        await turns(1)
        assert rig.awake()


async def test_an_answer_behind_a_gap_tells_of_it_too(rig: Rig) -> None:
    rig.one.repeat(CERTAIN)
    assert rig.one.send()
    await turns(AWAKE)
    counted = rig.counters.busy_poll_time
    rig.one.answer(RATIONED + 1e-6)
    assert rig.counters.busy_poll_time == counted  # it was somebody else's
    rig.now += MINUTE / 2
    assert not rig.one.likely()


async def test_two_connections_with_requests_at_once_are_both_left_to_the_loop(rig: Rig) -> None:
    other = Peer(rig)
    rig.one.repeat(CERTAIN)
    other.repeat(CERTAIN)
    assert rig.one.send()
    assert not other.send()
    other.answer(0.0)
    rig.one.answer(0.0)
    rig.now += LIMIT / 2
    assert not rig.one.likely()  # nor is anybody for a while after
    rig.now += LIMIT / 2 + 1e-6
    assert rig.one.likely()  # who has asked meanwhile has not made it any longer


async def test_others_do_not_shorten_the_time_in_which_the_core_is_left_alone(rig: Rig) -> None:
    other = Peer(rig)
    rig.one.repeat(CERTAIN)
    other.repeat(CERTAIN)
    assert rig.one.send()
    rig.polls._leave_until = rig.now + MINUTE
    other.send()
    rig.now += MINUTE / 2
    rig.one.streams.clear()
    assert not rig.one.likely()


async def test_an_answer_elsewhere_does_not_put_it_to_sleep(rig: Rig) -> None:
    other = Peer(rig)
    other.send()
    rig.one.repeat(LIKELY)
    assert rig.one.send()
    other.answer(0.0)
    await turns(AWAKE)
    assert rig.awake()


# What it takes


async def test_it_turns_once_in_each_turn_of_the_loop(rig: Rig) -> None:
    rig.one.repeat(9 * CERTAIN)  # most of which have begun a poll, and ended it
    rig.offers = 0
    assert rig.one.send()
    await turns(AWAKE)
    assert 0 < rig.offers <= AWAKE


def test_without_a_way_to_offer_the_core_the_loop_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BusyPoll.up_to(None, Counters()) is None
    monkeypatch.setattr(module, "sched_yield", None)
    assert BusyPoll.up_to(LIMIT, Counters()) is None


def test_a_system_without_that_call_has_a_client_too() -> None:
    program = (
        "import os; del os.sched_yield; from dynamo_h2.transport import busy_poll;"
        "print(busy_poll.sched_yield)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


# On a connection


async def test_only_requests_that_were_alone_and_are_out_are_told_of() -> None:
    windows = settings((INITIAL_WINDOW, 20_000)) + window_update(0, 1 << 24)
    async with wired(windows, settings_ack()) as (rig, _):
        told: list[int] = []
        rig.protocol.connection.on_lone = lambda stream_id, _: told.append(stream_id)
        for _ in range(20):  # of which some are written when much has been queued
            rig.open("POST", bytes(15_000))
        assert told == [1]
        await turns(2)
        answers = [headers(stream_id, OK, end_stream=True) for stream_id in range(1, 40, 2)]
        rig.protocol.data_received(b"".join(answers))
        rig.open("GET")
        assert told == [1, 41]
        rig.protocol.data_received(headers(41, OK, end_stream=True))
        rig.open("POST", bytes(30_000))  # more than may be sent
        assert told == [1, 41]


async def test_a_response_is_an_answer_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed in ("LIKELY", "TAKEN", "BUSY"):
        monkeypatch.setattr(module, allowed, 0 if allowed == "LIKELY" else inf)
    polls = BusyPoll(60.0, Counters())
    async with wired(settings(), settings_ack(), polls=polls) as (rig, _):

        def awake() -> bool:
            return polls.polled is not None

        for stream_id in (1, 3):
            rig.open("POST", b"payload")
            assert awake()
            rig.protocol.data_received(headers(stream_id, OK))
            await turns(AWAKE)
            assert awake()
            rig.protocol.data_received(data(stream_id, b"token", end_stream=True))
            assert not awake()


# With a client


@pytest.fixture
def core_to_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else runs on this machine takes the core as if it were nobody."""
    for allowed in ("TAKEN", "BUSY"):
        monkeypatch.setattr(module, allowed, inf)


class Watched(selectors.DefaultSelector):
    """Notes whether the loop slept."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.slept += timeout is None or timeout > 0
        return super().select(timeout)


@pytest.fixture
def selector() -> Iterator[Watched]:
    with Watched() as watched:
        yield watched


async def answer(connection: Connection) -> None:
    """Answer all requests but those to ``/wait``."""
    await connection.handshake()
    while True:
        request = await connection.recv_request()
        if request[b":path"] != b"/wait":
            connection.headers(request.stream_id, [(b":status", b"200")], end_stream=True)


async def begin(connection: Connection) -> None:
    """Begin responses, and when they are left say something else."""
    await connection.handshake()
    while True:
        request = await connection.recv_request()
        connection.headers(request.stream_id, [(b":status", b"200")])
        connection.data(request.stream_id, b"token")
        await connection.recv_until(RST_STREAM)
        connection.ping()


def in_a_loop_with(selector: Watched, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main())


@pytest.mark.usefixtures("core_to_ourselves")
def test_a_client_does_not_sleep_before_an_answer_that_is_due(selector: Watched) -> None:
    async def main() -> None:
        async with scripted_peer(answer) as peer, HttpRequestClient(patient(busy_poll=0.01)) as c:
            sleeps = []
            for _ in range(20 * CERTAIN):
                before = selector.slept
                await c.send_request(peer.url("/"), b"payload")
                sleeps.append(selector.slept - before)
            assert all(sleeps[:LIKELY])
            assert 0 in sleeps  # where this machine stands still for a moment, it sleeps again
            assert c.stats().busy_poll_time > 0

    in_a_loop_with(selector, main)


def test_a_client_sleeps_where_it_may(selector: Watched) -> None:
    async def main() -> None:
        async with scripted_peer(answer) as peer, HttpRequestClient(patient(busy_poll=None)) as c:
            for _ in range(2 * CERTAIN):
                before = selector.slept
                await c.send_request(peer.url("/"), b"payload")
                assert selector.slept > before
            assert c.stats().busy_poll_time == 0

    in_a_loop_with(selector, main)


async def test_a_stream_that_is_left_was_not_answered_whatever_comes_next() -> None:
    async with (
        scripted_peer(begin) as peer,
        HttpRequestClient(patient(busy_poll=0.01)) as client,
    ):
        for _ in range(2 * CERTAIN):
            async with client.stream("POST", peer.url("/"), body=b"payload") as response:
                assert await anext(aiter(response)) == b"token"
            received = client.stats().bytes_received
            await until(lambda: client.stats().bytes_received > received)  # noqa: B023 - at once
        assert client.stats().busy_poll_time == 0


async def test_a_request_that_is_not_alone_is_not_polled_for() -> None:
    async with (
        scripted_peer(answer) as peer,
        HttpRequestClient(patient(busy_poll=0.01)) as client,
    ):
        waiting = asyncio.create_task(client.send_request(peer.url("/wait"), b"payload"))
        await until(lambda: client.stats().streams_in_flight == 1)
        for _ in range(2 * CERTAIN):
            await client.send_request(peer.url("/"), b"payload")
        assert client.stats().busy_poll_time == 0
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.parametrize("wrong", [0, -1e-4, 0.02, nan, True, "0.0005"])
def test_a_limit_of_no_time_or_too_much_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"busy_poll.*over 0 to 0\.01 s, or none"):
        Http2Config().replace(busy_poll=wrong)


def test_the_limit_can_be_taken_away_by_a_variable() -> None:
    assert Http2Config.from_env({"DYN_HTTP2_BUSY_POLL_SECS": "none"}).busy_poll is None
    assert Http2Config.from_env({"DYN_HTTP2_BUSY_POLL_SECS": "0.001"}).busy_poll == 0.001
    assert Http2Config.from_env({}).busy_poll == 0.0003
