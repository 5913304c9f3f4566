"""The silence of one peer: what it is asked meanwhile, and which slots stay taken.

It joins the two accounts of what a peer that says nothing may cost: `KeepAlive` knows when a PING
is due and what no answer to it means, `Resets` which slots are not given away before a byte comes.
Each method that may write a PING says when to look again.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamo_h2.http2.credit import Credit
    from dynamo_h2.http2.engine import Engine
    from dynamo_h2.http2.keepalive import KeepAlive, Verdict
    from dynamo_h2.http2.resets import Resets
    from dynamo_h2.http2.stream import Stream


class Silence:
    """What a connection does while its peer is silent.

    Args:
        engine: Where PINGs go out.
        streams: The connection's, by their identifiers.
        keep_alive: When to ask.
        resets: Slots of streams that were reset in silence.
        credit: Whose samples of the round trip go with the same PINGs.
        while_idle: Whether to ask while no stream is open.
    """

    __slots__ = ("_credit", "_engine", "_keep_alive", "_resets", "_streams", "_while_idle")

    def __init__(
        self,
        engine: Engine,
        streams: dict[int, Stream],
        keep_alive: KeepAlive,
        resets: Resets,
        credit: Credit,
        *,
        while_idle: bool,
    ) -> None:
        self._engine = engine
        self._streams = streams
        self._keep_alive = keep_alive
        self._resets = resets
        self._credit = credit
        self._while_idle = while_idle

    def next_timer(self) -> float:
        """When to ask for a ``verdict`` again, in seconds; infinite for never."""
        return self._keep_alive.next_timer(streams=self._matters)

    def verdict(self, now: float) -> Verdict:
        """Say what the silence asks for."""
        return self._keep_alive.verdict(now, streams=self._matters)

    def begin_work(self, now: float) -> float:
        """Watch a peer that had nothing to do: from the first stream on its silence counts.

        Returns:
            When to look, in seconds.
        """
        keep_alive = self._keep_alive
        keep_alive.busy_since = now
        when = now + keep_alive.ask_after
        if not self._while_idle:
            if keep_alive.stream_opened(now):
                self.ping(now)
            when = min(when, keep_alive.next_timer(streams=True))
        return when

    def ping(self, now: float) -> float:
        """Queue a PING.

        Returns:
            When to look, in seconds.
        """
        self._engine.ping(self._keep_alive.ping(now))
        self._credit.ping_written(now)
        return self._keep_alive.next_timer(streams=True)

    def answered(self) -> float:
        """Note that the peer is at work: its next silence may be asked about early again.

        Returns:
            When to look, in seconds.
        """
        self._keep_alive.asked = False
        return self.next_timer()

    def keep_slot(self, stream: Stream, now: float, *, written: bool, capacity: float) -> float:
        """Keep the slot of a stream that is reset, where the peer may be dead or does not read.

        Args:
            stream: The stream, which is still among the others.
            now: The present, in seconds.
            written: Whether its head was handed to the transport.
            capacity: How many slots there are. When this was the last one, no request can use the
                connection before the next answer, so that there is one more PING.

        Returns:
            When to look, in seconds; infinite where no PING was queued.
        """
        silent = self._keep_alive.silent_since(stream.opened_at)
        if silent or not written:
            self._resets.hold(written=written)
        if silent:
            full = len(self._streams) + self._resets.held > capacity
            if self._keep_alive.ask(again=full):
                return self.ping(now)
        return inf

    @property
    def _matters(self) -> bool:
        """Whether the peer's silence matters to anyone."""
        return bool(self._streams or self._resets.held)
