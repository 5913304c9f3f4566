"""Which failures may be followed by another attempt."""

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
from dynamo_h2.transport.retry import may_retry

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
