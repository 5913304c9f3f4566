"""aiohttp, which speaks HTTP/1.1: one connection for each request in flight."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp

from bench.adapter import check_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator


class AiohttpClient:
    """An ``aiohttp.ClientSession`` without a limit on its connections."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector)

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 2xx response."""
        async with self._request(method, url, body) as response:
            check_status(response.status)
            content: bytes = await response.read()
            return content

    @contextlib.asynccontextmanager
    async def chunks(
        self, method: str, url: str, body: bytes = b""
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """Gives the iterator over the body of a 2xx response."""
        async with self._request(method, url, body) as response:
            check_status(response.status)
            yield response.content.iter_any()

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        async with self.chunks(method, url, body) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    def _request(self, method: str, url: str, body: bytes) -> Any:  # noqa: ANN401 - has no types
        return self._session.request(method, url, data=body, allow_redirects=False)


async def open_client(in_flight: int) -> AiohttpClient:
    """Makes the client."""
    return AiohttpClient()
