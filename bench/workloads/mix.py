"""Small requests beside large downloads: whether the large hold up the small."""

from __future__ import annotations

import asyncio
import contextlib
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar, Final

from bench.adapter import WrongReply, check_end, reading
from bench.measure import measure
from bench.payloads import pattern, payload
from bench.workloads.bulk import END, MIB, check_download
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
    load: ClassVar[None] = None

    async def run(self, run: Run) -> dict[str, float]:
        """Measures the small requests, and adds the MiB/s of the downloads beside them."""
        body, url = payload(run.seed, SIZE), run.url + PATH
        async with run.adapter.client(UNARY + DOWNLOADS) as client:
            await check_upload(client, run.url, body)
            await check_download(client, f"{run.url}/bytes/{LENGTH}", LENGTH)

            async def act() -> None:
                if await client.send("POST", url, body):
                    raise WrongReply("another answer came back than an empty one")

            async with downloading(client, f"{run.url}/bytes/{LENGTH}") as downloads:
                begun = perf_counter()
                figures = await measure(act, UNARY, run.seconds)
                figures["beside_mib"] = downloads.received / MIB / (perf_counter() - begun)
            await check_upload(client, run.url, body)
            await check_download(client, f"{run.url}/bytes/{LENGTH}", LENGTH)
            return figures


class Downloads:
    """Downloads over and over, and what came of all of them."""

    def __init__(self) -> None:
        self.received = 0
        self.stopped = False

    async def repeat(self, client: Client, url: str) -> None:
        """Reads one body after another until it is stopped, and then the last one to its end.

        Raises:
            WrongReply: one was shorter or longer, or ended otherwise.
        """
        while not self.stopped:
            length, last = 0, b""
            async with reading(client, "GET", url) as chunks:
                async for chunk in chunks:
                    length += len(chunk)
                    self.received += len(chunk)
                    last = chunk or last
            if length != LENGTH:
                raise WrongReply(f"{length} bytes came of {LENGTH}")
            check_end(last, pattern(LENGTH)[-END:])


@contextlib.asynccontextmanager
async def downloading(client: Client, url: str) -> AsyncIterator[Downloads]:
    """Keeps downloads going for as long as the block lasts; one that fails ends it.

    Afterwards they come to their ends: some clients would not get over it if they were cut off.
    """
    downloads = Downloads()
    async with asyncio.TaskGroup() as group:
        for _ in range(DOWNLOADS):
            group.create_task(downloads.repeat(client, url))
        yield downloads
        downloads.stopped = True
