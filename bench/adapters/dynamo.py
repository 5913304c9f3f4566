"""The public client of this package."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from dynamo_h2 import Http2Config, HttpRequestClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Coroutine


class DynamoClient:
    """An ``HttpRequestClient`` as a request plane uses it."""

    def __init__(self, config: Http2Config) -> None:
        self._client = HttpRequestClient(config)

    async def enter(self) -> None:
        """Begins to use the client, as ``async with`` does."""
        await self._client.__aenter__()

    def send(self, method: str, url: str, body: bytes = b"") -> Coroutine[Any, Any, bytes]:
        """Returns the body of a 2xx response; a POST by itself, as its users call it."""
        if method == "POST":
            return self._client.send_request(url, body)
        return self._request(method, url, body)

    async def _request(self, method: str, url: str, body: bytes) -> bytes:
        response = await self._client.request(method, url, body=body)
        response.raise_for_status()
        return response.body

    @contextlib.asynccontextmanager
    async def chunks(
        self, method: str, url: str, body: bytes = b""
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """Gives the iterator over the body of a 2xx response."""
        async with self._client.stream(method, url, body=body) as response:
            response.raise_for_status()
            yield response

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        async with self.chunks(method, url, body) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()


async def open_client(in_flight: int, **config: Any) -> DynamoClient:  # noqa: ANN401 - any field
    """Makes the client and enters it, with the defaults but for what is named."""
    client = DynamoClient(Http2Config(**config))
    await client.enter()
    return client
