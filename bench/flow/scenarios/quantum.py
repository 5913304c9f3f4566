"""What one stream should send before it is another one's turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.flow.servers import MIB, worker
from bench.flow.setups import ADAPTIVE
from bench.flow.stage import link_to, play
from dynamo_h2 import Http2Config

if TYPE_CHECKING:
    from bench.flow.record import Record, Value

NAME: Final = "quantum"
TITLE: Final = "Eight uploads of 64 MiB and small requests, by `send_quantum`"
QUANTA: Final = tuple(1 << power for power in range(14, 21))
COUNT: Final = 8
SIZE: Final = 64 * MIB
PER_SECOND: Final = 100.0
RATE: Final = 125e6
RTT: Final = 0.002
REPEATS: Final = 3
# Windows in which a quantum of 1 MiB has room, so that it is the quantum that is measured.
WINDOWS: Final = (
    *("--http2-initial-stream-window-size", str(8 * MIB)),
    *("--http2-initial-connection-window-size", str(64 * MIB)),
)


async def run(record: Record, *, quick: bool) -> None:
    """Measures every quantum in turn, and that several times."""
    record.notes.append(
        f"{PER_SECOND:.0f} requests of 1 KiB a second beside {COUNT} uploads of {SIZE // MIB} MiB, "
        "to a server that takes frames of 1 MiB and has windows of 8 and 64 MiB. “link”: "
        f"{RATE / 1e6:.0f} MB/s and {RTT * 1e3:.0f} ms there and back, with a fourth of the "
        "bytes; the latencies are those over the link. A small body in one piece goes with its "
        f"head; one out of an iterator takes its turn. Medians of {REPEATS} interleaved rounds."
    )
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    with worker(*WINDOWS) as url:
        async with link_to(url, rtt=RTT, rate=RATE) as link:
            for _ in range(1 if quick else REPEATS):
                for quantum in QUANTA[::3] if quick else QUANTA:
                    for place, at, size in (
                        ("machine", url, SIZE),
                        ("link", link.base, SIZE // 4),
                    ):
                        figures = await _measure(quantum, at, size)
                        found.setdefault((quantum, place), []).append(figures)
    for quantum in sorted({quantum for quantum, _ in found}):
        default = quantum == Http2Config().send_quantum
        row: dict[str, Value] = {"quantum": f"{quantum >> 10} KiB{' (default)' if default else ''}"}
        for place in ("machine", "link"):
            row[f"{place}, MB/s"] = round(_median(found[quantum, place], "rate") / 1e6, 1)
        for kind, words in (("small", "with its head"), ("in_turns", "in turns")):
            for share in ("p50_ms", "p99_ms"):
                value = _median(found[quantum, "link"], f"{kind}_{share}")
                row[f"{words}, {share[:3]}, ms"] = round(value, 1)
        record.rows.append(row)


async def _measure(quantum: int, url: str, size: int) -> dict[str, float]:
    told = await play(
        ADAPTIVE,
        "uploads",
        url,
        options={"send_quantum": quantum},
        count=COUNT,
        size=size,
        per_second=PER_SECOND,
    )
    figures: dict[str, float] = {"rate": told.result["rate"]}
    for kind in ("small", "in_turns"):
        figures |= {f"{kind}_{name}": value for name, value in told.result[kind].items()}
    return figures


def _median(rounds: list[dict[str, float]], figure: str) -> float:
    ordered = sorted(figures[figure] for figures in rounds)
    return ordered[len(ordered) // 2]
