"""niquests over HTTP/2 with prior knowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import niquests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class NiquestsClient:
    """A ``niquests.AsyncSession`` that speaks nothing but HTTP/2."""

    def __init__(self) -> None:
        self._session = niquests.AsyncSession(disable_http1=True, disable_http3=True)

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 2xx response."""
        response = await self._session.request(method, url, data=body)
        response.raise_for_status()
        content: bytes = response.content
        return content

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        response = await self._session.request(method, url, data=body, stream=True)
        response.raise_for_status()
        async for chunk in await response.iter_raw():
            yield chunk

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()


async def open_client(in_flight: int) -> NiquestsClient:
    """Makes the client."""
    return NiquestsClient()
