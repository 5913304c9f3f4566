"""What the workers of the drill run: an ASGI application that writes down what it executes.

Each request brings an identifier. It stands in the worker's log before anything is answered, and
even before the request's body is read: from there on a request counts as executed.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

LOG: Final = "DRILL_LOG"
"""The variable that names the log."""
OVERLOADED: Final = b"Server overloaded: the queue is full"
TOKENS: Final = 10
ID: Final = b"request-id"
WORK: Final = b"x-work"
REFUSE: Final = b"x-overload"


class Log:
    """A worker's log: one line for each request, in the file before the call returns."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, mark: bytes, request_id: bytes) -> None:
        """Appends a line: a mark, which is empty for an execution, and the identifier."""
        os.write(self._file, mark + request_id + b"\n")

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def token(request_id: bytes, index: int) -> bytes:
    """Returns one line of a token stream; the last one says so."""
    return b"%b %d%b\n" % (request_id, index, b" end" if index == TOKENS - 1 else b"")


def receipt(request_id: bytes, length: int, checksum: int) -> bytes:
    """Returns the answer to an upload."""
    return b"%b %d %d" % (request_id, length, checksum)


class App:
    """The application."""

    def __init__(self) -> None:
        self._log: Log | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request; one that the client gave up on ends as it ends."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        headers = dict(scope["headers"])
        if REFUSE in headers:
            await _read(receive)  # hypercorn drops the connection where the body comes later
            await _respond(send, 503, OVERLOADED)
            return
        request_id = headers[ID]
        if self._log is None:
            self._log = Log(os.environ[LOG])
        self._log.write(b"", request_id)
        work = float(headers[WORK])
        if scope["path"] == "/tokens":
            await _stream(send, request_id, work)
            return
        length, checksum = await _read(receive)
        await asyncio.sleep(work)
        await _respond(send, 200, receipt(request_id, length, checksum))


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def _read(receive: Receive) -> tuple[int, int]:
    length = checksum = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        body = message.get("body", b"")
        length += len(body)
        checksum = zlib.crc32(body, checksum)
        if not message.get("more_body", False):
            return length, checksum


async def _stream(send: Send, request_id: bytes, work: float) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for index in range(TOKENS):
        await asyncio.sleep(work / TOKENS)
        body = token(request_id, index)
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _respond(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = App()
