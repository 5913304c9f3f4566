"""Eight consumers that stand still, and sixteen token streams that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.flow.servers import server_for
from bench.flow.setups import ADAPTIVE, FIXED, FIXED_SMALL, GRPC, HTTPX, PYREQWEST, PYREQWEST_FIXED
from bench.flow.stage import ChildError, play

if TYPE_CHECKING:
    from bench.flow.record import Record
    from bench.flow.setups import Setup
    from bench.flow.stage import Told

NAME: Final = "slow"
TITLE: Final = "Slow consumers beside token streams"
LIVE: Final = 16
STALLED: Final = 8
SECONDS: Final = 2.5
ROUNDS: Final = 3
BUDGET: Final = 16 << 20  # less than eight windows of a stream, so that it is what bounds
ROOM: Final = 32  # MiB beside the budget
SHARE: Final = 0.95
TIGHT: Final = {"memory_budget": BUDGET}
OTHERS: Final = (FIXED, FIXED_SMALL, PYREQWEST, PYREQWEST_FIXED, HTTPX, GRPC)


async def run(record: Record, *, quick: bool) -> None:
    """Measures every client alone with the live streams, and then with the others beside them."""
    record.notes.append(
        f"{LIVE} streams of 100 tokens a second, in turn alone and beside {STALLED} "
        "endless responses that nobody reads, on one connection to a server on this machine. "
        "grpc.aio talks to a gRPC server, whose stalled responses are messages of 64 KiB."
    )
    rounds = 1 if quick else ROUNDS
    told = await _measure(record, ADAPTIVE, "adaptive, default budget", {}, rounds)
    if told is not None:
        _judge_tokens(record, "adaptive, default budget", told)
    if ADAPTIVE.with_options(**TIGHT).missing is None:
        name = f"adaptive, budget {BUDGET >> 20} MiB"
        told = await _measure(record, ADAPTIVE, name, TIGHT, rounds)
        if told is not None:
            _judge_tokens(record, name, told)
            bound = (BUDGET >> 20) + ROOM
            record.judge(
                f"{name}: memory grows by less than {bound} MiB",
                f"{told.growth:.1f} MiB",
                kept=told.growth < bound,
            )
    for setup in OTHERS[:1] if quick else OTHERS:
        if setup.missing is None:
            await _measure(record, setup, setup.name, {}, rounds)


async def _measure(
    record: Record, setup: Setup, name: str, options: dict[str, int], rounds: int
) -> Told | None:
    try:
        with server_for(setup) as url:
            told = await play(
                setup,
                "slow",
                url,
                options=options,
                live=LIVE,
                stalled=STALLED,
                seconds=SECONDS,
                rounds=rounds,
            )
    except ChildError as error:
        record.rows.append({"client": name, **dict.fromkeys(_COLUMNS), _COLUMNS[0]: str(error)})
        if setup is ADAPTIVE:
            record.judge(f"{name}: the live streams go on", str(error), kept=False)
        return None
    alone, beside = told.result["alone"], told.result["beside"]
    figures = (
        f"{beside['rate'] / alone['rate']:.1%}",
        round(alone["p50_ms"], 2),
        round(beside["p50_ms"], 2),
        round(alone["p99_ms"], 2),
        round(beside["p99_ms"], 2),
        round(told.growth, 1),
    )
    record.rows.append({"client": name, **dict(zip(_COLUMNS, figures, strict=True))})
    return told


_COLUMNS: Final = (
    "rate of the live ones",
    "p50 gap alone, ms",
    "beside, ms",
    "p99 gap alone, ms",
    "p99 beside, ms",
    "memory, MiB more",
)


def _judge_tokens(record: Record, name: str, told: Told) -> None:
    alone, beside = told.result["alone"], told.result["beside"]
    rate = beside["rate"] / alone["rate"]
    record.judge(
        f"{name}: the live streams keep {SHARE:.0%} of their rate",
        f"{rate:.1%}",
        kept=rate >= SHARE,
    )
    gap = alone["p99_ms"] / beside["p99_ms"]
    record.judge(
        f"{name}: and {SHARE:.0%} of their p99 gap",
        f"{alone['p99_ms']:.2f} ms alone, {beside['p99_ms']:.2f} ms beside",
        kept=gap >= SHARE,
    )
