"""A look at what an async test leaves behind: tasks, sockets, timers, errors that nobody saw."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tests.watched import WatchedLoop, open_sockets

TURNS = 100
"""Turns of the loop in which what was closed may still be on its way out: a transport tells its
protocol one turn later, one with TLS a few. Turns, not time: what needs longer is a leak."""
NO_LEAK = "Error on transport creation for incoming connection"
"""What asyncio says, with debug on, of a client that left a test's own server in the handshake."""


class LeakCheck:
    """Compares what is open on a loop with what was open when this was made.

    All looks are taken while the loop stands: uvloop has sockets of its own while it runs.
    """

    def __init__(self, loop: WatchedLoop) -> None:
        self._loop = loop
        self._sockets = open_sockets()
        self._complaints: list[str] = []
        loop.set_exception_handler(self._complain)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context["message"] == NO_LEAK:
            return
        # As text: the context holds the task or transport, which must not live on for this.
        self._complaints.append(f"{context['message']}: {context.get('exception')!r}")
        if isinstance(context.get("exception"), pytest.fail.Exception):
            # The test's time limit, raised from a signal while the loop had nothing to do: uvloop
            # brings it here and would wait on.
            loop.stop()

    def leaks(self) -> list[str]:
        """What the test left behind, after the loop had some turns to clear away."""
        gc.collect()
        for _ in range(TURNS):
            if not (self._complaints or self._open()):
                break
            self._loop.run_until_complete(asyncio.sleep(0))
        return [*self._complaints, *self._open()]

    def clear(self) -> None:
        """Cancel what is left, and forget the tasks that do not end of it.

        Closing a loop waits for its tasks; a time limit that passed in the middle of a turn may
        have lost the step that would end one, and the whole run would hang.
        """
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        for _ in range(TURNS):
            self._loop.run_until_complete(asyncio.sleep(0))
        for task in asyncio.all_tasks(self._loop):
            asyncio._unregister_task(task)

    def _open(self) -> list[str]:
        tasks = asyncio.all_tasks(self._loop)
        timers = self._loop.timers.live(self._loop.time())
        sockets = open_sockets() - self._sockets
        return [f"still open: {thing}" for thing in (*tasks, *timers, *sorted(sockets))]
