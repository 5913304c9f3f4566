"""What comes back: header fields, responses in memory, and responses read as they arrive."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from dynamo_h2.errors import ResponseTooLarge, status_error
from dynamo_h2.http2.headers import SENSITIVE, Field
from dynamo_h2.sse import LineDecoder, ServerSentEvent, SseDecoder

__all__ = ["Attempt", "BodyReader", "Headers", "Response", "StreamResponse"]

_T = TypeVar("_T")

_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE)


class Headers(Mapping[str, str]):
    """Header fields: a multi-mapping that ignores the case of names and cannot be changed.

    ``headers[name]`` joins the values of a name with ", " (RFC 9110 §5.3). The one field for which
    that is wrong is set-cookie: there it gives the first value, and `get_list` gives all of them.
    Values are read as Latin-1, which loses nothing: ``value.encode("latin-1")`` is what was sent.

    Args:
        raw: Names, in lower case, and values, in the order of the message.
    """

    __slots__ = ("_index", "raw")

    def __init__(self, raw: Iterable[Field] = ()) -> None:
        self.raw: tuple[Field, ...] = tuple(raw)
        # Made when something is looked up: most responses are read for their body alone.
        self._index: dict[str, list[str]] | None = None

    def __getitem__(self, name: str) -> str:
        values = self._lookup()[name.lower()]
        if len(values) == 1 or name.lower() == "set-cookie":
            return values[0]
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lookup()

    def __iter__(self) -> Iterator[str]:
        return iter(self._lookup())

    def __len__(self) -> int:
        return len(self._lookup())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self._lookup() == other._lookup()
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as for every mapping

    def __repr__(self) -> str:
        shown = [
            (name, "(not shown)" if name.encode("latin-1") in SENSITIVE else value)
            for name, value in self.multi_items()
        ]
        return f"Headers({shown!r})"

    def __reduce__(self) -> tuple[type[Headers], tuple[tuple[Field, ...]]]:
        # The decoder's own tuples cannot be pickled.
        return Headers, (tuple([(name, value) for name, value in self.raw]),)

    def get_list(self, name: str) -> list[str]:
        """Return the values of every field called ``name``, in order; empty without one."""
        return list(self._lookup().get(name.lower(), ()))

    def multi_items(self) -> list[tuple[str, str]]:
        """Return every field as (name, value), in the order of the message."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw]

    def _lookup(self) -> dict[str, list[str]]:
        if self._index is None:
            index: dict[str, list[str]] = {}
            for name, value in self.multi_items():
                index.setdefault(name, []).append(value)
            self._index = index
        return self._index


_NO_HEADERS = Headers()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a request was sent, or was about to be.

    Attributes:
        connection: The origin of the connection, as ``str(Origin)``.
        stream_id: Its HTTP/2 stream; None when it never got one.
        error: Why it failed; None for the attempt that brought the response.
        elapsed: How long it took, in seconds.
    """

    connection: str
    stream_id: int | None
    error: BaseException | None
    elapsed: float


class Response:
    """A response whose body is in memory.

    Args:
        status: The status code (RFC 9110 §15).
        headers: Its header fields.
        body: The whole body; None while it has not been read.
        trailers: Its trailer fields (RFC 9110 §6.5).
        elapsed: From the call to the end of the response, in seconds; for a response that is
            streamed, to its head.
        attempts: What was tried, the successful attempt last.
    """

    __slots__ = ("_body", "_trailers", "attempts", "elapsed", "headers", "status")

    http_version: ClassVar[str] = "HTTP/2"

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: bytes | None,
        *,
        trailers: Headers = _NO_HEADERS,
        elapsed: float = 0.0,
        attempts: tuple[Attempt, ...] = (),
    ) -> None:
        self.status = status
        self.headers = headers
        self.elapsed = elapsed
        self.attempts = attempts
        self._body = body
        self._trailers = trailers

    def __repr__(self) -> str:
        size = "body not read" if self._body is None else f"{len(self._body)} bytes"
        return f"<{type(self).__name__} {self.status}, {size}>"

    @property
    def is_success(self) -> bool:
        """Whether the status is one of 200 to 299."""
        return 200 <= self.status <= 299

    @property
    def trailers(self) -> Headers:
        """The trailer fields; empty when there are none, or none yet."""
        return self._trailers

    @property
    def body(self) -> bytes:
        """The whole body.

        Raises:
            RuntimeError: It was not read; ``await response.aread()`` reads it.
        """
        if self._body is None:
            raise RuntimeError("the body was not read: await response.aread() before using it")
        return self._body

    @property
    def text(self) -> str:
        """The body as text, in the charset of its content-type, or else UTF-8.

        What cannot be decoded becomes U+FFFD.

        Raises:
            RuntimeError: As for `body`.
        """
        charset = _CHARSET.search(self.headers.get("content-type", ""))
        try:
            return self.body.decode(charset[1] if charset else "utf-8", "replace")
        except (LookupError, ValueError):
            # No codec of that name, or one that is not for text.
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:  # noqa: ANN401 - JSON is of any type
        """Parse the body as JSON in UTF-8, UTF-16 or UTF-32.

        Raises:
            ValueError: It is not JSON.
            RuntimeError: As for `body`.
        """
        return json.loads(self.body)

    def raise_for_status(self) -> Self:
        """Return the response itself when it is a success.

        Of a streamed response that was not read, only the status tells of overload.

        Raises:
            Overloaded: Status 503, or a body that begins as an overloaded worker's does.
            StatusError: Any other status outside 200 to 299.
        """
        if self.is_success:
            return self
        raise status_error(status=self.status, headers=self.headers, body=self._body or b"")


class BodyReader(Protocol):
    """Where the body of a response comes from."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the pieces of the body; none is empty."""

    async def read(self) -> bytes:
        """Wait for the next piece of the body; ``b""`` at its end."""

    def cancel(self) -> None:
        """Give up what is left of the response; nothing to do when it is complete."""

    @property
    def trailers(self) -> Headers:
        """The trailer fields; empty until the end."""


class StreamResponse(Response):
    """A response whose body is read as it arrives, once.

    Exactly one of ``async for chunk in response``, `aiter_lines`, `aiter_sse` and `aread` reads
    it. After `aread` the body stays, and any of them can be used again.

    Args:
        status: The status code.
        headers: Its header fields.
        reader: Where the body comes from.
        max_size: The longest body that `aread` keeps, and the longest line or event, in bytes
            (```max_response_size```). Going over it gives up the response.
        elapsed: From the call to the head of the response, in seconds.
        attempts: What was tried, the successful attempt last.
    """

    __slots__ = ("_begun", "_max_size", "_reader")

    def __init__(
        self,
        status: int,
        headers: Headers,
        reader: BodyReader,
        *,
        max_size: int,
        elapsed: float = 0.0,
        attempts: tuple[Attempt, ...] = (),
    ) -> None:
        super().__init__(status, headers, None, elapsed=elapsed, attempts=attempts)
        self._reader = reader
        self._max_size = max_size
        self._begun = False

    @property
    def trailers(self) -> Headers:
        """The trailer fields; empty until the body has been read to its end."""
        return self._reader.trailers

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the body in pieces, as they arrive; none is empty."""
        return aiter(self._begin())

    async def aread(self) -> bytes:
        """Read the whole body and keep it; a second call returns it again.

        Raises:
            ResponseTooLarge: It is longer than ```max_response_size```.
            RuntimeError: It was read in another way.
        """
        if self._body is None:
            self._body = await self._read_all(self._begin())
        return self._body

    def aiter_lines(self) -> AsyncIterator[str]:
        r"""Iterate over the lines of a body in UTF-8, without their ends (\\n, \\r\\n or \\r).

        Raises:
            ResponseTooLarge: While iterating, for a line over ``max_response_size``.
            RuntimeError: The body was read before.
        """
        return _Decoded(self._begin(), LineDecoder(self._max_size), self._give_up)

    def aiter_sse(self) -> AsyncIterator[ServerSentEvent]:
        """Iterate over the events of a text/event-stream body, by the WHATWG rules.

        Raises:
            ResponseTooLarge: While iterating, for an event over ``max_response_size``.
            RuntimeError: The body was read before.
        """
        return _Decoded(self._begin(), SseDecoder(self._max_size), self._give_up)

    def _begin(self) -> BodyReader:
        if self._body is not None:
            return _Memory(self._body, self.trailers)
        if self._begun:
            raise RuntimeError("the body of this response was read already; it can be read once")
        self._begun = True
        return self._reader

    async def _read_all(self, reader: BodyReader) -> bytes:
        parts = []
        size = 0
        while chunk := await reader.read():
            size += len(chunk)
            if size > self._max_size:
                error = ResponseTooLarge(f"the response's body is over {self._max_size} bytes")
                self._give_up(error)
                raise error
            parts.append(chunk)
        return b"".join(parts)

    def _give_up(self, error: ResponseTooLarge) -> None:
        """Cancel the rest of the response, and tell the error where it happened."""
        self._reader.cancel()
        if self.attempts:
            error.origin = self.attempts[-1].connection
            error.stream_id = self.attempts[-1].stream_id


class _Memory:
    """Reads a body that is there already."""

    __slots__ = ("_body", "trailers")

    def __init__(self, body: bytes, trailers: Headers) -> None:
        self._body = body
        self.trailers = trailers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        body = await self.read()
        if not body:
            raise StopAsyncIteration
        return body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def cancel(self) -> None:
        """Nothing is on its way."""


class _Decoder(Protocol[_T]):
    @property
    def error(self) -> ResponseTooLarge | None: ...

    def feed(self, data: bytes) -> list[_T]: ...

    def finish(self) -> list[_T]: ...


class _Decoded(Generic[_T]):
    """What a decoder makes of a body, one by one."""

    __slots__ = ("_decoder", "_ended", "_give_up", "_items", "_reader")

    def __init__(
        self,
        reader: BodyReader,
        decoder: _Decoder[_T],
        give_up: Callable[[ResponseTooLarge], None],
    ) -> None:
        self._reader = reader
        self._decoder = decoder
        self._give_up = give_up
        self._items: deque[_T] = deque()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        while not self._items:
            if self._decoder.error is not None:
                raise self._decoder.error
            if self._ended:
                raise StopAsyncIteration
            self._decode(await self._reader.read())
        return self._items.popleft()

    def _decode(self, chunk: bytes) -> None:
        self._ended = not chunk
        try:
            self._items.extend(self._decoder.feed(chunk) if chunk else self._decoder.finish())
        finally:
            if self._decoder.error is not None:
                self._give_up(self._decoder.error)
