"""A response that is read as it arrives, as a context manager: left early, its stream is reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamo_h2.http2.stream import Need
from dynamo_h2.response import Headers, StreamResponse

if TYPE_CHECKING:
    from types import TracebackType

    from dynamo_h2.exchange import BodyStream, Exchange, Terms

__all__ = ["StreamContext"]


class StreamContext:
    """A response that is read as it arrives; entered once."""

    __slots__ = ("_body", "_entered", "_exchange", "_max_size", "_terms")

    def __init__(self, exchange: Exchange, terms: Terms, max_size: int) -> None:
        self._exchange = exchange
        self._terms = terms
        self._max_size = max_size
        self._entered = False
        self._body: BodyStream | None = None

    async def __aenter__(self) -> StreamResponse:
        """Send the request, and wait for the head of the response."""
        if self._entered:
            raise RuntimeError("a stream can be entered once: call stream() again")
        self._entered = True
        exchange = self._exchange
        stream = await exchange.run(Need.HEAD)
        now = self._terms.clock()
        self._terms.counters.add_latency(now - exchange.started)
        self._body = exchange.body()
        return StreamResponse(
            stream.status,
            Headers(stream.fields),
            self._body,
            max_size=self._max_size,
            elapsed=now - exchange.started,
            attempts=exchange.attempts(now),
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give up what is left: a response that was not read to its end is cancelled."""
        body, exchange = self._body, self._exchange
        assert body is not None
        try:
            if kind is None and body.complete:
                await exchange.wait_until_sent()
        finally:
            body.closed = True
            await exchange.close()
