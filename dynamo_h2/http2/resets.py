"""What the streams that we reset cost a connection: tokens of a budget, and slots that stay taken.

The algorithm:

1. Servers count resets, since a stream that is opened and reset at once makes work for nothing
   (CVE-2023-44487), and cut off who sends many. So each RST_STREAM of ours takes a token of a
   bucket, which holds ``max_resets`` and gets ten new ones a second. When it is empty the
   connection drains: its streams go on, and new ones go to another connection.
2. A stream that is reset although nothing came since it was opened keeps its slot: its peer may be
   dead, and a storm of time-outs must not feed a dead connection. Any byte frees all such slots;
   a PING goes with the RST_STREAM, so that a peer that is there has something to say.
3. So does a stream whose head is still queued when it is reset: a peer that does not read must not
   make us queue without end, even where it goes on sending.
4. A byte proves nothing for a reset that was not written yet: the slot stays until it is written,
   and until a byte comes after that. Without keep-alive nobody asks, so that written is enough.
"""

from __future__ import annotations

from typing import Final

# Tokens a second. nghttp2 gives back 33, hyper and Go forget resets as fast as streams end: what is
# given back here stays below all of them.
REFILL: Final = 10


class Resets:
    """The resets of one connection.

    Args:
        budget: How many there may be at once.
        asks: Whether PINGs ask a silent peer for a sign of life.
        now: The present, in seconds.

    Attributes:
        held: Slots that are taken by streams which were reset.
        unwritten: Those of them whose reset is not written yet.
    """

    __slots__ = ("_asks", "_budget", "_filled_at", "_left", "held", "unwritten")

    def __init__(self, budget: int, now: float, *, asks: bool) -> None:
        self._budget = budget
        self._asks = asks
        self._left = float(budget)
        self._filled_at = now
        self.held = 0
        self.unwritten = 0

    def spend(self, now: float) -> bool:
        """Take a token for a RST_STREAM; false when that was the last one."""
        refilled = self._left + (now - self._filled_at) * REFILL
        self._left = min(self._budget, refilled) - 1
        self._filled_at = now
        return self._left >= 1

    def hold(self, *, written: bool) -> None:
        """Keep the slot of a stream that is reset.

        Args:
            written: Whether its head was handed to the transport.
        """
        self.held += 1
        self.unwritten += not written

    def written(self) -> bool:
        """Note that everything was handed to the transport; true when that freed slots."""
        if not self._asks:
            self.held -= self.unwritten
        self.unwritten = 0
        return not self._asks

    def heard(self) -> bool:
        """Note that bytes came; true when that freed slots."""
        freed = self.held > self.unwritten
        self.held = self.unwritten
        return freed
