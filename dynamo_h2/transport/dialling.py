"""The dials of one host, one at a time: tries, pauses, and what to tell those who wait in vain.

1. A dial is started for all that wait (single flight), and has as many tries as the config allows
   and the budget of retries has tokens for. A connection that ends before its peer's SETTINGS were
   there, or whose peer has left before the dial was over, is a try that failed.
2. Each try asks for the addresses, and races those that are not left alone for now.
3. Where all of them are, it waits for the first that may be tried again. Who cannot wait that long
   is told at once what went wrong the last time; when nobody is left, the dial is over.
4. A request that is alone connects *in place* to a peer on this machine: that is over at once, and
   the request is written before the loop has taken over the socket. Where it does not work, or the
   peer has left again by then, that is no try: a dial begins, which finds out why.
5. A *spare* dial is for an address without a connection, and for nobody who waits. It makes way
   for a dial that somebody waits for.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from dynamo_h2.errors import (
    ClientClosed,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    TransportError,
)
from dynamo_h2.transport.connect import DialReport, dial_may_be_retried
from dynamo_h2.transport.early import EarlyTransport
from dynamo_h2.transport.protocol import ClientProtocol
from dynamo_h2.transport.sockets import has_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any, Protocol

    from dynamo_h2.http2.connection import State
    from dynamo_h2.transport.addresses import Addresses
    from dynamo_h2.transport.names import Names
    from dynamo_h2.transport.resources import HostKey, Resources
    from dynamo_h2.transport.sockets import Address

    class Host(Protocol):
        """For whom is dialled."""

        name: str

        def connected(self, protocol: ClientProtocol, address: Address) -> None:
            """Take a connection that stands."""

        def changed(self, protocol: ClientProtocol, state: State) -> None:
            """What a connection tells."""

        def paused(self, until: float, error: TransportError | None) -> bool:
            """There is no try before ``until``; whether anybody waits that long."""

        def dialled(self, error: TransportError | None) -> None:
            """A dial is over; the error where it was in vain."""


# What is said of a peer that was so fast that it has said goodbye before the dial was over.
_LEFT = "the peer left as soon as it was connected"


class Dialling:
    """The dials of one host.

    Args:
        resources: What all hosts share.
        key: Whom to dial.
        host: For whom.
        names: Asks for addresses.
        addresses: What is known of them.

    Attributes:
        task: The dial that is under way.
        paused_until: When it goes on, where it waits for an address, in monotonic seconds; else 0.
        last_error: Why the latest try failed; None when the latest one succeeded.
    """

    def __init__(
        self, resources: Resources, key: HostKey, host: Host, names: Names, addresses: Addresses
    ) -> None:
        self._resources = resources
        self._key = key
        self._name = host.name
        self._host = host
        self._names = names
        self._addresses = addresses
        self._failures = 0
        self._spare = False
        self._again = False
        self._early: EarlyTransport | None = None
        self.task: asyncio.Task[None] | None = None
        self.paused_until = 0.0
        self.last_error: TransportError | None = None

    @property
    def under_way(self) -> bool:
        """Whether a dial is under way of which those who wait have something."""
        task = self.task
        return task is not None and not task.done() and not self._spare

    @property
    def has_tries_left(self) -> bool:
        """Whether a try has failed that is to be followed by another."""
        return self._failures > 0

    @property
    def in_vain(self) -> TransportError | None:
        """Why the latest dial was in vain; None where there may still be a connection."""
        if self.under_way or self.has_tries_left or self._resources.closed:
            return None
        return self.last_error

    def start(self, *, spare: bool = False) -> None:
        """Dial, unless that is under way."""
        if self.task is None:
            self._spare = spare
            self._run(self._connect())
        elif self._spare and not spare:
            self._again = True
            self.task.cancel()

    def cancel(self) -> None:
        """Stop dialling."""
        self._again = False
        if self.task is not None and self._early is None:  # else it is over in two turns
            self.task.cancel()

    def begin_anew(self) -> None:
        """Count failures from here on: the latest dial is over, or has succeeded."""
        self._failures = 0

    def succeeded(self, address: Address) -> None:
        """Note that the peer of a connection has sent its SETTINGS."""
        self.begin_anew()
        self.last_error = None
        self._addresses.succeeded(address)

    def failed_early(
        self, protocol: ClientProtocol, address: Address, *, wanted: bool
    ) -> ConnectError | None:
        """Count a connection that ended before it was ready.

        Args:
            protocol: The connection.
            address: Where it led to.
            wanted: Whether somebody waited for it; then it was no spare one any more.

        Returns:
            The error when that was one too many.
        """
        error = self._failure(protocol)
        self._spare = self._spare and not wanted
        self._addresses.failed([address], monotonic())
        return None if self._may_try_again(error) else error

    def _may_try_again(self, error: TransportError) -> bool:
        """Count a failed try; whether there may be another."""
        self.last_error = error
        if not isinstance(error, ConnectError) or not dial_may_be_retried(error):
            return False
        resources = self._resources
        if self._spare or self._failures >= resources.config.connect_retries:
            return False
        if not resources.retries.take(monotonic()):
            return False
        self._failures += 1
        return True

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self.task = self._resources.loop.create_task(work)
        self.task.add_done_callback(self._done)

    def connect_in_place(self, now: float) -> ClientProtocol | None:
        """Make a connection at once, where the peer is on this machine and there.

        Args:
            now: The present, in seconds.

        Returns:
            What drives it, if there is one. Then `take_over` is to be called in the same turn of
            the loop.
        """
        resources, address = self._resources, self._names.only
        if address is None or self.task is not None or self._addresses.next_try() > now:
            return None
        sock = resources.dialer.connect_at_once(self._key.origin, address)
        if sock is None:
            return None
        timeout = resources.config.connect_timeout
        protocol = self._factory(inf if timeout is None else now + timeout)()
        if has_ended(sock):
            sock.close()
            return None
        resources.opened(protocol)
        self._early = EarlyTransport(sock, protocol)
        protocol.connection_made(self._early)
        self._addresses.dialled(address)
        self._made(protocol, address)
        return protocol

    def take_over(self) -> None:
        """Let the loop take over the socket of a connection that was made in place."""
        assert self._early is not None
        self._run(self._early.adopt(self._resources.loop, self._resources.dialer.options))

    def _made(self, protocol: ClientProtocol, address: Address) -> None:
        """Let those who wait use a connection."""
        self._addresses.connected(address)
        self._host.connected(protocol, address)

    def _done(self, task: asyncio.Task[None]) -> None:
        if self._early is not None:
            self._early.give_up()
            self._early = None
        self.task = None
        self.paused_until = 0.0
        again, self._again = self._again, False
        error = self._error(task)
        if error is not None and again and not self._resources.closed:
            self.start()
        else:
            self._host.dialled(None if self._spare else error)

    def _error(self, task: asyncio.Task[None]) -> TransportError | None:
        """What a dial that is over has to say."""
        if task.cancelled() and self._resources.closed:
            return ClientClosed("client is closed", origin=self._name, processed=False)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None or isinstance(error, TransportError):
            return error
        failure = ConnectError(
            f"cannot connect to {self._name}: {error!r}", origin=self._name, processed=False
        )
        failure.__cause__ = error
        return failure

    async def _connect(self) -> None:
        """Make one connection, with as many tries as the config allows."""
        while self._addresses.next_try() <= monotonic() or await self._until_one_may_be_tried():
            report = DialReport()
            try:
                async with self._resources.dials:
                    connected = await self._try_once(report)
            except TransportError as error:
                self._note(report.at_fault)
                if not self._may_try_again(error):
                    raise
            else:
                self._addresses.failed(report.failed, monotonic())
                if connected:
                    return
        self.begin_anew()

    def _note(self, at_fault: Sequence[Address]) -> None:
        if at_fault:
            self._addresses.failed(at_fault, monotonic())
        else:
            self._addresses.unresolved(monotonic())

    async def _until_one_may_be_tried(self) -> bool:
        """Wait while all addresses are left alone; False when nobody waits for that."""
        while (until := self._addresses.next_try()) > monotonic():
            if not self._host.paused(until, self.last_error):
                return False
            self.paused_until = until
            await asyncio.sleep(until - monotonic())
        self.paused_until = 0.0
        return True

    async def _try_once(self, report: DialReport) -> bool:
        """Make a connection; False when there is no address that may be tried now."""
        timeout = self._resources.config.connect_timeout
        settings_due = inf if timeout is None else monotonic() + timeout
        try:
            async with asyncio.timeout(timeout):
                now = monotonic()
                if self._names.only is None:
                    await self._names.resolve(now)
                addresses = self._addresses.order(now, unused_only=self._spare)
                if not addresses:
                    return self._spare
                protocol = await self._dial(addresses, settings_due, report)
        except TimeoutError as error:
            if isinstance(error, TransportError):
                raise
            raise ConnectTimeout(
                f"cannot connect to {self._name}: not connected within {timeout:g} s",
                origin=self._name,
                processed=False,
            ) from None
        self._resources.opened(protocol)
        assert report.winner is not None
        if not protocol.connection.usable:
            raise self._failure(protocol)
        self._made(protocol, report.winner)
        return True

    async def _dial(
        self, addresses: Sequence[Address], settings_due: float, report: DialReport
    ) -> ClientProtocol:
        self._addresses.dialled(addresses[0])
        return await self._resources.dialer.dial(
            self._key.origin,
            self._factory(settings_due),
            server_hostname=self._key.server_hostname,
            addresses=addresses,
            report=report,
        )

    def _factory(self, settings_due: float) -> Callable[[], ClientProtocol]:
        """What makes the protocol of a connection."""
        resources = self._resources
        return partial(
            ClientProtocol,
            resources.intervals.config_for(self._name),
            self._name,
            on_state=self._host.changed,
            counters=resources.counters,
            settings_due=settings_due,
            memory=resources.memory,
            busy_poll=resources.busy_poll,
        )

    def _failure(self, protocol: ClientProtocol) -> ConnectError:
        """What to tell those who waited for a connection that was over before it was used."""
        make_error = protocol.connection.failure
        cause: TransportError | None = None
        if make_error is not None:
            cause = make_error(origin=self._name, processed=False)
        elif protocol.connection.ready:
            cause = ConnectionLost(_LEFT, origin=self._name, processed=False)
        if isinstance(cause, ConnectError):
            return cause
        error = ConnectError(
            f"cannot connect to {self._name}: {cause or 'closed before its SETTINGS arrived'}",
            origin=self._name,
            processed=False,
        )
        error.__cause__ = cause
        return error
