"""What the settings are said to be worth, and what they turned out to be worth here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench.adapter import BASELINE
from bench.environment import KEPT_AWAKE
from bench.results import Spread
from bench.targets import OURS

if TYPE_CHECKING:
    from bench.results import Results, Table

LIMIT: Final = "h2load"
SMALL_FRAMES: Final = f"{OURS}, 16 KiB frames"
FEW_STREAMS: Final = f"{OURS}, 100 streams per connection"


class Expectation(NamedTuple):
    """A claim, the range that it names, and the measured value with its bounds."""

    claim: str
    expected: str
    measured: Spread
    unit: str


def check(results: Results) -> list[Expectation]:
    """Returns what was measured of each claim; a run without its variants has none."""
    tables = {table.workload: table for table in results.tables}
    found = [_frames(tables), _pool(tables), _streams(tables)]
    return [expectation for expectation in found if expectation is not None]


def why_frames(results: Results) -> str | None:
    """Returns where the time of large frames and of small ones goes; None without the variant."""
    found = _medians(results, "download-64", SMALL_FRAMES)
    if found is None:
        return None
    cpu, small_cpu, rate, most = found
    return (
        f"About the frames: 64 of them for each MiB instead of a few cost the client"
        f" {small_cpu:.0f} µs of CPU per MiB instead of {cpu:.0f}; each is little more than nine"
        f" bytes to it. And the server's core is the limit here: {LIMIT}, which is written in C"
        f" and keeps nothing, gets {most:,.0f} MiB/s, this client {rate:,.0f}. The windows, 64"
        f" times as large, count on a path with a round trip: see [flow control](flow-control.md)."
    )


def why_streams(results: Results) -> str | None:
    """Returns what many streams on one connection are worth here; None without the variant."""
    found = _medians(results, "unary-1000", FEW_STREAMS)
    if found is None:
        return None
    cpu, few_cpu, rate, most = found
    return (
        f"About the streams: a thousand requests over ten connections of 100 streams cost the"
        f" client {few_cpu:.1f} µs of CPU each instead of {cpu:.1f}, because each read and each"
        f" write carries fewer of them. What that saves on one connection is seen only up to what"
        f" the server's core answers: {LIMIT} gets {most:,.0f} requests/s of it, this client"
        f" {rate:,.0f}."
    )


def why_awake(results: Results) -> str | None:
    """Returns why one request at a time is measured twice; None where it was not."""
    tables = {table.workload: table for table in results.tables}
    asleep, awake = tables.get("unary-1"), tables.get("awake-unary-1")
    if asleep is None or awake is None or not awake.title.endswith(KEPT_AWAKE):
        return None
    figures = [
        figure
        for table in (asleep, awake)
        for figure in (
            _of_baseline(table),
            table.ratio(LIMIT, "p50_ms"),
            table.ratio(OURS, "p50_ms"),
        )
    ]
    medians = [figure.median for figure in figures if figure is not None]
    if len(medians) < len(figures):
        return None
    base, limit, ours, base_awake, limit_awake, ours_awake = medians
    return (
        f"About one request at a time: both cores have nothing to do while a message is on its"
        f" way, and a core that sleeps has to be woken up. On this machine that took"
        f" {(base - base_awake) * 1e3:.0f} of the {base * 1e3:.0f} µs of the baseline's median,"
        f" whoever the client is: as it is, {LIMIT} takes {limit:.2f} of the baseline's time and"
        f" this client {ours:.2f}; with the cores kept awake {limit_awake:.2f} and"
        f" {ours_awake:.2f}. So the target is judged there. Nothing else is measured that way."
    )


def _of_baseline(table: Table) -> Spread | None:
    base = table.outcome(BASELINE)
    return base.spread("p50_ms") if base else None


class _Medians(NamedTuple):
    """CPU microseconds per unit with and without a setting, and the rates with it and at most."""

    cpu: float
    variant_cpu: float
    rate: float
    limit: float


def _medians(results: Results, workload: str, variant: str) -> _Medians | None:
    table = next((table for table in results.tables if table.workload == workload), None)
    figures = ((OURS, "cpu_us"), (variant, "cpu_us"), (OURS, "rate"), (LIMIT, "rate"))
    outcomes = [(table.outcome(name) if table else None, figure) for name, figure in figures]
    spreads = [outcome.spread(figure) if outcome else None for outcome, figure in outcomes]
    medians = [spread.median for spread in spreads if spread is not None]
    return _Medians(*medians) if len(medians) == len(figures) else None


def _frames(tables: dict[str, Table]) -> Expectation | None:
    table = tables.get("download-64")
    ratio = table.ratio(OURS, "rate", SMALL_FRAMES) if table else None
    if ratio is None:
        return None
    claim = "throughput of 1 MiB frames and their windows, against 16 KiB frames and theirs"
    return Expectation(claim, "2–3", ratio, "×")


def _pool(tables: dict[str, Table]) -> Expectation | None:
    fresh, pooled = (tables.get(name) for name in ("connect", "unary-1"))
    with_pool = pooled.outcome(OURS) if pooled else None
    without = fresh.outcome(OURS) if fresh else None
    ratio = with_pool.ratio("p50_ms", without) if with_pool and without else None
    if ratio is None:
        return None
    saved = Spread.of(100 * (1 - value) for value in ratio)
    claim = "time that a pooled connection saves of a request on a new one"
    return Expectation(claim, "50–80", saved, "%")


def _streams(tables: dict[str, Table]) -> Expectation | None:
    table = tables.get("unary-1000")
    ratio = table.ratio(OURS, "rate", FEW_STREAMS) if table else None
    if ratio is None:
        return None
    gain = Spread.of(100 * (value - 1) for value in ratio)
    claim = "requests/s at 1,000 in flight with 1,000 streams per connection, against 100"
    return Expectation(claim, "30–50", gain, "% more")
