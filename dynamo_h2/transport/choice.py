"""Which of a host's connections a request goes to.

1. The least loaded one that has a free slot. Equals take turns where the host is in several places.
   Else the same ones are taken again and again: those that are not needed become idle, and close.
2. Nothing is written ahead of a peer's SETTINGS where a connection that has proved good will do.
3. A suspect connection, whose peer owes us a sign of life, is left alone as long as another is
   there, or may be dialled. While there is one, nothing is written ahead at all.

A few connections are looked through. More of them stand in buckets, one for each load: to take a
slot or to give it back moves a connection to the next bucket, so that nothing takes longer with a
thousand connections than with ten. A single one, which is the rule, needs neither.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynamo_h2.transport.protocol import ClientProtocol
    from dynamo_h2.transport.sockets import Address

# Up to so many connections are looked through: to look at one takes a tenth of a microsecond, to
# keep the buckets two for each request.
FEW = 12


class Choice:
    """The connections of one host that take requests.

    Attributes:
        connections: All of them with their addresses; the oldest first unless they take turns.
        suspects: Those whose peers owe us a sign of life.
        unready: Those whose peers have not sent their SETTINGS yet.
        barred: Those whose peers take no streams at all.
        only: The single connection, where it is good.
        few: Whether there are few; then nobody has to tell what has moved.
        take_turns: Whether equals take turns.
    """

    __slots__ = (
        "_buckets",
        "_least",
        "_places",
        "barred",
        "connections",
        "few",
        "only",
        "suspects",
        "take_turns",
        "unready",
    )

    def __init__(self) -> None:
        self.connections: dict[ClientProtocol, Address] = {}
        self.suspects: dict[ClientProtocol, None] = {}
        self.unready: dict[ClientProtocol, None] = {}
        self.barred: dict[ClientProtocol, None] = {}
        self.only: ClientProtocol | None = None
        self.few = True
        self.take_turns = False
        self._buckets: list[OrderedDict[ClientProtocol, None]] = [OrderedDict()]
        self._places: dict[ClientProtocol, int] = {}
        self._least = 0  # no bucket below this one holds anything

    # Who is there.

    def add(self, protocol: ClientProtocol, address: Address) -> None:
        """Take a new connection, whose peer's SETTINGS are still to come."""
        self.connections[protocol] = address
        self.unready[protocol] = None
        self._arrange(protocol)
        self.moved(protocol)

    def remove(self, protocol: ClientProtocol) -> Address | None:
        """Take no account of a connection any more; its address, or None where it was none."""
        address = self.connections.pop(protocol, None)
        if address is not None:
            self.suspects.pop(protocol, None)
            self.unready.pop(protocol, None)
            self.barred.pop(protocol, None)
            self._take_out(protocol)
            self._arrange()
        return address

    def settled(self, protocol: ClientProtocol) -> None:
        """Note that a peer has sent its SETTINGS."""
        self.unready.pop(protocol, None)
        self.moved(protocol)

    def suspect(self, protocol: ClientProtocol) -> None:
        """Note that a peer owes us a sign of life."""
        if protocol in self.connections:
            self.suspects[protocol] = None
            self._arrange(protocol)

    def trust(self, protocol: ClientProtocol) -> None:
        """Note that a peer has given it."""
        if protocol in self.suspects:
            del self.suspects[protocol]
            self._arrange(protocol)

    def moved(self, protocol: ClientProtocol) -> None:
        """Note that the load or the capacity of a connection has changed."""
        if protocol not in self.connections:
            return
        if protocol.connection.capacity:
            self.barred.pop(protocol, None)
        else:
            self.barred[protocol] = None
        if not self.few:
            self._place(protocol)

    # Who is chosen.

    @property
    def any_ready(self) -> bool:
        """Whether a peer has sent its SETTINGS."""
        return len(self.connections) > len(self.unready)

    @property
    def any_trusted(self) -> bool:
        """Whether a peer is known to be there."""
        return any(
            each not in self.suspects and each not in self.unready for each in self.connections
        )

    @property
    def any_pending(self) -> bool:
        """Whether a connection is on its way of which there is nothing to doubt yet."""
        return any(each not in self.suspects for each in self.unready)

    def least_loaded(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        """The least loaded good connection with a free slot."""
        only = self.only
        if only is not None:
            return only if only is not avoid and only.load < only.connection.capacity else None
        best = self._look_through(avoid) if self.few else self._first_placed(avoid)
        if best is None:
            best = _least_loaded(each for each in self._writable_ahead() if each is not avoid)
        return best

    def has_room(self, protocol: ClientProtocol) -> bool:
        """Whether a connection is good, and has a free slot."""
        if protocol in self.suspects or (self.suspects and protocol in self.unready):
            return False
        return protocol.load < protocol.connection.capacity

    def least_loaded_suspect(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        """The least loaded suspect connection with a free slot."""
        return _least_loaded(each for each in self.suspects if each is not avoid)

    def surplus(self, keep: int) -> ClientProtocol | None:
        """A good connection without a request, where there are more than ``keep`` of them."""
        if len(self.connections) <= keep:
            return None
        if self.few:
            good = [each for each in self.connections if not self._doubtful(each)]
            idle = [each for each in good if not each.load]
            return idle[0 if self.take_turns else -1] if len(idle) > keep else None
        placed = self._buckets[0]
        return next(iter(placed)) if len(placed) > keep else None

    def _writable_ahead(self) -> Iterable[ClientProtocol]:
        return () if self.suspects else self.unready

    def _doubtful(self, protocol: ClientProtocol) -> bool:
        return protocol in self.suspects or protocol in self.unready

    # A few.

    def begin_turns(self, protocol: ClientProtocol) -> None:
        """Let equals take turns from here on, after one that was just taken."""
        if not self.take_turns:
            self.take_turns = True
            self._to_the_end(protocol)

    def _to_the_end(self, protocol: ClientProtocol) -> None:
        self.connections[protocol] = self.connections.pop(protocol)

    def _look_through(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        best: ClientProtocol | None = None
        least = inf  # of the loads
        doubts = self.suspects or self.unready
        for protocol in self.connections:
            load = protocol.load
            if (
                load < least
                and load < protocol.connection.capacity
                and protocol is not avoid
                and not (doubts and self._doubtful(protocol))
            ):
                best, least = protocol, load
        if best is not None and self.take_turns:
            self._to_the_end(best)
        return best

    # Many.

    def _first_placed(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        buckets = self._buckets
        while self._least < len(buckets) and not buckets[self._least]:
            self._least += 1
        for load in range(self._least, len(buckets)):
            bucket = buckets[load]
            for protocol in bucket if self.take_turns else reversed(bucket):
                if protocol is not avoid:
                    return protocol
        return None

    def _arrange(self, *changed: ClientProtocol) -> None:
        """See to it that who has changed stands in the right place, where places are kept."""
        alone = len(self.connections) == 1 and not self.suspects
        self.only = next(iter(self.connections)) if alone else None
        before, self.few = self.few, len(self.connections) <= FEW
        if self.few:
            for protocol in list(self._places):
                self._take_out(protocol)
        else:
            for protocol in self.connections if before else changed:
                self._place(protocol)

    def _place(self, protocol: ClientProtocol) -> None:
        load = protocol.load
        if load >= protocol.connection.capacity or self._doubtful(protocol):
            self._take_out(protocol)
            return
        if self._places.get(protocol) == load:
            return
        self._take_out(protocol)
        while len(self._buckets) <= load:
            self._buckets.append(OrderedDict())
        self._buckets[load][protocol] = None
        self._places[protocol] = load
        self._least = min(self._least, load)

    def _take_out(self, protocol: ClientProtocol) -> None:
        place = self._places.pop(protocol, None)
        if place is not None:
            del self._buckets[place][protocol]


def _least_loaded(protocols: Iterable[ClientProtocol]) -> ClientProtocol | None:
    free = [each for each in protocols if each.load < each.connection.capacity]
    return min(free, key=lambda each: each.load, default=None)
