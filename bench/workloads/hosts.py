"""Many workers: a few requests in flight to each of a hundred."""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import TYPE_CHECKING, ClassVar, Final

from bench.adapter import WrongReply
from bench.addresses import host_urls
from bench.measure import measure
from bench.payloads import payload
from bench.workloads.unary import PATH, SIZE

if TYPE_CHECKING:
    from bench.adapter import Client, Kind
    from bench.workload import Run

IN_FLIGHT_EACH: Final = 4


class Hosts:
    """1 KiB POST → 202 to each of many hosts in turn."""

    name: ClassVar[str] = "hosts-100"
    title: ClassVar[str] = f"1 KiB POST → 202, 100 hosts with {IN_FLIGHT_EACH} in flight each"
    unit: ClassVar[str] = "request"
    kind: ClassVar[Kind] = "hosts"
    server: ClassVar[str] = "nginx"
    load: ClassVar[None] = None

    async def run(self, run: Run) -> dict[str, float]:
        """Measures requests per second over all hosts."""
        body = payload(run.seed, SIZE)
        urls = [url + PATH for url in host_urls(run.url)]
        async with run.adapter.client(len(urls) * IN_FLIGHT_EACH) as client:
            await touch_all(client, urls)
            turn = cycle(urls)

            async def act() -> None:
                if await client.send("POST", next(turn), body):
                    raise WrongReply("a 202 without a body came back with one")

            return await measure(act, len(urls) * IN_FLIGHT_EACH, run.seconds)


async def touch_all(client: Client, urls: list[str]) -> None:
    """Sends one request to each host, so that there is a connection to each."""
    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(client.send("POST", url, b"x"))
