"""Compares what the caller was told with what the workers did: the checks, and what they found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.drill.ledger import (
    ERROR,
    OK,
    UNTYPED,
    WRONG,
    WorkersView,
    read_calls,
    read_faults,
)
from bench.drill.schedule import KINDS
from bench.drill.windows import Share, Shares, Spans, windows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.drill.caller import SelfReport
    from bench.drill.ledger import Call, Tried
    from bench.drill.run import Drill

GRACE: Final = 0.25
"""Seconds that a call may end after its time, besides what the event loop was late."""
SHOWN: Final = 8
"""Examples that are kept of each thing that should not be."""
REFUSED_STREAM: Final = 7
WAITED: Final = frozenset({"RequestTimeout", "PoolTimeout", "ConnectTimeout"})
EXCUSES: Final = frozenset(
    {kind.name for kind in KINDS if kind.side == "process" or any(kind.lasts)} | {"half-open"}
)
"""Kinds of faults for which a worker, or the one that its name leads to, cannot be reached."""
OPENING: Final = 0.02
"""Seconds that a link takes to refuse dials once it was told to."""
AGAIN: Final = 0.1
"""Seconds from a refused dial to the next, at most: the first pause is 50 ms."""
SPENT: Final = "budget of retries is spent"
STEP: Final = 0.5
"""Seconds of one point in a plot."""


class Check(NamedTuple):
    """One thing that is demanded.

    Args:
        title: what it is.
        found: what was found.
        passed: whether that is as it should be.
        examples: what was found, in words.
    """

    title: str
    found: str
    passed: bool
    examples: tuple[str, ...] = ()


@dataclass(slots=True)
class Finds:
    """Things of one sort: how many, and the first few."""

    number: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, words: str) -> None:
        """Counts one."""
        self.number += 1
        if len(self.examples) < SHOWN:
            self.examples.append(words)

    def check(self, title: str) -> Check:
        """Returns the check that there are none."""
        return Check(title, f"{self.number}", not self.number, tuple(self.examples))


@dataclass(slots=True)
class Told:
    """Errors that must say False, and how many did."""

    total: int = 0
    said: int = 0

    def add(self, processed: bool | None) -> None:
        """Counts one."""
        self.total += 1
        self.said += processed is False

    def check(self, title: str) -> Check:
        """Returns the check that all did."""
        share = f"{100 * self.said / self.total:.6g} %" if self.total else "–"
        return Check(title, f"{share} of {self.total:,}", self.said == self.total)


@dataclass(slots=True)
class Account:
    """Everything that is known of one request: what the caller was told in all its calls."""

    calls: int = 0
    false: int = 0
    done: int = 0
    refused_false: int = 0
    refused_unknown: int = 0
    words: str = ""
    excused: bool = False


@dataclass(slots=True)
class Series:
    """Right answers and errors over time, for a plot."""

    done: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)

    def add(self, call: Call) -> None:
        """Counts a call where it ended."""
        if call.outcome == OK:
            self.done[int(call.end / STEP)] += 1
        elif call.outcome in {ERROR, UNTYPED, WRONG}:
            self.failed[int(call.end / STEP)] += 1

    def rows(self) -> list[tuple[float, float, float]]:
        """Returns moments with answers and errors per second."""
        last = max([*self.done, *self.failed], default=-1)
        return [(at * STEP, self.done[at] / STEP, self.failed[at] / STEP) for at in range(last + 1)]


class Verdict:
    """Reads a run's files and judges it.

    Args:
        drill: what was to be done.
        folder: where the files are.
        report: what the caller saw of itself.
    """

    def __init__(self, drill: Drill, folder: Path, report: SelfReport) -> None:
        self.drill = drill
        self.report = report
        self.faults = read_faults(folder)
        self.workers = WorkersView.read(folder)
        self.series = Series()
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.late = 0.0
        self.starved = Finds()
        self.lost = 0
        self.failed = 0
        self.doubled, self.untrue, self.missing = Finds(), Finds(), Finds()
        self.untyped, self.wrong, self.overdue, self.given_up = Finds(), Finds(), Finds(), Finds()
        self.refused, self.above, self.dials, self.unwritten = Told(), Told(), Told(), Told()
        self._accounts: dict[int, Account] = {}
        self._allowed = GRACE + report.lag
        self.shares = self._measure(folder)
        for call in read_calls(folder):
            self._take(call)
        for request_id, account in self._accounts.items():
            self._settle(request_id, account)
        self._accounts.clear()

    def _measure(self, folder: Path) -> Shares:
        count = len(self.drill.specs)
        spans = Spans(count)
        for call in read_calls(folder):
            spans.add(call)
        shares = Shares(windows_of(self.faults, spans, count), self.drill.plan.calm)
        for call in read_calls(folder):
            shares.learn(call)
        return shares

    # One call

    def _take(self, call: Call) -> None:
        self.shares.count(call)
        self.series.add(call)
        self.outcomes[call.outcome] += 1
        self.late = max(self.late, call.late)
        if call.late > self._allowed:
            self.overdue.add(f"{call.request_id}: {call.kind}, {call.late:.3f} s; {call.words}")
        if call.outcome == UNTYPED:
            self.untyped.add(f"{call.request_id}: {call.words}")
        elif call.outcome == WRONG:
            self.wrong.add(f"{call.request_id}: {call.kind}, {call.words}")
        final = call.final
        if final is not None and call.outcome == ERROR:
            self.errors[f"{final.error}, {final.processed}"] += 1
            self.failed += not call.hurried
            self._judge_error(call, final)
        self._book(call)

    def _judge_error(self, call: Call, final: Tried) -> None:
        if final.error == "ConnectError" and final.cause == "ConnectionRefusedError":
            self.dials.add(final.processed)
        if final.stream_id is None:
            self.unwritten.add(final.processed)
            if final.error in WAITED and not (call.hurried or self.shares.struck(call) & EXCUSES):
                self.starved.add(f"{call.request_id}: {call.words}, begun at {call.begin:.2f} s")
        elif final.processed is False and call.replayable and self._gave_up_early(call):
            self.given_up.add(f"{call.request_id}: {call.attempts} attempts, {call.words}")

    def _gave_up_early(self, call: Call) -> bool:
        """Whether another attempt was allowed and was not made."""
        retries = int(self.drill.config.get("max_retries", 2))
        return call.attempts <= retries and call.late < 0 and SPENT not in call.words

    def _book(self, call: Call) -> None:
        """Puts a call to its request's account; requests with one good call need none."""
        request_id = call.request_id
        if call.outcome == OK and not call.tried and request_id not in self._accounts:
            times = self.workers.times(request_id)
            if times == 1:
                return
        account = self._accounts.setdefault(request_id, Account())
        account.calls += 1
        account.done += call.outcome == OK
        account.excused |= call.hurried or call.outcome not in {OK, ERROR}
        final = call.final
        account.false += final is not None and final.processed is False
        account.words += f" {call.kind} {call.outcome} {call.words[:120]}"
        for tried in call.tried:
            if tried.error == "StreamReset" and tried.code == REFUSED_STREAM:
                account.refused_false += tried.processed is False
                account.refused_unknown += tried.processed is None

    # One request

    def _settle(self, request_id: int, account: Account) -> None:
        workers = self.workers
        times = workers.times(request_id)
        words = f"{request_id}: executed {times} times in {account.calls} calls:{account.words}"
        if times > account.calls:
            self.doubled.add(words)
        if times > account.calls - account.false:
            self.untrue.add(words)
        if account.done and not times:
            self.missing.add(words)
        if not (times or account.done or account.excused):
            self.lost += 1
        said = account.refused_false
        unsaid = max(0, account.refused_unknown - workers.refused_late[request_id])
        for processed in (*[False] * said, *[None] * unsaid):
            self.refused.add(processed)

    # All together

    @property
    def passed(self) -> bool:
        """Whether all is as it should be."""
        return all(check.passed for check in self.checks())

    def checks(self) -> list[Check]:
        """Returns all that is demanded of the client."""
        hung = Finds(len(self.report.hung), self.report.hung[:SHOWN])
        lag = f"{1000 * self.report.lag:.0f} ms"
        return [
            hung.check("requests that never ended"),
            self.overdue.check(f"ended over 250 ms + {lag} of loop lag after their time"),
            self.doubled.check("executed more often than the caller sent them"),
            self.untrue.check("said to be unprocessed, and in a worker's log"),
            self.missing.check("answered with 2xx, and in no worker's log"),
            self.untyped.check("exceptions without a type of ours"),
            self.wrong.check("wrong or cut answers taken for complete ones"),
            Finds(len(self.workers.broken), self.workers.broken[:SHOWN]).check(
                "rules of HTTP/2 broken towards a worker"
            ),
            self.refused.check("refused by REFUSED_STREAM or GOAWAY: processed is False"),
            self.dials.check("refused dials: processed is False"),
            self.unwritten.check("never written: processed is False"),
            self.given_up.check("unprocessed, replayable, in time, and not tried again"),
            self.starved.check(
                "waited to the end of their time though the worker could be reached"
            ),
            self._dialled_once().check("times of refusal in which a dial was not tried again"),
            *self._quota(),
            self._goodput(),
            *self._end(),
        ]

    def _dialled_once(self) -> Finds:
        """Returns the times in which dials were refused, and there was only one."""
        once = Finds()
        for fault in self.faults:
            if fault.kind == "refused dials":
                dials = [
                    at
                    for at, worker in self.report.dials
                    if worker == fault.worker and fault.begin + OPENING <= at <= fault.end
                ]
                if len(dials) == 1 and fault.end - dials[0] > AGAIN:
                    once.add(f"{fault.worker}: {dials[0]:.3f} s of {fault.begin:.3f} s")
        return once

    def _quota(self) -> Iterator[Check]:
        """Yields whether each kind of fault came often enough."""
        plan = self.drill.plan
        often = Counter(fault.kind for fault in self.faults)
        short = {
            kind.name: often[kind.name] for kind in KINDS if often[kind.name] < plan.often(kind)
        }
        demand = f"faults of each kind, at least {plan.each} ({plan.each_process} of a process)"
        least = min((often[kind.name] for kind in KINDS), default=0)
        examples = tuple(f"{name}: {number}" for name, number in short.items())
        yield Check(demand, f"{len(self.faults)}, least {least}", not short, examples)

    def _goodput(self) -> Check:
        outside = self.shares.outside
        least = self.drill.goodput
        title = f"goodput outside the faults' windows ≥ {least:.0%} of that in calm"
        return Check(title, f"{outside.goodput:.1%}", outside.goodput >= least)

    def _end(self) -> Iterator[Check]:
        report = self.report
        yield Check("streams in flight at the end", f"{report.in_flight}", not report.in_flight)
        windows = Finds(len(report.windows or ()), list(report.windows or ()))
        yield windows.check("connections whose window is not whole")
        yield Finds(len(report.left), report.left[:SHOWN]).check("tasks, sockets and timers left")
        growth = report.memory_end / report.memory_warm - 1 if report.memory_warm else 0.0
        mib = f"{report.memory_warm / 2**20:.1f} → {report.memory_end / 2**20:.1f} MiB"
        title = f"resident memory at most {self.drill.growth:.0%} over that after warm-up"
        yield Check(title, f"{growth:+.1%}, {mib}", growth <= self.drill.growth)

    def rows(self) -> Iterator[tuple[str, int, Share]]:
        """Yields each kind of fault: its name, how often it came, and what became of its calls."""
        often = Counter(fault.kind for fault in self.faults)
        for kind in KINDS:
            if often[kind.name]:
                yield kind.name, often[kind.name], self.shares.kinds.get(kind.name, Share())
        yield "none", 0, self.shares.outside
