"""May a request be sent again, and when?

The rules:

1. Only when the peer provably did not process it: ``processed is False``.
2. Only when its body can be sent a second time.
3. At most ``max_retries`` times, and only before its deadline.
4. Once for nothing and at once, when the peer did not so much as look at it: it was never written,
   or lies above the last stream of a GOAWAY, or was written ahead of the peer's SETTINGS and was
   more than these allow. One GOAWAY can return hundreds of requests, none of which adds any load.
5. Else it takes a token of the client's budget, so that a peer that refuses what it has no room for
   is not given the same several times over. Each request that is sent earns a fifth of a token, and
   each second three. Tokens live for ten seconds: the budget never holds more than the requests and
   the seconds of the last ten have earned. A new client has the tokens of ten seconds.
6. Who has taken a token waits: at random up to a bound that doubles with each retry (full jitter),
   and never longer than half of the time that is left.

What is unknown (``processed is None``) is never sent again here: the caller knows whether its
request is idempotent, and this library does not guess.

Requests are not noted one by one. They are counted anyway, so that the budget reads the count when
a token is asked for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from dynamo_h2.errors import (
    ClientClosed,
    ConnectError,
    PoolTimeout,
    ReadTimeout,
    RequestTimeout,
    TransportError,
    WriteTimeout,
)

if TYPE_CHECKING:
    from dynamo_h2.metrics import Counters

# What is earned: with a fifth for each request, retries add at most 20 % to the load of peers that
# refuse everything; three a second are for clients with few requests.
PER_REQUEST: Final = 0.2
PER_SECOND: Final = 3

# For how long tokens live, in seconds.
LIFE: Final = 10

# How often the count of requests is noted at most, in seconds.
NOTE_EVERY: Final = 1

# The longest wait before the first retry, and before any, in seconds: a worker that has no room now
# may have some when a few of its requests have ended.
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0

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


def pause(retries: int, left: float, jitter: float) -> float:
    """How long to wait before a retry that took a token, in seconds.

    Args:
        retries: How many there were already.
        left: The time until the deadline, in seconds.
        jitter: A number in 0…1, drawn at random.
    """
    bound = FIRST_PAUSE * (1 << min(retries, 16))
    return jitter * min(bound, LONGEST_PAUSE, left / 2)


class RetryBudget:
    """The tokens of one client.

    Args:
        counters: Where its requests are counted.
        now: The present, in seconds.
    """

    __slots__ = ("_counters", "_left", "_notes", "_seen", "_seen_at")

    def __init__(self, counters: Counters, now: float) -> None:
        self._counters = counters
        self._left = float(PER_SECOND * LIFE)
        self._seen = self._sent
        self._seen_at = now
        self._notes = deque([(now, self._seen)])

    @property
    def _sent(self) -> int:
        """Requests that were sent, each once."""
        return self._counters.requests - self._counters.retries

    def take(self, now: float) -> bool:
        """Take a token; false when there is none."""
        sent = self._sent
        earned = PER_REQUEST * (sent - self._seen) + PER_SECOND * (now - self._seen_at)
        most = PER_REQUEST * self._lately(sent, now) + PER_SECOND * LIFE
        self._left = min(most, self._left + earned)
        self._seen = sent
        self._seen_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _lately(self, sent: int, now: float) -> float:
        """How many requests were sent while tokens live; nearly so, where none was asked for."""
        notes = self._notes
        if now >= notes[-1][0] + NOTE_EVERY:
            notes.append((now, sent))
        while len(notes) > 1 and notes[1][0] <= now - LIFE:
            notes.popleft()
        since, count = notes[0]
        return (sent - count) * LIFE / max(LIFE, now - since)
