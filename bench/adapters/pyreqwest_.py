"""pyreqwest, which is Rust's reqwest, over HTTP/2 with prior knowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyreqwest.client import ClientBuilder

from bench.adapter import check_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


STREAM_WINDOW = 4 * 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024


class PyreqwestClient:
    """A client with the windows of its rivals.

    Its documentation advises to tune them for HTTP/2. With its own 64 KiB it also takes many
    streams of small chunks for an attack, and closes the connection (``too_many_data_frames``).

    Args:
        adaptive: let hyper find the windows instead.
    """

    def __init__(self, *, adaptive: bool = False) -> None:
        builder = ClientBuilder().http2_prior_knowledge().follow_redirects(False)
        if adaptive:  # begins with 64 KiB
            builder = builder.http2_adaptive_window(True)
        else:
            builder = builder.http2_initial_stream_window_size(STREAM_WINDOW)
            builder = builder.http2_initial_connection_window_size(CONNECTION_WINDOW)
        self._client = builder.build()

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 2xx response."""
        response = await self._client.request(method, url).body_bytes(body).build().send()
        check_status(response.status)
        content: bytes = await response.bytes()
        return content

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        builder = self._client.request(method, url).body_bytes(body)
        if "/tokens?" in url or "/flood/" in url:
            # By default 64 KiB have to be there before anything is handed out: good for
            # downloads, but of a token stream nothing would be seen before its end, and of a
            # download not when its bytes came.
            builder = builder.streamed_read_buffer_limit(0)
        async with builder.build_streamed() as response:
            check_status(response.status)
            reader = response.body_reader
            while (chunk := await reader.read_chunk()) is not None:
                yield chunk

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()


async def open_client(in_flight: int, *, adaptive: bool = False) -> PyreqwestClient:
    """Makes the client, with windows that adapt or with those of its rivals."""
    return PyreqwestClient(adaptive=adaptive)
