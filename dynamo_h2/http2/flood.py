"""Limits against a peer that keeps us busy with frames that carry nothing (RFC 9113 §10.5).

The algorithm:

1. Frames that move no request forward are counted by kind: PING, SETTINGS, GOAWAY, DATA without a
   byte, frames that are ignored, and frames for streams that are gone. WINDOW_UPDATE may move one
   forward, or be one of a million that do not.
2. Each kind has a bucket that holds one second's allowance and refills at that rate, so a burst is
   fine and a steady stream above the rate is not.
3. An empty bucket ends the connection with ENHANCE_YOUR_CALM: answering would only feed the peer.
4. Informational responses are counted for each stream, since they need an open request.
"""

from __future__ import annotations

from enum import IntEnum

from h2.exceptions import DenialOfServiceError


class Idle(IntEnum):
    """Kinds of frames that carry nothing; the value is the place in ``ALLOWANCE``."""

    PING = 0
    SETTINGS = 1
    EMPTY_DATA = 2
    IGNORED = 3
    LATE = 4
    GOAWAY = 5
    CREDIT = 6


# Frames per second and burst of each kind, far above what servers do: keep-alive and BDP probes
# send a few PINGs per second; SETTINGS change at most with the load; an empty DATA frame usually
# ends a stream; PRIORITY and extension frames come per stream; after a storm of cancels, whole
# windows of late frames arrive at once; a shutdown takes two GOAWAYs, each of which is held against
# every stream. A server that gives credit for each DATA frame of 16 KiB, twice, and takes 800 MB in
# a second, needs 100,000 WINDOW_UPDATEs for that.
ALLOWANCE = (1_000, 100, 1_000, 10_000, 200_000, 100, 100_000)

# Informational responses for one request: 100-continue, early hints and progress reports (102) are
# few; nobody waits for a hundred.
MAX_INFORMATIONAL = 100


class FloodGuard:
    """The buckets of one connection."""

    __slots__ = ("_filled_at", "_left")

    def __init__(self, now: float) -> None:
        self._left: list[float] = [*ALLOWANCE]
        self._filled_at = [now] * len(ALLOWANCE)

    def count(self, kind: Idle, now: float) -> None:
        """Count one frame.

        Raises:
            DenialOfServiceError: The peer sent more of this kind than is allowed.
        """
        rate = ALLOWANCE[kind]
        left = min(rate, self._left[kind] + (now - self._filled_at[kind]) * rate) - 1
        if left < 0:
            raise DenialOfServiceError(f"more than {rate} {kind.name} frames within a second")
        self._left[kind] = left
        self._filled_at[kind] = now
