"""The rate of the link falls to a tenth in mid-transfer, and comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bench.flow.record import rate_between, rates
from bench.flow.scenarios.download import mega
from bench.flow.servers import server
from bench.flow.setups import ADAPTIVE, FIXED, FIXED_SMALL, PYREQWEST, UNLIMITED
from bench.flow.stage import ChildError, Told, link_to, play
from dynamo_h2.http2.bdp import FLOOR

if TYPE_CHECKING:
    from bench.flow.record import Points, Record
    from bench.flow.setups import Setup

NAME: Final = "drop"
TITLE: Final = "The rate falls to a tenth, and comes back"
# Twice the product is 7.5 MB, more than a stream's window at the start, and then 750 kB.
RATE: Final = 25e6  # bytes per second
RTT: Final = 0.15
FALLS: Final = 5.0  # seconds from the start
FOLLOWS: Final = 25.0  # seconds in which the window has to follow down
ROUNDS: Final = 10  # round trips in which it has to follow up
MEASURED: Final = 3.0
TOLERANCE: Final = 1.1  # the rate of a link is kept that well, and a target is made of samples
SHARE: Final = 0.9
SETUPS: Final = (ADAPTIVE, FIXED, FIXED_SMALL, PYREQWEST, UNLIMITED)


async def run(record: Record, *, quick: bool) -> None:
    """Plays all setups at the same time, each on a link of its own."""
    record.notes.append(
        f"{RATE / 1e6:.0f} MB/s and {RTT * 1e3:.0f} ms; a tenth of it from {FALLS:.0f} s to "
        f"{FALLS + FOLLOWS:.0f} s. All clients at the same time, each with a link of its own."
    )
    setups = [setup for setup in SETUPS if setup.missing is None]
    with server() as url:
        chosen = setups[:1] if quick else setups
        played = await asyncio.gather(
            *(_play(setup, url) for setup in chosen), return_exceptions=True
        )
    for setup, told in zip(chosen, played, strict=True):
        if isinstance(told, Told):
            _note(record, setup, told)
        elif isinstance(told, ChildError):
            record.notes.append(f"{setup.name}: {told}")
        else:
            raise told
    _judge(record, played[0])


async def _play(setup: Setup, url: str) -> Told:
    async with link_to(url, rtt=RTT, rate=RATE) as link:

        async def weather() -> None:
            await asyncio.sleep(FALLS)
            await link.set(rate=RATE / 10)
            await asyncio.sleep(FOLLOWS)
            await link.set(rate=RATE)

        seconds = FALLS + FOLLOWS + ROUNDS * RTT + MEASURED
        return await play(setup, "download", link.base, link=link, acts=weather, seconds=seconds)


def _note(record: Record, setup: Setup, told: Told) -> None:
    log: Points = told.result["log"]
    back = FALLS + FOLLOWS
    record.rows.append(
        {
            "client": setup.name,
            "before, MB/s": round(rate_between(log, FALLS / 2, FALLS) / 1e6, 2),
            "at a tenth, MB/s": round(rate_between(log, back - 5, back) / 1e6, 2),
            f"{ROUNDS} round trips after, MB/s": round(_after(log) / 1e6, 2),
            "window before, MB": _window(told, FALLS),
            "lowest at a tenth, MB": _lowest(told, FALLS, back),
            "window at the end, MB": _window(told, back + 100),
        }
    )
    record.draw("drop", "rate, MB/s", setup.name, mega(rates(log, 0.25)))
    record.draw("drop", "in flight to the client, MB", setup.name, mega(told.held))
    lines = told.result["lines"]
    if lines and setup is not UNLIMITED:
        record.draw("drop", "window of a stream, MB (log)", setup.name, mega(lines["window"]))
        trips = [(at, value * 1e3) for at, value in lines["rtt"] if value]
        record.draw("drop", "round trip of PINGs, ms", setup.name, trips)


def _after(log: Points) -> float:
    return rate_between(log, FALLS + FOLLOWS + ROUNDS * RTT, log[-1][0])


def _window(told: Told, when: float) -> float | None:
    """Returns the window at a moment, in MB."""
    before = [value for at, value in told.result["lines"].get("window", ()) if at <= when]
    return round(before[-1] / 1e6, 2) if before else None


def _lowest(told: Told, begin: float, end: float) -> float | None:
    """Returns the smallest window between two moments, in MB."""
    lines = told.result["lines"].get("window", ())
    values = [value for at, value in lines if begin <= at <= end]
    return round(min(values) / 1e6, 2) if values else None


def _judge(record: Record, told: object) -> None:
    if not isinstance(told, Told):
        record.judge("the adaptive client does its job", str(told), kept=False)
        return
    bound = max(FLOOR, 2 * RATE / 10 * RTT) * TOLERANCE
    lowest = (_lowest(told, FALLS, FALLS + FOLLOWS) or 0) * 1e6
    record.judge(
        f"within {FOLLOWS:.0f} s the window follows down to 2 × rate × round trip "
        f"(with {TOLERANCE - 1:.0%} for the samples: {bound / 1e6:.2f} MB)",
        f"{lowest / 1e6:.2f} MB",
        kept=0 < lowest <= bound,
    )
    share = _after(told.result["log"]) / RATE
    record.judge(
        f"{ROUNDS} round trips after it came back, at least {SHARE:.0%} of the rate is used",
        f"{share:.1%}",
        kept=share >= SHARE,
    )
