"""The addresses of one host: which to try next, and how long to leave one alone that failed.

1. Addresses of one family are taken for so many places where the host is, and are used in turn: the
   one with the fewest connections first, then the one that was not dialled for the longest time.
   IPv4 and IPv6 are taken for two ways to the same places: the family that connected last counts,
   the other one stands behind it in the race.
2. An address that fails is left alone for a random part (full jitter) of 50 ms, twice as long each
   time it fails again, up to 5 s; a connection whose peer sent its SETTINGS makes that good.
3. An answer of the resolver takes the place of the one before; of addresses that are not in it
   nothing is remembered.
"""

from __future__ import annotations

import math
import random
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dynamo_h2.transport.sockets import Address

# How long an address is left alone after its first failure, and at most; in seconds.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
# Failures after which the pause grows no more.
_COUNTED = 10


class _Standing:
    """What is known of one address."""

    __slots__ = ("connections", "dialled", "failures", "not_before")

    def __init__(self) -> None:
        self.connections = 0
        self.failures = 0
        self.not_before = 0.0
        self.dialled = 0  # the number of the latest dial that led here


class Addresses:
    """The addresses of one host.

    Args:
        draw: Draws a number in 0…1 for each pause.
    """

    __slots__ = ("_dials", "_draw", "_family", "_known", "_unknown")

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._family: int | None = None
        self._known: dict[Address, _Standing] = {}
        self._unknown = _Standing()  # of a name without any address
        self._dials = 0

    def __contains__(self, address: Address) -> bool:
        return address in self._known

    @property
    def several(self) -> bool:
        """Whether the host is in several places."""
        return len(self._endpoints()) > 1

    @property
    def any_known(self) -> bool:
        """Whether there is any."""
        return bool(self._known)

    def learn(self, answer: Iterable[Address]) -> None:
        """Take an answer of the resolver; an empty one says nothing."""
        known = {address: self._known.get(address) or _Standing() for address in answer}
        if known:
            self._known = known
            self._unknown = _Standing()

    def order(self, now: float, *, unused_only: bool = False) -> list[Address]:
        """The addresses that may be tried now, the best first.

        Args:
            now: The present, in seconds.
            unused_only: Leave those out that have a connection, and the other family.
        """
        known = self._known
        if len(known) == 1 and not unused_only:
            return [each for each, standing in known.items() if standing.not_before <= now]
        pool = self._endpoints() if unused_only else known
        usable = [each for each in pool if known[each].not_before <= now]
        if unused_only:
            usable = [each for each in usable if not known[each].connections]
        if self._family is not None or len({each.family for each in usable}) == 1:
            usable.sort(key=self._rank)
        return usable

    def dialled(self, address: Address) -> None:
        """Note that an address is tried."""
        self._dials += 1
        if address in self._known:
            self._known[address].dialled = self._dials

    def connected(self, address: Address) -> None:
        """Count a connection that was made."""
        self._family = address.family
        if address in self._known:
            self._known[address].connections += 1

    def left(self, address: Address) -> None:
        """Count a connection that takes no more requests."""
        standing = self._known.get(address)
        if standing is not None and standing.connections:
            standing.connections -= 1

    def failed(self, addresses: Iterable[Address], now: float) -> None:
        """Leave addresses alone for a while, since they were tried in vain at ``now`` (seconds)."""
        for address in addresses:
            standing = self._known.get(address)
            if standing is not None:
                self._pause(standing, now)

    def unresolved(self, now: float) -> None:
        """Note that there was no answer at ``now`` (seconds)."""
        self._pause(self._unknown, now)

    def succeeded(self, address: Address) -> None:
        """Forget the failures of an address."""
        standing = self._known.get(address)
        if standing is not None:
            standing.failures = 0
            standing.not_before = 0.0

    def next_try(self) -> float:
        """When one of them may be tried, in seconds."""
        standings = self._known.values() or [self._unknown]
        return min(standing.not_before for standing in standings)

    def vacant_at(self) -> float:
        """When one without a connection may be tried, in seconds; infinite where all have one."""
        standings = [self._known[each] for each in self._endpoints()]
        return min((each.not_before for each in standings if not each.connections), default=inf)

    def _pause(self, standing: _Standing, now: float) -> None:
        pause = min(math.ldexp(FIRST_PAUSE, standing.failures), LONGEST_PAUSE)
        standing.failures = min(standing.failures + 1, _COUNTED)
        standing.not_before = now + self._draw() * pause

    def _endpoints(self) -> list[Address]:
        """The addresses of the family that counts."""
        if len(self._known) == 1:
            return list(self._known)
        family = self._family
        if family is None or all(each.family != family for each in self._known):
            family = next((each.family for each in self._known), None)
        return [each for each in self._known if each.family == family]

    def _rank(self, address: Address) -> tuple[bool, int, int]:
        standing = self._known[address]
        other = self._family is not None and address.family != self._family
        return other, standing.connections, standing.dialled
