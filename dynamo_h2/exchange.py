"""One request with its attempts: from a host's pool to the response, or to one error.

An attempt ends in what was asked for, or in an error; an error is followed by another attempt only
where ``transport.retry`` says so. Each attempt has a stream of its own and, for a body that has to
be iterated, a task that feeds it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, Self

from h2.errors import ErrorCodes

from dynamo_h2.errors import DynamoH2Error, InvalidRequest, StreamReset, TransportError
from dynamo_h2.http2.stream import EARLY_RESPONSE_GRACE, Need
from dynamo_h2.response import Attempt, Headers
from dynamo_h2.transport.retry import may_retry, pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.call import Times
    from dynamo_h2.http2.body import RequestBody
    from dynamo_h2.http2.connection import Connection
    from dynamo_h2.http2.request import Request
    from dynamo_h2.http2.stream import SendHalf, Stream
    from dynamo_h2.metrics import Counters
    from dynamo_h2.transport.affinity import PinnedHost
    from dynamo_h2.transport.host_pool import HostPool
    from dynamo_h2.transport.protocol import ClientProtocol


_DATA: Final = Need.DATA

_logger = logging.getLogger("dynamo_h2")


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all requests of a client.

    Args:
        counters: Where requests, retries and errors are counted.
        clock: Tells monotonic seconds.
        max_retries: How many further attempts a request may have.
    """

    counters: Counters
    clock: Callable[[], float]
    max_retries: int


class Exchange:
    """A request on its way.

    Args:
        terms: Those of its client.
        host: The connections it may use.
        request: What is asked, the same for each attempt.
        body: Its body where it has to be iterated, or may not be sent twice.
        times: How long things may take.
        now: The present, in seconds.
    """

    __slots__ = (
        "_body",
        "_foreign",
        "_host",
        "_protocol",
        "_pump",
        "_request",
        "_spared",
        "_terms",
        "_times",
        "failures",
        "last_began",
        "started",
        "stream",
    )

    def __init__(
        self,
        terms: Terms,
        host: HostPool | PinnedHost,
        request: Request,
        body: RequestBody | None,
        times: Times,
        now: float,
    ) -> None:
        self._terms = terms
        self._host = host
        self._request = request
        self._body = body
        self._times = times
        self._protocol: ClientProtocol | None = None
        self._pump: asyncio.Task[None] | None = None
        self._foreign = False  # whether the caller's own body failed
        self._spared = False  # whether it was sent again without a token
        self.stream: Stream | None = None
        self.started = self.last_began = now
        self.failures: list[Attempt] = []

    async def run(self, need: Need) -> Stream:
        """Send the request, again where that is safe, until ``need`` is met.

        Raises:
            TransportError: The last attempt failed and may not be followed by another.
        """
        request = self._request
        again = False  # whether it had a stream before
        while True:
            now = self.last_began
            self.stream = None
            try:
                opened = self._host.try_open(request, now, self._protocol)
                if opened is None:
                    opened = await self._host.open(
                        request, self._times, request.deadline, self._protocol
                    )
                self._protocol, stream = opened
                self.stream = stream
                self._terms.counters.requests += 1
                if again:
                    self._terms.counters.retries += 1
                if request.upload:
                    self._start_pump(stream)
                while True:
                    await stream.wait(need, now)
                    if stream.done or stream.has(need):
                        break
            except TransportError as failure:
                error: BaseException | None = failure
            except BaseException:
                await self.close()
                raise
            else:
                error = stream.error
                if error is None or (need is Need.HEAD and stream.status):
                    if request.upload and need is Need.DONE:
                        await self.stop_pump()
                    return stream
            assert error is not None
            await self._failed(error)
            again = again or self.stream is not None

    async def _failed(self, error: BaseException) -> None:
        """Make ready for another attempt.

        Raises:
            BaseException: The error itself, where there may be none.
        """
        await self.stop_pump()
        terms, now = self._terms, self._terms.clock()
        self.failures.append(self._attempt(error, now))
        retries = len(self.failures) - 1
        allowed = may_retry(
            error,
            replayable=self._replayable(),
            retries=retries,
            max_retries=terms.max_retries,
            deadline=self._request.deadline,
            now=now,
        )
        free = allowed and not self._spared and self._passed_over(error)
        if not allowed or not (free or self._took_token(error, now)):
            terms.counters.errors += 1
            for number, attempt in enumerate(self.failures[:-1], 1):
                error.add_note(f"attempt {number}: {attempt.error}")
            self._let_go()
            raise error
        self._spared |= free
        if not free:
            await self._pause(retries, self._request.deadline - now)
        self.last_began = terms.clock()

    def _passed_over(self, error: BaseException) -> bool:
        """Whether the peer did not so much as look at the request."""
        if self.stream is None or self._protocol is None or not isinstance(error, StreamReset):
            return True  # it was never written
        return self._protocol.connection.passed_over(self.stream.stream_id)

    def _took_token(self, error: BaseException, now: float) -> bool:
        taken = self._host.retries.take(now)
        if not taken:
            error.add_note("not sent again: the client's budget of retries is spent")
        return taken

    async def _pause(self, retries: int, left: float) -> None:
        """Give the peer time to find room."""
        try:
            await asyncio.sleep(pause(retries, left, random.random()))
        except asyncio.CancelledError:
            self._let_go()
            raise

    def _replayable(self) -> bool:
        """Whether nothing of the caller's stands against sending it again.

        A body or a callback may raise an error of ours, from another client: that is not our peer's
        word. A callback is called only once something of a response has arrived.
        """
        if self._foreign or (self.stream is not None and self.stream.got_response):
            return False
        return self._times.retryable and (self._body is None or self._body.available)

    def _let_go(self) -> None:
        """Forget the body: a traceback holds on to this, and must not to the caller's buffer."""
        self._request.data = None
        self._body = None

    def attempts(self, now: float) -> tuple[Attempt, ...]:
        """What was tried until ``now`` (seconds), the attempt that succeeded last."""
        return (*self.failures, self._attempt(None, now))

    def _attempt(self, error: BaseException | None, now: float) -> Attempt:
        stream_id = None if self.stream is None else self.stream.stream_id
        return Attempt(self._host.name, stream_id, error, now - self.last_began)

    def body(self) -> BodyStream:
        """The body of the response, whose head has arrived."""
        assert self.stream is not None
        assert self._protocol is not None
        return BodyStream(self, self.stream, self._protocol.connection, self._terms)

    async def wait_until_sent(self) -> None:
        """Wait until the request's body is out, or is wanted no more.

        A body that is still being made has a moment for its end, and more only as long as it goes
        on and its length is known: what has no end must not keep who leaves.
        """
        stream, protocol, clock = self.stream, self._protocol, self._terms.clock
        assert stream is not None
        assert protocol is not None
        while not stream.has(Need.DONE):
            send, made = stream.send, self._request.upload
            before = None if send is None else send.progress_at
            try:
                async with asyncio.timeout(EARLY_RESPONSE_GRACE if made else None):
                    await stream.wait(Need.DONE, clock())
            except TimeoutError:
                endless = self._body is None or self._body.length is None
                if endless or send is None or send.progress_at == before:
                    protocol.connection.cancel(stream, clock(), ErrorCodes.NO_ERROR)

    def _start_pump(self, stream: Stream) -> None:
        assert self._protocol is not None
        assert self._body is not None
        feeding = self._feed(self._protocol.connection, stream, self._body)
        self._pump = asyncio.get_running_loop().create_task(feeding)

    async def _feed(self, connection: Connection, stream: Stream, body: RequestBody) -> None:
        """Feed a body into its stream, no faster than the peer takes it.

        What the body itself raises ends the stream, and reaches the caller unchanged.
        """
        send, clock = stream.send, self._terms.clock
        assert send is not None
        try:
            await _feed_chunks(connection, stream, send, body, clock)
        except (Exception, asyncio.CancelledError) as error:
            if send.closed and not isinstance(error, Exception):
                raise  # told to stop; else the body was cancelled from within
            if isinstance(error, InvalidRequest):
                late: DynamoH2Error = error
                late.processed = None  # a part of the request is out
            self._foreign = True
            if stream.ended or stream.error is not None:
                _logger.warning(
                    "a body for %s failed after its request was over",
                    self._host.name,
                    exc_info=error,
                )
            connection.fail(stream, error, clock())

    async def close(self) -> None:
        """Give up what is not finished: RST_STREAM for the stream, and the end of its task."""
        if self.stream is not None and self._protocol is not None:
            self._protocol.connection.cancel(self.stream, self._terms.clock())
        self._let_go()
        await self.stop_pump()

    def cancel(self) -> None:
        """Reset the stream now, without waiting for its task."""
        if self.stream is not None and self._protocol is not None:
            self._protocol.connection.cancel(self.stream, self._terms.clock())
        if self._pump is not None:
            self._pump.cancel()

    async def stop_pump(self) -> None:
        """End the task that feeds the body, and wait until it has closed the body."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])


class BodyStream:
    """Reads the body of a response as it arrives.

    Args:
        exchange: The request, whose response head has arrived.
        stream: Its stream.
        connection: The stream's.
        terms: Those of the client.
    """

    __slots__ = ("_clock", "_connection", "_counters", "_ended", "_exchange", "_stream", "closed")

    def __init__(
        self, exchange: Exchange, stream: Stream, connection: Connection, terms: Terms
    ) -> None:
        self._exchange = exchange
        self._stream = stream
        self._connection = connection
        self._counters = terms.counters
        self._clock = terms.clock
        self._ended = False
        self.closed = False

    @property
    def complete(self) -> bool:
        """Whether the response was read to its end."""
        return self._ended and self._stream.ended

    @property
    def trailers(self) -> Headers:
        """The trailer fields; empty until the response was read to its end."""
        return Headers(self._stream.trailers if self._ended else ())

    def __aiter__(self) -> Self:
        """Iterate over the chunks that are left."""
        return self

    async def __anext__(self) -> bytes:
        """Wait for the next chunk.

        Raises:
            TransportError: The response was cut short.
            RuntimeError: The response was left, or another task is reading it.
        """
        stream = self._stream
        # One coroutine down to the future, not three: saves 4 calls and 0.47 of 3.40 µs per token;
        # A/A ±0.04.
        while not self.closed:
            if stream.unread:
                chunk = stream.read()
                assert chunk is not None
                return chunk
            if stream.ended:
                self._end()
                raise StopAsyncIteration
            if stream.error is not None:
                if not self._ended:
                    self._ended = True
                    self._counters.errors += 1
                raise stream.error
            await self._connection.wait(stream, _DATA, self._clock())
        raise RuntimeError("the response was closed before it was read to its end")

    async def read(self) -> bytes:
        """Wait for the next chunk; ``b""`` at the end.

        Raises:
            TransportError: The response was cut short.
            RuntimeError: The response was left, or another task is reading it.
        """
        return await anext(self, b"")

    def cancel(self) -> None:
        """Give up what is left of the response."""
        self._exchange.cancel()
        self.closed = True

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._counters.responses += 1


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
