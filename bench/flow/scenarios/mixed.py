"""One large upload, and a hundred small requests a second beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.flow.servers import MIB, worker
from bench.flow.setups import ADAPTIVE, HTTPX, PYREQWEST_FIXED
from bench.flow.stage import ChildError, link_to, play

if TYPE_CHECKING:
    from bench.flow.record import Record
    from bench.flow.setups import Setup
    from bench.flow.stage import Told

NAME: Final = "mixed"
TITLE: Final = "Upload of 256 MiB beside 100 small requests a second"
SIZE: Final = 256 * MIB
PER_SECOND: Final = 100.0
ALONE: Final = 4.0  # seconds
RATE: Final = 60e6  # bytes per second
RTT: Final = 0.02
FACTOR: Final = 3.0
SETUPS: Final = (ADAPTIVE, PYREQWEST_FIXED, HTTPX)
PARTS: Final = {HTTPX.name: 8}
"""How much less a client has to upload, of which it would take minutes."""


async def run(record: Record, *, quick: bool) -> None:
    """Measures each client over a link, and without one."""
    size = SIZE // 4 if quick else SIZE
    record.notes.append(
        f"The link has {RATE / 1e6:.0f} MB/s and {RTT * 1e3:.0f} ms there and back. Without it, "
        "the upload is over in a second, and both processes use all of the machine meanwhile."
    )
    with worker() as url:
        for setup in SETUPS[:1] if quick else SETUPS:
            if setup.missing is not None:
                continue
            part = size // PARTS.get(setup.name, 1)
            async with link_to(url, rtt=RTT, rate=RATE) as link:
                await _measure(record, setup, "link", link.base, part)
            await _measure(record, setup, "this machine", url, part)


async def _measure(record: Record, setup: Setup, place: str, url: str, size: int) -> None:
    try:
        told = await play(setup, "mixed", url, size=size, per_second=PER_SECOND, seconds=ALONE)
    except ChildError as error:
        record.notes.append(f"{setup.name}, {place}: {error}")
        if setup is ADAPTIVE:
            record.judge(f"{place}: every request is answered", str(error), kept=False)
        return
    _note(record, setup, place, told, size)


def _note(record: Record, setup: Setup, place: str, told: Told, size: int) -> None:
    alone, beside = told.result["alone"], told.result["beside"]
    times = beside["p99_ms"] / alone["p99_ms"]
    record.rows.append(
        {
            "client": setup.name if setup is not ADAPTIVE else "dynamo_h2",
            "over": place,
            "upload, MiB": size // MIB,
            "MB/s": round(told.result["rate"] / 1e6, 1),
            "small ones beside": beside["count"],
            "p50 alone, ms": round(alone["p50_ms"], 2),
            "p50 beside, ms": round(beside["p50_ms"], 2),
            "p99 alone, ms": round(alone["p99_ms"], 2),
            "p99 beside, ms": round(beside["p99_ms"], 2),
            "times": round(times, 2),
        }
    )
    if setup is ADAPTIVE:
        record.judge(
            f"{place}: the p99 of the small requests is at most {FACTOR:.0f} × that alone",
            f"{times:.2f} ×",
            kept=times <= FACTOR,
        )
