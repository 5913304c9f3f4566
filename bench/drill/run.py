"""One drill: workers, links, the caller's process and the schedule, all at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.drill.caller import TAIL, SelfReport, Task
from bench.drill.faults import Trouble
from bench.drill.ledger import FAULTS, Journal
from bench.drill.schedule import make_schedule
from bench.drill.workers import WORKERS, run_sites
from tests.peers.process import LAUNCH, ROOT, open_lifeline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.drill.schedule import Fault, Plan
    from bench.drill.workers import Site, Spec

HEAD_START: Final = 0.5
"""Seconds from the word to begin until it begins."""
LINE: Final = 1 << 26
"""Bytes of the caller's report at most."""


@dataclass(frozen=True, slots=True)
class Drill:
    """What a drill is.

    Args:
        plan: the faults.
        in_flight: calls at a time.
        requests: calls at least.
        work: seconds that a worker takes for a request.
        client: who makes the calls.
        config: fields of that client's configuration.
        loop: its event loop.
        specs: the workers.
        goodput: what is demanded outside of windows, as a part of that in calm.
        growth: by how much the resident memory may grow after the warm-up.
    """

    plan: Plan
    in_flight: int = 256
    requests: int = 0
    work: float = 0.22
    client: str = "dynamo_h2"
    config: dict[str, Any] = field(default_factory=dict)
    loop: str = "uvloop"
    specs: Sequence[Spec] = WORKERS
    goodput: float = 0.95
    growth: float = 0.10

    @property
    def names(self) -> list[str]:
        """The names of the workers."""
        return [spec.name for spec in self.specs]

    def schedule(self) -> list[Fault]:
        """Returns the faults, as caller and drill both draw them."""
        return make_schedule(self.plan, [spec.scripted for spec in self.specs])


async def run_drill(drill: Drill, folder: Path) -> SelfReport:
    """Runs a drill; what happened is in the files of the folder, which exists.

    Raises:
        RuntimeError: A worker did not start, or the caller's process ended badly.
    """
    async with run_sites(folder, drill.specs) as sites:
        return await _call(drill, folder, sites)


async def _call(drill: Drill, folder: Path, sites: Sequence[Site]) -> SelfReport:
    task = Task(
        drill.client,
        hosts=[f"{name}.drill" for name in drill.names],
        addresses=[site.host for site in sites],
        port=sites[0].link.address.port,
        scripted=[spec.scripted for spec in drill.specs],
        folder=str(folder),
        plan=asdict(drill.plan),
        in_flight=drill.in_flight,
        requests=drill.requests,
        work=drill.work,
        config=drill.config,
        loop=drill.loop,
    )
    with open_lifeline() as lifeline:
        caller = await asyncio.create_subprocess_exec(
            *(sys.executable, str(LAUNCH), str(lifeline)),  # it ends when this process does
            *(sys.executable, "-m", "bench.drill.caller", task.to_json()),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
            pass_fds=[lifeline],
        )
        try:
            return await _direct(drill, folder, sites, caller)
        finally:
            if caller.returncode is None:
                caller.kill()
            await caller.wait()


async def _direct(
    drill: Drill, folder: Path, sites: Sequence[Site], caller: asyncio.subprocess.Process
) -> SelfReport:
    assert caller.stdin is not None
    assert caller.stdout is not None
    if await caller.stdout.readline() != b"ready\n":
        raise RuntimeError("the caller did not start; its last words are on standard error")
    started = time.monotonic() + HEAD_START
    caller.stdin.write(f"{started!r}\n".encode())
    journal = Journal(folder / f"director-{FAULTS}")
    trouble = Trouble(sites, lambda: time.monotonic() - started, journal)
    directing = asyncio.create_task(trouble.run(drill.schedule()))
    try:
        said = (await caller.stdout.read()).decode().splitlines()
        if not said or await caller.wait():
            raise RuntimeError("the caller ended; its last words are on standard error")
        directing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await directing
    finally:
        directing.cancel()
        journal.close()
    report = SelfReport(**json.loads(said[-1]))
    # What is still under way to a worker has to arrive before its log is read.
    for site in sites:
        await site.link.close_connections()
    await asyncio.sleep(TAIL)
    return report
