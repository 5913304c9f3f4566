"""The server's side of the workloads, as an RSGI application for granian.

It does the least that each workload needs, because whatever the server spends on its core hides
what the client spends on the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from granian._granian import RSGIProtocolClosed

from bench.payloads import TOKEN, pattern

if TYPE_CHECKING:
    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

PIECE: Final = 256 * 1024


class App:
    """Answers the paths that the workloads use, and 404 to all others."""

    async def __rsgi__(self, scope: Scope, exchange: HTTPProtocol) -> None:
        """Answers one request, and ends quietly when the client goes away."""
        with contextlib.suppress(RSGIProtocolClosed):
            await self._answer(scope, exchange)

    async def _answer(self, scope: Scope, exchange: HTTPProtocol) -> None:
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
            # Always a turn of the loop: tokens of all streams mix, as those of a model do.
            await asyncio.sleep(max(0.0, begun + index * interval - clock()))
            await stream.send_bytes(TOKEN)

    async def _bytes(self, length: int, exchange: HTTPProtocol) -> None:
        body = pattern(length)
        stream = exchange.response_stream(200, [("content-type", "application/octet-stream")])
        for offset in range(0, length, PIECE):
            await stream.send_bytes(body[offset : offset + PIECE])


app = App()
