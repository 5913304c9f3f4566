"""Connected sockets: addresses, the race between them, Unix sockets, socket options.

The race ("happy eyeballs", RFC 8305 §4 and §5):

1. The families take turns, beginning with the one that the resolver put first.
2. An attempt starts when another one failed, or when the latest has been under way for
   `ATTEMPT_DELAY`: one dead family costs a quarter of a second, not a TCP time-out.
3. The first to connect wins. All others are cancelled, as they are when the race itself is, and
   close their sockets in the next turn of the loop: nothing is awaited with a winner in hand, since
   a cancellation there would lose its socket.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from dynamo_h2.config import Http2Config

__all__ = [
    "ATTEMPT_DELAY",
    "Address",
    "AddressInfo",
    "Race",
    "Resolver",
    "SocketOption",
    "alternate",
    "as_infos",
    "check_not_itself",
    "connect_at_once",
    "connect_tcp",
    "connect_unix",
    "has_ended",
    "is_loopback",
    "literal",
    "set_options",
    "socket_options",
    "system_resolver",
    "unix_address",
]

# One entry of what `socket.getaddrinfo` returns: family, kind, protocol, name, socket address.
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
# Level, name and value.
SocketOption = tuple[int, int, int]
# Called with host and port; returns addresses in figures with their ports, or what `getaddrinfo`
# of the loop returns. Raises OSError when it has no answer.
Resolver = Callable[[str, int], Awaitable[Sequence[tuple[str, int] | AddressInfo]]]

# How long an attempt is alone before the next address is tried, seconds (RFC 8305 §5).
ATTEMPT_DELAY = 0.25

# TCP probes without an answer until the kernel gives the connection up. They are spread over
# keep_alive_timeout, so that both kinds of keep-alive need about the same time.
_PROBES = 3
# The kernel's upper bound for the seconds of TCP keep-alive (MAX_TCP_KEEPIDLE of Linux).
_MAX_PROBE_SECONDS = 32_767

_FAMILIES = (socket.AF_INET, socket.AF_INET6)

# What connect(2) says while it is at work.
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)

# The first and the longest pause between two tries at a Unix listener with a full queue, seconds.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1


_logger = logging.getLogger("dynamo_h2")


class Address(NamedTuple):
    """An address, as the socket module wants it."""

    family: int
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        if len(self.sockaddr) == 1:
            return str(self.sockaddr[0])
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


async def system_resolver(host: str, port: int) -> Sequence[AddressInfo]:
    """Ask the system, in a thread of the loop."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def literal(host: str, port: int) -> Sequence[AddressInfo]:
    """Read an address in figures, which needs neither a thread nor the network; else nothing."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, UnicodeError):
        pass
    else:
        return ((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)),)
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror:
        return ()


def unix_address(path: str) -> Address:
    """The address of a Unix socket."""
    return Address(getattr(socket, "AF_UNIX", 0), (path,))


def as_infos(answer: Iterable[tuple[str, int] | AddressInfo]) -> Iterator[AddressInfo]:
    """Bring what a resolver answered to the form of ``getaddrinfo``.

    Raises:
        OSError: A host is no address in figures.
        ValueError: An entry has neither form.
    """
    for entry in answer:
        if len(entry) == 5:
            yield entry
            continue
        host, port = entry
        infos = literal(host, port)
        if not infos:
            raise OSError(f"the resolver answered {host!r}, which is no IP address")
        yield from infos


def alternate(infos: Iterable[AddressInfo]) -> list[Address]:
    """Put addresses in the order of trying: without repeats, the families taking turns."""
    infos = tuple(infos)
    if len(infos) == 1:
        ((family, kind, _, _, sockaddr),) = infos
        good = kind == socket.SOCK_STREAM and family in _FAMILIES
        return [Address(family, sockaddr)] if good else []
    addresses = dict.fromkeys(
        Address(family, sockaddr)
        for family, kind, _, _, sockaddr in infos
        if kind == socket.SOCK_STREAM and family in _FAMILIES
    )
    first = next(iter(addresses), None)
    same = [each for each in addresses if first and each.family == first.family]
    other = [each for each in addresses if first and each.family != first.family]
    return [each for pair in zip_longest(same, other) for each in pair if each is not None]


class Race:
    """Attempts at several addresses, of which the first to connect wins.

    Args:
        addresses: In the order in which they are tried.
        connect: Makes one attempt, and raises OSError when it fails.
        delay: How long an attempt is alone before the next one starts, seconds.

    Attributes:
        failures: The attempts that failed, with the reason, in the order of failing.
    """

    __slots__ = ("_connect", "_delay", "_running", "_waiting", "failures")

    def __init__(
        self,
        addresses: Iterable[Address],
        connect: Callable[[Address], Awaitable[socket.socket]],
        delay: float = ATTEMPT_DELAY,
    ) -> None:
        self._waiting = deque(addresses)
        self._connect = connect
        self._delay = delay
        self._running: dict[asyncio.Future[socket.socket], Address] = {}
        self.failures: list[tuple[Address, OSError]] = []

    async def run(self) -> tuple[socket.socket, Address] | None:
        """Return the winner's socket and address, or None when every attempt failed."""
        if len(self._waiting) == 1:
            return await self._only_attempt(self._waiting.popleft())
        winner = None
        try:
            while winner is None and (self._waiting or self._running):
                self._start_next()
                winner = await self._next_winner()
        finally:
            self._cancel_losers()
        return winner

    async def _only_attempt(self, address: Address) -> tuple[socket.socket, Address] | None:
        """Try the only address, which needs no task of its own."""
        try:
            return await self._connect(address), address
        except OSError as exc:
            self.failures.append((address, exc))
            return None

    def _start_next(self) -> None:
        if self._waiting:
            address = self._waiting.popleft()
            self._running[asyncio.ensure_future(self._connect(address))] = address

    async def _next_winner(self) -> tuple[socket.socket, Address] | None:
        """Wait until there is a winner, or it is time for another attempt."""
        limit = self._delay if self._waiting else None
        done, _ = await asyncio.wait(
            self._running, timeout=limit, return_when=asyncio.FIRST_COMPLETED
        )
        for attempt in done:
            try:
                sock = attempt.result()
            except OSError as exc:
                self.failures.append((self._running.pop(attempt), exc))
            else:
                return sock, self._running.pop(attempt)
        return None

    def _cancel_losers(self) -> None:
        for attempt in self._running:
            attempt.add_done_callback(_close_loser)
            attempt.cancel()


def _close_loser(attempt: asyncio.Future[socket.socket]) -> None:
    """Close the socket of an attempt that connected too late."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def connect_tcp(address: Address, options: Iterable[SocketOption]) -> socket.socket:
    """Make one attempt at one address.

    Args:
        address: Where to.
        options: Those of the socket.

    Raises:
        OSError: Whatever the system says.
    """
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        set_options(sock, options)
        await _await_connected(sock, address.sockaddr)
        check_not_itself(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_at_once(address: Address) -> socket.socket | None:
    """Connect to a peer on this machine without waiting; None where it is not there at once.

    Args:
        address: Where to.

    Returns:
        A socket without options, which does not block.
    """
    if sys.platform == "win32":  # connects in the background, whoever the peer is
        return None
    sock = None
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        code = sock.connect_ex(address.sockaddr)
        if code not in _UNDER_WAY:
            _raise_for(code)
        check_not_itself(sock)  # which fails where it is under way still
    except OSError:
        if sock is not None:
            sock.close()
        return None
    return sock


def is_loopback(address: Address) -> bool:
    """Whether an address is one of this machine's own, whoever has it (RFC 6890 §2.2)."""
    if address.family == socket.AF_INET:
        return str(address.sockaddr[0]).startswith("127.")
    return address.family == socket.AF_INET6 and address.sockaddr[0] == "::1"


def has_ended(sock: socket.socket) -> bool:
    """Whether the peer of a socket is known to have left; bytes may stand before its FIN."""
    if sys.platform != "linux":
        return False
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def set_options(sock: socket.socket, options: Iterable[SocketOption]) -> None:
    """Set options of a socket; that a kernel lacks one is no reason not to connect."""
    for option in options:
        try:
            sock.setsockopt(*option)
        except OSError as error:
            _logger.debug("option %r of a socket is not to be had: %s", option, error)


async def connect_unix(path: str) -> socket.socket:
    """Connect to a Unix socket, which succeeds or fails at once unless its queue is full.

    Args:
        path: Of the socket in the file system.

    Raises:
        OSError: Whatever the system says.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this platform has no Unix sockets")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        pause = _FIRST_PAUSE
        # With a full queue nothing was begun that a loop could wait for (connect(2), EAGAIN);
        # asyncio takes it for a connection.
        while (code := sock.connect_ex(path)) == errno.EAGAIN:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        _raise_for(code)
    except BaseException:
        sock.close()
        raise
    return sock


async def _await_connected(sock: socket.socket, sockaddr: tuple[Any, ...]) -> None:
    """Connect a socket that does not block.

    ``loop.sock_connect`` would do, but the one of uvloop takes even an address in figures through
    the threads of its resolver, where a slow name holds it up, and loses the scope of IPv6.
    """
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":  # its loop cannot watch sockets
        await loop.sock_connect(sock, sockaddr)
        return
    code = sock.connect_ex(sockaddr)
    if code == errno.EINPROGRESS:
        # Asked again: to a peer on the same machine it is connected by now.
        code = sock.connect_ex(sockaddr)
    if code in _UNDER_WAY:
        writable = asyncio.Event()
        loop.add_writer(sock, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code != errno.EISCONN:
        _raise_for(code)


def _raise_for(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))


def check_not_itself(sock: socket.socket) -> None:
    """Refuse a socket that met its own SYN (RFC 9293 §3.5, simultaneous open).

    It happens when nobody listens on a local port of the ephemeral range and the kernel picks the
    very same port for our end: the socket then reads what it writes.
    """
    if sock.getsockname() == sock.getpeername():
        _raise_for(errno.ECONNREFUSED)


def socket_options(config: Http2Config) -> tuple[SocketOption, ...]:
    """Send small frames at once, and let the kernel look after a silent peer.

    Args:
        config: Its keep-alive times become those of TCP keep-alive.
    """
    return (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *((socket.IPPROTO_TCP, option, value) for option, value in _keep_alive_options(config)),
    )


def _keep_alive_options(config: Http2Config) -> Iterator[tuple[int, int]]:
    """Pair the options of TCP keep-alive that this platform has with their values."""
    if config.keep_alive_interval is None:
        return  # no PING either: the kernel's own times will do
    idle = _whole_seconds(config.keep_alive_interval)
    values = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # what macOS calls it
        "TCP_KEEPINTVL": _whole_seconds(config.keep_alive_timeout / _PROBES),
        "TCP_KEEPCNT": _PROBES,
    }
    patience = config.keep_alive_interval + config.keep_alive_timeout
    if config.write_timeout is not None and config.write_timeout <= patience:
        # Bytes without an ACK end the connection too, and a receive window that stays closed: a
        # caller who would wait longer for that than we for a sign of life is not overruled.
        values["TCP_USER_TIMEOUT"] = math.ceil(patience * 1000)
    for name, value in values.items():
        if hasattr(socket, name):
            yield getattr(socket, name), value


def _whole_seconds(seconds: float) -> int:
    return min(max(math.ceil(seconds), 1), _MAX_PROBE_SECONDS)
