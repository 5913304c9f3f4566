"""A connected socket before the loop takes it over, so that a request need not wait for that.

A peer on the same machine is connected to in one system call. To give the socket to the loop takes
longer than that, and turns of the loop: meanwhile the peer could be at work. So the first bytes are
written to the socket as it is, and the loop takes over while the answer is on its way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dynamo_h2.transport.sockets import set_options

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from dynamo_h2.transport.sockets import SocketOption

__all__ = ["EarlyTransport"]

_CANCELLED = "the task that was to give its socket to the loop was cancelled"


class EarlyTransport(asyncio.Transport):
    """Writes to a socket of which nothing is read yet.

    Args:
        sock: Connected, and does not block.
        protocol: Whose transport this is until the loop's own is there: its ``connection_made`` is
            called with both, one after the other, and calls `hand_over` of this one.
    """

    __slots__ = ("_aborted", "_begun", "_closed", "_protocol", "_sock", "_successor", "_unsent")

    def __init__(self, sock: socket.socket, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._sock = sock
        self._protocol = protocol
        self._unsent = bytearray()
        self._begun = self._closed = self._aborted = False
        self._successor: asyncio.Transport | None = None

    # What a protocol calls.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send as much as the socket takes, and keep the rest."""
        sent = 0
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                return  # its peer is gone: the loop reads what it has said, and then the end
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write several buffers in one piece."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """How many bytes the socket did not take."""
        return len(self._unsent)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is paused here: who writes asks how much there is."""

    def is_closing(self) -> bool:
        """Whether it is to be closed."""
        return self._closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as in asyncio
        """The socket, by the name ``socket``; nothing else."""
        return self._sock if name == "socket" else default

    def close(self) -> None:
        """Close once the loop has taken over, and the last bytes are out."""
        self._closed = True

    def abort(self) -> None:
        """Close as soon as the loop has taken over."""
        self._closed = self._aborted = True
        if self._successor is not None:
            self._successor.abort()

    # The loop takes over.

    async def adopt(self, loop: asyncio.AbstractEventLoop, options: Iterable[SocketOption]) -> None:
        """Give the socket to the loop; where that ends early, the protocol is told so.

        Args:
            loop: The running one.
            options: Those of the socket, which has waited for them until now.
        """
        self._begun = True
        set_options(self._sock, options)
        try:
            await loop.connect_accepted_socket(lambda: self._protocol, self._sock)
        except BaseException as error:
            if self._successor is not None:
                self._successor.abort()  # cancelled: some loops close it and tell nobody
            self._lose(error)
            if not isinstance(error, OSError):
                raise

    def hand_over(self, transport: asyncio.Transport) -> None:
        """Let the loop's transport write the rest, and close it if this one is to be closed."""
        self._successor = transport
        if self._aborted:
            transport.abort()
            return
        if self._unsent:
            transport.write(bytes(self._unsent))
            self._unsent.clear()
        if self._closed:
            transport.close()

    def give_up(self) -> None:
        """Close the socket, if the loop was never asked to take it over."""
        if not self._begun:
            self._lose(asyncio.CancelledError())

    def _lose(self, error: BaseException) -> None:
        if self._successor is None:
            self._sock.close()
        cause = error if isinstance(error, Exception) else ConnectionAbortedError(_CANCELLED)
        self._protocol.connection_lost(cause)
