"""The memory that all connections of a client may fill with bytes that nobody has taken yet.

Credit is memory: what a peer was granted it may send at any moment. So each connection holds a
*lease*, and the leases together never pass the budget:

1. A connection is charged with its unread bytes, with bodies that are being collected, and with
   what its peer may still send: the connection's window, or, where that is less, the windows of its
   open streams together. Bytes that arrive move from the window to what is unread, so that the
   charge rises only when something is granted; a grant is preceded by a larger lease.
2. As long as three quarters of the budget are enough for all, a lease covers the whole window of a
   connection, and streams have no part in it: a request costs nothing here.
3. A connection without streams is charged with no window. Its lease is taken back when others want
   one, and it asks for another with its next stream.
4. A connection that gets no larger lease comes under *pressure*, and so does the one that holds
   most bytes that were not taken. What that means is for `Credit` to know.
5. The last quarter is for streams that are being read while there is pressure. What one of them
   gets is an eighth of what is left, at most `CHUNK`, so that there is always something left.
6. Bodies that are collected free nothing before they are complete, and if each had a part of the
   memory, none would be. So there is pressure as soon as several of them hold an eighth of the
   budget. Under it they come one after another: the one that has waited longest may have half of
   what is left, and the others share what is above half of the budget. As no window is more than a
   quarter of it, a body of up to half the budget always finds the room that it needs.
"""

from __future__ import annotations

from typing import Protocol

# What a stream is granted at a time under pressure, in bytes, and the part of what is left that
# this may be: some hundred streams that are granted it and then stall leave a millionth.
CHUNK = 65_536
PART = 8

# What every connection's window begins with (RFC 9113 §6.9.2), so that no lease is smaller.
LEAST_WINDOW = 65_535


class Tenant(Protocol):
    """A connection, as far as the budget knows it."""

    lease: int
    """What it may be charged with, in bytes; set by the budget alone."""

    @property
    def held(self) -> int:
        """Bytes that were not taken yet."""

    @property
    def pressed(self) -> bool:
        """Whether it is under pressure already."""

    @property
    def gone(self) -> bool:
        """Whether it is closed, and all that it held was taken."""

    def reckon(self) -> int:
        """What the lease has to cover now, in bytes."""

    def press(self) -> None:
        """Come under pressure."""


class MemoryBudget:
    """The leases of all connections of a client.

    Args:
        size: The bytes that they may have together.
    """

    __slots__ = ("_collecting", "_leased", "_tenants", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._leased = 0
        self._tenants: dict[Tenant, None] = {}
        self._collecting: dict[object, None] = {}

    @property
    def leased(self) -> int:
        """The sum of all leases, in bytes."""
        return self._leased

    @property
    def largest_window(self) -> int:
        """What the window of one connection may be, in bytes."""
        return max(self.size // 4, LEAST_WINDOW)

    def join(self, tenant: Tenant, wanted: int) -> int:
        """Take a new connection in.

        Returns:
            The window that it may begin with, in bytes: at most ``wanted``, 0 under pressure.
        """
        for other in [each for each in self._tenants if each.gone]:
            self._settle(other)
        self._tenants[tenant] = None
        wanted = min(wanted, self.largest_window)
        if self.lease(tenant, wanted):
            return wanted
        left = self.size - self._leased
        window = max(left - self.size // 4, left // PART)
        if window < LEAST_WINDOW or window > left:
            return 0
        self._set(tenant, window)
        return window

    def leave(self, tenant: Tenant) -> None:
        """Let a connection go as soon as what it holds was taken."""
        self._settle(tenant)

    def lease(self, tenant: Tenant, size: int, *, reserve: bool = False) -> bool:
        """Change a lease to ``size`` bytes, unless that is more than there is.

        Args:
            tenant: Whose it is.
            size: What it is to cover.
            reserve: Whether the last quarter may be used.
        """
        limit = self.size if reserve else self.size - self.size // 4
        if size > tenant.lease and self._leased + size - tenant.lease > limit:
            self.settle(but=tenant)
            if self._leased + size - tenant.lease > limit:
                return False
        self._set(tenant, size)
        return True

    def calm(self, tenant: Tenant, size: int) -> bool:
        """Lease ``size`` bytes to a connection under pressure, if all is calm again."""
        return tenant.held * PART <= self.size and self.lease(tenant, size)

    def press(self, tenant: Tenant) -> None:
        """Put a connection that gets no larger lease under pressure, and who holds most too."""
        others = (each for each in self._tenants if not each.pressed)
        most = max(others, key=lambda each: each.held, default=tenant)
        tenant.press()
        if most.held > tenant.held:
            most.press()

    def ration(self, tenant: Tenant) -> int:
        """What a stream that is being read may be granted under pressure, in bytes."""
        return min(self._left(tenant) // PART, CHUNK)

    def ration_of_body(self, tenant: Tenant, body: object, most: int) -> int:
        """The same for a body that is being collected; the first of them gets up to ``most``."""
        collecting = self._collecting
        collecting.setdefault(body)
        left = self._left(tenant)
        if next(iter(collecting)) is body:
            return min(left // 2, most)
        return max(min((left - self.size // 2) // PART, CHUNK), 0)

    def collected(self, body: object) -> None:
        """Forget a body that is complete, or not wanted any more, or needs no rations."""
        self._collecting.pop(body, None)

    def settle(self, but: Tenant | None = None) -> None:
        """Take back from every lease what it need not cover any more."""
        for tenant in list(self._tenants):
            if tenant is not but:
                self._settle(tenant)

    # Inside.

    def _left(self, tenant: Tenant) -> int:
        if self.size - self._leased < PART * CHUNK:
            self.settle(but=tenant)
        return self.size - self._leased

    def _settle(self, tenant: Tenant) -> None:
        need = tenant.reckon()
        if need < tenant.lease:
            self._set(tenant, need)
        if tenant.gone:
            self._tenants.pop(tenant, None)

    def _set(self, tenant: Tenant, size: int) -> None:
        self._leased += size - tenant.lease
        tenant.lease = size
