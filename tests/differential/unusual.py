"""Frames that a client like this one seldom sees."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from tests.http2 import frame_factory as ff

__all__ = ["ORIGIN", "PRIORITY_UPDATE", "UNKNOWN", "ignored", "priority_update", "push_promise"]

ORIGIN: Final = 0xC
PRIORITY_UPDATE: Final = 0x10
UNKNOWN: Final = (0xB, 0xEE, 0xFF)

_U32: Final = struct.Struct(">L")
_WITH_LENGTH: Final = struct.Struct(">H")
_PROMISED: Final = (2, 2, 4, 6)


def _with_length(text: bytes) -> bytes:
    return _WITH_LENGTH.pack(len(text)) + text


def push_promise(random: Random, stream: int, fields: bytes) -> bytes:
    """PUSH_PROMISE (RFC 9113 §6.6), perhaps padded, perhaps with CONTINUATION, often the push too.

    Args:
        random: Chooses.
        stream: Is promised on.
        fields: The field block of the promised request.
    """
    promised = random.choice(_PROMISED)
    cut = len(fields) if random.random() < 0.6 else random.randrange(len(fields) + 1)
    flags, payload = ff.END_HEADERS if cut == len(fields) else 0, fields[:cut]
    payload = _U32.pack(promised) + payload
    if random.random() < 0.4:
        pad = random.randrange(12)
        flags, payload = flags | ff.PADDED, bytes((pad,)) + payload + bytes(pad)
    out = ff.frame(ff.PUSH_PROMISE, flags, stream, payload)
    if not flags & ff.END_HEADERS:
        out += ff.continuation(stream, fields[cut:])
    if random.random() < 0.5:
        out += ff.headers(promised, ff.OK) + ff.data(promised, b"pushed", end_stream=True)
    return out


def priority_update(random: Random, stream: int) -> bytes:
    """PRIORITY_UPDATE (RFC 9218 §7.1), which no server sends; on another stream than 0, too."""
    on = stream if random.random() < 0.2 else 0
    return ff.frame(PRIORITY_UPDATE, 0, on, _U32.pack(stream) + b"u=1, i")


def ignored(random: Random, stream: int) -> bytes:
    """A frame that changes nothing: PRIORITY, ALTSVC, ORIGIN, or of a type that nobody knows."""
    match random.randrange(5):
        case 0:
            return ff.frame(ff.PRIORITY, 0, stream, _U32.pack(random.choice(_PROMISED)) + b"\x0f")
        case 1:
            # On stream 0 it says whose alternative it is (RFC 7838 §4).
            whose = b"" if stream else b"http://worker"
            return ff.frame(ff.ALTSVC, 0, stream, _with_length(whose) + b'h2=":8001"; ma=60')
        case 2:
            origins = [b"http://worker", b"http://other:8000"][: random.randrange(3)]
            return ff.frame(ORIGIN, 0, 0, b"".join(map(_with_length, origins)))
        case 3:
            payload = bytes(random.randrange(40))
            return ff.frame(random.choice(UNKNOWN), random.randrange(256), stream, payload)
        case _:
            # None of them as it should be.
            kind = random.choice((ff.PRIORITY, ff.ALTSVC, ORIGIN))
            return ff.frame(kind, random.randrange(256), stream, bytes(random.randrange(8)))
