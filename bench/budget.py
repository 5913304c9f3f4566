"""``python -m bench.budget``: where the microseconds of one request go.

The client sends the unary workload, several times as it is and once under a profiler:

1. CPU time and the kernel's part of it are those without the profiler, the medians of all times.
2. What the profiler finds outside of Python functions is the event loop's, which polls and reads
   there; the profiler does not slow it down, so it is taken as it is.
3. The rest is laid out by the profiler's shares: of each module with what it calls in C, down to
   the kernel, which writes. They make short functions look more expensive than long ones, so read
   the table as a map, and measure a change without it.
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
from statistics import median
from time import thread_time
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
LOOP: Final = "the event loop, with its polls and reads"
ROUNDS: Final = 7  # without the profiler
PIPED_WIDTH: Final = 100


class Cost(NamedTuple):
    """What one module costs per request; what is no module has no calls."""

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
        profiled: with the profiler, of this thread.
        profile: what the profiler saw.
    """

    plain: float
    kernel: float
    profiled: float
    profile: cProfile.Profile


async def measure(adapter: Adapter, plan: Plan) -> Measured:
    """Sends everything again and again: to warm up, as it is, and under the profiler."""
    async with adapter.client(plan.in_flight) as client:
        await send_all(client, plan)
        plain, kernel = [], []
        for _ in range(ROUNDS):
            begun, begun_kernel = cpu_seconds(), kernel_seconds()
            await send_all(client, plan)
            plain.append(cpu_seconds() - begun)
            kernel.append(kernel_seconds() - begun_kernel)
        begun = thread_time()
        with cProfile.Profile(thread_time) as profile:
            await send_all(client, plan)
        return Measured(median(plain), median(kernel), thread_time() - begun, profile)


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
    inside = sum(seconds.values())
    loop = min(max(0.0, measured.profiled - inside), measured.plain)
    scale = (measured.plain - loop) / inside
    found = {
        name: Cost(calls[name] / requests, own * scale / requests * 1e6)
        for name, own in seconds.items()
    }
    found[LOOP] = Cost(0.0, loop / requests * 1e6)
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
    """Returns the table."""
    total = sum(cost.microseconds for cost in found.values())
    calls = sum(cost.calls for cost in found.values())
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_footer=True)
    table.add_column("where", footer="together")
    table.add_column("calls", footer=f"{calls:.1f}", justify="right")
    table.add_column("µs", footer=f"{total:.1f}", justify="right")
    table.add_column("share", footer="100 %", justify="right")
    for cells in rows(found):
        table.add_row(*cells)
    return table


def markdown(found: dict[str, Cost]) -> str:
    """Returns the table for a page, without its totals."""
    lines = ["| where | calls | µs | share |", "| --- | ---: | ---: | ---: |"]
    return "\n".join([*lines, *[f"| {' | '.join(cells)} |" for cells in rows(found)]])


def rows(found: dict[str, Cost]) -> list[tuple[str, ...]]:
    """Returns the cells of each row; modules under a hundredth of the whole share one."""
    total = sum(cost.microseconds for cost in found.values())
    out: list[tuple[str, ...]] = []
    small: list[Cost] = []
    for name, cost in found.items():
        if cost.calls and cost.microseconds < total / 100:
            small.append(cost)
        else:
            out.append((name, *_cells(cost, total)))
    if small:
        rest = Cost(*map(sum, zip(*small, strict=True)))
        out.append((f"{len(small)} others", *_cells(rest, total)))
    return out


def _cells(cost: Cost, total: float) -> tuple[str, str, str]:
    share = 100 * cost.microseconds / total
    return f"{cost.calls:.1f}" if cost.calls else "", f"{cost.microseconds:.1f}", f"{share:.0f} %"


def main(argv: list[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.budget", description="see the module")
    parser.add_argument("--client", default=OURS)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--requests", type=int, default=10_000, help="each time")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    arguments = parser.parse_args(argv)
    (adapter,) = find_clients([arguments.client])
    client_core, server_core = pick_cores()
    with serving("granian", server_core) as url:
        plan = Plan(url + PATH, arguments.requests, arguments.in_flight)
        with staying_on(client_core):
            measured = uvloop.run(measure(adapter, plan))
    found = costs(measured, plan.requests)
    kernel = f"the kernel's part of all is {measured.kernel / plan.requests * 1e6:.1f} µs"
    if arguments.markdown:
        print(f"{markdown(found)}\n\n{kernel}")
        return 0
    title = f"{adapter.name}, 1 KiB POST → 202, {plan.in_flight} in flight, per request; {kernel}"
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    console.print(draw(found, title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
