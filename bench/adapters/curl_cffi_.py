"""curl_cffi, which is libcurl, over HTTP/2 with prior knowledge."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from curl_cffi import AsyncSession, CurlOpt

from bench.adapter import check_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator


class CurlCffiClient:
    """An ``AsyncSession`` with a handle for each request in flight.

    Requests wait for a connection that is being made (``PIPEWAIT``), as libcurl's documentation
    says for multiplexing; else each of the first ones would make one of its own.
    """

    def __init__(self, in_flight: int) -> None:
        self._session = AsyncSession(
            max_clients=in_flight,
            http_version="v2_prior_knowledge",
            curl_options={CurlOpt.PIPEWAIT: 1},
            allow_redirects=False,
        )

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 2xx response."""
        response = await self._session.request(method, url, data=body)
        check_status(response.status_code)
        content: bytes = response.content
        return content

    @contextlib.asynccontextmanager
    async def chunks(
        self, method: str, url: str, body: bytes = b""
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """Gives the iterator over the body of a 2xx response."""
        async with self._session.stream(method, url, data=body) as response:
            check_status(response.status_code)
            yield response.aiter_content()

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        async with self.chunks(method, url, body) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()


async def open_client(in_flight: int) -> CurlCffiClient:
    """Makes the client."""
    return CurlCffiClient(in_flight)
