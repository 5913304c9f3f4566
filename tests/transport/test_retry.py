"""Which failures may be followed by another attempt, how many, and when."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.errors import (
    ClientClosed,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    InvalidRequest,
    KeepAliveTimeout,
    LocalProtocolError,
    Overloaded,
    PoolTimeout,
    ReadTimeout,
    RemoteProtocolError,
    RequestTimeout,
    ResponseTooLarge,
    StatusError,
    StreamReset,
    TransportError,
    WriteTimeout,
)
from dynamo_h2.metrics import Counters
from dynamo_h2.transport.retry import (
    FIRST_PAUSE,
    LIFE,
    LONGEST_PAUSE,
    PER_SECOND,
    RetryBudget,
    may_retry,
    pause,
)

REFUSED = StreamReset("refused", code=7, by_peer=True, processed=False)


def retried(
    error: BaseException,
    *,
    replayable: bool = True,
    retries: int = 0,
    max_retries: int = 2,
    deadline: float = inf,
    now: float = 100.0,
) -> bool:
    return may_retry(
        error,
        replayable=replayable,
        retries=retries,
        max_retries=max_retries,
        deadline=deadline,
        now=now,
    )


@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        ConnectionLost("lost before it was written", processed=False),
        KeepAliveTimeout("dead before it was written", processed=False),
        RemoteProtocolError("broken before it was written", code=1, processed=False),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_peer_provably_did_not_process_is_sent_again(error: TransportError) -> None:
    assert retried(error)


@pytest.mark.parametrize("processed", [None, True])
@pytest.mark.parametrize("kind", [ConnectionLost, KeepAliveTimeout, TransportError])
def test_what_the_peer_may_have_processed_is_never_sent_again(
    kind: type[TransportError], processed: bool | None
) -> None:
    assert not retried(kind("lost", processed=processed))
    assert not retried(StreamReset("reset", code=7, by_peer=True, processed=processed))
    assert not retried(RemoteProtocolError("broken", code=1, processed=processed))


@pytest.mark.parametrize(
    "kind", [RequestTimeout, ReadTimeout, WriteTimeout, PoolTimeout, ConnectTimeout]
)
def test_a_time_limit_that_passed_ends_the_request(kind: type[TransportError]) -> None:
    assert not retried(kind("late", processed=False))


@pytest.mark.parametrize("kind", [ConnectError, ConnectTimeout])
def test_a_dial_that_failed_is_not_followed_by_more_than_its_own_retries(
    kind: type[TransportError],
) -> None:
    assert not retried(kind("refused", processed=False))


def test_a_closed_client_sends_nothing_again() -> None:
    assert not retried(ClientClosed("closed", processed=False))


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("bad"),
        StatusError(status=500, headers={}, body=b""),
        Overloaded(status=503, headers={}, body=b""),
        ResponseTooLarge("big"),
        ValueError("the caller's own"),
        ConnectionResetError("the caller's own"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_failure_of_the_transport_is_never_sent_again(error: BaseException) -> None:
    assert not retried(error)


def test_a_body_that_was_read_and_cannot_be_replayed_is_not_sent_again() -> None:
    assert not retried(REFUSED, replayable=False)


@pytest.mark.parametrize(("retries", "allowed"), [(0, True), (1, True), (2, False), (3, False)])
def test_there_are_at_most_max_retries_further_attempts(retries: int, allowed: bool) -> None:
    assert retried(REFUSED, retries=retries, max_retries=2) is allowed


def test_without_max_retries_there_is_one_attempt() -> None:
    assert not retried(REFUSED, max_retries=0)


@pytest.mark.parametrize(("deadline", "allowed"), [(100.1, True), (100.0, False), (99.0, False)])
def test_nothing_is_sent_again_after_the_deadline(deadline: float, allowed: bool) -> None:
    assert retried(REFUSED, deadline=deadline, now=100.0) is allowed


@given(
    processed=st.sampled_from([None, True, False]),
    replayable=st.booleans(),
    retries=st.integers(0, 5),
    max_retries=st.integers(0, 5),
    left=st.floats(-10, 10),
)
def test_every_condition_is_needed(
    processed: bool | None, replayable: bool, retries: int, max_retries: int, left: float
) -> None:
    now, deadline = 50.0, 50.0 + left
    error = LocalProtocolError("any failure of the transport", processed=processed)
    assert retried(
        error,
        replayable=replayable,
        retries=retries,
        max_retries=max_retries,
        deadline=deadline,
        now=now,
    ) == (processed is False and replayable and retries < max_retries and now < deadline)


# The budget.

NOW = 1000.0
RESERVE = PER_SECOND * LIFE
"""The tokens of a client that has not sent anything."""


class Client:
    """The part of a client that its budget sees, and a clock."""

    def __init__(self) -> None:
        self.now = NOW
        self.counters = Counters()
        self.budget = RetryBudget(self.counters, NOW)

    def send(self, count: int, seconds: float = 0.0) -> None:
        """Send requests evenly over some time, and ask for nothing meanwhile."""
        self.counters.requests += count
        self.now += seconds

    def takes(self, most: int = 10_000) -> int:
        """How many tokens are there to be taken now; each is used."""
        for count in range(most):
            if not self.budget.take(self.now):
                return count
            self.counters.retries += 1
            self.counters.requests += 1
        return most


def test_a_new_client_has_the_tokens_of_ten_seconds() -> None:
    assert Client().takes() == RESERVE == 30


def test_three_tokens_come_back_each_second() -> None:
    client = Client()
    client.takes()
    client.now += 1.01
    assert client.takes() == 3
    client.now += 0.2
    assert client.takes() == 0


def test_every_fifth_request_earns_a_token() -> None:
    client = Client()
    client.takes()
    client.send(51)
    assert client.takes() == 10


def test_a_retry_earns_nothing_of_its_own() -> None:
    client = Client()
    client.takes()
    client.counters.retries += 1000
    client.counters.requests += 1000
    assert client.takes() == 0


def test_tokens_of_more_than_ten_seconds_ago_are_gone() -> None:
    client = Client()
    client.send(10_000, seconds=1)
    client.now += 100
    # Evenly spread over the 101 s in which nothing was asked for, a tenth of them is of the last.
    assert client.takes() == int(RESERVE + 0.2 * 10_000 * LIFE / 101)


def test_a_client_that_rests_has_the_reserve_and_no_more() -> None:
    client = Client()
    client.send(10_000)
    client.takes(1)
    client.now += 3600
    client.takes(1)
    client.now += 3600
    assert client.takes() == RESERVE


@given(
    rate=st.integers(0, 2000),
    asked=st.lists(st.floats(0, 20), min_size=1, max_size=60),
    refused=st.integers(0, 100),
)
def test_no_more_is_taken_than_was_earned(rate: int, asked: list[float], refused: int) -> None:
    """Whatever is asked for, and when: a fifth of the requests, three a second, and the reserve."""
    client = Client()
    taken = 0
    for seconds in asked:
        client.send(round(rate * seconds), seconds)
        taken += client.takes(refused)
    earned = 0.2 * (client.counters.requests - taken) + PER_SECOND * (client.now - NOW)
    assert taken <= RESERVE + earned + 1e-6


def test_a_peer_that_refuses_everything_gets_a_fifth_more_and_a_little() -> None:
    client = Client()
    taken = 0
    for _ in range(10_000):
        client.send(1, 0.001)
        taken += client.takes(1)
    assert 2000 <= taken <= 2000 + RESERVE + PER_SECOND * 10


def test_what_the_budget_remembers_is_bounded() -> None:
    client = Client()
    for _ in range(10_000):
        client.send(3, 0.01)
        client.takes(1)
    assert len(client.budget._notes) <= LIFE + 2


# The pause.


def test_pauses_double_up_to_their_bound() -> None:
    assert [pause(retries, inf, 1.0) for retries in range(4)] == [
        FIRST_PAUSE * factor for factor in (1, 2, 4, 8)
    ]
    assert pause(20, inf, 1.0) == pause(10**9, inf, 1.0) == LONGEST_PAUSE


@given(st.integers(0, 100), st.floats(0.0, 1e9), st.floats(0, 1))
def test_a_pause_is_drawn_from_nothing_on_and_leaves_half_of_the_time(
    retries: int, left: float, jitter: float
) -> None:
    assert 0 <= pause(retries, left, jitter) <= left / 2
    assert pause(retries, left, 0.0) == 0
    assert pause(retries, left, jitter) <= pause(retries, left, 1.0)
