"""A new connection for each request."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

from bench.adapter import WrongReply
from bench.measure import cpu_seconds, percentiles_ms
from bench.payloads import payload
from bench.workloads.unary import PATH, SIZE

if TYPE_CHECKING:
    from bench.adapter import Kind
    from bench.workload import Run


class Connect:
    """The first request of a client: dial, handshake, request, answer.

    Making and closing the client is not measured: some read all certificate authorities of the
    system first, which no connection to a worker needs.
    """

    name: ClassVar[str] = "connect"
    title: ClassVar[str] = "new connection and 1 KiB POST → 202, one after another"
    unit: ClassVar[str] = "connection"
    kind: ClassVar[Kind] = "send"
    server: ClassVar[str] = "granian"
    load: ClassVar[None] = None

    async def run(self, run: Run) -> dict[str, float]:
        """Measures connections per second of their own time."""
        body, url = payload(run.seed, SIZE), run.url + PATH
        walls: list[float] = []
        cpus: list[float] = []
        end = perf_counter() + run.seconds
        while perf_counter() < end or len(walls) < 2:
            async with run.adapter.client(1) as client:
                wall, cpu = perf_counter(), cpu_seconds()
                reply = await client.send("POST", url, body)
                walls.append(perf_counter() - wall)
                cpus.append(cpu_seconds() - cpu)
                if reply:
                    raise WrongReply("another answer came back than an empty one")
        del walls[0], cpus[0]  # the first one also imports
        figures = {"rate": len(walls) / sum(walls), "cpu_us": sum(cpus) / len(cpus) * 1e6}
        return figures | percentiles_ms(walls)
