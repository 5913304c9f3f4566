"""An RSGI application that answers ``/status/<status>`` with that status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

BODY: Final = "a body"
WITHOUT_BODY: Final = {304}  # RFC 9110 §15.4.5


async def app(scope: Scope, exchange: HTTPProtocol) -> None:
    """Answers one request; redirections lead to a success."""
    await exchange()
    status = int(scope.path.rpartition("/")[2])
    headers = [("location", "/status/202")] if 300 <= status < 400 else []
    if status in WITHOUT_BODY:
        exchange.response_empty(status, headers)
    else:
        exchange.response_str(status, headers, BODY)
