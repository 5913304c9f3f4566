"""How the faults outside the caller are brought about."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bench.drill.schedule import KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from bench.drill.ledger import Journal
    from bench.drill.schedule import Fault
    from bench.drill.workers import Site
    from tests.peers.link import Direction

SLOW_RATE: Final = 150_000
SLOW_DELAY: Final = 0.03
TOLD: Final = 0.2
"""Seconds in which a scripted worker, or a link, has done what it was told once."""
DETECTED: Final = 1.7
"""Seconds after which the caller knows that a connection is dead: keep-alive asks after 0.5 s of
silence, or where the worker has asked for calm each request after 1 s, and waits for 0.5 s."""
ELSEWHERE: Final = frozenset(kind.name for kind in KINDS if kind.side == "caller")


class Trouble:
    """Carries out a schedule, but for what is the caller's own.

    Args:
        sites: the workers and their links.
        clock: tells the seconds since the drill began.
        journal: where it is written down what took place.
    """

    def __init__(self, sites: Sequence[Site], clock: Callable[[], float], journal: Journal) -> None:
        self._sites = sites
        self._clock = clock
        self._journal = journal

    async def run(self, faults: Iterable[Fault]) -> None:
        """Carries out the faults, each at its time."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                if fault.kind not in ELSEWHERE:
                    await asyncio.sleep(max(0.0, fault.at - self._clock()))
                    group.create_task(self._do(fault))

    async def _do(self, fault: Fault) -> None:
        begin = self._clock()
        await _DEEDS[fault.kind](self._sites[fault.worker], fault)
        self._journal.write((fault.kind, fault.worker, begin, self._clock()))


async def _restart(site: Site, _fault: Fault) -> None:
    await site.worker.restart()


async def _kill(site: Site, _fault: Fault) -> None:
    await site.worker.kill()


async def _stop(site: Site, fault: Fault) -> None:
    await site.worker.stand_still(fault.lasts)


async def _reset(site: Site, fault: Fault) -> None:
    """Resets the connections after some bytes, which ends most of them within a frame."""
    direction: Direction = "down" if fault.dice < 0.7 else "up"
    await site.link.reset_connections(1 + int(fault.dice * 3000), direction)
    await asyncio.sleep(TOLD)


async def _freeze(site: Site, fault: Fault) -> None:
    await site.link.freeze()
    await asyncio.sleep(fault.lasts)
    await site.link.thaw()


async def _slow_down(site: Site, fault: Fault) -> None:
    await site.link.set(rate=SLOW_RATE, delay=SLOW_DELAY)
    await asyncio.sleep(fault.lasts)
    await site.link.set(rate=None, delay=0.0)


async def _refuse(site: Site, fault: Fault) -> None:
    """Refuses dials, after it has made sure that there must be some."""
    await site.link.refuse()
    await site.link.reset_connections()
    await asyncio.sleep(fault.lasts)
    await site.link.accept()


async def _half_open(site: Site, _fault: Fault) -> None:
    await site.link.kill_half_open()
    await asyncio.sleep(DETECTED)


def _telling(command: str) -> Callable[[Site, Fault], Awaitable[None]]:
    async def tell(site: Site, fault: Fault) -> None:
        site.worker.tell(command.format(fault.amount))
        await asyncio.sleep(TOLD)

    return tell


_DEEDS: Final[dict[str, Callable[[Site, Fault], Awaitable[None]]]] = {
    "graceful restart": _restart,
    "SIGKILL": _kill,
    "SIGSTOP": _stop,
    "reset in mid-frame": _reset,
    "frozen link": _freeze,
    "slow link": _slow_down,
    "refused dials": _refuse,
    "half-open": _half_open,
    "REFUSED_STREAM": _telling("refuse {}"),
    "GOAWAY, cut": _telling("goaway cut"),
    "GOAWAY, two steps": _telling("goaway steps"),
    "GOAWAY, error": _telling("goaway error"),
    "cut responses": _telling("cut {}"),
}
