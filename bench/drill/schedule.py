"""What goes wrong, when and where: a list of faults that follows from a seed.

Each worker has a line of faults of its own, one after the other with pauses between, so that each
moment of a worker belongs to at most one fault. Which of them come, and in which order, is drawn;
each kind comes as often as is asked for.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Side = Literal["process", "link", "script", "caller"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Args:
        name: what tables call it.
        side: who brings it about: a signal to the process, the link before it, the script of a
            scripted worker, or the caller itself.
        lasts: seconds from its beginning to its end, at least and at most.
        settles: seconds that it takes after that until all is well, about.
        amount: how many requests it is meant for, at least and at most; 0 where it has no number.
        names: whether the worker has to be reached by a name, which only some clients can do.
    """

    name: str
    side: Side
    lasts: tuple[float, float] = (0.0, 0.0)
    settles: float = 0.5
    amount: tuple[int, int] = (0, 0)
    names: bool = False


KINDS: Final = (
    Kind("graceful restart", "process", settles=3.0),
    Kind("SIGKILL", "process", settles=3.0),
    Kind("SIGSTOP", "process", lasts=(2.0, 2.0), settles=1.5),
    Kind("reset in mid-frame", "link"),
    Kind("frozen link", "link", lasts=(0.2, 1.2)),
    Kind("slow link", "link", lasts=(0.4, 0.8)),
    Kind("refused dials", "link", lasts=(0.2, 0.4)),
    Kind("half-open", "link", settles=2.0),
    Kind("REFUSED_STREAM", "script", amount=(10, 30)),
    Kind("GOAWAY, cut", "script"),
    Kind("GOAWAY, two steps", "script"),
    Kind("GOAWAY, error", "script"),
    Kind("cut responses", "script", amount=(5, 15)),
    Kind("overload", "caller", amount=(5, 20)),
    Kind("cancels", "caller", amount=(5, 20)),
    Kind("time-outs", "caller", amount=(5, 20)),
    Kind("pool drain", "caller"),
    Kind("DNS change", "caller", lasts=(0.5, 1.0), settles=0.8, names=True),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        at: when it begins, in seconds since the drill did.
        kind: the name of its kind.
        worker: the index of the worker that it strikes.
        lasts: seconds from its beginning to its end.
        amount: how many requests it is meant for.
        dice: a number from 0 to 1 for what else there is to choose.
    """

    at: float
    kind: str
    worker: int
    lasts: float
    amount: int
    dice: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what.

    Args:
        seed: what everything is drawn from.
        calm: seconds without a fault at first.
        seconds: how long faults come after that.
        each: how often each kind comes.
        each_process: the same for kinds that strike a process.
    """

    seed: int
    calm: float
    seconds: float
    each: int
    each_process: int

    def often(self, kind: Kind) -> int:
        """Returns how often a kind comes."""
        return self.each_process if kind.side == "process" else self.each


def find(name: str) -> Kind:
    """Returns the kind of that name."""
    return next(kind for kind in KINDS if kind.name == name)


def make_schedule(
    plan: Plan, scripted: Sequence[bool], kinds: Iterable[Kind] = KINDS
) -> list[Fault]:
    """Draws the faults, in the order of their beginning.

    Args:
        plan: how many there are to be.
        scripted: for each worker, whether it can be told what to do.
        kinds: those that may come.
    """
    rng = random.Random(plan.seed)
    drawn = [kind for kind in kinds for _ in range(plan.often(kind))]
    rng.shuffle(drawn)
    # What only some workers can have goes first: the others make up for it.
    drawn.sort(key=lambda kind: kind.side != "script")
    lines: list[list[tuple[Kind, float]]] = [[] for _ in scripted]
    taken = [0.0] * len(scripted)
    for kind in drawn:
        if kind.side == "script" and not any(scripted):
            continue
        fits = [i for i, told in enumerate(scripted) if told or kind.side != "script"]
        worker = min(fits, key=taken.__getitem__)
        lasts = rng.uniform(*kind.lasts)
        lines[worker].append((kind, lasts))
        taken[worker] += lasts + kind.settles
    faults = [
        fault
        for worker, line in enumerate(lines)
        for fault in _spread(worker, line, max(0.0, plan.seconds - taken[worker]), rng, plan.calm)
    ]
    return sorted(faults, key=lambda fault: fault.at)


def _spread(
    worker: int, line: list[tuple[Kind, float]], spare: float, rng: random.Random, start: float
) -> Iterator[Fault]:
    """Puts one worker's faults one after the other, with the spare time drawn between them."""
    rng.shuffle(line)
    shares = [rng.uniform(0.3, 1.0) for _ in range(len(line) + 1)]
    unit = spare / sum(shares)
    at = start
    for (kind, lasts), share in zip(line, shares, strict=False):
        at += unit * share
        yield Fault(at, kind.name, worker, lasts, rng.randint(*kind.amount), rng.random())
        at += lasts + kind.settles


def show(faults: Iterable[Fault], names: Sequence[str]) -> Iterator[str]:
    """Writes a schedule as text, a line for each second in which something begins."""
    second, line = -1, ""
    for fault in faults:
        if int(fault.at) != second:
            if line:
                yield line
            second = int(fault.at)
            line = f"{second:5d} s "
        size = (
            f" {fault.lasts:.2f} s" if fault.lasts else f" × {fault.amount}" if fault.amount else ""
        )
        line += f" {names[fault.worker]}: {fault.kind}{size};"
    if line:
        yield line
