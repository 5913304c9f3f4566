"""aiohttp, which speaks HTTP/1.1: one connection for each request in flight."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator


class AiohttpClient:
    """An ``aiohttp.ClientSession`` without a limit on its connections."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, raise_for_status=True)

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 2xx response."""
        async with self._session.request(method, url, data=body) as response:
            content: bytes = await response.read()
            return content

    @contextlib.asynccontextmanager
    async def chunks(
        self, method: str, url: str, body: bytes = b""
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """Gives the iterator over the body of a 2xx response."""
        async with self._session.request(method, url, data=body) as response:
            yield response.content.iter_any()

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        async with self.chunks(method, url, body) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()


async def open_client(in_flight: int) -> AiohttpClient:
    """Makes the client."""
    return AiohttpClient()
