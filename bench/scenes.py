"""What the request path is measured at: one small thing over and over.

Most scenes are without sockets. Answers are waited for at a real server, since what counts there is
who waits for whom.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeAlias

from bench.environment import pick_cores
from bench.loopback import READ, URL, Loopback
from bench.payloads import TOKEN, payload
from bench.servers import serving
from bench.workloads.unary import PATH, SIZE
from dynamo_h2 import HttpRequestClient
from dynamo_h2.http2.frames import FrameType, pack_frame

if TYPE_CHECKING:
    from bench.loopback import LoopbackTransport

Repeat: TypeAlias = Callable[[int], Awaitable[float | None]]
"""Does a thing so many times; returns the seconds that count, if not those of CPU time."""

IN_FLIGHT: Final = 32
STREAMS: Final = 64
TOKENS_PER_READ: Final = 16  # as many as come at once from granian at 100 tokens/s for each stream
FRAME: Final = 16_384
UPLOAD: Final = 4 * 1024 * 1024
DIFFERING: Final = {"request-id": "5fbc2a4e", "x-frontend-send-ts-ns": "1764374400"}
REPEATED: Final = {"x-model": "llama-3-70b", "x-tenant": "acme", "accept": "text/event-stream"}


@dataclass(frozen=True, slots=True)
class Scene:
    """Something that can be repeated.

    Args:
        unit: What is done once.
        block: How often it is done between two looks at the clock: 10 to 20 ms.
        open: Gets everything ready.
    """

    unit: str
    block: int
    open: Callable[[], AbstractAsyncContextManager[Repeat]]


@contextlib.asynccontextmanager
async def _requests(in_flight: int, headers: dict[str, str] | None = None) -> AsyncIterator[Repeat]:
    client, body = Loopback().client(), payload(1, SIZE)

    async def send(count: int) -> None:
        for _ in range(count):
            await client.send_request(URL + PATH, body, headers)

    async def repeat(count: int) -> None:
        await asyncio.gather(*[send(count // in_flight) for _ in range(in_flight)])

    try:
        yield repeat
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def _made() -> AsyncIterator[Repeat]:
    """Makes all that a request needs, and sends none but the first."""
    client, body, url = Loopback().client(), payload(1, SIZE), URL + PATH
    await client.send_request(url, body)

    async def repeat(count: int) -> None:
        for _ in range(count):
            client._plain_exchange(url, body)  # noqa: SLF001 - as it does

    try:
        yield repeat
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def _connections() -> AsyncIterator[Repeat]:
    """Makes clients with a single request, on a connection of its own."""
    loopback, body = Loopback(), payload(1, SIZE)

    async def repeat(count: int) -> None:
        for _ in range(count):
            async with loopback.client() as client:
                await client.send_request(URL + PATH, body)
            loopback.transports.clear()

    yield repeat


@contextlib.asynccontextmanager
async def _first_answers() -> AsyncIterator[Repeat]:
    """Waits for the first answer of connections to a server on a core of its own."""
    body = payload(1, SIZE)
    with serving("granian", pick_cores()[1]) as url:

        async def repeat(count: int) -> float:
            waited = 0.0
            for _ in range(count):
                async with HttpRequestClient() as client:
                    begun = perf_counter()
                    await client.send_request(url + PATH, body)
                    waited += perf_counter() - begun
            return waited

        yield repeat


@contextlib.asynccontextmanager
async def _answers(core: int | None) -> AsyncIterator[Repeat]:
    """Waits for answers of a server on such a core, one after the other."""
    body = payload(1, SIZE)
    with serving("granian", core) as url:
        async with HttpRequestClient() as client:

            async def repeat(count: int) -> float:
                begun = perf_counter()
                for _ in range(count):
                    await client.send_request(url + PATH, body)
                return perf_counter() - begun

            yield repeat


@contextlib.asynccontextmanager
async def _reading(streams: int) -> AsyncIterator[LoopbackTransport]:
    """Lets so many responses be read, and yields where they come from."""
    loopback = Loopback(tokens=True)
    client = loopback.client()
    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_read(client, begun)) for _ in range(streams)]
    for _ in tasks:
        await begun.acquire()
    try:
        yield loopback.transports[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await client.close()


async def _read(client: HttpRequestClient, begun: asyncio.Semaphore) -> None:
    async with client.stream("GET", URL) as response:
        begun.release()
        async for _ in response:
            pass


@contextlib.asynccontextmanager
async def _data(streams: int, piece: bytes, per_read: int) -> AsyncIterator[Repeat]:
    """Feeds DATA frames, so many in each read, to so many streams in turn."""
    async with _reading(streams) as transport:
        frames = [pack_frame(FrameType.DATA, 0, stream, piece) for stream in transport.streams]
        frames *= -(-per_read // len(frames))
        reads = [b"".join(frames[at : at + per_read]) for at in range(0, len(frames), per_read)]

        async def repeat(count: int) -> None:
            for turn in range(count // per_read):
                transport.send(reads[turn % len(reads)])
                await asyncio.sleep(0)

        yield repeat


@contextlib.asynccontextmanager
async def _uploads() -> AsyncIterator[Repeat]:
    client, body = Loopback().client(), bytes(UPLOAD)

    async def repeat(count: int) -> None:
        for _ in range(count * FRAME // UPLOAD):
            await client.send_request(URL + PATH, body)

    try:
        yield repeat
    finally:
        await client.close()


REQUEST: Final = Scene("request", 32 * IN_FLIGHT, partial(_requests, IN_FLIGHT))
REQUEST_WITH_FIELDS: Final = Scene(
    "request with fields", 32 * IN_FLIGHT, partial(_requests, IN_FLIGHT, DIFFERING)
)
REQUEST_WITH_THE_SAME_FIELDS: Final = Scene(
    "request with the same fields", 32 * IN_FLIGHT, partial(_requests, IN_FLIGHT, REPEATED)
)
LONE_REQUEST: Final = Scene("request that is alone", 512, partial(_requests, 1))
MADE: Final = Scene("request made", 8_192, _made)
CONNECTION: Final = Scene("connection", 64, _connections)
FIRST_ANSWER: Final = Scene("first answer", 64, _first_answers)
ANSWER: Final = Scene("answer", 128, lambda: _answers(pick_cores()[1]))
ANSWER_ON_ONE_CORE: Final = Scene(
    "answer from the same core", 128, lambda: _answers(pick_cores()[0])
)
TOKEN_READ: Final = Scene("token", 64 * STREAMS, partial(_data, STREAMS, TOKEN, TOKENS_PER_READ))
LONE_TOKEN: Final = Scene("token that comes alone", 32 * STREAMS, partial(_data, STREAMS, TOKEN, 1))
DOWNLOAD: Final = Scene(
    "16 KiB downloaded",
    300 * (READ // FRAME - 1),
    partial(_data, 1, bytes(FRAME), READ // FRAME - 1),
)
UPLOADED: Final = Scene("16 KiB uploaded", 16 * UPLOAD // FRAME, _uploads)
