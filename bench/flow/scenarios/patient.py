"""A peer that is alive and slow: its answers take five seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.flow.simulated import Peer, Simulation
from dynamo_h2 import Http2Config

if TYPE_CHECKING:
    from bench.flow.record import Record

NAME: Final = "patient"
TITLE: Final = "A peer that answers PINGs after 5 s, for 10 minutes"
ANSWERS: Final = 5.0  # seconds
SECONDS: Final = 600.0
INTERVALS: Final = (1.0, 5.0, 30.0)


async def run(record: Record, *, quick: bool) -> None:
    """Plays it on a simulated clock."""
    record.notes.append("On a simulated clock, with a time-out of 10 s and one open request.")
    for interval in INTERVALS:
        config = Http2Config(keep_alive_interval=interval, keep_alive_timeout=10.0)
        found = Simulation(config, Peer(delay=ANSWERS), jitter=0.0).run(SECONDS)
        alive = found.died_at == float("inf")
        record.rows.append(
            {
                "interval, s": interval,
                "PINGs": len(found.pings),
                "times suspect": found.doubts,
                "killed": "no" if alive else f"after {found.died_at:.0f} s",
            }
        )
        record.judge(
            f"interval {interval:.0f} s: the peer lives after {SECONDS:.0f} s",
            f"{len(found.pings)} PINGs answered" if alive else f"killed at {found.died_at:.0f} s",
            kept=alive and len(found.pings) > SECONDS / (interval + ANSWERS) / 2,
        )
