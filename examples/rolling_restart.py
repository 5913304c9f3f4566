"""Rolls three workers under load, one after the other, and loses no request.

Each worker is asked to stop while requests are on their way to it. It sends GOAWAY and finishes
what it has begun; what it did not begin comes back with `processed` False, be it a request above
the GOAWAY's last stream or a dial that was refused, and is sent to the next worker. Nothing is sent
again that may have had an effect.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from dynamo_h2 import DynamoH2Error, HttpRequestClient, TransportError
from examples.local_worker import local_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORKERS: Final = 3
REFRESH: Final = 0.1  # seconds
TOKENS: Final = "/tokens?count=10&interval_ms=10"


@dataclass(slots=True)
class Place:
    """One of the places where a worker runs; the worker changes.

    Args:
        stack: what ends the worker that runs there.
        url: its address.
        state: what it is doing.
        answered: requests that were answered from here.
        passed_on: requests that it did not begin, and that another worker got.
    """

    stack: contextlib.ExitStack
    url: str = ""
    state: str = "starting"
    answered: int = 0
    passed_on: int = 0

    def start(self) -> None:
        """Starts a worker and waits until it listens."""
        self.url = self.stack.enter_context(local_worker())
        self.state = "serving"

    def stop(self) -> None:
        """Asks the worker to end, and waits until it has."""
        self.stack.close()

    async def roll(self) -> None:
        """Replaces the worker by a new one."""
        self.state = "stopping"
        await asyncio.to_thread(self.stop)
        self.state = "starting"
        await asyncio.to_thread(self.start)


@dataclass(slots=True)
class Router:
    """Sends requests to workers in turn, and to the next one where that is safe.

    Args:
        client: carries the requests.
        places: where the workers are.
        failed: the errors that callers got.
    """

    client: HttpRequestClient
    places: Sequence[Place]
    failed: Counter[str] = field(default_factory=Counter)
    stopping: bool = False
    _turns: Iterator[int] = field(default_factory=count)

    async def call(self) -> None:
        """Makes requests, one after the other, until it is told to stop."""
        while not self.stopping:
            try:
                await self._ask(next(self._turns))
            except DynamoH2Error as error:
                self.failed[type(error).__name__] += 1

    async def _ask(self, turn: int) -> None:
        """Makes one request, of as many workers as it takes."""
        last = turn + len(self.places) - 1
        for attempt in range(turn, last + 1):
            place = self.places[attempt % len(self.places)]
            try:
                await self._send(place.url, stream=turn % 2 == 0)
            except TransportError as error:
                if error.processed is not False or attempt == last:
                    raise
                place.passed_on += 1
            else:
                place.answered += 1
                return

    async def _send(self, url: str, *, stream: bool) -> None:
        if not stream:
            await self.client.send_request(f"{url}/v1/rpc/generate", b"hello")
            return
        async with self.client.stream("GET", url + TOKENS) as response:
            await response.aread()


def table(router: Router) -> Table:
    """Returns what there is to see at this moment."""
    shown = Table("worker", "state", "answered", "passed on")
    for place in router.places:
        shown.add_row(place.url, place.state, f"{place.answered:,}", f"{place.passed_on:,}")
    shown.add_section()
    failed = ", ".join(f"{name} × {number}" for name, number in router.failed.items())
    answered = sum(place.answered for place in router.places)
    shown.add_row("all together", f"failed: {failed or 0}", f"{answered:,}", "")
    return shown


async def show(router: Router, live: Live) -> None:
    """Draws the table, until it is cancelled."""
    while True:
        live.update(table(router), refresh=True)
        await asyncio.sleep(REFRESH)


async def run(places: Sequence[Place], in_flight: int, console: Console) -> int:
    """Rolls all workers while requests are made; returns the exit code."""
    async with HttpRequestClient() as client:
        router = Router(client, places)
        with Live(table(router), console=console, auto_refresh=False) as live:
            async with asyncio.TaskGroup() as group:
                drawing = group.create_task(show(router, live))
                for _ in range(in_flight):
                    group.create_task(router.call())
                for place in places:
                    await asyncio.sleep(0.5)  # so that each is seen to serve
                    await place.roll()
                await asyncio.sleep(0.5)
                router.stopping = True
                drawing.cancel()
            live.update(table(router), refresh=True)
    return 1 if router.failed else 0


def main(argv: list[str] | None = None) -> int:
    """Starts the workers, rolls them, and ends them whatever happens."""
    parser = argparse.ArgumentParser(prog="python -m examples.rolling_restart")
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    arguments, console = parser.parse_args(argv), Console()
    # What a script starts in the background ignores it otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with contextlib.ExitStack() as stack:
            places = [Place(stack.enter_context(contextlib.ExitStack())) for _ in range(WORKERS)]
            console.print(f"starting {WORKERS} granian workers …")
            for place in places:
                place.start()
            return uvloop.run(run(places, arguments.in_flight, console))
    except KeyboardInterrupt:
        console.print("stopped")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
