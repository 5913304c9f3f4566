"""The caller's process: `python -m bench.drill.caller '<order as JSON>'`.

It says `ready`, waits for a line with the moment at which the drill begins (seconds of the
monotonic clock, which all processes of a machine share), makes calls and the faults that are the
caller's, and prints what it saw of itself as JSON in its last line.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import random
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from bench.drill.calls import Lanes, Target
from bench.drill.ledger import CALLS, FAULTS, Journal
from bench.drill.parties import OURS, open_party
from bench.drill.party import DNS_REFRESH, Names, Ours
from bench.drill.schedule import KINDS, Fault, Plan, make_schedule
from bench.drill.waiting import until
from bench.environment import pin
from tests.watched import LOOPS, open_sockets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.drill.party import Party
    from tests.watched import WatchedLoop

PROBE: Final = 0.01
"""Seconds between two looks at how late the loop is."""
MEMORY_EVERY: Final = 0.5
"""Seconds between two looks at the resident memory."""
PATIENCE: Final = 15.0
"""Seconds after the last call began in which every call must have ended: far beyond any limit."""
TAIL: Final = 2.0
"""Seconds without a fault at the end, at least."""
MIXED: Final = 40.0
"""Seconds of faults that belong to the warm-up of the memory, so that it has seen some of each."""
TURNS: Final = 100
CALLERS: Final = frozenset(kind.name for kind in KINDS if kind.side == "caller")


@dataclass(frozen=True, slots=True)
class Task:
    """What the caller is asked to do.

    Args:
        client: which client makes the calls.
        hosts: the names of the workers' hosts.
        addresses: where they are at first.
        port: the port of all.
        scripted: which of them are scripted.
        folder: where calls and faults are written down.
        plan: the faults.
        in_flight: how many calls at a time.
        requests: how many calls at least.
        work: seconds that a request takes a worker.
        config: fields of the client's configuration.
        loop: the event loop.
        core: the CPU to stay on, or None.
    """

    client: str
    hosts: list[str]
    addresses: list[str]
    port: int
    scripted: list[bool]
    folder: str
    plan: dict[str, Any]
    in_flight: int
    requests: int
    work: float
    config: dict[str, Any] = field(default_factory=dict)
    loop: str = "uvloop"
    core: int | None = None

    def to_json(self) -> str:
        """Returns the argument of the process."""
        return json.dumps(asdict(self))


@dataclass(slots=True)
class SelfReport:
    """What a caller saw of itself.

    Args:
        client: the client, with its version.
        made: calls that ended.
        seconds: how long it made calls.
        cpu: seconds of processor time.
        lag: the most that its event loop was late, in seconds.
        hung: calls that did not end.
        memory: seconds and bytes of resident memory, over time.
        memory_warm: bytes of resident memory after the warm-up.
        memory_end: the same after the last call.
        in_flight: streams that the client still had open after the last call; None if not known.
        windows: connections whose window was not whole; None if not known.
        left: what was left when the client had been closed, and what the loop complained of.
        retries: further attempts by the client's own count.
        connections: connections that it opened.
        dials: when it tried to connect, and to which worker; only what goes through Python is seen.
    """

    client: str
    made: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    lag: float = 0.0
    hung: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    memory_warm: int = 0
    memory_end: int = 0
    in_flight: int | None = None
    windows: list[str] | None = None
    left: list[str] = field(default_factory=list)
    retries: int | None = None
    connections: int | None = None
    dials: list[tuple[float, int]] = field(default_factory=list)


class Caller:
    """Makes the calls of a drill.

    Args:
        task: what is asked.
        started: the moment at which the drill begins, in seconds of the monotonic clock.
    """

    def __init__(self, task: Task, started: float) -> None:
        self._task = task
        self._started = started
        self._plan = Plan(**task.plan)
        self._names = Names()
        self._process = psutil.Process()
        for host, address in zip(task.hosts, task.addresses, strict=True):
            self._names.answers[host] = [address]
        self._targets = [Target(i, self._url(i)) for i in range(len(task.hosts))]
        self._warm = self._plan.calm + min(MIXED, self._plan.seconds / 2)
        self.report = SelfReport(task.client)
        self._workers = {address: i for i, address in enumerate(task.addresses)}
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Notes the dials."""
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            worker = self._workers.get(arguments[1][0])
            if worker is not None:
                self.report.dials.append((round(self.clock(), 4), worker))

    def _url(self, index: int) -> str:
        host = self._task.hosts[index]
        if self._task.client != OURS:  # others have no resolver that could be ours
            host = self._task.addresses[index]
        return f"http://{host}:{self._task.port}"

    def clock(self) -> float:
        """Returns the seconds since the drill began."""
        return time.monotonic() - self._started

    async def run(self) -> None:
        """Makes all calls, and ends what it began."""
        task, folder = self._task, Path(self._task.folder)
        party = open_party(task.client, self._names, task.config)
        journal = Journal(folder / f"caller-{FAULTS}")
        with (folder / CALLS).open("w", encoding="utf-8", buffering=1 << 16) as file:
            seed = self._plan.seed
            lanes = Lanes(party, self._targets, seed, task.work, file, self.clock)
            await asyncio.sleep(max(0.0, -self.clock()))
            calling = [asyncio.create_task(lanes.run(i)) for i in range(task.in_flight)]
            others = [
                asyncio.create_task(work)
                for work in (self._probe(), self._weigh(), self._trouble(party, journal))
            ]
            await self._until_done(lanes, calling)
            await self._stop(lanes, calling, others)
        journal.close()
        self._look_at(party)
        await party.close()

    async def _until_done(self, lanes: Lanes, calling: Sequence[asyncio.Task[None]]) -> None:
        plan, task = self._plan, self._task
        over = plan.calm + plan.seconds + TAIL
        while self.clock() < over or lanes.made < task.requests:
            await asyncio.sleep(0.05)
            if any(lane.done() for lane in calling):
                break  # it failed, which `_stop` tells

    async def _stop(
        self,
        lanes: Lanes,
        calling: Sequence[asyncio.Task[None]],
        others: Sequence[asyncio.Task[None]],
    ) -> None:
        lanes.stopping = True
        _, hung = await asyncio.wait(calling, timeout=PATIENCE)
        report = self.report
        report.seconds, report.made = self.clock(), lanes.made
        report.hung = [
            f"{order.request_id}: {order.kind} to {order.target.index}, begun at {begin:.3f} s"
            for order, begin in lanes.open.values()
        ]
        for work in (*hung, *others):
            work.cancel()
        results = await asyncio.gather(*calling, *others, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        usage = self._process.cpu_times()
        report.cpu = usage.user + usage.system

    # What is watched

    async def _probe(self) -> None:
        """Measures how late the loop is at most, from when all is warm."""
        clock = time.monotonic
        while True:
            due = clock() + PROBE
            await asyncio.sleep(PROBE)
            self.report.lag = max(self.report.lag, clock() - due)

    async def _weigh(self) -> None:
        """Notes the resident memory."""
        while True:
            memory = self._process.memory_info().rss
            self.report.memory.append((round(self.clock(), 2), memory))
            if self.clock() < self._warm:
                self.report.memory_warm = memory
            await asyncio.sleep(MEMORY_EVERY)

    def _look_at(self, party: Party) -> None:
        """Notes what is held once all calls have ended, with the client still open."""
        gc.collect()
        self.report.memory_end = self._process.memory_info().rss
        if isinstance(party, Ours):
            stats = party.client.stats()
            self.report.in_flight = stats.streams_in_flight
            self.report.retries = stats.retries
            self.report.connections = stats.connections_opened
            self.report.windows = party.broken_windows()

    # What the caller does

    async def _trouble(self, party: Party, journal: Journal) -> None:
        """Carries out the faults of the caller."""
        faults = [
            fault
            for fault in make_schedule(self._plan, self._task.scripted)
            if fault.kind in CALLERS and (isinstance(party, Ours) or fault.kind != "DNS change")
        ]
        running = deque[asyncio.Task[None]]()
        try:
            for fault in faults:
                await asyncio.sleep(max(0.0, fault.at - self.clock()))
                running.append(asyncio.create_task(self._do(fault, party, journal)))
                while running and running[0].done():
                    running.popleft().result()
            for work in running:
                await work
        finally:
            for work in running:
                work.cancel()

    async def _do(self, fault: Fault, party: Party, journal: Journal) -> None:
        target, begin = self._targets[fault.worker], self.clock()
        if fault.kind == "overload":
            target.overload += fault.amount
            await until(lambda: not target.overload)
        elif fault.kind == "time-outs":
            target.impatient += fault.amount
            await until(lambda: not target.impatient)
        elif fault.kind == "cancels":
            for scope in random.Random(fault.dice).sample([*target.scopes], _most(fault, target)):
                if not scope.expired():
                    scope.reschedule(asyncio.get_running_loop().time())
        elif fault.kind == "pool drain":
            await party.drain(target.url, warm=fault.dice < 0.5)
        else:
            await self._move(fault)
        journal.write((fault.kind, fault.worker, begin, self.clock()))

    async def _move(self, fault: Fault) -> None:
        """Changes what a name stands for, and changes it back."""
        task, answers = self._task, self._names.answers
        host, home = task.hosts[fault.worker], [task.addresses[fault.worker]]
        elsewhere = [each for each in task.addresses if each not in home]
        if fault.dice < 0.2:
            answers[host] = None
        elif fault.dice < 0.4:
            answers[host] = []
        elif fault.dice < 0.6:
            answers[host] = [*home, elsewhere[int(fault.dice * 100) % len(elsewhere)]]
        else:
            answers[host] = [elsewhere[int(fault.dice * 100) % len(elsewhere)]]
        await asyncio.sleep(fault.lasts)
        answers[host] = home
        await asyncio.sleep(2 * DNS_REFRESH)  # until that is noticed


def _most(fault: Fault, target: Target) -> int:
    return min(fault.amount, len(target.scopes))


def carry_out(task: Task) -> SelfReport:
    """Runs a drill's calls on a loop of its own, and looks at what is left of them."""
    loop: WatchedLoop = LOOPS[task.loop]()
    asyncio.set_event_loop(loop)
    complaints: list[str] = []
    loop.set_exception_handler(
        lambda _, context: complaints.append(f"{context['message']}: {context.get('exception')!r}")
    )
    sockets = open_sockets()
    print("ready", flush=True)
    caller = Caller(task, float(sys.stdin.readline()))
    try:
        loop.run_until_complete(caller.run())
        caller.report.left = [*complaints, *left(loop, sockets)]
    finally:
        with contextlib.suppress(RuntimeError):
            loop.close()
    return caller.report


def left(loop: WatchedLoop, sockets: set[str]) -> list[str]:
    """Returns what is still open on a loop that stands, after some turns to clear away."""
    gc.collect()
    for _ in range(TURNS):
        loop.run_until_complete(asyncio.sleep(0))
    things = (*asyncio.all_tasks(loop), *loop.timers.live(loop.time()))
    return [*map(repr, things), *sorted(open_sockets() - sockets)]


def main() -> None:
    """Does what the argument says."""
    task = Task(**json.loads(sys.argv[1]))
    logging.getLogger("dynamo_h2").setLevel(logging.ERROR)  # workers ask for calm here all the time
    pin(task.core)
    print(json.dumps(asdict(carry_out(task))), flush=True)


if __name__ == "__main__":
    main()
