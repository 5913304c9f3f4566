"""May a request be sent again?

The rule:

1. Only when the peer provably did not process it: ``processed is False``.
2. Only when its body can be sent a second time.
3. At most ``max_retries`` times, and only before its deadline.

What is unknown (``processed is None``) is never sent again here: the caller knows whether its
request is idempotent, and this library does not guess.
"""

from __future__ import annotations

from dynamo_h2.errors import (
    ClientClosed,
    ConnectError,
    PoolTimeout,
    ReadTimeout,
    RequestTimeout,
    TransportError,
    WriteTimeout,
)

# Dials have retries of their own; a closed client and a time limit of the request end everything.
# A connection that did not answer a PING is lost as any other: who was never written to it goes on.
_FINAL = (ClientClosed, ConnectError, PoolTimeout, ReadTimeout, RequestTimeout, WriteTimeout)


def may_retry(
    error: BaseException,
    *,
    replayable: bool,
    retries: int,
    max_retries: int,
    deadline: float,
    now: float,
) -> bool:
    """Whether a failed attempt may be followed by another.

    Args:
        error: What ended the attempt.
        replayable: Whether the body can be sent again.
        retries: How many retries there were already.
        max_retries: How many are allowed.
        deadline: When the request ends, in seconds.
        now: The present, in seconds.
    """
    return (
        isinstance(error, TransportError)
        and error.processed is False
        and not isinstance(error, _FINAL)
        and replayable
        and retries < max_retries
        and now < deadline
    )
