"""Two hundred streams, and a consumer that is slower than any of them could be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bench.flow.record import thinned
from bench.flow.servers import MIB, server
from bench.flow.setups import ADAPTIVE, FIXED, FIXED_SMALL, PYREQWEST_FIXED
from bench.flow.stage import ChildError, Told, play

if TYPE_CHECKING:
    from bench.flow.record import Record
    from bench.flow.setups import Setup

NAME: Final = "crowd"
TITLE: Final = "200 streams of 1 MiB, read at 10 MB/s in all"
STREAMS: Final = 200
RATE: Final = 10e6  # bytes per second
BUDGET: Final = 16 * MIB
ROOM: Final = 16  # MiB beside the budget
SETUPS: Final = (ADAPTIVE, FIXED, FIXED_SMALL, PYREQWEST_FIXED)


async def run(record: Record, *, quick: bool) -> None:
    """Plays all clients at the same time: most of it they wait."""
    streams = STREAMS // 4 if quick else STREAMS
    record.notes.append(
        f"{streams} streams; the budget of the adaptive client is {BUDGET // MIB} MiB, the others "
        "have none. Memory is resident memory, read from outside. Every byte is checked."
    )
    setups = [setup for setup in SETUPS if setup.missing is None]
    with server() as url:
        played = await asyncio.gather(
            *(_play(setup, url, streams) for setup in setups), return_exceptions=True
        )
    for setup, told in zip(setups, played, strict=True):
        if isinstance(told, Told):
            record.rows.append(
                {
                    "client": setup.name,
                    "right, MiB": told.result["right"] / MIB,
                    "seconds": round(told.result["seconds"], 1),
                    "memory, MiB more": round(told.growth, 1),
                }
            )
            grown = [(at, (value - told.before) / MIB) for at, value in told.memory]
            record.draw("crowd", "memory, MiB more than before", setup.name, thinned(grown))
        elif isinstance(told, ChildError):
            record.notes.append(f"{setup.name}: {told}")
        else:
            raise told
    _judge(record, played[0], streams)


async def _play(setup: Setup, url: str, streams: int) -> Told:
    budgeted = setup.with_options(memory_budget=BUDGET).missing is None
    options = {"memory_budget": BUDGET} if setup is ADAPTIVE and budgeted else {}
    return await play(setup, "crowd", url, options=options, streams=streams, length=MIB, rate=RATE)


def _judge(record: Record, told: object, streams: int) -> None:
    if not isinstance(told, Told):
        record.judge("every byte is right", str(told), kept=False)
        return
    right = told.result["right"]
    record.judge("every byte is right", f"{right / MIB:.0f} MiB", kept=right == streams * MIB)
    bound = BUDGET / MIB + ROOM
    record.judge(
        f"memory grows by less than {bound:.0f} MiB",
        f"{told.growth:.1f} MiB",
        kept=told.growth < bound,
    )
