"""What the settings are said to be worth, and what they turned out to be worth here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench.app import PIECE
from bench.results import Spread
from bench.targets import LOAD_GENERATOR, OTHER_SERVER, OURS, is_ours

if TYPE_CHECKING:
    from bench.results import Results, Table

SMALL_FRAMES: Final = f"{OURS}, 16 KiB frames"
FEW_STREAMS: Final = f"{OURS}, 100 streams per connection"
NO_BUSY_POLL: Final = f"{OURS}, no busy poll"
FLOW_CONTROL: Final = "docs/flow-control.md"


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


def reasons(results: Results) -> list[str]:
    """Returns what there is to say about targets and expectations that need a reason."""
    said = (why_polls(results), why_frames(results), why_streams(results))
    return [reason for reason in said if reason is not None]


def why_frames(results: Results) -> str | None:
    """Returns where the time of large frames and of small ones goes; None without the variant."""
    found = _medians(results, "download-64", SMALL_FRAMES)
    if found is None:
        return None
    cpu, small_cpu, most = found
    return (
        f"About the frames: 64 of them for each MiB instead of a few cost the client"
        f" {small_cpu:.0f} µs of CPU per MiB instead of {cpu:.0f}; each is little more than nine"
        f" bytes to it. The worker hands out {PIECE // 1024} KiB at a time, so none is longer than"
        f" that. {most.said('MiB/s')} The windows, 64 times as large, count on a path with a round"
        f" trip: see {FLOW_CONTROL}."
    )


def why_streams(results: Results) -> str | None:
    """Returns what many streams on one connection are worth here; None without the variant."""
    found = _medians(results, "unary-1000", FEW_STREAMS)
    if found is None:
        return None
    cpu, few_cpu, most = found
    return (
        f"About the streams: a thousand requests over ten connections of 100 streams cost the"
        f" client {few_cpu:.1f} µs of CPU each instead of {cpu:.1f}, because each read and each"
        f" write carries fewer of them. More requests/s come of what one connection saves only as"
        f" far as the server answers them. {most.said('requests/s')}"
    )


def why_polls(results: Results) -> str | None:
    """Returns what staying awake is worth and costs; None without the variant."""
    tables = {table.workload: table for table in results.tables}
    table = tables.get("unary-1")
    ours = table.outcome(OURS) if table else None
    asleep = table.outcome(NO_BUSY_POLL) if table else None
    if table is None or ours is None or asleep is None:
        return None
    spreads = [each.spread(figure) for figure in ("p50_ms", "cpu_us") for each in (ours, asleep)]
    ratios = [table.ratio(name, "p50_ms") for name in (OURS, NO_BUSY_POLL, LOAD_GENERATOR)]
    medians = [each.median for each in (*spreads, *ratios) if each is not None]
    if len(medians) < len(spreads) + len(ratios):
        return None
    wall, wall_asleep, cpu, cpu_asleep, ratio, ratio_asleep, generator = medians
    return (
        f"About one request at a time: both cores have nothing to do while a message is on its"
        f" way, and a core that sleeps has to be woken up. So this client stays awake for an answer"
        f" that is due (`busy_poll`), and spends {cpu:.0f} µs of CPU on a request instead of"
        f" {cpu_asleep:.0f} to have it after {wall * 1e3:.0f} µs instead of"
        f" {wall_asleep * 1e3:.0f}. Where it sleeps, as {LOAD_GENERATOR} does, it takes"
        f" {ratio_asleep:.2f} of the baseline's time, and {LOAD_GENERATOR} {generator:.2f}; awake"
        f" it takes {ratio:.2f}."
    )


class _Most(NamedTuple):
    """Our rate beside the best of all others."""

    ours: float
    other: str
    others: float

    def said(self, unit: str) -> str:
        """Returns who gets the most of the server's core."""
        ours, others = f"{self.ours:,.0f} {unit}", f"{self.others:,.0f}"
        if self.ours >= self.others:
            return (
                f"No other client gets more from the server's core than this one: {ours}; next"
                f" comes {self.other} with {others}."
            )
        return (
            f"Of all clients {self.other} gets the most from the server's core: {others} {unit};"
            f" this one gets {self.ours:,.0f}."
        )


def _most(table: Table) -> _Most | None:
    ours = _median(table, OURS, "rate")
    rates = {o.client: _median(table, o.client, "rate") for o in table.outcomes}
    others = {
        name: rate
        for name, rate in rates.items()
        if rate and not is_ours(name) and name not in OTHER_SERVER
    }
    if ours is None or not others:
        return None
    other = max(others, key=lambda name: others[name])
    return _Most(ours, other, others[other])


class _Medians(NamedTuple):
    """CPU microseconds per unit with and without a setting, and who gets the most."""

    cpu: float
    variant_cpu: float
    most: _Most


def _medians(results: Results, workload: str, variant: str) -> _Medians | None:
    table = next((table for table in results.tables if table.workload == workload), None)
    if table is None:
        return None
    cpu, variant_cpu = _median(table, OURS, "cpu_us"), _median(table, variant, "cpu_us")
    most = _most(table)
    if cpu is None or variant_cpu is None or most is None:
        return None
    return _Medians(cpu, variant_cpu, most)


def _median(table: Table, client: str, figure: str) -> float | None:
    outcome = table.outcome(client)
    spread = outcome.spread(figure) if outcome else None
    return spread.median if spread else None


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
