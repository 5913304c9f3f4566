"""Damages the peer's frames."""

from __future__ import annotations

from random import Random
from typing import Final

__all__ = ["mutated"]

_LENGTH: Final = slice(0, 3)
_KIND, _FLAGS = 3, 4
_STREAM: Final = slice(5, 9)


def mutated(random: Random, flight: list[bytes]) -> list[bytes]:
    """Damage one of some frames, each of which is at least a header."""
    at = random.randrange(len(flight))
    before, frame, after = flight[:at], bytearray(flight[at]), flight[at + 1 :]
    match random.randrange(8):
        case 0:
            return [*before, *after]
        case 1:
            return [*before, bytes(frame), bytes(frame), *after]
        case 2:
            frame[random.randrange(len(frame))] ^= 1 << random.randrange(8)
        case 3:
            length = int.from_bytes(frame[_LENGTH], "big") + random.choice((-1, 1, 5, 20_000))
            frame[_LENGTH] = max(0, length).to_bytes(3, "big")
        case 4:
            stream = random.choice((0, 1, 2, 3, 5, 7, 9, 2**31 - 1, 2**31 + 1))
            frame[_STREAM] = stream.to_bytes(4, "big")
        case 5:
            frame[_FLAGS] ^= random.choice((0x1, 0x4, 0x8, 0x20, 0x2))
        case 6:
            frame[_KIND] = random.randrange(11)
        case _:
            del frame[random.randrange(len(frame)) :]
    return [*before, bytes(frame), *after]
