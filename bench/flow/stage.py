"""Where a scenario plays: a server, a link to it, and clients in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from bench.flow.child import Order
from bench.flow.servers import MIB
from examples.local_worker import ROOT
from tests.peers.link import run_link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bench.flow.record import Points
    from bench.flow.setups import Setup
    from tests.peers.link import Link

PATIENCE: Final = 60.0  # seconds beyond what a job should take, until its child counts as stuck
WATCH_EVERY: Final = 0.02  # seconds


class ChildError(RuntimeError):
    """A client failed at its job."""


@dataclass(slots=True)
class Told:
    """What came of a child's job.

    Args:
        result: what the job returned.
        before: resident bytes of the process before the job.
        memory: resident bytes over time, in seconds since the job began.
        held: bytes inside the link, on their way to the client.
        begun: when the job began, in seconds of the monotonic clock.
    """

    result: dict[str, Any] = field(default_factory=dict)
    before: int = 0
    memory: Points = field(default_factory=list)
    held: Points = field(default_factory=list)
    begun: float = 0.0

    @property
    def growth(self) -> float:
        """The most resident bytes that were added, in MiB."""
        return (max(value for _, value in self.memory) - self.before) / MIB

    @property
    def left(self) -> float:
        """The resident bytes that were added and still there at the end, in MiB."""
        return (self.memory[-1][1] - self.before) / MIB


@contextlib.asynccontextmanager
async def link_to(url: str, *, rtt: float, rate: float | None) -> AsyncIterator[Link]:
    """Runs a link to a server.

    Args:
        url: the server.
        rtt: seconds there and back.
        rate: bytes per second, either way.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    async with run_link(host, int(port), delay=rtt / 2, rate=rate) as link:
        yield link


async def play(
    setup: Setup,
    job: str,
    url: str,
    *,
    options: dict[str, Any] | None = None,
    link: Link | None = None,
    acts: Callable[[], Awaitable[None]] | None = None,
    **arguments: object,
) -> Told:
    """Lets one client do one job.

    Args:
        setup: the client.
        job: a name out of ``JOBS``.
        url: the server, or the link before it.
        options: further options of our client.
        link: whose content is written down.
        acts: what happens meanwhile; its time begins with the job's.
        arguments: keywords of the job.

    Raises:
        ChildError: the client failed.
    """
    known = {"request_timeout": None, **(options or {})}
    order = Order(setup.name, job, url, known, dict(arguments))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.flow.child", order.to_json()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        limit=1 << 28,
    )
    try:
        async with asyncio.timeout(PATIENCE + float(str(arguments.get("patience", 60)))):
            return await _follow(process, link, acts)
    except TimeoutError:
        raise ChildError(f"{job} did not come to an end") from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _follow(
    process: asyncio.subprocess.Process,
    link: Link | None,
    acts: Callable[[], Awaitable[None]] | None,
) -> Told:
    assert process.stdin is not None
    await _message(process)
    told = Told(before=resident(process.pid), begun=monotonic())
    process.stdin.write(b"go\n")
    tasks = [asyncio.create_task(_watch_memory(process.pid, told))]
    if link is not None:
        tasks.append(asyncio.create_task(_watch_link(link, told)))
    if acts is not None:
        tasks.append(asyncio.ensure_future(acts()))
    try:
        told.result = (await _message(process))["result"]
        told.memory.append((monotonic() - told.begun, resident(process.pid)))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return told


async def _message(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise ChildError(f"ended with exit code {await process.wait()}")
    message: dict[str, Any] = json.loads(line)
    if "failure" in message:
        raise ChildError(message["failure"])
    return message


def resident(pid: int) -> int:
    """Returns the resident bytes of a process, as the kernel counts them."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def _watch_memory(pid: int, told: Told) -> None:
    with contextlib.suppress(OSError, IndexError):  # it ended
        while True:
            told.memory.append((monotonic() - told.begun, resident(pid)))
            await asyncio.sleep(WATCH_EVERY)


async def _watch_link(link: Link, told: Told) -> None:
    while True:
        # Not to be cancelled in the middle of a question, about which the link would complain.
        inside = (await asyncio.shield(link.stats())).down.held
        told.held.append((monotonic() - told.begun, inside))
        await asyncio.sleep(5 * WATCH_EVERY)
