"""Where a hostile peer meets the client: the peer's first connection goes wrong, the others serve.

Whatever the peer does, each play ends with a good request, and with a look at what the whole thing
cost: the peer is hostile to a process that has other work to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import platform
import resource
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dynamo_h2 import (
    Http2Config,
    HttpRequestClient,
    RemoteProtocolError,
    Response,
    StreamReset,
    TransportError,
)
from tests.behaviours import patient
from tests.http2.frame_factory import GOAWAY, HEADERS, NO_ERROR, OK, RST_STREAM
from tests.peers.scripted import ClientLeftError, Connection, ScriptedPeer, scripted_peer

T = TypeVar("T")
Error = TypeVar("Error", bound=BaseException)

Script = Callable[[Connection], Awaitable[None]]
Attack = Callable[[Connection, int], Awaitable[None] | None]
Call = Callable[[HttpRequestClient, str], Awaitable[object]]

GOOD = b"good"
UPLOAD = bytes(300_000)
LINUX = platform.system() == "Linux"
EARLY_HINTS = (b":status", b"103")
UNHARMED = (b"x-neighbour", b"unharmed")
NEIGHBOUR, VICTIM = 1, 3
"""The streams of the two requests that are in flight when a peer attacks."""

MEMORY = 16 * 1024 * 1024

CPU = 10.0
"""How long a scenario may compute, in seconds: one is expected, ten are a bug."""


@dataclass(slots=True)
class Outcome:
    """What came of a play.

    Args:
        result: What the call returned or raised.
        neighbour: What the request beside it returned or raised; None without one.
        first: The first connection, with all that the client sent on it.
        connections: How many connections the client made, that of the good request included.
    """

    result: object
    neighbour: object
    first: Connection
    connections: int

    @property
    def response(self) -> Response:
        """The response to the call."""
        if isinstance(self.result, BaseException):
            raise self.result
        assert isinstance(self.result, Response)
        return self.result

    def failed(self, kind: type[Error]) -> Error:
        """The error of the call, which has to be of exactly that type."""
        assert type(self.result) is kind, repr(self.result)
        return self.result

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Each RST_STREAM that went out on the first connection: stream and code."""
        return [(frame.stream_id, frame.code) for frame in self.first.log(RST_STREAM)]

    @property
    def goaways(self) -> list[int]:
        """The code of each GOAWAY that went out on the first connection.

        A client that is closed says NO_ERROR where it has not said anything else before.
        """
        return [frame.code for frame in self.first.log(GOAWAY)]

    def lives(self) -> None:
        """The first connection was not harmed, and carried the good request."""
        assert (self.goaways, self.connections) == ([NO_ERROR], 1)

    def quiet(self) -> None:
        """And nothing went out on it that a well-behaved peer would not have seen."""
        self.lives()
        assert self.resets == []


class Stage:
    """Lets a peer do its worst to a client with one of the engines.

    Args:
        engine: "fast" or "stock".

    Attributes:
        memory: How much the process may grow in a scenario, in bytes; the peer's share is in it.
    """

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.memory = MEMORY
        _forget_peak()
        self._size, self._cpu = _peak_memory(), time.process_time()

    def expect_bounded(self) -> None:
        """What happened since the stage was made took no more than it may."""
        assert time.process_time() - self._cpu < CPU
        assert _peak_memory() - self._size < self.memory

    async def play(self, script: Script, call: Call, **config: object) -> Outcome:
        """Let a peer follow a script on its first connection, and behave on all others.

        Args:
            script: Has the first connection to itself; when it returns, the peer behaves.
            call: What is asked of the client.
            config: Fields of the client's configuration.
        """
        async with hostile_peer(script) as peer:
            async with self.client(**config) as client:
                result = await _result(call(client, peer.url("/")))
                await expect_good(client, peer)
            with contextlib.suppress(ClientLeftError):
                await peer.finished()
            return Outcome(result, None, peer.connections[0], len(peer.connections))

    def client(self, **config: object) -> HttpRequestClient:
        """A client with the engine of this stage, and with patience."""
        return HttpRequestClient(self.config(**config))

    def config(self, **fields: object) -> Http2Config:
        """The configuration of such a client."""
        return patient(**{"engine": self.engine, **fields})

    async def attack(
        self,
        attack: Attack,
        *,
        settings: Sequence[tuple[int, int]] = (),
        call: Call | None = None,
        **config: object,
    ) -> Outcome:
        """Let a peer attack while two requests are in flight, and then answer the first of them.

        Args:
            attack: Gets the connection and the stream of the second request, the victim.
            settings: What the peer announces.
            call: The victim's call; without it a GET.
            config: Fields of the client's configuration.
        """

        async def script(peer: Connection) -> None:
            await peer.handshake(*settings)
            neighbour = await peer.recv_request()
            victim = await peer.recv_request()
            assert (neighbour.stream_id, victim.stream_id) == (NEIGHBOUR, VICTIM)
            # What this enters into the table is used below: a table that went wrong shows.
            peer.headers(NEIGHBOUR, [EARLY_HINTS, UNHARMED])
            doing = attack(peer, VICTIM)
            if inspect.isawaitable(doing):
                await doing
            peer.headers(NEIGHBOUR, [OK, UNHARMED])
            peer.data(NEIGHBOUR, b"neighbour", end_stream=True)

        neighbours: list[object] = []

        async def both(client: HttpRequestClient, url: str) -> object:
            neighbour, victim = await asyncio.gather(
                client.request("GET", url), (call or get)(client, url), return_exceptions=True
            )
            neighbours.append(neighbour)
            if isinstance(victim, BaseException):
                raise victim
            return victim

        outcome = await self.play(script, both, **config)
        (outcome.neighbour,) = neighbours
        return outcome

    # What may come of an attack

    async def connection_error(
        self,
        attack: Attack,
        code: int,
        *,
        settings: Sequence[tuple[int, int]] = (),
        call: Call | None = None,
        **config: object,
    ) -> None:
        """GOAWAY with that code, and an error for every stream; then another connection serves."""
        outcome = await self.attack(attack, settings=settings, call=call, **config)
        for result, stream in ((outcome.neighbour, NEIGHBOUR), (outcome.result, VICTIM)):
            assert type(result) is RemoteProtocolError, repr(result)
            assert (result.code, result.processed, result.stream_id) == (code, None, stream)
        expect_goaway(outcome, code)

    async def stream_error(
        self,
        attack: Attack,
        code: int,
        *,
        settings: Sequence[tuple[int, int]] = (),
        call: Call | None = None,
        **config: object,
    ) -> None:
        """RST_STREAM with that code for the victim alone; the same connection serves on."""
        outcome = await self.attack(attack, settings=settings, call=call, **config)
        error = outcome.failed(RemoteProtocolError)
        assert (error.code, error.processed, error.stream_id) == (code, None, VICTIM)
        expect_unharmed(outcome)
        assert outcome.resets == [(VICTIM, code)]

    async def peer_reset(
        self, attack: Attack, code: int, *, processed: bool | None = None, call: Call | None = None
    ) -> None:
        """The peer reset the victim, and nothing goes out for that; the same connection serves."""
        outcome = await self.attack(attack, call=call)
        error = outcome.failed(StreamReset)
        assert (error.code, error.by_peer) == (code, True)
        assert (error.processed, error.stream_id) == (processed, VICTIM)
        expect_unharmed(outcome)
        assert outcome.resets == []

    async def accepted(
        self,
        attack: Attack,
        *,
        settings: Sequence[tuple[int, int]] = (),
        call: Call | None = None,
        **config: object,
    ) -> Response:
        """The victim gets its response, and nothing goes out; the same connection serves on."""
        outcome = await self.attack(attack, settings=settings, call=call, **config)
        expect_unharmed(outcome)
        assert outcome.resets == []
        return outcome.response


async def get(client: HttpRequestClient, url: str) -> Response:
    """The plainest call."""
    return await client.request("GET", url)


async def post(client: HttpRequestClient, url: str) -> Response:
    """A call with a small body, which can be sent again."""
    return await client.request("POST", url, body=b"payload")


async def upload(client: HttpRequestClient, url: str) -> Response:
    """A call with a body that no peer of these tests takes whole unless it gives credit."""
    return await client.request("POST", url, body=UPLOAD)


async def leave(client: HttpRequestClient, url: str) -> int:
    """A call that is given up as soon as the head of its response is there; returns the status."""
    async with client.stream("GET", url) as response:
        return response.status


async def uploading(peer: Connection, *settings: tuple[int, int]) -> int:
    """Exchange SETTINGS and take the head of an upload; return its stream."""
    await peer.handshake(*settings)
    return (await peer.recv_until(HEADERS)).stream_id


async def opening(peer: Connection, *settings: tuple[int, int]) -> int:
    """Exchange SETTINGS and take a request; return its stream."""
    await peer.handshake(*settings)
    return (await peer.recv_request()).stream_id


async def expect_good(client: HttpRequestClient, peer: ScriptedPeer) -> None:
    """The client serves a good request, with nothing of the bad ones left."""
    response = await client.request("GET", peer.url("/good"))
    assert (response.status, response.body) == (200, GOOD)
    assert client.stats().streams_in_flight == 0


def expect_unharmed(outcome: Outcome) -> None:
    """The victim's neighbour got its response, and the connection lives on."""
    assert isinstance(outcome.neighbour, Response), repr(outcome.neighbour)
    assert outcome.neighbour.body == b"neighbour"
    assert outcome.neighbour.headers["x-neighbour"] == "unharmed"
    outcome.lives()


def expect_goaway(outcome: Outcome, code: int) -> None:
    """The last word on the first connection was a GOAWAY that says why; a new one was made."""
    last = outcome.first.received[-1]
    assert (last.kind, last.code, last.last_stream_id) == (GOAWAY, code, 0)
    assert last.debug
    assert (outcome.goaways, outcome.connections) == ([code], 2)


def expect_error(error: object, kind: type[TransportError], *, processed: bool | None) -> None:
    """An error is of exactly that type, and says that of the request."""
    assert type(error) is kind, repr(error)
    assert error.processed is processed


@contextlib.asynccontextmanager
async def hostile_peer(
    script: Script, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedPeer]:
    """A peer that follows a script on its first connection, and behaves on all others."""

    async def handler(connection: Connection) -> None:
        if connection.index == 0:
            try:
                await script(connection)
            except ClientLeftError:
                await connection.until_left()  # its last words
                return
        else:
            await connection.handshake()
        await connection.serve(lambda _: GOOD)

    async with scripted_peer(handler, tls=tls) as peer:
        yield peer


# Inside


async def _result(call: Awaitable[object]) -> object:
    try:
        return await call
    except Exception as error:
        return error


def _forget_peak() -> None:
    """Let the kernel count the process's largest size anew, where it can.

    What earlier scenarios have freed goes back first: growth into it would not show.
    """
    if LINUX:
        with contextlib.suppress(AttributeError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    """The largest size that the process has had, in bytes."""
    if LINUX:
        status = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
        return int(status.split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
