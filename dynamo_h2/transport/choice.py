"""Which of a host's connections a request goes to.

1. The least loaded one that has a free slot.
2. A suspect connection, whose peer owes us a sign of life, is left alone as long as another is
   there, or may be dialled. While there is one, those count that have proved good: nothing is
   written ahead of a peer's SETTINGS.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynamo_h2.transport.protocol import ClientProtocol


class Choice:
    """The connections of one host that take requests.

    Attributes:
        connections: All of them, the oldest first.
        suspects: Those whose peers owe us a sign of life.
    """

    __slots__ = ("connections", "suspects")

    def __init__(self) -> None:
        self.connections: list[ClientProtocol] = []
        self.suspects: list[ClientProtocol] = []

    def least_loaded(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        """The least loaded good connection with a free slot."""
        best: ClientProtocol | None = None
        least = inf  # of the loads
        for protocol in self.trusted() if self.suspects else self.connections:
            load = protocol.load
            if load < least and load < protocol.connection.capacity and protocol is not avoid:
                best, least = protocol, load
        return best

    def least_loaded_suspect(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        """The least loaded suspect connection with a free slot."""
        return _least_loaded(each for each in self.suspects if each is not avoid)

    def trusted(self) -> list[ClientProtocol]:
        """While some are suspect: those whose peers are known to be there."""
        known = [each for each in self.connections if each.connection.ready]
        return [each for each in known if each not in self.suspects]

    def suspect(self, protocol: ClientProtocol) -> None:
        """Note that a peer owes us a sign of life."""
        if protocol in self.connections:
            self.suspects.append(protocol)

    def trust(self, protocol: ClientProtocol) -> None:
        """Note that a peer has given it."""
        if protocol in self.suspects:
            self.suspects.remove(protocol)

    def remove(self, protocol: ClientProtocol) -> bool:
        """Take no account of a connection any more; False where it was none of these."""
        if protocol not in self.connections:
            return False
        self.connections.remove(protocol)
        self.trust(protocol)
        return True


def _least_loaded(protocols: Iterable[ClientProtocol]) -> ClientProtocol | None:
    free = [each for each in protocols if each.load < each.connection.capacity]
    return min(free, key=lambda each: each.load, default=None)
