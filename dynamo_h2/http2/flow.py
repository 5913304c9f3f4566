"""Receive windows: how much the peer may still send, and when credit goes back (RFC 9113 §6.9).

The algorithm:

1. A window has a *target*: the size that it should have when nothing is unread.
2. Every flow-controlled byte that arrives, padding included, lowers ``current_window_size``; below
   zero the peer has sent more than it was granted, which is a FLOW_CONTROL_ERROR.
3. A byte that needs no more room is *returned*: for the connection that is when it arrives, for a
   stream when the application takes it. A slow consumer stops its own stream and no other.
4. Returned bytes collect in ``owed``. Credit is granted when the owed bytes reach a quarter of the
   target: one WINDOW_UPDATE for many DATA frames, early enough that the peer never runs dry.
5. The grant brings the window back to its target and never above: when the target was lowered,
   credit is withheld until the window has shrunk to it.
"""

from __future__ import annotations

from h2.exceptions import FlowControlError
from h2.windows import LARGEST_FLOW_CONTROL_WINDOW, WindowManager

# A grant waits until this fraction of the target is owed: with a half, a peer that fills the window
# within one round trip stands still for the second half of it; below a quarter the frames add up.
GRANT_FRACTION = 4


class ReceiveWindow(WindowManager):
    """One receive window: what the peer was granted, and what it will be granted next.

    It takes the place of h2's own manager, whose target can only grow.

    Args:
        max_window_size: The target, in bytes.
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
        """Count ``size`` bytes of credit that were granted; the target stays as it is.

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
        return self.due()

    def due(self) -> int:
        """Take the increment that brings the window back to its target without unread bytes."""
        increment = min(self.owed, self.max_window_size - self.current_window_size)
        self.owed = 0
        return max(increment, 0)
