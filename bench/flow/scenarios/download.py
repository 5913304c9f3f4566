"""A download over links of one rate and several round trips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.flow.record import rate_between, rates, thinned
from bench.flow.servers import server
from bench.flow.setups import (
    ADAPTIVE,
    ADAPTIVE_SMALL,
    FIXED,
    FIXED_SMALL,
    PYREQWEST,
    UNLIMITED,
)
from bench.flow.stage import ChildError, link_to, play

if TYPE_CHECKING:
    from bench.flow.record import Points, Record, Value
    from bench.flow.setups import Setup

NAME: Final = "download"
TITLE: Final = "Download over 1 to 200 ms"
RATE: Final = 125e6  # bytes per second: 1 Gbit/s
TRIPS: Final = (0.001, 0.02, 0.1, 0.2)  # there and back, in seconds
SETUPS: Final = (UNLIMITED, ADAPTIVE, ADAPTIVE_SMALL, FIXED, FIXED_SMALL, PYREQWEST)
JUDGED: Final = (ADAPTIVE, ADAPTIVE_SMALL)
ROUNDS: Final = 10  # round trips in which the windows have to be found
MEASURED: Final = 1.5  # seconds after them
TURNS: Final = 2
SHARE: Final = 0.9  # of the rate with windows that limit nothing


async def run(record: Record, *, quick: bool) -> None:
    """Measures every setup at every round trip."""
    record.notes.append(
        f"The link is set to {RATE / 1e6:.0f} MB/s and holds back 20 ms of that before it stops "
        "the server. “Carried” is the rate that windows without a limit reach on this machine: "
        "client, link and server share its cores. Rates are those from ten round trips after "
        f"the first byte on; of {TURNS} interleaved turns the better one, since what else runs on "
        "a machine makes nobody faster."
    )
    with server() as url:
        for rtt in TRIPS[1:3] if quick else TRIPS:
            await _compare(record, url, rtt, 1 if quick else TURNS)


async def _compare(record: Record, url: str, rtt: float, turns: int) -> None:
    row: dict[str, Value] = {"round trip": f"{rtt * 1e3:.0f} ms"}
    found: dict[str, float] = {}
    for setup in SETUPS * turns:
        if setup.missing is None:
            rate = await _measure(record, url, rtt, setup)
            found[setup.name] = max(rate, found.get(setup.name, 0.0))
    carried = found[UNLIMITED.name]
    row["rate × round trip, MB"] = round(carried * rtt / 1e6, 2)
    row["carried, MB/s"] = round(carried / 1e6, 1)
    for name, rate in found.items():
        if name != UNLIMITED.name:
            row[name] = f"{rate / 1e6:.1f} MB/s, {rate / carried:.0%}"
    record.rows.append(row)
    for setup in JUDGED:
        share = found[setup.name] / carried
        record.judge(
            f"{setup.name}, {rtt * 1e3:.0f} ms: at least {SHARE:.0%} of the unlimited rate "
            f"after {ROUNDS} round trips",
            f"{share:.1%}",
            kept=share >= SHARE,
        )


async def _measure(record: Record, url: str, rtt: float, setup: Setup) -> float:
    """Returns the rate after ten round trips, in bytes per second; 0 for one that failed."""
    seconds = (ROUNDS + 1) * rtt + MEASURED
    try:
        async with link_to(url, rtt=rtt, rate=RATE) as link:
            told = await play(setup, "download", link.base, link=link, seconds=seconds)
    except ChildError as error:
        record.notes.append(f"{setup.name} at {rtt * 1e3:.0f} ms: {error}")
        return 0.0
    log: Points = told.result["log"]
    plot = f"download-{rtt * 1e3:.0f}ms"
    record.draw(plot, "rate, MB/s", setup.name, mega(rates(log, max(0.05, rtt / 2))))
    record.draw(plot, "in flight to the client, MB", setup.name, mega(told.held))
    if "window" in told.result["lines"] and setup is not UNLIMITED:
        window = mega(told.result["lines"]["window"])
        record.draw(plot, "window of a stream, MB (log)", setup.name, window)
        trip = [(at, value * 1e3) for at, value in told.result["lines"]["rtt"] if value]
        record.draw(plot, "round trip of PINGs, ms", setup.name, thinned(trip))
    return rate_between(log, log[0][0] + ROUNDS * rtt, log[-1][0])


def mega(points: Points) -> Points:
    """Returns the values in millions, and not more points than a plot shows."""
    return thinned([(at, value / 1e6) for at, value in points])
