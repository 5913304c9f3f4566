"""Listeners in the test's own loop, and a protocol that records what becomes of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn, cast

from dynamo_h2.origin import Origin


class Recorder(asyncio.Protocol):
    """A client's protocol: notes each call of the loop, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received = bytearray()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # no subclass of it in uvloop
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.calls.append("data")
        self.received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.set_result(exc)

    async def read(self, count: int) -> bytes:
        """Wait until `count` bytes have come."""
        while len(self.received) < count:
            self._news.clear()
            await self._news.wait()
        return bytes(self.received)

    async def end(self) -> None:
        """Close, and wait until the loop says so."""
        self.transport.abort()
        await self.lost


class Listener:
    """What a test server does with each connection: greets, echoes, ends it.

    Args:
        greeting: Sent as soon as there is a connection.
        echo: Whether to send back what comes.
        ending: "" leaves the connection alone; "close" and "reset" end it at the first bytes.
        at_once: Makes `ending` happen when the connection is made.
    """

    def __init__(
        self, *, greeting: bytes = b"", echo: bool = False, ending: str = "", at_once: bool = False
    ) -> None:
        self.greeting = greeting
        self.echo = echo
        self.ending = ending
        self.at_once = at_once
        self.port = 0
        self.accepted: list[_Accepted] = []
        self.arrival = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether every connection that was made is over."""
        return all(each.lost for each in self.accepted)

    def make(self) -> _Accepted:
        return _Accepted(self)


class _Accepted(asyncio.Protocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.transport: asyncio.Transport | None = None
        self.received = bytearray()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._listener.accepted.append(self)
        self._listener.arrival.set()
        if self._listener.greeting:
            self.transport.write(self._listener.greeting)
        if self._listener.at_once:
            self._end(self.transport)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.received += data
        if self._listener.echo:
            self.transport.write(data)
        self._end(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def _end(self, transport: asyncio.Transport) -> None:
        if self._listener.ending == "reset":
            reset_on_close(transport.get_extra_info("socket"))
            transport.abort()
        elif self._listener.ending == "close":
            transport.close()


async def turns(count: int) -> None:
    """Let the loop turn `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def forever() -> NoReturn:
    """Wait for what never comes."""
    await asyncio.Event().wait()
    raise AssertionError


def reset_on_close(sock: socket.socket) -> None:
    """Make closing a socket send RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@asynccontextmanager
async def listening(
    listener: Listener,
    *,
    host: str = "127.0.0.1",
    path: str | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[Listener]:
    """Serve on a free port of `host`, or on a Unix socket."""
    loop = asyncio.get_running_loop()
    server: asyncio.AbstractServer
    if path is not None:
        server = await loop.create_unix_server(listener.make, path, ssl=context)
    else:
        server = await loop.create_server(listener.make, host, 0, ssl=context)
        listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        # What the loop has accepted by now reaches its protocol, before the server ends and after.
        await turns(20)
        server.close()
        await turns(20)
        for each in listener.accepted:
            if each.transport is not None:
                each.transport.abort()
        await server.wait_closed()


def http(port: int, host: str = "127.0.0.1") -> Origin:
    return Origin("http", host, port)


def https(port: int, host: str = "localhost") -> Origin:
    return Origin("https", host, port)


def info(host: str, port: int, scope: int = 0) -> tuple[int, int, int, str, tuple[Any, ...]]:
    """What a resolver says of one address."""
    if ":" in host:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, scope)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)


@contextmanager
def refusing_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that is bound, so that nobody else gets it, and on which nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[1]


@contextmanager
def silent_port() -> Iterator[int]:
    """A port of 127.0.0.1 that answers no SYN: the queue of its listener is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as sock:
        port = sock.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            yield port
        finally:
            for filler in fillers:
                filler.close()
