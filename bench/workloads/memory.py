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


class IdleConnections:
    """The memory of a connection that waits for its next request."""

    name: ClassVar[str] = "memory-connection"
    title: ClassVar[str] = "memory of an idle connection (mean of 100)"
    unit: ClassVar[str] = "connection"
    kind: ClassVar[Kind] = "hosts"
    server: ClassVar[str] = "nginx"
    awake: ClassVar[bool] = False
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
    awake: ClassVar[bool] = False
    load: ClassVar[None] = None

    async def run(self, run: Run) -> dict[str, float]:
        """Measures by how much streams make the process larger."""
        url = f"{run.url}/tokens?count=2&interval_ms=600000"
        async with run.adapter.client(STREAMS + 1) as client:
            async with holding(client, url, 1):
                before = resident()
                async with holding(client, url, STREAMS):
                    after = resident()
            return {"kib": (after - before) / STREAMS / 1024}


@contextlib.asynccontextmanager
async def holding(client: Client, url: str, streams: int) -> AsyncIterator[None]:
    """Holds so many streams, each of which has had its first token."""
    begun = asyncio.Semaphore(0)

    async def hold() -> None:
        async with reading(client, "GET", url) as chunks:
            async for _ in chunks:
                begun.release()

    tasks = [asyncio.create_task(hold()) for _ in range(streams)]
    try:
        for _ in tasks:
            await begun.acquire()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def resident() -> int:
    """Returns the bytes of memory that this process occupies, after a collection."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)
