"""Which connection a key is pinned to."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamo_h2.transport.protocol import ClientProtocol

# Keys that a host remembers: past it the one that was not used for the longest time is forgotten,
# and may be pinned elsewhere. A worker's cache holds fewer sessions than that.
MAX_PINS = 10_000


class Pins:
    """The keys of one host, with their connections."""

    __slots__ = ("_keys", "_pins")

    def __init__(self) -> None:
        self._pins: OrderedDict[str, ClientProtocol] = OrderedDict()
        self._keys: dict[ClientProtocol, set[str]] = {}

    def __len__(self) -> int:
        return len(self._pins)

    def get(self, key: str) -> ClientProtocol | None:
        """Where a key is pinned; that counts as its use."""
        protocol = self._pins.get(key)
        if protocol is not None:
            self._pins.move_to_end(key)
        return protocol

    def put(self, key: str, protocol: ClientProtocol) -> None:
        """Pin a key that is pinned nowhere."""
        if len(self._pins) >= MAX_PINS:
            oldest, where = self._pins.popitem(last=False)
            self._keys[where].discard(oldest)
        self._pins[key] = protocol
        self._keys.setdefault(protocol, set()).add(key)

    def forget(self, protocol: ClientProtocol) -> None:
        """Forget the keys of a connection."""
        for key in self._keys.pop(protocol, ()):
            del self._pins[key]
