"""niquests over HTTP/2 with prior knowledge."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import niquests

from bench.adapter import check_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator


class NiquestsClient:
    """A ``niquests.AsyncSession`` that speaks nothing but HTTP/2."""

    def __init__(self) -> None:
        self._session = niquests.AsyncSession(disable_http1=True, disable_http3=True)

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 2xx response."""
        response = await self._session.request(method, url, data=body, allow_redirects=False)
        check_status(response.status_code)
        content: bytes = response.content
        return content

    @contextlib.asynccontextmanager
    async def chunks(
        self, method: str, url: str, body: bytes = b""
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """Gives the iterator over the body of a 2xx response."""
        async with await self._session.request(
            method, url, data=body, allow_redirects=False, stream=True
        ) as response:
            check_status(response.status_code)
            yield await response.iter_raw()

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        async with self.chunks(method, url, body) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()


async def open_client(in_flight: int) -> NiquestsClient:
    """Makes the client."""
    return NiquestsClient()
