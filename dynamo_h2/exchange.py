"""One request with its attempts: from a host's pool to the response, or to one error.

An attempt ends in what was asked for, or in an error; an error is followed by another attempt only
where ``may_retry`` says so. Each attempt has a stream of its own and, for a body that has to be
iterated, a task that feeds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from math import inf
from typing import TYPE_CHECKING

from dynamo_h2.errors import InvalidRequest, TransportError
from dynamo_h2.http2.stream import Need
from dynamo_h2.response import Attempt, Headers
from dynamo_h2.transport.retry import may_retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.http2.body import RequestBody
    from dynamo_h2.http2.connection import Connection
    from dynamo_h2.http2.stream import Request, SendHalf, Stream
    from dynamo_h2.metrics import Counters
    from dynamo_h2.transport.pool import HostPool, Limits
    from dynamo_h2.transport.protocol import ClientProtocol


class Exchange:
    """A request on its way.

    Args:
        host: The connections it may use.
        request: What is asked, the same for each attempt.
        body: Its body.
        limits: How long it may wait for a slot.
        max_retries: How many further attempts there may be.
        counters: Where attempts, retries and errors are counted.
    """

    __slots__ = (
        "_body",
        "_clock",
        "_counters",
        "_host",
        "_limits",
        "_max_retries",
        "_protocol",
        "_pump",
        "_request",
        "attempts",
        "elapsed",
        "started",
        "stream",
    )

    def __init__(
        self,
        host: HostPool,
        request: Request,
        body: RequestBody,
        limits: Limits,
        max_retries: int,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._request = request
        self._body = body
        self._limits = limits
        self._max_retries = max_retries
        self._counters = counters
        self._clock = clock
        self._protocol: ClientProtocol | None = None
        self._pump: asyncio.Task[None] | None = None
        self.stream: Stream | None = None
        self.started = clock()
        self.elapsed = 0.0
        self.attempts: list[Attempt] = []

    async def run(self, need: Need) -> Stream:
        """Send the request, again where that is safe, until ``need`` is met.

        Raises:
            TransportError: The last attempt failed and may not be followed by another.
        """
        while True:
            began = self._clock()
            error = await self._attempt(need, began)
            stream = self.stream
            self.attempts.append(
                Attempt(
                    self._host.name,
                    None if stream is None else stream.stream_id,
                    error,
                    self._clock() - began,
                )
            )
            if error is None:
                assert stream is not None
                self.elapsed = self._clock() - self.started
                return stream
            if not self._again(error):
                self._counters.errors += 1
                self._tell_attempts(error)
                raise error
            self._counters.retries += 1

    async def _attempt(self, need: Need, now: float) -> BaseException | None:
        """Send it once; returns what went wrong."""
        request = self._request
        self.stream = None
        try:
            opened = self._host.try_open(request, now)
            if opened is None:
                opened = await self._host.open(request, self._limits)
        except TransportError as failure:
            return failure
        self._protocol, stream = opened
        self.stream = stream
        self._counters.requests += 1
        if request.upload:
            self._pump = asyncio.get_running_loop().create_task(
                _feed(self._protocol.connection, stream, self._body, self._clock)
            )
        try:
            await self.wait(need)
        except BaseException:
            await self.close()
            raise
        error = stream.error
        if error is None or (need is Need.HEAD and stream.status):
            return None
        await self.stop_pump()
        return error

    async def wait(self, need: Need) -> None:
        """Wait until the stream has what is needed, has ended, or has failed."""
        stream, protocol = self.stream, self._protocol
        assert stream is not None
        assert protocol is not None
        while not stream.has(need):
            now = self._clock()
            future = stream.wait(need, now)
            protocol.connection.wait_until(stream, now)
            await future

    async def close(self) -> None:
        """Give up what is not finished: RST_STREAM for the stream, and the end of its task."""
        if self.stream is not None and self._protocol is not None:
            self._protocol.connection.cancel(self.stream, self._clock())
        await self.stop_pump()

    def cancel(self) -> None:
        """Reset the stream now, without waiting for its task."""
        if self.stream is not None and self._protocol is not None:
            self._protocol.connection.cancel(self.stream, self._clock())
        if self._pump is not None:
            self._pump.cancel()

    async def stop_pump(self) -> None:
        """End the task that feeds the body, and wait until it has closed the body."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])

    def _again(self, error: BaseException) -> bool:
        return may_retry(
            error,
            replayable=self._body.available,
            retries=len(self.attempts) - 1,
            max_retries=self._max_retries,
            deadline=self._limits.deadline,
            now=self._clock(),
        )

    def _tell_attempts(self, error: BaseException) -> None:
        for number, attempt in enumerate(self.attempts[:-1], 1):
            error.add_note(f"attempt {number}: {attempt.error}")


class BodyStream:
    """Reads the body of a response as it arrives.

    Args:
        exchange: The request, whose response head has arrived.
        stream: Its stream.
    """

    __slots__ = ("_counters", "_ended", "_exchange", "_stream", "closed")

    def __init__(self, exchange: Exchange, stream: Stream, counters: Counters) -> None:
        self._exchange = exchange
        self._stream = stream
        self._counters = counters
        self._ended = False
        self.closed = False

    @property
    def complete(self) -> bool:
        """Whether the response was read to its end."""
        return self._ended and self._stream.ended

    @property
    def trailers(self) -> Headers:
        """The trailer fields; empty until the end."""
        return Headers(self._stream.trailers)

    async def read(self) -> bytes:
        """Wait for the next chunk; ``b""`` at the end.

        Raises:
            TransportError: The response was cut short.
            RuntimeError: The response was left, or another task is reading it.
        """
        stream = self._stream
        while not self.closed:
            chunk = stream.read()
            if chunk:
                return chunk
            if stream.ended:
                self._end()
                return b""
            if stream.error is not None:
                if not self._ended:
                    self._ended = True
                    self._counters.errors += 1
                raise stream.error
            await self._exchange.wait(Need.DATA)
        raise RuntimeError("the response was closed before it was read to its end")

    def cancel(self) -> None:
        """Give up what is left of the response."""
        self._exchange.cancel()
        self.closed = True

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._counters.responses += 1


async def _feed(
    connection: Connection, stream: Stream, body: RequestBody, clock: Callable[[], float]
) -> None:
    """Feed a body into its stream, no faster than the peer takes it.

    What the body itself raises ends the stream, and reaches the caller unchanged.
    """
    send = stream.send
    assert send is not None
    try:
        await _feed_chunks(connection, stream, send, body, clock)
    except Exception as error:  # the caller's own, handed to the caller
        connection.fail(stream, error, clock())


async def _feed_chunks(
    connection: Connection,
    stream: Stream,
    send: SendHalf,
    body: RequestBody,
    clock: Callable[[], float],
) -> None:
    chunks = body.chunks()
    left = inf if body.length is None else body.length
    try:
        while not send.closed:
            if isinstance(chunks, AsyncGenerator):
                chunk = await anext(chunks, b"")
            else:
                chunk = next(chunks, b"")
            if not chunk:
                break
            left -= len(chunk)
            if left < 0:
                break
            connection.feed(stream, chunk, clock())
            while send.full():
                await send.wait()
        if left and left != inf and not send.closed:
            raise InvalidRequest(
                f"the body is {'longer' if left < 0 else 'shorter'} than its length, "
                f"{body.length} bytes"
            )
        connection.end_body(stream, clock())
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
        else:
            chunks.close()
