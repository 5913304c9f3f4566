"""A worker behind a request plane: an ASGI app that answers requests and streams tokens.

    granian --interface asgi --http 2 --loop uvloop examples.worker:app

| request                        | answer                                                      |
| ------------------------------ | ----------------------------------------------------------- |
| `POST /v1/rpc/<endpoint>`      | 202 and no body, once the request's body was read           |
| `/echo`                        | the request's body, each piece as it arrives                |
| `/hash`                        | the SHA-256 of the body in hex                              |
| `/headers`                     | the request's headers as a JSON list of pairs               |
| `/status/<n>`                  | status n                                                    |
| `/bytes/<n>`                   | n bytes of a known pattern                                  |
| `/path/<anything>`             | that path                                                   |
| `/tokens?count=&interval_ms=`  | server-sent events, one token each, one piece each          |
| `/slow_read?pause_ms=`         | the length of the body, read with a pause after each piece  |
| `/early`                       | 103 early hints, then 200, where the server can             |
| `/trailers`                    | the body, then its SHA-256 as a trailer, where the server can |
| `/hang`                        | nothing, until the client goes away                         |
| `/overloaded`                  | 503 and a body that says so                                 |
| `/cancelled`                   | how many requests the client gave up on, and how many run   |

A client that cancels ends its request here at once and without noise: that is what stops a model
from generating tokens that nobody reads.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_PATTERN = bytes(range(251))
_PIECE = 64 * 1024
_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog")


def pattern(length: int) -> bytes:
    """The body of `/bytes/<length>`: 0, 1, … 250, 0, 1, … (a prime period shows shifted bytes)."""
    return (_PATTERN * (length // len(_PATTERN) + 1))[:length]


class ClientGoneError(Exception):
    """The client cancelled the request or closed the connection."""


class Exchange:
    """One request and its answer, over the three ASGI arguments."""

    __slots__ = ("_receive", "_send", "_watch", "scope")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._watch: asyncio.Task[None] | None = None

    def number(self, name: str, default: int) -> int:
        """The query parameter `name` as a number."""
        query = parse_qs(self.scope["query_string"].decode("ascii"))
        return int(query[name][0]) if name in query else default

    def supports(self, extension: str) -> bool:
        """Whether the server offers this ASGI extension."""
        return extension in (self.scope.get("extensions") or {})

    async def pieces(self) -> AsyncIterator[bytes]:
        """The request's body as it arrives; ClientGoneError when it never ends."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def drain(self) -> None:
        """Read the request's body and forget it."""
        async for _ in self.pieces():
            pass

    async def until_gone(self) -> None:
        """Wait until the client goes away; only once the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def watch(self) -> None:
        """Cancel the task that answers as soon as the client goes away, even in a blocked send."""
        answering = asyncio.current_task()
        if answering is not None:
            self._watch = asyncio.create_task(self.until_gone())
            self._watch.add_done_callback(lambda watch: watch is self._watch and answering.cancel())

    async def close(self) -> None:
        """Stop watching."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait((watch,))

    async def start(
        self,
        status: int = 200,
        content_type: str = "application/octet-stream",
        *,
        trailers: bool = False,
    ) -> None:
        """Send the head of the answer."""
        headers = [(b"content-type", content_type.encode("ascii"))]
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": headers,
                "trailers": trailers,
            }
        )

    async def write(self, body: bytes, *, more: bool = True) -> None:
        """Send a piece of the body; the last one with `more=False`."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def respond(
        self, status: int = 200, body: bytes = b"", content_type: str = "text/plain"
    ) -> None:
        """Send a whole answer."""
        await self.start(status, content_type)
        await self.write(body, more=False)

    async def send_hints(self, links: Iterable[bytes]) -> None:
        """Send 103 Early Hints."""
        await self._send({"type": "http.response.early_hint", "links": list(links)})

    async def send_trailers(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the trailers that `start` announced."""
        await self._send({"type": "http.response.trailers", "headers": list(fields)})


class Worker:
    """The app. One per process: it counts what it serves."""

    def __init__(self) -> None:
        self.running = 0
        self.cancelled = 0
        self._routes = {
            "v1": self.rpc,
            "echo": self.echo,
            "hash": self.digest,
            "headers": self.headers,
            "status": self.status,
            "bytes": self.numbered,
            "path": self.path,
            "tokens": self.tokens,
            "slow_read": self.slow_read,
            "early": self.early,
            "trailers": self.trailers,
            "hang": self.hang,
            "overloaded": self.overloaded,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's own life cycle."""
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["type"] == "http":
            await self.serve(Exchange(scope, receive, send))

    async def live(self, receive: Receive, send: Send) -> None:
        """Answer the server's start and end."""
        while True:
            phase = (await receive())["type"]
            await send({"type": f"{phase}.complete"})
            if phase == "lifespan.shutdown":
                return

    async def serve(self, exchange: Exchange) -> None:
        """Find the handler; count the request as cancelled when the client went away."""
        _, name, *_ = exchange.scope["path"].split("/")
        if name == "cancelled":
            counts = {"cancelled": self.cancelled, "running": self.running}
            await exchange.respond(200, json.dumps(counts).encode(), "application/json")
            return
        self.running += 1
        try:
            await self._routes.get(name, self.unknown)(exchange)
        except (ClientGoneError, asyncio.CancelledError):
            self.cancelled += 1
        finally:
            self.running -= 1
            await exchange.close()

    async def rpc(self, exchange: Exchange) -> None:
        """Accept the request: its result takes another way back."""
        await exchange.drain()
        await exchange.respond(202)

    async def echo(self, exchange: Exchange) -> None:
        """Send each piece back while the next one may still be under way."""
        await exchange.start()
        async for piece in exchange.pieces():
            await exchange.write(piece)
        await exchange.write(b"", more=False)

    async def digest(self, exchange: Exchange) -> None:
        """Answer with the body's SHA-256."""
        digest = hashlib.sha256()
        async for piece in exchange.pieces():
            digest.update(piece)
        await exchange.respond(200, digest.hexdigest().encode())

    async def headers(self, exchange: Exchange) -> None:
        """Answer with the headers as they arrived."""
        await exchange.drain()
        pairs = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in exchange.scope["headers"]]
        await exchange.respond(200, json.dumps(pairs).encode(), "application/json")

    async def status(self, exchange: Exchange) -> None:
        """Answer with the status that the path names."""
        await exchange.drain()
        await exchange.respond(int(exchange.scope["path"].rpartition("/")[2]))

    async def path(self, exchange: Exchange) -> None:
        """Answer with the path of the request."""
        await exchange.drain()
        await exchange.respond(200, exchange.scope["raw_path"])

    async def numbered(self, exchange: Exchange) -> None:
        """Answer with as many bytes as the path names."""
        left = int(exchange.scope["path"].rpartition("/")[2])
        exchange.watch()
        await exchange.start()
        body = pattern(_PIECE + len(_PATTERN))
        sent = 0
        while sent < left:
            await asyncio.sleep(0)  # some servers' send never lets the loop turn
            size = min(_PIECE, left - sent)
            offset = sent % len(_PATTERN)
            await exchange.write(body[offset : offset + size])
            sent += size
        await exchange.write(b"", more=False)

    async def tokens(self, exchange: Exchange) -> None:
        """Stream tokens at a steady pace, until the client goes away."""
        count = exchange.number("count", 100)
        interval = exchange.number("interval_ms", 10) / 1000
        await exchange.drain()
        exchange.watch()
        await exchange.start(200, "text/event-stream")
        clock = asyncio.get_running_loop().time
        begun = clock()
        for index in range(count):
            # Paced from the beginning, so that the pauses do not add up to more than was asked for.
            await asyncio.sleep(max(0.0, begun + index * interval - clock()))
            token = json.dumps({"index": index, "token": _WORDS[index % len(_WORDS)]})
            await exchange.write(b"data: %b\n\n" % token.encode())
        await exchange.write(b"", more=False)

    async def slow_read(self, exchange: Exchange) -> None:
        """Read the body with pauses, so that the client's windows run dry."""
        pause = exchange.number("pause_ms", 1) / 1000
        length = 0
        async for piece in exchange.pieces():
            length += len(piece)
            await asyncio.sleep(pause)
        await exchange.respond(200, str(length).encode())

    async def early(self, exchange: Exchange) -> None:
        """Send an informational answer before the final one."""
        await exchange.drain()
        if not exchange.supports("http.response.early_hint"):
            await exchange.respond(501)
            return
        await exchange.send_hints([b"</model>; rel=preload"])
        await exchange.respond(200, b"after the hints")

    async def trailers(self, exchange: Exchange) -> None:
        """Echo the body and send its hash after it."""
        if not exchange.supports("http.response.trailers"):
            await exchange.drain()
            await exchange.respond(501)
            return
        digest = hashlib.sha256()
        await exchange.start(trailers=True)
        async for piece in exchange.pieces():
            digest.update(piece)
            await exchange.write(piece)
        await exchange.write(b"", more=False)
        await exchange.send_trailers([(b"x-sha256", digest.hexdigest().encode())])

    async def hang(self, exchange: Exchange) -> None:
        """Never answer."""
        await exchange.drain()
        await exchange.until_gone()
        raise ClientGoneError

    async def overloaded(self, exchange: Exchange) -> None:
        """Refuse the request as a worker with a full queue does."""
        await exchange.drain()
        await exchange.respond(503, b"Server overloaded: the queue is full")

    async def unknown(self, exchange: Exchange) -> None:
        """Answer that there is nothing here."""
        await exchange.drain()
        await exchange.respond(404)


app = Worker()
