"""Staying awake for an answer that is due, and for nothing else."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from math import inf, nan
from time import monotonic
from typing import Any

import pytest

from dynamo_h2 import ConfigError, Http2Config, HttpRequestClient
from dynamo_h2.metrics import Counters
from dynamo_h2.transport import busy_poll as module
from dynamo_h2.transport.busy_poll import BusyPoll, LoneRequests
from tests.behaviours import patient, turns, until
from tests.http2.frame_factory import RST_STREAM
from tests.peers.scripted import Connection, scripted_peer

LONG = 60.0  # seconds that no test waits for
SHORT = 0.001
AWAKE = 5  # turns in which a loop that sleeps would do so


class Rig:
    """A client's polls, and the connections that it has, as far as polls know of them."""

    def __init__(self, limit: float = LONG) -> None:
        self.counters = Counters()
        self.polls = BusyPoll(limit, self.counters)
        self.now = monotonic()
        self.requests = self.connection()

    def connection(self) -> LoneRequests:
        streams: list[int] = []
        return LoneRequests(self.polls, streams)

    def awake(self) -> bool:
        """Ask anew: type checkers take a property for something that does not change."""
        return self.polls.active

    def send(self, requests: LoneRequests | None = None) -> LoneRequests:
        """Write a request that is alone; its stream is there by the next turn."""
        requests = requests or self.requests
        requests.written(self.now)
        streams = requests.streams
        assert isinstance(streams, list)
        streams.append(1)
        return requests

    def answer(self, after: float = 0.0, requests: LoneRequests | None = None) -> None:
        """Let the response end so many seconds after the request."""
        requests = requests or self.requests
        streams = requests.streams
        assert isinstance(streams, list)
        streams.pop()
        self.now += after
        if requests.written_at:
            requests.received(self.now)

    def repeat(self, *times: float, requests: LoneRequests | None = None) -> None:
        """Answer requests after so many seconds each."""
        for after in times:
            self.send(requests)
            self.answer(after, requests)


@pytest.fixture(autouse=True)
def core_to_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else runs on this machine takes the core as if it were nobody."""
    monkeypatch.setattr(module, "TAKEN", inf)


# For whom the loop stays awake


async def test_two_answers_in_time_let_the_third_request_be_polled_for() -> None:
    rig = Rig()
    rig.send()
    assert not rig.awake()
    rig.answer()
    rig.send()
    assert not rig.awake()
    rig.answer()
    rig.send()
    await turns(AWAKE)
    assert rig.awake()
    rig.answer()
    assert not rig.awake()


async def test_one_late_answer_does_not_change_a_mind_that_two_do() -> None:
    rig = Rig()
    rig.repeat(*[0.0] * 9, LONG + 1)
    rig.send()
    assert rig.awake()
    rig.answer()
    rig.repeat(LONG + 1, LONG + 1)
    rig.send()
    assert not rig.awake()


async def test_who_answers_late_again_and_again_has_nothing_to_make_up_for() -> None:
    rig = Rig()
    rig.repeat(*[LONG + 1] * 9, 0.0, 0.0)
    rig.send()
    assert rig.awake()
    rig.answer()


async def test_an_answer_at_the_limit_is_in_time() -> None:
    rig = Rig()
    rig.repeat(LONG, LONG)
    rig.send()
    assert rig.awake()
    rig.answer()


async def test_each_connection_has_a_record_of_its_own() -> None:
    rig = Rig()
    rig.repeat(0.0, 0.0)
    other = rig.send(rig.connection())
    assert not rig.awake()
    rig.answer(requests=other)


async def test_a_response_that_goes_on_is_nothing_yet() -> None:
    rig = Rig()
    rig.repeat(0.0, 0.0)
    rig.send()
    rig.requests.received(rig.now)
    await turns(AWAKE)
    assert rig.awake()
    rig.answer()


async def test_an_answer_among_others_says_nothing() -> None:
    rig = Rig()
    rig.repeat(0.0)
    rig.send()
    streams = rig.requests.streams
    assert isinstance(streams, list)
    streams.append(3)
    rig.requests.received(rig.now)
    streams.pop()
    rig.answer()  # neither late nor in time
    rig.send()
    assert not rig.awake()
    rig.answer()
    rig.send()
    assert rig.awake()
    rig.answer()


# When it sleeps again


async def test_it_sleeps_after_the_limit_and_that_is_a_late_answer() -> None:
    rig = Rig(SHORT)
    rig.repeat(*[0.0] * 9)
    for _ in range(2):
        rig.send()
        assert rig.awake()
        await until(lambda: not rig.awake())
        assert not rig.requests.written_at
        rig.answer()
    rig.send()
    assert not rig.awake()


async def test_it_sleeps_when_another_request_is_in_flight_on_the_connection() -> None:
    rig = Rig()
    rig.repeat(0.0, 0.0)
    rig.send()
    streams = rig.requests.streams
    assert isinstance(streams, list)
    streams.append(3)
    await turns(AWAKE)
    assert not rig.awake()


async def test_it_sleeps_when_the_request_was_given_up() -> None:
    rig = Rig()
    rig.repeat(0.0, 0.0)
    rig.send()
    streams = rig.requests.streams
    assert isinstance(streams, list)
    streams.clear()
    await turns(AWAKE)
    assert not rig.awake()
    rig.send()
    assert rig.awake()
    rig.answer()


async def test_one_that_follows_a_request_given_up_in_the_same_turn_is_polled_for() -> None:
    rig = Rig()
    rig.repeat(0.0, 0.0)
    rig.send()
    streams = rig.requests.streams
    assert isinstance(streams, list)
    streams.clear()
    rig.send()
    await turns(AWAKE)
    assert rig.awake()
    rig.answer()


async def test_it_sleeps_when_somebody_takes_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKEN", 0.0)
    rig = Rig()
    rig.repeat(*[0.0] * 9)
    for _ in range(2):
        rig.send()
        assert rig.awake()
        await turns(AWAKE)
        assert not rig.awake()
        rig.answer()
    rig.send()
    assert not rig.awake()  # two times were enough


async def test_two_connections_with_requests_at_once_are_both_left_to_the_loop() -> None:
    rig = Rig()
    other = rig.connection()
    rig.repeat(0.0, 0.0)
    rig.repeat(0.0, 0.0, requests=other)
    rig.send()
    assert rig.awake()
    rig.send(other)
    assert not rig.awake()
    rig.answer()
    rig.answer(requests=other)
    rig.now += LONG / 2
    rig.send()
    assert not rig.awake()  # nor for a while after
    rig.answer()
    rig.now += LONG
    rig.send()
    assert rig.awake()
    rig.answer()


async def test_an_answer_elsewhere_does_not_put_it_to_sleep() -> None:
    rig = Rig()
    other = rig.connection()
    rig.send(other)
    rig.repeat(0.0, 0.0)
    rig.send()
    rig.answer(requests=other)
    await turns(AWAKE)
    assert rig.awake()
    rig.answer()


# What it takes


async def test_it_turns_once_in_each_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    offers = []
    monkeypatch.setattr(module, "sched_yield", lambda: offers.append(1))
    rig = Rig()
    rig.repeat(*[0.0] * 9)  # each from the third on has begun a poll, and ended it
    rig.send()
    await turns(AWAKE)
    assert 0 < len(offers) <= AWAKE
    rig.answer()


async def test_the_time_awake_is_counted() -> None:
    rig = Rig(0.01)
    rig.repeat(0.0, 0.0)
    before = monotonic()
    rig.send()
    await until(lambda: not rig.awake())
    assert 0.01 <= rig.counters.busy_poll_time <= monotonic() - before


# With a client


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


def test_a_client_does_not_sleep_before_an_answer_that_is_due(selector: Watched) -> None:
    async def main() -> None:
        async with scripted_peer(answer) as peer, HttpRequestClient(patient(busy_poll=0.01)) as c:
            slept = 1
            while slept:  # where this machine stands still for a moment, the next one will do
                before = selector.slept
                await c.send_request(peer.url("/"), b"payload")
                slept = selector.slept - before
            assert c.stats().busy_poll_time > 0

    in_a_loop_with(selector, main)


def test_a_client_sleeps_where_it_may(selector: Watched) -> None:
    async def main() -> None:
        async with scripted_peer(answer) as peer, HttpRequestClient(patient(busy_poll=None)) as c:
            for _ in range(20):
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
        for _ in range(10):
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
        for _ in range(10):
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
    assert Http2Config.from_env({}).busy_poll == 0.0005
