"""Other clients behind the calls of the drill, as their documentation says for HTTP/2.

None of them says whether a request was processed, none can drain its pool, and of their resolvers
only some can be replaced: they are spared those faults. Their own limits of time are off, and the
drill's are around each call, as everybody has to do it who uses them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bench.drill.ledger import Tried
from bench.drill.party import READ_TIMEOUT, Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dynamo_h2.http2.body import BodySource


class Rival:
    """What is the same for all of them."""

    def explain(self, error: Exception) -> tuple[tuple[Tried, ...], int] | None:
        """Returns the name of an error: no more is to be learned from it."""
        return (Tried(type(error).__name__, None, None, None, ""),), 1

    async def drain(self, url: str, *, warm: bool) -> None:
        """Does nothing: there is no such call."""


class Httpx(Rival):
    """An ``AsyncClient`` of httpx or httpx2.

    Args:
        library: the module.
    """

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - one of two modules
        limits = library.Limits(max_connections=None)
        self._client = library.AsyncClient(http1=False, http2=True, timeout=None, limits=limits)

    async def post(
        self, url: str, headers: Mapping[str, str], body: BodySource, timeout: float
    ) -> Answer:
        """Sends a request."""
        content = _iterated(body) if isinstance(body, list) else body
        async with asyncio.timeout(timeout):
            response = await self._client.post(url, headers=headers, content=content)
        return Answer(response.status_code, response.content)

    async def stream(
        self, url: str, headers: Mapping[str, str], timeout: float
    ) -> AsyncIterator[Answer]:
        """Sends a request and yields the response as it comes."""
        async with asyncio.timeout(timeout) as limit:
            async with self._client.stream("GET", url, headers=headers) as response:
                yield Answer(response.status_code, b"")
                _extend(limit)
                async for piece in response.aiter_raw():
                    _extend(limit)
                    yield Answer(response.status_code, piece)

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()


class Pyreqwest(Rival):
    """A client of pyreqwest, which is Rust's reqwest, with the windows of the benchmark's."""

    def __init__(self) -> None:
        from pyreqwest.client import ClientBuilder

        from bench.adapters.pyreqwest_ import CONNECTION_WINDOW, STREAM_WINDOW

        builder = ClientBuilder().http2_prior_knowledge()
        builder = builder.http2_initial_stream_window_size(STREAM_WINDOW)
        self._client = builder.http2_initial_connection_window_size(CONNECTION_WINDOW).build()

    async def post(
        self, url: str, headers: Mapping[str, str], body: BodySource, timeout: float
    ) -> Answer:
        """Sends a request."""
        builder = self._client.post(url).headers(dict(headers))
        if isinstance(body, bytes):
            builder = builder.body_bytes(body)
        elif isinstance(body, list):
            builder = builder.body_stream(_iterated(body))
        else:
            builder = builder.body_stream(body)
        async with asyncio.timeout(timeout):
            response = await builder.build().send()
            return Answer(response.status, bytes(await response.bytes()))

    async def stream(
        self, url: str, headers: Mapping[str, str], timeout: float
    ) -> AsyncIterator[Answer]:
        """Sends a request and yields the response as it comes."""
        builder = self._client.get(url).headers(dict(headers)).streamed_read_buffer_limit(0)
        async with asyncio.timeout(timeout) as limit:
            async with builder.build_streamed() as response:
                yield Answer(response.status, b"")
                _extend(limit)
                reader = response.body_reader
                while (piece := await reader.read_chunk()) is not None:
                    _extend(limit)
                    yield Answer(response.status, bytes(piece))

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()


class Aiohttp(Rival):
    """A ``ClientSession`` of aiohttp, which speaks HTTP/1.1."""

    def __init__(self) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0)
        limits = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=limits)

    async def post(
        self, url: str, headers: Mapping[str, str], body: BodySource, timeout: float
    ) -> Answer:
        """Sends a request."""
        data = _iterated(body) if isinstance(body, list) else body
        async with (
            asyncio.timeout(timeout),
            self._session.post(url, headers=headers, data=data) as response,
        ):
            return Answer(response.status, await response.read())

    async def stream(
        self, url: str, headers: Mapping[str, str], timeout: float
    ) -> AsyncIterator[Answer]:
        """Sends a request and yields the response as it comes."""
        async with asyncio.timeout(timeout) as limit:
            async with self._session.get(url, headers=headers) as response:
                yield Answer(response.status, b"")
                _extend(limit)
                async for piece in response.content.iter_any():
                    _extend(limit)
                    yield Answer(response.status, piece)

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()


def _extend(limit: asyncio.Timeout) -> None:
    limit.reschedule(asyncio.get_running_loop().time() + READ_TIMEOUT)


async def _iterated(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
