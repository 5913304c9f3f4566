"""Requests and token streams, over HTTP/2, to a real worker: `make demo`.

Starts a granian worker, sends small requests with many in flight, then reads many token streams at
once, shows how far it is, prints what it measured, and ends the worker.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dynamo_h2 import DynamoH2Error, HttpRequestClient
from examples.local_worker import local_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dynamo_h2 import Stats

PAYLOAD: Final = 1024
REFRESH: Final = 0.2  # seconds; drawing costs CPU time that the figures include


@dataclass(slots=True)
class Unary:
    """The requests: how many were sent, and how long each took in seconds."""

    total: int
    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0


@dataclass(slots=True)
class Streams:
    """The token streams: when tokens came, in seconds since what came before."""

    total: int
    tokens: int
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo does, and what it has seen so far."""

    client: HttpRequestClient
    url: str
    unary: Unary
    streams: Streams
    errors: Counter[str] = field(default_factory=Counter)

    async def send_requests(self, in_flight: int) -> None:
        """Sends all requests with so many in flight."""
        wall, cpu = perf_counter(), cpu_seconds()
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(self._send_some(os.urandom(PAYLOAD)))
        self.unary.wall, self.unary.cpu = perf_counter() - wall, cpu_seconds() - cpu

    async def read_streams(self) -> None:
        """Reads all token streams at once."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.streams.total):
                group.create_task(self._read_one())

    async def _send_some(self, payload: bytes) -> None:
        """Sends one request after the other until all are sent."""
        unary, address = self.unary, f"{self.url}/v1/rpc/generate"
        while unary.sent < unary.total:
            unary.sent += 1
            begun = perf_counter()
            with self._counting_errors():
                await self.client.send_request(address, payload)
                unary.latencies.append(perf_counter() - begun)

    async def _read_one(self) -> None:
        """Reads one token stream to its end."""
        url = f"{self.url}/tokens?count={self.streams.tokens}&interval_ms=10"
        last, times = perf_counter(), self.streams.first
        with self._counting_errors():
            async with self.client.stream("GET", url) as response:
                response.raise_for_status()
                async for _ in response.aiter_sse():
                    now = perf_counter()
                    times.append(now - last)
                    last, times = now, self.streams.gaps

    @contextlib.contextmanager
    def _counting_errors(self) -> Iterator[None]:
        try:
            yield
        except DynamoH2Error as error:
            self.errors[type(error).__name__] += 1


def cpu_seconds() -> float:
    """Returns the user and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def show_progress(demo: Demo, progress: Progress) -> None:
    """Draws how far the demo is, until it is cancelled."""
    unary, streams = demo.unary, demo.streams
    requests = progress.add_task("requests", total=unary.total)
    tokens = progress.add_task("tokens", total=streams.total * streams.tokens)
    try:
        while True:
            await asyncio.sleep(REFRESH)
            progress.update(requests, completed=len(unary.latencies))
            progress.update(tokens, completed=len(streams.first) + len(streams.gaps))
            progress.refresh()
    finally:
        progress.update(requests, completed=len(unary.latencies))
        progress.update(tokens, completed=len(streams.first) + len(streams.gaps))


async def run(url: str, arguments: argparse.Namespace, console: Console) -> int:
    """Runs the demo against a worker; returns the exit code."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    unary, streams = Unary(arguments.requests), Streams(arguments.streams, arguments.tokens)
    async with HttpRequestClient.from_env() as client:
        demo = Demo(client, url, unary, streams)
        with Progress(*columns, console=console, auto_refresh=False) as progress:
            drawing = asyncio.create_task(show_progress(demo, progress))
            try:
                await demo.send_requests(arguments.in_flight)
                await demo.read_streams()
            finally:
                drawing.cancel()
                await asyncio.wait([drawing])
        console.print(summary(demo, arguments.in_flight, client.stats()))
    return 1 if demo.errors else 0


def summary(demo: Demo, in_flight: int, stats: Stats) -> Table:
    """Returns the table of what was measured."""
    unary, streams = demo.unary, demo.streams
    done = len(unary.latencies)
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row(f"{done:,} requests of 1 KiB", f"{in_flight} in flight")
    table.add_row("requests per second", f"{done / unary.wall:,.0f}")
    table.add_row("latency, p50 · p99", percentiles(unary.latencies))
    table.add_row("CPU per request", f"{unary.cpu / max(done, 1) * 1e6:.0f} µs")
    table.add_section()
    tokens = len(streams.first) + len(streams.gaps)
    table.add_row(f"{tokens:,} tokens", f"{streams.total} streams at 100 tokens/s")
    table.add_row("time to first token, p50 · p99", percentiles(streams.first))
    table.add_row("gap between tokens, p50 · p99", percentiles(streams.gaps))
    table.add_section()
    table.add_row("connections used", str(stats.connections_opened))
    table.add_row("bytes sent · received", f"{stats.bytes_sent:,} · {stats.bytes_received:,}")
    errors = ", ".join(f"{name} × {count}" for name, count in demo.errors.items())
    table.add_row("errors", errors or "0")
    return table


def percentiles(seconds: Sequence[float]) -> str:
    """Returns the median and the 99th percentile in milliseconds."""
    if len(seconds) < 2:
        return "–"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49] * 1e3:.2f} · {cuts[98] * 1e3:.2f} ms"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    parser.add_argument("--streams", type=int, default=64, help="token streams, all at once")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of each stream")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Starts the worker, runs the demo, and ends the worker whatever happens."""
    arguments, console = parse(argv), Console()
    # What Ctrl-C does is the event loop's business while it runs, and Python's before and after.
    # What a script starts in the background ignores it otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        console.print("starting a granian worker …")
        with local_worker() as url:
            console.print(f"the worker listens on {url}", highlight=False)
            return uvloop.run(run(url, arguments, console))
    except KeyboardInterrupt:
        console.print("stopped")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
