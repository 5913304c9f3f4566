"""What goes over the wire: known to both sides, so that both can check it."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Final

TOKEN: Final = b'data: {"token": "hello", "index": 12345}\n\n'
_PATTERN: Final = bytes(range(251))


@lru_cache(maxsize=4)
def pattern(length: int) -> bytes:
    """Returns what ``/bytes/<length>`` answers; a prime period shows every shifted byte."""
    return (_PATTERN * (length // len(_PATTERN) + 1))[:length]


def payload(seed: int, length: int) -> bytes:
    """Returns what clients send: bytes that look random, and are the same for the same seed."""
    return random.Random(seed).randbytes(length)
