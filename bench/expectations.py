"""What the settings are said to be worth, and what they turned out to be worth here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench.results import Spread
from bench.targets import OURS

if TYPE_CHECKING:
    from bench.results import Results, Table

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
