"""What a child does with its client; each job returns what JSON can say."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

from bench.adapter import WrongReply
from bench.flow.payload import PIECE, Checker
from bench.flow.record import Points, thinned
from bench.flow.sampler import Sampler
from bench.measure import percentile
from bench.payloads import TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from bench.adapter import Client

LOG_EVERY: Final = 0.005  # seconds
PATIENCE: Final = 8.0  # seconds without anything, until streams count as standing still


async def download(
    client: Client, url: str, *, seconds: float, rest: float = 0.0
) -> dict[str, Any]:
    """Reads a flood for so long, then rests, then sends one small request.

    Returns:
        When how many bytes had come, when it began (monotonic), and what the windows were.
    """
    begun = monotonic()
    log: Points = []
    async with Sampler(client, begun) as sampler:
        checker = Checker()
        chunks = flood(client, url)
        while (at := monotonic() - begun) < seconds:
            chunk = await anext(chunks, b"")
            if not chunk:
                raise WrongReply(f"the flood ended after {checker.total} bytes")
            checker.add(chunk)
            if not log or at - log[-1][0] >= LOG_EVERY:
                log.append((monotonic() - begun, checker.total))
        await chunks.aclose()
        if rest:
            await asyncio.sleep(rest)
            await client.send("GET", f"{url}/small")
            await asyncio.sleep(0.5)
    lines = {name: thinned(points) for name, points in sampler.lines.items()}
    return {"begun": begun, "log": log, "lines": lines}


def flood(client: Client, url: str, length: int | None = None) -> AsyncGenerator[bytes]:
    """Begins a flood; None is one without an end."""
    stream = client.stream("GET", f"{url}/flood/{'endless' if length is None else length}")
    return cast("AsyncGenerator[bytes]", stream)


async def slow(
    client: Client, url: str, *, live: int, stalled: int, seconds: float, rounds: int = 1
) -> dict[str, Any]:
    """Reads token streams alone, and beside floods that nobody reads; in turn, several times.

    Returns:
        For each of both: tokens per second, and percentiles of their gaps in milliseconds.
    """
    alone, beside = Gaps(), Gaps()
    for _ in range(rounds):
        await _tokens(client, url, live, seconds, alone)
        begun = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(_stall(client, url, begun)) for _ in range(stalled)]
        try:
            await _all_begun(begun, stalled)
            await asyncio.sleep(0.5)  # until they have all that they are going to get
            await _tokens(client, url, live, seconds, beside)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    return {"alone": alone.figures(), "beside": beside.figures()}


class Gaps:
    """The seconds between tokens, over several rounds."""

    __slots__ = ("gaps", "seconds", "tokens")

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.tokens = 0
        self.seconds = 0.0

    def figures(self) -> dict[str, float]:
        """Returns the rate, and percentiles of the gaps."""
        return {"rate": self.tokens / self.seconds, **_spread(self.gaps)}


async def _all_begun(begun: asyncio.Semaphore, count: int) -> None:
    for number in range(count):
        try:
            await asyncio.wait_for(begun.acquire(), PATIENCE)
        except TimeoutError:
            raise RuntimeError(f"stood still with {number} of {count} floods begun") from None


async def _stall(client: Client, url: str, begun: asyncio.Semaphore) -> None:
    # For a gRPC server the length is a message, which it does not look at.
    grpc = type(client).__name__ == "GrpcClient"
    async for _ in client.stream("GET", f"{url}/flood") if grpc else flood(client, url):
        begun.release()
        await asyncio.sleep(3600)


async def _tokens(client: Client, url: str, live: int, seconds: float, found: Gaps) -> None:
    interval_ms = 10
    count = round(seconds * 1000 / interval_ms)

    async def read() -> None:
        last, received = perf_counter(), 0
        tokens = client.stream("GET", f"{url}/tokens?count={count}&interval_ms={interval_ms}")
        async for chunk in tokens:
            now = perf_counter()
            if received:
                found.gaps.append(now - last)
            last = now
            received += len(chunk)
        if received != count * len(TOKEN):
            raise WrongReply(f"{received} bytes of tokens came, of {count * len(TOKEN)}")

    begun = perf_counter()
    try:
        async with asyncio.timeout(seconds + PATIENCE), asyncio.TaskGroup() as group:
            for _ in range(live):
                group.create_task(read())
    except TimeoutError:
        raise RuntimeError("the live streams stood still") from None
    found.seconds += perf_counter() - begun
    found.tokens += live * count


async def crowd(
    client: Client, url: str, *, streams: int, length: int, rate: float
) -> dict[str, Any]:
    """Reads many floods at once, so many bytes a second in all, and checks every byte.

    Returns:
        The seconds that it took, and how many bytes were right.
    """
    begun, taken, right = monotonic(), 0, 0

    async def read() -> None:
        nonlocal taken, right
        checker = Checker()
        async for chunk in flood(client, url, length):
            taken += len(chunk)
            ahead = taken / rate - (monotonic() - begun)
            if ahead > 0:
                await asyncio.sleep(ahead)
            checker.add(chunk)
        if checker.total != length:
            raise WrongReply(f"{checker.total} bytes came of {length}")
        right += length

    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(read())
    return {"seconds": monotonic() - begun, "right": right}


async def mixed(
    client: Client, url: str, *, size: int, per_second: float, seconds: float
) -> dict[str, Any]:
    """Sends small requests at a steady pace, first alone and then beside one large upload.

    Returns:
        The latencies of both in milliseconds, and bytes per second of the upload.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    alone = await _paced(client, url, per_second, stop)
    body = PIECE * (size // len(PIECE) + 1)
    body = body[:size]
    known = f"{size} {hashlib.sha256(body).hexdigest()}".encode()
    stop = asyncio.Event()
    begun = perf_counter()
    requests = asyncio.create_task(_paced(client, url, per_second, stop))
    try:
        answer = await client.send("POST", f"{url}/upload", body)
        took = perf_counter() - begun
    finally:
        stop.set()
    if answer != known:
        raise WrongReply(f"{answer!r} was received")
    beside = await requests
    return {"alone": _spread(alone), "beside": _spread(beside), "rate": size / took}


async def uploads(
    client: Client, url: str, *, count: int, size: int, per_second: float
) -> dict[str, Any]:
    """Sends many large bodies at once, and small requests at a steady pace meanwhile.

    Every other small body is an iterator of one piece: it takes its turn with the large ones, where
    one in a single piece goes with its head.

    Returns:
        Bytes per second of all bodies, and the latencies of the small ones in milliseconds.
    """
    body = (PIECE * (size // len(PIECE) + 1))[:size]
    stop = asyncio.Event()
    requests = asyncio.create_task(_paced(client, url, per_second / 2, stop))
    turns = asyncio.create_task(_paced(client, url, per_second / 2, stop, in_turns=True))
    begun = perf_counter()
    try:
        answers = await asyncio.gather(
            *(client.send("POST", f"{url}/count", body) for _ in range(count))
        )
        took = perf_counter() - begun
    finally:
        stop.set()
    if set(answers) != {str(size).encode()}:
        raise WrongReply(f"{answers!r} were received")
    return {
        "rate": count * size / took,
        "small": _spread(await requests),
        "in_turns": _spread(await turns),
    }


async def _paced(
    client: Client, url: str, per_second: float, stop: asyncio.Event, *, in_turns: bool = False
) -> list[float]:
    """Sends small requests until it is told to stop; returns the seconds that each took.

    What comes too late because those before it took long counts from when it was due; what comes
    too soon, as timers of a millisecond may, from when it comes.
    """
    body = PIECE[:1024]
    took: list[float] = []

    async def send(due: float) -> None:
        # Ours takes an iterator, too.
        source = cast("bytes", iter((body,))) if in_turns else body
        due = min(due, perf_counter())
        if await client.send("POST", f"{url}/echo", source) != body:
            raise WrongReply("a small body came back changed")
        took.append(perf_counter() - due)

    begun = perf_counter()
    async with asyncio.TaskGroup() as group:
        for due in _beats(begun, 1 / per_second):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - perf_counter()):
                    await stop.wait()
            if stop.is_set():
                break
            group.create_task(send(due))
    return took


def _beats(begun: float, interval: float) -> Iterator[float]:
    number = 0
    while True:
        number += 1
        yield begun + number * interval


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        raise RuntimeError("nothing came back meanwhile")
    return {
        "count": len(ordered),
        "p50_ms": percentile(ordered, 0.5) * 1e3,
        "p99_ms": percentile(ordered, 0.99) * 1e3,
    }


JOBS: Final[dict[str, Callable[..., Awaitable[dict[str, Any]]]]] = {
    job.__name__: job for job in (download, slow, crowd, mixed, uploads)
}
