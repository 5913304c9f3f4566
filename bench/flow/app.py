"""The server's side of the scenarios, as an RSGI application for granian."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from bench.app import App

if TYPE_CHECKING:
    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

SMALL: Final = b"small"


class FlowApp(App):
    """Answers ``/upload``, ``/count`` and ``/small``, and what the other workloads ask."""

    async def _answer(self, scope: Scope, exchange: HTTPProtocol) -> None:
        path = scope.path
        if path == "/upload":
            await self._upload(exchange)
        elif path == "/count":
            exchange.response_str(200, [], str(sum([len(chunk) async for chunk in exchange])))
        elif path == "/small":
            await exchange()
            exchange.response_bytes(200, [], SMALL)
        else:
            await super()._answer(scope, exchange)

    async def _upload(self, exchange: HTTPProtocol) -> None:
        """Reads a body as it arrives; answers with its length and SHA-256."""
        digest, length = hashlib.sha256(), 0
        async for chunk in exchange:
            digest.update(chunk)
            length += len(chunk)
        exchange.response_str(200, [], f"{length} {digest.hexdigest()}")


app = FlowApp()
