"""Token streams: many small chunks, on many streams at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

from bench.adapter import WrongReply, check_end, reading
from bench.measure import WARM_UP_SHARE, Meter, closed_loop, percentiles_ms
from bench.payloads import TOKEN
from bench.workload import Load

if TYPE_CHECKING:
    from bench.adapter import Client, Kind
    from bench.workload import Run

FULL_SPEED_COUNT = 500
PACED_INTERVAL_MS = 10


class Reader:
    """Reads token streams, and notes when what arrived."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.tokens = 0
        self.first: list[float] = []
        self.gaps: list[float] = []

    async def read(self, url: str, count: int) -> None:
        """Reads one stream to its end.

        Raises:
            WrongReply: it was not ``count`` tokens long, or ended otherwise.
        """
        before, received, first, last = perf_counter(), 0, True, b""
        async with reading(self._client, "GET", url) as chunks:
            async for chunk in chunks:
                now = perf_counter()
                (self.first if first else self.gaps).append(now - before)
                before, first = now, False
                received += len(chunk)
                last = chunk or last
        if received != count * len(TOKEN):
            raise WrongReply(f"{received} bytes came of {count * len(TOKEN)}")
        check_end(last, TOKEN)
        self.tokens += count


@dataclass(frozen=True, slots=True)
class Tokens:
    """So many token streams at a time, as fast as they go or at a steady pace.

    ``p50`` and ``p99`` are of whole streams at full speed, and of the gaps between chunks when
    paced; ``first_p50`` and ``first_p99`` of the time to the first token.
    """

    streams: int
    paced: bool = False
    server: ClassVar[str] = "granian"
    unit: ClassVar[str] = "token"
    kind: ClassVar[Kind] = "stream"

    @property
    def name(self) -> str:
        """The number of streams and the pace are part of it."""
        return f"tokens-{'paced-' if self.paced else ''}{self.streams}"

    @property
    def title(self) -> str:
        """How many streams, and how fast."""
        pace = f"{1000 // PACED_INTERVAL_MS} tokens/s each" if self.paced else "at full speed"
        return f"{self.streams} token streams, {pace}"

    @property
    def load(self) -> Load | None:
        """The same for an external load generator, which cannot end streams on time."""
        if self.paced:
            return None
        path = f"/tokens?count={FULL_SPEED_COUNT}&interval_ms=0"
        return Load(path, self.streams, units=FULL_SPEED_COUNT)

    async def run(self, run: Run) -> dict[str, float]:
        """Measures tokens per second and CPU per token."""
        async with run.adapter.client(self.streams) as client:
            await check_tokens(client, run.url)
            figures = await (self._paced if self.paced else self._full_speed)(client, run)
            await check_tokens(client, run.url)
            return figures

    async def _full_speed(self, client: Client, run: Run) -> dict[str, float]:
        url = f"{run.url}/tokens?count={FULL_SPEED_COUNT}&interval_ms=0"
        warm, reader = Reader(client), Reader(client)
        await closed_loop(
            lambda: warm.read(url, FULL_SPEED_COUNT), self.streams, run.seconds * WARM_UP_SHARE
        )
        meter = Meter()
        streams = await closed_loop(
            lambda: reader.read(url, FULL_SPEED_COUNT), self.streams, run.seconds
        )
        return meter.figures(reader.tokens, streams) | percentiles_ms(reader.first, "first_")

    async def _paced(self, client: Client, run: Run) -> dict[str, float]:
        await self._all_streams(Reader(client), run, run.seconds * WARM_UP_SHARE)
        reader, meter = Reader(client), Meter()
        await self._all_streams(reader, run, run.seconds)
        figures = meter.figures(reader.tokens, reader.gaps)
        return figures | percentiles_ms(reader.first, "first_")

    async def _all_streams(self, reader: Reader, run: Run, seconds: float) -> None:
        count = max(2, round(seconds * 1000 / PACED_INTERVAL_MS))
        url = f"{run.url}/tokens?count={count}&interval_ms={PACED_INTERVAL_MS}"
        async with asyncio.TaskGroup() as group:
            for _ in range(self.streams):
                group.create_task(reader.read(url, count))


async def check_tokens(client: Client, url: str) -> None:
    """Checks every byte of one stream.

    Raises:
        WrongReply: it differs from what the server sent.
    """
    async with reading(client, "GET", f"{url}/tokens?count=50&interval_ms=0") as chunks:
        body = b"".join([bytes(chunk) async for chunk in chunks])
    if body != TOKEN * 50:
        raise WrongReply("a token stream came back changed")
