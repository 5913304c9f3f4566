"""When a worker was struck by a fault, and what the calls outside of that came to.

A fault's window begins with the fault. It ends when the fault is over and every call has ended that
was in flight then: what begins later has no excuse.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.drill.calls import PAUSE
from bench.drill.ledger import LEFT, OK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.drill.ledger import Call, Occurrence

WARM: Final = 1.0
"""Seconds at the beginning, in which connections are made, that do not count as calm."""


class Window(NamedTuple):
    """A stretch of time in which a worker was struck."""

    begin: float
    end: float
    kind: str


class Spans:
    """The calls of each worker as pairs of times, in the order of their ends."""

    def __init__(self, workers: int) -> None:
        self._begins = [array("d") for _ in range(workers)]
        self._ends = [array("d") for _ in range(workers)]

    def add(self, call: Call) -> None:
        """Takes a call; calls come in the order of their ends."""
        self._begins[call.worker].append(call.begin)
        self._ends[call.worker].append(call.end)

    def last_end(self, worker: int, moment: float) -> float:
        """Returns when the last of a worker's calls ended that were in flight at a moment."""
        begins, ends = self._begins[worker], self._ends[worker]
        last = moment
        for index in range(bisect_right(ends, moment), len(ends)):
            if begins[index] <= moment:
                last = max(last, ends[index])
            elif begins[index] > last + LONGEST:
                break
        return last


LONGEST: Final = 8.0
"""Seconds beyond which no call of ours can be in flight."""


def windows_of(faults: Iterable[Occurrence], spans: Spans, workers: int) -> list[list[Window]]:
    """Returns the windows of each worker, in the order of their beginning."""
    found: list[list[Window]] = [[] for _ in range(workers)]
    for fault in faults:
        end = spans.last_end(fault.worker, fault.end)
        found[fault.worker].append(Window(fault.begin, end, fault.kind))
    for windows in found:
        windows.sort()
    return found


@dataclass(slots=True)
class Share:
    """What calls came to that belong together.

    Args:
        calls: how many there were.
        done: how many had the right answer.
        left: how many the caller left.
        false: how many ended in an error that says that nothing was done.
        unknown: how many ended in one that does not know.
        retries: further attempts that they took.
        took: seconds that they took together, with the rest after an error.
        worth: seconds that those with the right answer take in calm.
    """

    calls: int = 0
    done: int = 0
    left: int = 0
    false: int = 0
    unknown: int = 0
    retries: int = 0
    took: float = 0.0
    worth: float = 0.0

    def add(self, call: Call, calm: float) -> None:
        """Counts a call, which takes so many seconds in calm."""
        self.calls += 1
        self.took += call.end - call.begin
        self.retries += call.attempts - 1
        if call.outcome == OK:
            self.done += 1
            self.worth += calm
        elif call.outcome == LEFT:
            self.left += 1
        else:
            self.took += PAUSE
            final = call.final
            self.false += final is not None and final.processed is False
            self.unknown += final is not None and final.processed is None

    @property
    def goodput(self) -> float:
        """What was done per second, as a part of what is done in calm."""
        return self.worth / self.took if self.took else 0.0


@dataclass(slots=True)
class Shares:
    """Calls by what struck them.

    Args:
        windows: those of each worker.
        calm: seconds without a fault at first.
        kinds: what was struck by each kind of fault; a call may be struck by several.
        outside: what was struck by none, after the calm time.
    """

    windows: Sequence[Sequence[Window]]
    calm: float
    kinds: dict[str, Share] = field(default_factory=lambda: defaultdict(Share))
    outside: Share = field(default_factory=Share)
    _usual: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    _begins: list[list[float]] = field(default_factory=list)
    _longest: float = 0.0

    def __post_init__(self) -> None:
        self._begins = [[window.begin for window in windows] for windows in self.windows]
        lengths = [window.end - window.begin for each in self.windows for window in each]
        self._longest = max(lengths, default=0.0)

    def learn(self, call: Call) -> None:
        """Takes a call of the calm time, before any is counted."""
        if call.begin >= WARM and call.end <= self.calm and call.outcome == OK:
            found = self._usual.setdefault((call.worker, call.kind), [0, 0.0])
            found[0] += 1
            found[1] += call.end - call.begin

    def count(self, call: Call) -> None:
        """Counts a call."""
        if call.begin < self.calm:
            return
        number, total = self._usual.get((call.worker, call.kind), (0, 0.0))
        usual = total / number if number else 0.0
        struck = self.struck(call)
        for kind in struck:
            self.kinds[kind].add(call, usual)
        if not struck:
            self.outside.add(call, usual)

    def struck(self, call: Call) -> set[str]:
        """Returns the kinds of faults whose windows a call touches."""
        begins = self._begins[call.worker]
        first = bisect_left(begins, call.begin - self._longest)
        last = bisect_right(begins, call.end)
        near = self.windows[call.worker][first:last]
        return {window.kind for window in near if call.begin <= window.end}
