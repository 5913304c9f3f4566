"""Event loops that can tell which of their timers are still to come, and a process's sockets."""

from __future__ import annotations

import asyncio
import os
import stat
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import TypeVarTuple

import uvloop

_Args = TypeVarTuple("_Args")

CROWD = 10_000
"""Timers from which on those that are gone are forgotten."""


class TimerLog:
    """The timers that were asked of a loop, without keeping them alive."""

    __slots__ = ("_crowd", "_timers")

    def __init__(self) -> None:
        self._timers: list[weakref.ref[asyncio.TimerHandle]] = []
        self._crowd = CROWD

    def add(self, timer: asyncio.TimerHandle) -> asyncio.TimerHandle:
        """Note a timer that was just made."""
        self._timers.append(weakref.ref(timer))
        if len(self._timers) > self._crowd:
            self._timers = [ref for ref in self._timers if ref() is not None]
            self._crowd = max(CROWD, 2 * len(self._timers))
        return timer

    def live(self, now: float) -> list[asyncio.TimerHandle]:
        """Those still to come at `now`, the loop's time in seconds."""
        timers = (ref() for ref in self._timers)
        return [t for t in timers if t is not None and not t.cancelled() and t.when() > now]


class WatchedUvloop(uvloop.Loop):
    """A uvloop that can tell its timers; `call_at` goes through `call_later` here."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = TimerLog()

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.timers.add(super().call_later(delay, callback, *args, context=context))


class WatchedAsyncio(asyncio.SelectorEventLoop):
    """asyncio's own loop that can tell its timers; `call_later` goes through `call_at` here."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = TimerLog()

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.timers.add(super().call_at(when, callback, *args, context=context))


WatchedLoop = WatchedUvloop | WatchedAsyncio

LOOPS: Mapping[str, Callable[[], WatchedLoop]] = {
    "uvloop": WatchedUvloop,
    "asyncio": WatchedAsyncio,
}


def open_sockets() -> set[str]:
    """The process's open sockets, each with its descriptor and inode."""
    found = set()
    for name in os.listdir("/dev/fd"):
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor that listed the folder
            continue
        if stat.S_ISSOCK(status.st_mode):
            found.add(f"socket {status.st_ino} (descriptor {name})")
    return found
