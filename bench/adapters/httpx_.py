"""httpx over HTTP/2 with prior knowledge."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

PATIENCE = 60.0  # seconds: with its own limit of 5 its requests time out while they queue


class HttpxClient:
    """An ``httpx.AsyncClient`` with its default limits."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(http1=False, http2=True, timeout=PATIENCE)

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 2xx response."""
        response = await self._client.request(method, url, content=body)
        response.raise_for_status()
        return response.content

    @contextlib.asynccontextmanager
    async def chunks(
        self, method: str, url: str, body: bytes = b""
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """Gives the iterator over the body of a 2xx response."""
        async with self._client.stream(method, url, content=body) as response:
            response.raise_for_status()
            yield response.aiter_raw()

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        async with self.chunks(method, url, body) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()


async def open_client(in_flight: int) -> HttpxClient:
    """Makes the client."""
    return HttpxClient()
