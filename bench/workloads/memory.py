"""What open connections and open streams keep in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, ClassVar, Final

import psutil

from bench.adapter import reading
from bench.addresses import host_urls
from bench.workloads.hosts import touch_all
from bench.workloads.unary import PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.adapter import Client, Kind
    from bench.workload import Run

STREAMS: Final = 512
OPENING: Final = 6.0  # seconds until all streams must be open
# Seconds until they end by themselves: what curl_cffi reads cannot be cancelled.
LASTING: Final = 12.0


class IdleConnections:
    """The memory of a connection that waits for its next request."""

    name: ClassVar[str] = "memory-connection"
    title: ClassVar[str] = "memory of an idle connection (mean of 100)"
    unit: ClassVar[str] = "connection"
    kind: ClassVar[Kind] = "hosts"
    server: ClassVar[str] = "nginx"
    load: ClassVar[None] = None

    async def run(self, run: Run) -> dict[str, float]:
        """Measures by how much connections make the process larger."""
        first, *others = [url + PATH for url in host_urls(run.url)]
        async with run.adapter.client(len(others)) as client:
            await touch_all(client, [first])
            before = resident()
            await touch_all(client, others)
            return {"kib": (resident() - before) / len(others) / 1024}


class OpenStreams:
    """The memory of a token stream that waits for its next token."""

    name: ClassVar[str] = "memory-stream"
    title: ClassVar[str] = f"memory of an open stream (mean of {STREAMS})"
    unit: ClassVar[str] = "stream"
    kind: ClassVar[Kind] = "stream"
    server: ClassVar[str] = "granian"
    load: ClassVar[None] = None

    async def run(self, run: Run) -> dict[str, float]:
        """Measures by how much streams make the process larger."""
        url = f"{run.url}/tokens?count=2&interval_ms={LASTING * 1000:.0f}"
        async with run.adapter.client(STREAMS + 1) as client:
            async with holding(client, url, 1):
                before = resident()
                async with holding(client, url, STREAMS):
                    after = resident()
            return {"kib": (after - before) / STREAMS / 1024}


@contextlib.asynccontextmanager
async def holding(client: Client, url: str, streams: int) -> AsyncIterator[None]:
    """Holds so many streams, each of which has had its first token.

    Raises:
        TimeoutError: the client opens fewer of them at a time, or is slow at it.
    """
    begun, opened = 0, asyncio.Event()

    async def hold() -> None:
        nonlocal begun
        async with reading(client, "GET", url) as chunks:
            async for _ in chunks:
                begun += 1
                if begun == streams:
                    opened.set()

    tasks = [asyncio.create_task(hold()) for _ in range(streams)]
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(opened.wait(), OPENING)
        for task in tasks:
            if task.done():
                task.result()  # one that failed says more
        if begun < streams:
            raise TimeoutError(f"{begun} of {streams} streams were open after {OPENING:g} s")
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def resident() -> int:
    """Returns the bytes of memory that this process occupies, after a collection."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)
