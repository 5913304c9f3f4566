"""The client of this package behind the calls that the drill makes."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from bench.drill.ledger import Tried
from dynamo_h2 import Http2Config, HttpRequestClient, TransportError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from dynamo_h2 import Attempt
    from dynamo_h2.http2.body import BodySource
    from dynamo_h2.transport.sockets import AddressInfo

READ_TIMEOUT: Final = 1.5
"""Seconds between two pieces of a response at most."""
DNS_REFRESH: Final = 0.25
AGE: Final = 10.0
"""Seconds after which a connection makes way for another."""
KEYS: Final = 40
"""Of so many requests five have a key each, that keeps them on one connection."""


class Answer(NamedTuple):
    """A response.

    Args:
        status: its status.
        body: its body.
        tried: the attempts before it, which failed.
    """

    status: int
    body: bytes
    tried: tuple[Tried, ...] = ()


class Party(Protocol):
    """What a client must be able to do to take part."""

    async def post(
        self, url: str, headers: Mapping[str, str], body: BodySource, timeout: float
    ) -> Answer:
        """Sends a request; all of it ends within so many seconds."""

    def stream(self, url: str, headers: Mapping[str, str], timeout: float) -> AsyncIterator[Answer]:
        """Sends a request and yields first the head of the response, then its pieces."""

    def explain(self, error: Exception) -> tuple[tuple[Tried, ...], int] | None:
        """Returns the attempts that an error tells of and their number; None for no known error."""

    async def drain(self, url: str, *, warm: bool) -> None:
        """Lets new requests to this host go over new connections, which may be made ahead."""

    async def close(self) -> None:
        """Closes all connections."""


class Names:
    """A resolver whose answers are set: what the drill has in the place of DNS."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str] | None] = {}

    async def __call__(self, host: str, port: int) -> Sequence[AddressInfo]:
        """Returns the addresses of a name.

        Raises:
            OSError: There is no answer.
        """
        answer = self.answers[host]
        if answer is None:
            raise socket.gaierror(socket.EAI_AGAIN, "the drill's resolver fails")
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (address, port)) for address in answer]


class Ours:
    """An ``HttpRequestClient``.

    Args:
        names: where its names come from.
        config: fields that differ from those of the drill.
    """

    def __init__(self, names: Names, config: Mapping[str, Any]) -> None:
        chosen = Http2Config(
            connect_timeout=1.0,
            read_timeout=READ_TIMEOUT,
            write_timeout=READ_TIMEOUT,
            keep_alive_interval=0.5,
            keep_alive_timeout=0.5,
            max_connections_per_host=10,
            dns_refresh=DNS_REFRESH,
            max_connection_age=AGE,
            **config,
        )
        self.client = HttpRequestClient(chosen, resolver=names)

    async def post(
        self, url: str, headers: Mapping[str, str], body: BodySource, timeout: float
    ) -> Answer:
        """Sends a request."""
        response = await self.client.request(
            "POST", url, headers=headers, body=body, timeout=timeout, affinity=_key(headers)
        )
        return Answer(response.status, response.body, _failed(response.attempts))

    async def stream(
        self, url: str, headers: Mapping[str, str], timeout: float
    ) -> AsyncIterator[Answer]:
        """Sends a request and yields the response as it comes."""
        opening = self.client.stream("GET", url, headers=headers, timeout=timeout)
        async with opening as response:
            yield Answer(response.status, b"", _failed(response.attempts))
            async for piece in response:
                yield Answer(response.status, piece)

    def explain(self, error: Exception) -> tuple[tuple[Tried, ...], int] | None:
        """Returns what an error says of itself; earlier attempts are its notes."""
        if not isinstance(error, TransportError):
            return None
        notes = [note for note in getattr(error, "__notes__", ()) if note.startswith("attempt ")]
        return (_tried(error),), len(notes) + 1

    async def drain(self, url: str, *, warm: bool) -> None:
        """Drains the connections of a host."""
        draining = asyncio.ensure_future(self.client.drain(url))
        try:
            if warm:
                await self.client.warm_up([url])
            await draining
        finally:
            draining.cancel()

    def broken_windows(self) -> list[str]:
        """Returns the connections that do not give their peers all the credit that they should.

        What was owed and not granted yet counts as given: it goes out with the next bytes.
        """
        pool = self.client._pool
        found = []
        for protocol in () if pool is None else pool._open:
            window = protocol.connection._window
            if window.current_window_size + window.owed < window.max_window_size:
                found.append(f"{protocol.connection.origin}: {window.current_window_size}")
        return found

    async def close(self) -> None:
        """Closes all connections."""
        await self.client.close()


def _key(headers: Mapping[str, str]) -> str | None:
    number = int(headers["request-id"]) % KEYS
    return str(number) if number % 8 == 0 else None


def _failed(attempts: Sequence[Attempt]) -> tuple[Tried, ...]:
    return tuple(_tried(each.error) for each in attempts if each.error is not None)


def _tried(error: BaseException) -> Tried:
    cause = error.__cause__
    return Tried(
        type(error).__name__,
        getattr(error, "processed", None),
        getattr(error, "code", None),
        getattr(error, "stream_id", None),
        "" if cause is None else type(cause).__name__,
    )
