"""The dials of one host, one at a time: tries, and what to tell those who wait in vain.

1. A dial is started for all that wait (single flight), and has as many tries as the config allows,
   and as the budget of retries has tokens for.
2. A connection that ends before its peer's SETTINGS were there is a try that failed.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from dynamo_h2.errors import ClientClosed, ConnectError, ConnectTimeout, TransportError
from dynamo_h2.transport.connect import dial_may_be_retried
from dynamo_h2.transport.protocol import ClientProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.http2.connection import State
    from dynamo_h2.transport.common import Common, HostKey


class Dialling:
    """The dials of one host.

    Args:
        common: What all hosts share.
        key: Whom to dial.
        on_state: What a connection tells its host.
        on_made: Called with each connection that stands.
        on_end: Called when a dial is over, with the error where it was in vain.
    """

    def __init__(
        self,
        common: Common,
        key: HostKey,
        *,
        on_state: Callable[[ClientProtocol, State], None],
        on_made: Callable[[ClientProtocol], None],
        on_end: Callable[[TransportError | None], None],
    ) -> None:
        self._common = common
        self._key = key
        self._name = str(key.origin)
        self._on_state = on_state
        self._on_made = on_made
        self._on_end = on_end
        self._failures = 0
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Dial, unless that is under way."""
        if self.task is None:
            self.task = self._common.loop.create_task(self._connect())
            self.task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Stop dialling."""
        if self.task is not None:
            self.task.cancel()

    def succeeded(self) -> None:
        """Note that a connection has become ready."""
        self._failures = 0

    def failed_early(self, protocol: ClientProtocol) -> ConnectError | None:
        """Count a connection that ended before it was ready; the error when that was one too many.

        Args:
            protocol: The connection.
        """
        error = self._failure(protocol)
        return None if self._try_again(error) else error

    def give_up(self) -> None:
        """Begin to count anew."""
        self._failures = 0

    def _try_again(self, error: ConnectError) -> bool:
        """Count a failed try; whether there may be another."""
        common = self._common
        if self._failures >= common.config.connect_retries or not dial_may_be_retried(error):
            return False
        if not common.retries.take(monotonic()):
            return False
        self._failures += 1
        return True

    def _done(self, task: asyncio.Task[None]) -> None:
        self.task = None
        if task.cancelled():
            self._on_end(ClientClosed("client is closed", origin=self._name, processed=False))
            return
        error = task.exception()
        if error is not None and not isinstance(error, TransportError):
            failure = ConnectError(
                f"cannot connect to {self._name}: {error!r}", origin=self._name, processed=False
            )
            failure.__cause__ = error
            error = failure
        self._on_end(error)

    async def _connect(self) -> None:
        """Make one connection, with as many tries as the config allows."""
        while True:
            try:
                async with self._common.dials:
                    await self._connect_once()
            except ConnectError as error:
                if not self._try_again(error):
                    raise
            else:
                return

    async def _connect_once(self) -> None:
        common = self._common
        timeout = common.config.connect_timeout
        settings_due = inf if timeout is None else monotonic() + timeout
        make = partial(
            ClientProtocol,
            common.intervals.config_for(self._name),
            self._name,
            on_state=self._on_state,
            counters=common.counters,
            settings_due=settings_due,
        )
        try:
            async with asyncio.timeout(timeout):
                protocol = await common.dialer.dial(
                    self._key.origin, make, server_hostname=self._key.server_hostname
                )
        except TimeoutError as error:
            if isinstance(error, TransportError):
                raise
            raise ConnectTimeout(
                f"cannot connect to {self._name}: not connected within {timeout:g} s",
                origin=self._name,
                processed=False,
            ) from None
        common.opened(protocol)
        if protocol.connection.closed:
            raise self._failure(protocol)
        self._on_made(protocol)

    def _failure(self, protocol: ClientProtocol) -> ConnectError:
        """What to tell those who waited for a connection that ended before it was ready."""
        make_error = protocol.connection.failure
        cause = None if make_error is None else make_error(origin=self._name, processed=False)
        if isinstance(cause, ConnectError):
            return cause
        error = ConnectError(
            f"cannot connect to {self._name}: {cause or 'closed before its SETTINGS arrived'}",
            origin=self._name,
            processed=False,
        )
        error.__cause__ = cause
        return error
