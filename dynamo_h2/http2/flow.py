"""Receive windows: how much the peer may still send, and when credit goes back (RFC 9113 §6.9).

The algorithm:

1. A window has a *size*: what it is when everything that arrived has been returned. What the peer
   may send now, what is owed to it and what is held up by a reader add up to the size.
2. Every flow-controlled byte that arrives, padding included, lowers ``current_window_size``; below
   zero the peer has sent more than it was granted, which is a FLOW_CONTROL_ERROR.
3. A byte that needs no more room is *returned*: for the connection that is when it arrives, for a
   stream when the application takes it. A slow consumer stops its own stream and no other.
4. Returned bytes collect in ``owed``. Credit is granted when the owed bytes reach a quarter of the
   size: one WINDOW_UPDATE for many DATA frames, early enough that the peer never runs dry.
5. To shrink a window, credit is withheld: the next owed bytes are not granted, until the size is
   what it should be. To let it grow, more is granted than is owed.
6. A new SETTINGS_INITIAL_WINDOW_SIZE moves the size of every open stream by the difference, and
   what the peer may send with it, be it below zero (§6.9.2).
"""

from __future__ import annotations

from h2.exceptions import FlowControlError
from h2.windows import LARGEST_FLOW_CONTROL_WINDOW, WindowManager

# A grant waits until this fraction of the size is owed: with a half, a peer that fills the window
# within one round trip stands still for the second half of it; below a quarter the frames add up.
GRANT_FRACTION = 4


class ReceiveWindow(WindowManager):
    """One receive window: what the peer was granted, and what it will be granted next.

    It takes the place of h2's own manager, whose size can only grow.

    Args:
        max_window_size: The size, in bytes.
    """

    __slots__ = ("current_window_size", "max_window_size", "owed")

    def __init__(self, max_window_size: int) -> None:
        self.max_window_size = max_window_size
        self.current_window_size = max_window_size
        self.owed = 0

    def window_consumed(self, size: int) -> None:
        """Count ``size`` flow-controlled bytes that arrived.

        Raises:
            FlowControlError: The peer sent more than it was granted (RFC 9113 §6.9.1).
        """
        if size > self.current_window_size and size:
            raise FlowControlError(
                f"{size} bytes of DATA where {self.current_window_size} were granted"
            )
        self.current_window_size -= size

    def window_opened(self, size: int) -> None:
        """Count ``size`` bytes of credit that were granted; the size stays as it is.

        Raises:
            FlowControlError: The window would pass 2**31 - 1.
        """
        if self.current_window_size + size > LARGEST_FLOW_CONTROL_WINDOW:
            raise FlowControlError(f"a window may not exceed {LARGEST_FLOW_CONTROL_WINDOW}")
        self.current_window_size += size

    def process_bytes(self, size: int) -> int:
        """Return ``size`` bytes; give the increment to grant now, in bytes, or 0."""
        self.owed += size
        if self.owed * GRANT_FRACTION < self.max_window_size:
            return 0
        return self.due(self.max_window_size)

    def due(self, target: int) -> int:
        """Take what is owed; give the increment to grant, in bytes, or 0.

        Args:
            target: The size that the window should have; what is above it is withheld.
        """
        increment, self.owed = self.owed, 0
        excess = self.max_window_size - target
        if excess > 0:
            withheld = min(excess, increment)
            self.max_window_size -= withheld
            increment -= withheld
        return increment

    def grow(self, target: int) -> int:
        """Raise the size to ``target``; give the increment to grant for that, in bytes, or 0."""
        increment = target - self.max_window_size
        if increment <= 0:
            return 0
        self.max_window_size = target
        return increment
