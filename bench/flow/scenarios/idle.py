"""A big transfer, and then nothing: windows and memory return."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bench.flow.record import thinned
from bench.flow.scenarios.download import mega
from bench.flow.servers import MIB, server
from bench.flow.setups import ADAPTIVE, FIXED, FIXED_SMALL, PYREQWEST
from bench.flow.stage import ChildError, Told, link_to, play
from dynamo_h2 import Http2Config

if TYPE_CHECKING:
    from bench.flow.record import Record
    from bench.flow.setups import Setup

NAME: Final = "idle"
TITLE: Final = "Idle after a big transfer"
RATE: Final = 60e6  # bytes per second
RTT: Final = 0.2
BUSY: Final = 6.0  # seconds
REST: Final = 30.0
APART: Final = 4.0  # seconds from one client's beginning to the next one's
LEFT: Final = 8.0  # MiB of memory that may stay: what allocators keep for next time
SETUPS: Final = (ADAPTIVE, FIXED, FIXED_SMALL, PYREQWEST)


async def run(record: Record, *, quick: bool) -> None:
    """Plays the setups one after the other; while they rest, side by side."""
    record.notes.append(
        f"{RATE / 1e6:.0f} MB/s and {RTT * 1e3:.0f} ms for {BUSY:.0f} s, then {REST:.0f} s of "
        "rest and one small request. Memory is resident memory, read from outside."
    )
    setups = [setup for setup in SETUPS if setup.missing is None]
    chosen = setups[:1] if quick else setups
    with server() as url:
        played = await asyncio.gather(
            *(_play(setup, url, number * (BUSY + APART)) for number, setup in enumerate(chosen)),
            return_exceptions=True,
        )
    for setup, told in zip(chosen, played, strict=True):
        if isinstance(told, Told):
            _note(record, setup, told)
        elif isinstance(told, ChildError):
            record.notes.append(f"{setup.name}: {told}")
        else:
            raise told
    _judge(record, played[0])


async def _play(setup: Setup, url: str, later: float) -> Told:
    await asyncio.sleep(later)
    async with link_to(url, rtt=RTT, rate=RATE) as link:
        return await play(setup, "download", link.base, link=link, seconds=BUSY, rest=REST)


def _note(record: Record, setup: Setup, told: Told) -> None:
    window = [value for _, value in told.result["lines"].get("window", ())]
    record.rows.append(
        {
            "client": setup.name,
            "largest window, MB": round(max(window) / 1e6, 2) if window else None,
            "window after the rest, MB": round(window[-1] / 1e6, 2) if window else None,
            "memory, at most MiB more": round(told.growth, 1),
            "after the rest, MiB more": round(told.left, 1),
        }
    )
    grown = [(at, (value - told.before) / MIB) for at, value in told.memory]
    record.draw("idle", "memory, MiB more than before", setup.name, thinned(grown))
    record.draw("idle", "in flight to the client, MB", setup.name, mega(told.held))
    if window:
        record.draw(
            "idle", "window of a stream, MB (log)", setup.name, mega(told.result["lines"]["window"])
        )


def _judge(record: Record, told: object) -> None:
    if not isinstance(told, Told):
        record.judge("the adaptive client does its job", str(told), kept=False)
        return
    window = [value for _, value in told.result["lines"]["window"]]
    initial = Http2Config().stream_window
    record.judge(
        f"the window grows beyond {initial / 1e6:.2f} MB, and is back after {REST:.0f} s",
        f"{max(window) / 1e6:.2f} MB, then {window[-1] / 1e6:.2f} MB",
        kept=max(window) > initial >= window[-1],
    )
    record.judge(
        f"memory is back, but for {LEFT:.0f} MiB",
        f"{told.growth:.1f} MiB more at most, {told.left:.1f} MiB after the rest",
        kept=told.left <= LEFT,
    )
