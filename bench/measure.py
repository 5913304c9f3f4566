"""Clocks, percentiles, and the closed loop that keeps requests in flight."""

from __future__ import annotations

import asyncio
import gc
import math
import resource
from time import perf_counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

SHARES: Final = {
    "p10_ms": 0.10,
    "p25_ms": 0.25,
    "p50_ms": 0.50,
    "p75_ms": 0.75,
    "p90_ms": 0.90,
    "p99_ms": 0.99,
    "p999_ms": 0.999,
}
WARM_UP_SHARE: Final = 0.25  # of the measured time; the first requests pay for dialling and caches


class Meter:
    """Wall clock and CPU time of this process and its threads since it was made."""

    def __init__(self) -> None:
        gc.collect()
        self._cpu = cpu_seconds()
        self._wall = perf_counter()

    def figures(self, units: float, latencies: Sequence[float]) -> dict[str, float]:
        """Returns units per second, CPU per unit, and percentiles of the latencies.

        Args:
            units: how much was done since the meter was made.
            latencies: seconds, in any order.
        """
        wall, cpu = perf_counter() - self._wall, cpu_seconds() - self._cpu
        if not units:
            raise RuntimeError("nothing was finished in time")
        rates = {"rate": units / wall, "cpu_us": cpu / units * 1e6}
        return rates | percentiles_ms(latencies)


def cpu_seconds() -> float:
    """Returns the user and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def percentile(ordered: Sequence[float], share: float) -> float:
    """Returns the nearest-rank percentile of an ascending sequence."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentiles_ms(seconds: Sequence[float], prefix: str = "") -> dict[str, float]:
    """Returns the percentiles of ``SHARES`` in milliseconds, as ``p50_ms`` and so on."""
    ordered = sorted(seconds)
    return {f"{prefix}{name}": percentile(ordered, share) * 1e3 for name, share in SHARES.items()}


async def measure(
    act: Callable[[], Awaitable[None]], in_flight: int, seconds: float, units: float = 1.0
) -> dict[str, float]:
    """Warms an action up and measures it; each time counts for so many units."""
    await closed_loop(act, in_flight, seconds * WARM_UP_SHARE)
    meter = Meter()
    latencies = await closed_loop(act, in_flight, seconds)
    return meter.figures(len(latencies) * units, latencies)


async def closed_loop(
    act: Callable[[], Awaitable[None]], in_flight: int, seconds: float
) -> list[float]:
    """Repeats an action in so many tasks for so long; returns what each took in seconds."""
    durations: list[float] = []
    end = perf_counter() + seconds

    async def repeat() -> None:
        begun = perf_counter()
        while begun < end:
            await act()
            now = perf_counter()
            durations.append(now - begun)
            begun = now

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(repeat())
    return durations
