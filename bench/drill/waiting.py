"""Waiting for what nobody tells: the end of a process, a counter at zero."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY: Final = 0.01
"""Seconds between two looks."""


async def until(condition: Callable[[], bool], within: float = inf) -> bool:
    """Waits until something is true; returns whether it became so within so many seconds."""
    give_up = time.monotonic() + within
    while not condition():
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(EVERY)
    return True
