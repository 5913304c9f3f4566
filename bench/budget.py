"""``python -m bench.budget``: where the microseconds of one request go.

The client sends the unary workload, once as it is and once under a profiler that counts calls.
The profiler's shares, of Python functions and of what they call in C, are laid over the CPU time
that was measured without it; a write is part of the function that writes. The profiler makes short
functions look more expensive than long ones, and the event loop cheaper than it is: read the table
as a map, and measure a change without it.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import resource
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.clients import find_clients
from bench.environment import pick_cores
from bench.measure import cpu_seconds
from bench.payloads import payload
from bench.servers import serving, staying_on
from bench.targets import OURS
from bench.workloads.unary import PATH, SIZE

if TYPE_CHECKING:
    from bench.adapter import Adapter, Client

ROOT: Final = Path(__file__).parents[1]
OUTSIDE: Final = "outside Python functions"


class Cost(NamedTuple):
    """What one module costs per request."""

    calls: float
    microseconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent.

    Args:
        url: where to.
        requests: how many.
        in_flight: how many at a time.
    """

    url: str
    requests: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Measured:
    """CPU seconds for all requests, and where they went.

    Args:
        plain: without the profiler.
        kernel: how many of them in the kernel.
        profiled: with the profiler.
        profile: what the profiler saw.
    """

    plain: float
    kernel: float
    profiled: float
    profile: cProfile.Profile


async def measure(adapter: Adapter, plan: Plan) -> Measured:
    """Sends everything three times: to warm up, as it is, and under the profiler."""
    async with adapter.client(plan.in_flight) as client:
        await send_all(client, plan)
        begun, kernel = cpu_seconds(), kernel_seconds()
        await send_all(client, plan)
        plain, kernel = cpu_seconds() - begun, kernel_seconds() - kernel
        begun = cpu_seconds()
        with cProfile.Profile() as profile:
            await send_all(client, plan)
        return Measured(plain, kernel, cpu_seconds() - begun, profile)


async def send_all(client: Client, plan: Plan) -> None:
    """Sends all requests with so many in flight."""
    body, turns = payload(1, SIZE), iter(range(plan.requests))

    async def repeat() -> None:
        for _ in turns:
            await client.send("POST", plan.url, body)

    async with asyncio.TaskGroup() as group:
        for _ in range(plan.in_flight):
            group.create_task(repeat())


def kernel_seconds() -> float:
    """Returns the system time of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


def costs(measured: Measured, requests: int) -> dict[str, Cost]:
    """Returns what each module costs, the most expensive first; the sum is the plain CPU time."""
    calls: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    for entry in measured.profile.getstats():
        if isinstance(entry.code, str):
            continue  # C: counted where it is called from
        module = module_of(entry.code.co_filename)
        calls[module] += entry.callcount
        seconds[module] += entry.inlinetime
        for called in entry.calls or ():
            if isinstance(called.code, str):
                seconds[module] += called.inlinetime
    seconds[OUTSIDE] = max(0.0, measured.profiled - sum(seconds.values()))
    scale = measured.plain / sum(seconds.values()) / requests * 1e6
    found = {name: Cost(calls[name] / requests, own * scale) for name, own in seconds.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1].microseconds))


def module_of(filename: str) -> str:
    """Returns a file of this project by its path there, any other by its package."""
    path = Path(filename)
    if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
        return path.relative_to(ROOT).as_posix()
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    return f"Python's {path.stem}"


def draw(found: dict[str, Cost], title: str) -> Table:
    """Returns the table; modules under a hundredth of the whole share one row."""
    total = sum(cost.microseconds for cost in found.values())
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_footer=True)
    table.add_column("module", footer="together")
    table.add_column("calls/request", justify="right")
    table.add_column("µs/request", footer=f"{total:.1f}", justify="right")
    table.add_column("share", footer="100 %", justify="right")
    small = {name: cost for name, cost in found.items() if cost.microseconds < total / 100}
    for name, cost in found.items():
        if name not in small:
            table.add_row(name, *_cells(cost, total))
    if small:
        rest = Cost(*map(sum, zip(*small.values(), strict=True)))
        table.add_row(f"{len(small)} others", *_cells(rest, total))
    return table


def _cells(cost: Cost, total: float) -> tuple[str, str, str]:
    share = 100 * cost.microseconds / total
    return f"{cost.calls:.1f}", f"{cost.microseconds:.2f}", f"{share:.0f} %"


def main(argv: list[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.budget", description="see the module")
    parser.add_argument("--client", default=OURS)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20_000)
    arguments = parser.parse_args(argv)
    (adapter,) = find_clients([arguments.client])
    client_core, server_core = pick_cores()
    with serving("granian", server_core) as url:
        plan = Plan(url + PATH, arguments.requests, arguments.in_flight)
        with staying_on(client_core):
            measured = uvloop.run(measure(adapter, plan))
    title = f"{adapter.name}, 1 KiB POST → 202, {plan.in_flight} in flight"
    console = Console()
    console.print(draw(costs(measured, plan.requests), title))
    kernel = measured.kernel / plan.requests * 1e6
    console.print(f"of these, in the kernel: {kernel:.1f} µs/request", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
