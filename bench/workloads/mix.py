"""Small requests beside large downloads: whether the large hold up the small."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, ClassVar, Final

from bench.adapter import WrongReply
from bench.measure import measure
from bench.payloads import payload
from bench.workloads.bulk import MIB, check_download, fetch
from bench.workloads.posts import check_upload
from bench.workloads.unary import PATH, SIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.adapter import Client, Kind
    from bench.workload import Run

DOWNLOADS: Final = 8
UNARY: Final = 32
LENGTH: Final = 16 * MIB


class Mix:
    """8 downloads go on while 32 small requests are in flight; the latter are measured."""

    name: ClassVar[str] = "mix"
    title: ClassVar[str] = f"1 KiB POST → 202, {UNARY} in flight beside {DOWNLOADS} downloads"
    unit: ClassVar[str] = "request"
    kind: ClassVar[Kind] = "bulk"
    server: ClassVar[str] = "granian"
    awake: ClassVar[bool] = False
    load: ClassVar[None] = None

    async def run(self, run: Run) -> dict[str, float]:
        """Measures the small requests, and adds the MiB/s of the large ones."""
        body, url = payload(run.seed, SIZE), run.url + PATH
        async with run.adapter.client(UNARY + DOWNLOADS) as client:
            await check_upload(client, run.url, body)
            await check_download(client, f"{run.url}/bytes/{LENGTH}", LENGTH)

            async def act() -> None:
                if await client.send("POST", url, body):
                    raise WrongReply("another answer came back than an empty one")

            async with downloading(client, f"{run.url}/bytes/{LENGTH}"):
                figures = await measure(act, UNARY, run.seconds)
            await check_upload(client, run.url, body)
            await check_download(client, f"{run.url}/bytes/{LENGTH}", LENGTH)
            return figures


@contextlib.asynccontextmanager
async def downloading(client: Client, url: str) -> AsyncIterator[None]:
    """Keeps downloads going for as long as the block lasts; one that fails ends it."""

    async def repeat() -> None:
        while True:
            await fetch(client, url, LENGTH)

    tasks = [asyncio.create_task(repeat()) for _ in range(DOWNLOADS)]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
