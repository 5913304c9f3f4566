"""Asking for the addresses of a host: for each dial, and again while it is in use.

Each dial asks anew; where there is no answer, or none in time, it makes do with the last one.
Beside that a host that is in use is asked for every `dns_refresh` seconds, so that what has come is
used and what has gone is left. Nothing of this runs by itself: a request that comes when it is time
starts it, in a task of its own. A failed or empty answer changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from math import inf
from typing import TYPE_CHECKING

from dynamo_h2.transport.sockets import alternate, literal, unix_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.origin import Origin
    from dynamo_h2.transport.addresses import Addresses
    from dynamo_h2.transport.resources import Resources
    from dynamo_h2.transport.sockets import Address

# Not all hosts that were used first at the same time are asked for at the same time.
_JITTER = 0.1

# The longest that an answer is waited for where a dial may take as long as it likes, in seconds.
_PATIENCE = 30.0

_logger = logging.getLogger("dynamo_h2")


class Names:
    """Asks for the addresses of one host.

    Args:
        resources: What all hosts share.
        origin: Whose addresses they are.
        addresses: Where the answers go.
        on_refreshed: Called after an answer that was not asked for by a dial.

    Attributes:
        only: The single one that there will ever be, because the origin names no name; else None.
        refresh_at: When it is time to ask again, in monotonic seconds; infinite for never.
    """

    __slots__ = (
        "_addresses",
        "_on_refreshed",
        "_origin",
        "_resources",
        "_task",
        "only",
        "refresh_at",
    )

    def __init__(
        self,
        resources: Resources,
        origin: Origin,
        addresses: Addresses,
        on_refreshed: Callable[[], None],
    ) -> None:
        self._resources = resources
        self._origin = origin
        self._addresses = addresses
        self._on_refreshed = on_refreshed
        self._task: asyncio.Task[None] | None = None
        self.refresh_at = 0.0  # there was no answer yet
        fixed = _fixed(origin)
        self.only = fixed[0] if fixed else None
        if fixed:
            addresses.learn(fixed)
            self.refresh_at = inf

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The question that is under way."""
        return self._task

    async def resolve(self, now: float) -> None:
        """Ask for a dial.

        Raises:
            ConnectError: There is no address, and none is known from before.
        """
        known = self._addresses.any_known
        try:
            # With half of a dial's time left, a connection can still be made to what is known.
            async with asyncio.timeout(self._patience / 2 if known else None):
                answer = await self._resources.dialer.resolve(self._origin)
        except Exception:
            if not known:
                raise
            return
        self._addresses.learn(answer)
        if self.refresh_at == 0:
            self._plan(now)

    def refresh(self, now: float) -> None:
        """Ask again, if it is time; the answer is seen to when it is there."""
        if now >= self.refresh_at and self._task is None and self.refresh_at > 0:
            self._plan(now)
            self._task = self._resources.loop.create_task(self._ask())
            self._task.add_done_callback(self._asked)

    def cancel(self) -> None:
        """Ask no more."""
        self.refresh_at = inf
        if self._task is not None:
            self._task.cancel()

    @property
    def _patience(self) -> float:
        """The longest that an answer may take, in seconds."""
        return self._resources.config.connect_timeout or _PATIENCE

    def _plan(self, now: float) -> None:
        period = self._resources.config.dns_refresh
        jitter = 1 + _JITTER * (2 * random.random() - 1)
        self.refresh_at = inf if period is None else now + period * jitter

    async def _ask(self) -> None:
        async with asyncio.timeout(self._patience):
            self._addresses.learn(await self._resources.dialer.resolve(self._origin))

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._on_refreshed()
        else:
            _logger.debug("%s: its addresses stay as they are: %r", self._origin, error)


def _fixed(origin: Origin) -> list[Address]:
    """The addresses of an origin that names no name, so that nobody has to be asked."""
    if origin.socket_path is not None:
        return [unix_address(origin.socket_path)]
    if "%" in origin.host:
        return []  # a zone names an interface, which may come back with another number
    return alternate(literal(origin.host, origin.port))
