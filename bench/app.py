"""The server's side of the workloads, as an RSGI application for granian.

It does the least that each workload needs, because whatever the server spends on its core hides
what the client spends on the other.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

PIECE: Final = 256 * 1024
TOKEN: Final = b'data: {"token": "hello", "index": 12345}\n\n'
_PATTERN: Final = bytes(range(251))


@lru_cache(maxsize=4)
def pattern(length: int) -> bytes:
    """Returns what ``/bytes/<length>`` answers; a prime period shows every shifted byte."""
    return (_PATTERN * (length // len(_PATTERN) + 1))[:length]


class App:
    """Answers the paths that the workloads use, and 404 to all others."""

    async def __rsgi__(self, scope: Scope, exchange: HTTPProtocol) -> None:
        """Answers one request."""
        path = scope.path
        if path.startswith("/v1/rpc/"):
            await exchange()
            exchange.response_empty(202, [])
        elif path == "/tokens":
            await self._tokens(scope, exchange)
        elif path == "/echo":
            exchange.response_bytes(200, [], await exchange())
        elif path == "/length":
            exchange.response_str(200, [], str(len(await exchange())))
        elif path == "/hash":
            exchange.response_str(200, [], hashlib.sha256(await exchange()).hexdigest())
        elif path.startswith("/bytes/"):
            await self._bytes(int(path.removeprefix("/bytes/")), exchange)
        else:
            exchange.response_empty(404, [])

    async def _tokens(self, scope: Scope, exchange: HTTPProtocol) -> None:
        query = parse_qs(scope.query_string)
        count, interval = int(query["count"][0]), float(query["interval_ms"][0]) / 1000
        stream = exchange.response_stream(200, [("content-type", "text/event-stream")])
        clock = asyncio.get_running_loop().time
        begun = clock()
        for index in range(count):
            if interval:
                await asyncio.sleep(begun + index * interval - clock())
            await stream.send_bytes(TOKEN)

    async def _bytes(self, length: int, exchange: HTTPProtocol) -> None:
        body = pattern(length)
        stream = exchange.response_stream(200, [("content-type", "application/octet-stream")])
        for offset in range(0, length, PIECE):
            await stream.send_bytes(body[offset : offset + PIECE])


app = App()
