"""Dialling: from an origin to a live protocol over TCP, TLS or a Unix socket (RFC 9113 §3).

The road of a dial:

1. The host is resolved and its addresses race (`dynamo_h2.transport.sockets`), but for a lone one.
2. The loop takes over the winner's socket. A `_Gate` stands where the caller's protocol will be.
3. For https comes TLS; a peer that picks anything but ``h2`` by ALPN is refused.
4. The caller's protocol is made and takes the gate's place. Nothing is awaited after that, so a
   dial that fails or is cancelled never made one, and has not sent a byte of HTTP.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, TypeVar, cast

from dynamo_h2.errors import ConnectError, ConnectTimeout, TransportError
from dynamo_h2.transport.sockets import (
    Address,
    Race,
    alternate,
    as_infos,
    connect_at_once,
    connect_tcp,
    connect_unix,
    is_loopback,
    literal,
    socket_options,
    system_resolver,
    unix_address,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dynamo_h2.config import Http2Config
    from dynamo_h2.origin import Origin
    from dynamo_h2.transport.sockets import Resolver

__all__ = ["DialReport", "Dialer", "dial_may_be_retried"]

P = TypeVar("P", bound=asyncio.Protocol)

# asyncio ends a handshake after 60 s of its own accord; connect_timeout, which may be longer, is
# the caller's business. Seconds.
_HANDSHAKE_LIMIT = 7 * 86_400.0
# How long a closing connection waits for the peer's close_notify, seconds. HTTP/2 says itself where
# a stream ends, so nothing depends on it; asyncio would hold socket and timer for 30 s.
_SHUTDOWN_LIMIT = 1.0

# How much of what a peer says is repeated in a message, bytes.
_EXCERPT = 40


class DialReport:
    """What became of the addresses of a dial.

    Attributes:
        tried: Those to which a connection was begun.
        failed: Those that could not be reached.
        winner: That of the connection.
    """

    __slots__ = ("failed", "tried", "winner")

    def __init__(self) -> None:
        self.tried: list[Address] = []
        self.failed: list[Address] = []
        self.winner: Address | None = None

    @property
    def at_fault(self) -> list[Address]:
        """Those to which a dial that failed has led."""
        return self.tried if self.winner is None else [*self.failed, self.winner]


class Dialer:
    """Makes connections to origins: one for each client.

    Args:
        config: Its keep-alive times are also those of TCP keep-alive.
        ssl_context: For https, with the trust and the client certificates (mutual TLS) that it
            holds. Its ALPN protocols are *set to* ``h2`` here: a context that is shared with
            an HTTP/1.1 client needs a copy. None makes a context when it is first needed that
            verifies the peer against the system's authorities and takes TLS 1.2 or newer.
        resolver: Turns a name and a port into addresses; None uses the loop's ``getaddrinfo``.
            Addresses in figures never reach it.

    Attributes:
        options: Those of its sockets.
    """

    __slots__ = ("_resolver", "_ssl_context", "options")

    def __init__(
        self,
        config: Http2Config,
        ssl_context: ssl.SSLContext | None = None,
        *,
        resolver: Resolver | None = None,
    ) -> None:
        self.options = socket_options(config)
        self._resolver = resolver or system_resolver
        self._ssl_context = ssl_context
        if ssl_context is not None:
            ssl_context.set_alpn_protocols(["h2"])

    async def dial(
        self,
        origin: Origin,
        factory: Callable[[], P],
        *,
        server_hostname: str | None = None,
        addresses: Sequence[Address] | None = None,
        report: DialReport | None = None,
    ) -> P:
        """Connect to ``origin`` and drive the connection with a protocol of ``factory``.

        There is no time limit: the caller cancels, at any point, and nothing is left behind.

        Args:
            origin: Where to.
            factory: Makes the protocol; called once the connection stands, TLS included.
            server_hostname: The name that the certificate must have and that is sent as SNI; None
                means the origin's host. Without meaning for http.
            addresses: Those of the origin, in the order of trying; None asks for them.
            report: Told what became of them, also when the dial fails or is cancelled.

        Returns:
            The protocol, whose ``connection_made`` has been called.

        Raises:
            ConnectError: There is no such connection; ``processed`` is False.
        """
        tls_name = self._tls_name(origin, server_hostname)
        if addresses is None:
            addresses = await self.resolve(origin)
        report, gate = report or DialReport(), _Gate()
        raw = await self._open(origin, addresses, report, gate)
        step = "TLS handshake failed: " if tls_name else ""
        try:
            transport = gate.require_open(raw)
            if tls_name is not None:
                transport = await self._start_tls(raw, gate, tls_name)
            return gate.hand_over(transport, factory)
        except BaseException as exc:
            # Of the raw transport: closing the TLS one would wait for the peer.
            raw.abort()
            _blame(exc, origin, report.winner, step)
            raise

    def connect_at_once(self, origin: Origin, address: Address) -> socket.socket | None:
        """Connect to a peer on this machine without waiting; None where that cannot be.

        The options of the socket are still to be set.

        Args:
            origin: Where to; TLS takes round trips, so never with https.
            address: The only one of the origin.
        """
        if origin.scheme != "http" or origin.socket_path is not None or not is_loopback(address):
            return None
        return connect_at_once(address)

    async def resolve(self, origin: Origin) -> list[Address]:
        """Ask for the addresses of an origin; at least one.

        Raises:
            ConnectError: There is none.
        """
        if origin.socket_path is not None:
            return [unix_address(origin.socket_path)]
        host, port = origin.host, origin.port
        try:
            infos = literal(host, port) or as_infos(await self._resolver(host, port))
            addresses = alternate(infos)
        except (OSError, UnicodeError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc)
            raise _error(origin, f"the name {host!r} does not resolve: {reason}") from exc
        if not addresses:
            raise _error(origin, f"the name {host!r} has no address")
        return addresses

    async def _open(
        self, origin: Origin, addresses: Sequence[Address], report: DialReport, gate: _Gate
    ) -> asyncio.Transport:
        """Open a transport to one of the addresses."""
        if origin.socket_path is None and len(addresses) == 1:
            sock = await self._connect_alone(origin, addresses[0], report)
        else:
            sock = await self._connect(origin, addresses, report)
        try:
            return await (_adopt if origin.socket_path is None else _adopt_unix)(sock, gate)
        except OSError as exc:
            _blame(exc, origin, report.winner, "")
            raise

    async def _connect_alone(
        self, origin: Origin, address: Address, report: DialReport
    ) -> socket.socket:
        """Connect a socket to the only address, which needs no race."""
        report.tried.append(address)
        try:
            sock = await connect_tcp(address, self.options)
        except OSError as exc:
            report.failed = [address]
            raise _error(origin, _summary([(address, exc)])) from exc
        report.winner = address
        return sock

    async def _connect(
        self, origin: Origin, addresses: Sequence[Address], report: DialReport
    ) -> socket.socket:
        """Connect a socket."""
        if origin.socket_path is not None:
            report.tried.append(unix_address(origin.socket_path))
            try:
                sock = await connect_unix(origin.socket_path)
            except OSError as exc:
                raise _error(origin, _reason(exc)) from exc
            report.winner = report.tried[0]
            return sock

        def connect(address: Address) -> Awaitable[socket.socket]:
            report.tried.append(address)
            return connect_tcp(address, self.options)

        race = Race(addresses, connect)
        winner = await race.run()
        report.failed = [address for address, _ in race.failures]
        if winner is None:
            raise _error(origin, _summary(race.failures)) from race.failures[0][1]
        sock, report.winner = winner
        return sock

    def _tls_name(self, origin: Origin, override: str | None) -> str | None:
        """Find the name to verify; None for http.

        Name and context are tried before anything is dialled: the loops check them so late that
        there is a connection to clear away, and uvloop logs.
        """
        if origin.scheme != "https":
            return None
        # A zone is no part of the name (RFC 6874 §4), nor is the final dot (RFC 6066 §3).
        name = origin.host.partition("%")[0].rstrip(".") if override is None else override
        try:
            self._context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
        except (OSError, ValueError, TypeError) as exc:
            raise _error(origin, f"TLS with the name {name!r} is not possible: {exc}") from exc
        return name

    def _context(self) -> ssl.SSLContext:
        """Return the caller's context, or ours, which takes milliseconds to load."""
        if self._ssl_context is None:
            self._ssl_context = _default_context()
        return self._ssl_context

    async def _start_tls(self, raw: asyncio.Transport, gate: _Gate, name: str) -> asyncio.Transport:
        """Run the handshake and hold the peer to ``h2`` (RFC 9113 §3.2)."""
        if gate.early:
            raise _WrongProtocolError(f"the peer spoke first: {bytes(gate.early[:_EXCERPT])!r}")
        transport = await asyncio.get_running_loop().start_tls(
            raw,
            gate,
            self._context(),
            server_hostname=name,
            ssl_handshake_timeout=_HANDSHAKE_LIMIT,
            ssl_shutdown_timeout=_SHUTDOWN_LIMIT,
        )
        transport = gate.require_open(transport)
        picked = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if picked != "h2":
            raise _WrongProtocolError(f"the peer picked {picked or 'nothing'} by ALPN, not h2")
        return transport


def dial_may_be_retried(error: ConnectError) -> bool:
    """Tell whether the same dial can succeed when it is made once more.

    It can when the peer was not there: refused, unreachable, reset during the handshake, or when
    the resolver has no answer for now. It cannot when the peer is there and wrong (certificate,
    TLS alert, ALPN), when the name is unknown, or when the time is used up.

    Args:
        error: What `Dialer.dial` raised, or a `ConnectError` with the reason as its ``__cause__``.
    """
    if isinstance(error, ConnectTimeout):
        return False
    cause = error.__cause__
    while isinstance(cause, TransportError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ssl.SSLError):
        return isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError))
    if isinstance(cause, socket.gaierror):
        return cause.errno == socket.EAI_AGAIN
    return isinstance(cause, OSError)


class _WrongProtocolError(Exception):
    """The peer is there and does not speak HTTP/2 over TLS."""


def _error(origin: Origin, reason: str) -> ConnectError:
    message = f"cannot connect to {origin}: {reason}"
    return ConnectError(message, origin=str(origin), processed=False)


def _blame(exc: BaseException, origin: Origin, peer: Address | None, step: str) -> None:
    """Turn what the system and TLS raise into a `ConnectError` that says where it happened.

    Args:
        exc: What was raised; all else is left as it is.
        origin: Where the dial goes to.
        peer: The address in use.
        step: What was being done, put before the reason.
    """
    whom = "" if peer is None or origin.socket_path is not None else f" (peer {peer})"
    if isinstance(exc, _WrongProtocolError):
        raise _error(origin, f"{step}{exc}{whom}") from None
    if isinstance(exc, OSError):
        raise _error(origin, f"{step}{_reason(exc)}{whom}") from exc


def _reason(exc: OSError) -> str:
    """Say in a few words what an error of the system or of TLS means."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {exc.verify_message.rstrip('.')}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        reason = exc.reason.replace("_", " ").lower()
        return reason + " (no TLS there?)" if reason == "wrong version number" else reason
    if exc.errno and not isinstance(exc, ssl.SSLError):
        return os.strerror(exc.errno).lower()
    return str(exc) or "the peer closed the connection"


def _summary(failures: Sequence[tuple[Address, OSError]]) -> str:
    """Tell why no address could be reached; a reason that they share only once."""
    reasons = [(str(address), _reason(exc)) for address, exc in failures]
    if len({reason for _, reason in reasons}) == 1:
        return f"{reasons[0][1]} (tried {', '.join(address for address, _ in reasons)})"
    return ", ".join(f"{address}: {reason}" for address, reason in reasons)


class _Gate(asyncio.Protocol):
    """Holds the place of the caller's protocol until the connection has proved good.

    Attributes:
        early: What the peer sent before the caller's protocol was there.
        opened: Done with the transport as soon as that is open.
    """

    __slots__ = ("_error", "early", "opened")

    def __init__(self) -> None:
        self.early = bytearray()
        self.opened: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self._error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the dial go on."""
        if not self.opened.done():
            # uvloop's transports are no asyncio.Transport by class.
            self.opened.set_result(cast("asyncio.Transport", transport))

    def made(self, making: asyncio.Task[asyncio.Transport]) -> None:
        """Tell the dial, if it still waits, why there is no transport."""
        error = None if making.cancelled() else making.exception()
        if self.opened.done():
            return
        if error is None:
            self.opened.cancel()
        else:
            self.opened.set_exception(error)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the hand-over."""
        self.early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep the reason of the end."""
        self._error = exc

    def require_open(self, transport: asyncio.Transport | None) -> asyncio.Transport:
        """Return the transport.

        Raises:
            OSError: It has ended already; ``start_tls`` of asyncio may even return None then.
        """
        if transport is not None and not transport.is_closing():
            return transport
        if isinstance(self._error, OSError):
            raise self._error
        raise ConnectionResetError("the peer closed the connection")

    def hand_over(self, transport: asyncio.Transport, factory: Callable[[], P]) -> P:
        """Put the caller's protocol in place and bring it up to date."""
        protocol = factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self.early:
            protocol.data_received(bytes(self.early))
        return protocol


async def _adopt(sock: socket.socket, gate: _Gate) -> asyncio.Transport:
    """Give a connected TCP socket to the loop.

    The loops have two ways for that. The one for sockets that a server has accepted does the same
    with less ado, and it does not lose the scope of an IPv6 address.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.connect_accepted_socket(lambda: gate, sock)
    except OSError:
        sock.close()
        raise
    return transport


async def _adopt_unix(sock: socket.socket, gate: _Gate) -> asyncio.Transport:
    """Give a connected Unix socket to the loop.

    That takes a few turns of the loop and no network, so a cancellation waits for it: in the
    middle the loops disagree on who closes the socket, and uvloop's Unix transport closes it twice,
    which hits whoever has got the same file descriptor meanwhile.
    """
    loop = asyncio.get_running_loop()
    making = loop.create_task(_make_transport(loop, sock, gate))
    making.add_done_callback(gate.made)
    try:
        return await gate.opened
    except asyncio.CancelledError:
        making.add_done_callback(_abort_made)
        await asyncio.wait([making])
        raise


async def _make_transport(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, gate: _Gate
) -> asyncio.Transport:
    try:
        return (await loop.create_connection(lambda: gate, sock=sock))[0]
    except OSError:
        sock.close()
        raise


def _abort_made(making: asyncio.Future[asyncio.Transport]) -> None:
    """Close a transport that nobody waits for any more."""
    if not making.cancelled() and making.exception() is None:
        making.result().abort()


def _default_context() -> ssl.SSLContext:
    """Make the context of a client that has none (RFC 9113 §9.2)."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2"])
    return context
