"""pycurl, which is libcurl, over HTTP/2 with prior knowledge, driven by the event loop.

pycurl brings no loop of its own. This is libcurl's ``multi_socket`` interface, the one that its
documentation recommends for many transfers at once, with handles that are used again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pycurl

from bench.adapter import check_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FOREVER = 86_400.0


class Transfer:
    """One request in flight: the chunks that came, and the future of whoever waits."""

    __slots__ = ("chunks", "ended", "error", "waiter")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.ended = False
        self.error: str | None = None
        self.waiter: asyncio.Future[None] | None = None

    def on_chunk(self, chunk: bytes) -> None:
        """Keeps a chunk and wakes whoever reads chunk by chunk."""
        self.chunks.append(chunk)
        self.wake()

    def wake(self) -> None:
        """Tells the reader that something happened."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class PycurlClient:
    """A ``CurlMulti`` with one connection per origin where it can."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[Any] = []
        self._transfers: dict[Any, Transfer] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 2xx response."""
        transfer = Transfer()
        curl = self._start(method, url, body, transfer, transfer.chunks.append)
        await self._wait(transfer)
        self._finish(curl, transfer)
        return b"".join(transfer.chunks)

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the body of a 2xx response as it arrives."""
        transfer = Transfer()
        curl = self._start(method, url, body, transfer, transfer.on_chunk)
        while not transfer.ended:
            await self._wait(transfer)
            chunks, transfer.chunks = transfer.chunks, []
            for chunk in chunks:
                yield chunk
        self._finish(curl, transfer)

    async def close(self) -> None:
        """Closes all connections."""
        if self._timer is not None:
            self._timer.cancel()
        for curl in self._idle:
            curl.close()
        self._multi.close()

    def _start(
        self,
        method: str,
        url: str,
        body: bytes,
        transfer: Transfer,
        on_chunk: Callable[[bytes], None],
    ) -> Any:  # noqa: ANN401 - pycurl has no types
        curl = self._idle.pop() if self._idle else self._new_handle()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.WRITEFUNCTION, on_chunk)
        if method == "POST":
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDSIZE_LARGE, len(body))
            curl.setopt(pycurl.POSTFIELDS, body)
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        self._transfers[curl] = transfer
        self._multi.add_handle(curl)
        return curl

    def _new_handle(self) -> Any:  # noqa: ANN401 - pycurl has no types
        curl = pycurl.Curl()
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
        curl.setopt(pycurl.PIPEWAIT, 1)
        curl.setopt(pycurl.FAILONERROR, 1)
        curl.setopt(pycurl.HTTPHEADER, ["content-type: application/octet-stream", "expect:"])
        return curl

    async def _wait(self, transfer: Transfer) -> None:
        transfer.waiter = self._loop.create_future()
        await transfer.waiter

    def _finish(self, curl: Any, transfer: Transfer) -> None:  # noqa: ANN401
        self._idle.append(curl)
        if transfer.error is not None:
            raise ConnectionError(transfer.error)
        # FAILONERROR refuses what is 400 or more.
        check_status(curl.getinfo(pycurl.RESPONSE_CODE))

    # libcurl's calls, and the loop's

    def _on_socket(self, what: int, fd: int, multi: object, data: object) -> None:
        if what in (pycurl.POLL_IN, pycurl.POLL_INOUT):
            self._loop.add_reader(fd, self._act, fd, pycurl.CSELECT_IN)
        else:
            self._loop.remove_reader(fd)
        if what in (pycurl.POLL_OUT, pycurl.POLL_INOUT):
            self._loop.add_writer(fd, self._act, fd, pycurl.CSELECT_OUT)
        else:
            self._loop.remove_writer(fd)

    def _on_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds >= 0:
            # Never at once: libcurl must not be called from inside one of its own calls.
            self._timer = self._loop.call_later(
                milliseconds / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0
            )

    def _act(self, fd: int, events: int) -> None:
        self._multi.socket_action(fd, events)
        more = 1
        while more:
            more, done, failed = self._multi.info_read()
            for curl in done:
                self._end(curl, None)
            for curl, _, message in failed:
                self._end(curl, message or "failed")

    def _end(self, curl: Any, error: str | None) -> None:  # noqa: ANN401
        self._multi.remove_handle(curl)
        transfer = self._transfers.pop(curl)
        transfer.ended, transfer.error = True, error
        transfer.wake()


async def open_client(in_flight: int) -> PycurlClient:
    """Makes the client."""
    return PycurlClient()
