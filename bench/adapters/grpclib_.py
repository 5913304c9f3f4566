"""grpclib, which drives h2 from an ``asyncio.Protocol``, with bytes for messages."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod

from bench.grpc_server import method_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator


class RawCodec:
    """Messages as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: object) -> bytes:
        """Returns the message."""
        return message

    def decode(self, data: bytes, message_type: object) -> bytes:
        """Returns the message."""
        return data


class GrpclibClient:
    """A channel for each origin."""

    def __init__(self) -> None:
        self._channels: dict[str, Any] = {}
        self._calls: dict[str, tuple[Any, bytes]] = {}

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the answer to one message."""
        call, _ = self._calls.get(url) or self._prepare(url, UnaryUnaryMethod)
        reply: bytes = await call(body)
        return reply

    @contextlib.asynccontextmanager
    async def chunks(
        self, method: str, url: str, body: bytes = b""
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """Gives the iterator over the messages of the answer."""
        call, query = self._calls.get(url) or self._prepare(url, UnaryStreamMethod)
        async with call.open() as stream:
            await stream.send_message(query, end=True)
            yield stream

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the messages of the answer."""
        async with self.chunks(method, url, body) as messages:
            async for message in messages:
                yield message

    async def close(self) -> None:
        """Closes all connections."""
        for channel in self._channels.values():
            channel.close()

    def _prepare(self, url: str, kind: Any) -> tuple[Any, bytes]:  # noqa: ANN401
        parts = urlsplit(url)
        if parts.netloc not in self._channels:
            channel = Channel(parts.hostname, parts.port, codec=RawCodec())
            self._channels[parts.netloc] = channel
        call = kind(self._channels[parts.netloc], method_of(parts.path), bytes, bytes)
        self._calls[url] = (call, parts.query.encode())
        return self._calls[url]


async def open_client(in_flight: int) -> GrpclibClient:
    """Makes the client."""
    return GrpclibClient()
