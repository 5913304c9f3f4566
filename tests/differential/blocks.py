"""Field blocks of a peer, put together from their representations (RFC 7541 §6)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

__all__ = ["COMMON", "announced", "block", "literal", "size_update"]

# How a literal begins: without indexing, with indexing, never indexed.
PLAIN: Final = 0x00
INDEXED: Final = 0x40
NEVER: Final = 0x10

_FIRST_DYNAMIC: Final = 62
_NEWEST: Final = b"\xbe"
_huffman: Final = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def _string(text: bytes, huffman: bool) -> bytes:
    if huffman:
        text = _huffman.encode(text)
    length = encode_integer(len(text), 7)
    length[0] |= 0x80 if huffman else 0
    return bytes(length) + text


def literal(name: bytes | int, value: bytes, kind: int = PLAIN, *, huffman: bool = False) -> bytes:
    """A literal field, its name as text or as an index."""
    if isinstance(name, bytes):
        return bytes((kind,)) + _string(name, huffman) + _string(value, huffman)
    index = encode_integer(name, 6 if kind == INDEXED else 4)
    index[0] |= kind
    return bytes(index) + _string(value, huffman)


def size_update(size: int) -> bytes:
    """A table size update (RFC 7541 §6.3)."""
    update = encode_integer(size, 5)
    update[0] |= 0x20
    return bytes(update)


_STATUS: Final = 8
_CONTENT_LENGTH: Final = 28
_SERVER: Final = 54
_OK: Final = b"\x88"

COMMON: Final[Sequence[bytes]] = (
    _OK,
    b"\x89",
    b"\x8b",
    literal(_STATUS, b"202") + literal(_CONTENT_LENGTH, b"0"),
    _OK + literal(_CONTENT_LENGTH, b"5"),
    _OK + literal(_CONTENT_LENGTH, b"40") + literal(b"server", b"granian", huffman=True),
)
"""Heads that touch no table."""

_STATUSES: Final[Sequence[bytes]] = (
    *(_OK, _OK, _OK, _OK, b"\x89", b"\x8b", b"\x8d"),
    literal(_STATUS, b"202"),
    literal(_STATUS, b"202", INDEXED),
    literal(_STATUS, b"103", huffman=True),
    literal(b":status", b"100"),
    literal(_STATUS, b"101"),
    literal(_STATUS, b"abc"),
    b"",
)
_INSERTIONS: Final[Sequence[bytes]] = (
    literal(b"x-one", b"1", INDEXED),
    literal(b"x-two", b"two", INDEXED, huffman=True),
    literal(b"date", b"today", INDEXED),
    literal(_SERVER, b"worker", INDEXED),
    literal(b"x-large", b"l" * 100, INDEXED),
)
_REST: Final[Sequence[bytes]] = (
    *(b"\x90", b"\xb6"),
    literal(_CONTENT_LENGTH, b"5"),
    literal(_CONTENT_LENGTH, b"40", NEVER),
    literal(_CONTENT_LENGTH, b"0", huffman=True),
    literal(b"x-plain", b"value"),
    literal(b"set-cookie", b"a=b", NEVER, huffman=True),
    literal(b"x-long", b"v" * 300),
)
_WRONG: Final[Sequence[bytes]] = (
    literal(b"Upper", b"case"),
    literal(b"connection", b"close"),
    literal(b":path", b"/"),
    literal(b"x", b"a\nb"),
    literal(_CONTENT_LENGTH, b"-1"),
    # Blocks that cannot be read: index 0, one past the table, half a string, too long an integer.
    b"\x80",
    b"\xff\x40",
    b"\x00\x05abc",
    b"\x7f" + b"\xff" * 12,
    size_update(4096),
)
_UPDATES: Final[Sequence[bytes]] = tuple(
    [size_update(size) for size in (0, 0, 100, 200, 4096, 4096)]
    + [size_update(0) + size_update(size) for size in (200, 4096)]
    + [size_update(5000), size_update(0) * 3]
)


_LENGTHS: Final = (
    (literal(_CONTENT_LENGTH, b"5"), 5),
    (literal(_CONTENT_LENGTH, b"40"), 40),
    (literal(_CONTENT_LENGTH, b"0"), 0),
    (b"\x89", 0),
    (b"\x8b", 0),
)


def announced(fields: bytes) -> int | None:
    """The content-length in one of our field blocks, as far as that can be seen."""
    return next((length for text, length in _LENGTHS if text in fields), None)


def block(random: Random, entries: int) -> bytes:
    """A field block.

    Args:
        random: Chooses.
        entries: How many the receiver's dynamic table has.
    """
    chance = random.random()
    if chance < 0.35:
        return random.choice(COMMON)
    if chance < 0.5:
        # The same bytes again and again, which mean something else after each insertion.
        return _OK + (_NEWEST if entries else b"") + (_NEWEST if chance < 0.4 and entries else b"")
    if chance < 0.58:
        return _OK + random.choice(_INSERTIONS)
    out = random.choice(_STATUSES)
    if random.random() < 0.08:
        out = random.choice(_UPDATES) + out
    while (chance := random.random()) < 0.65:
        if chance < 0.2:
            out += random.choice(_INSERTIONS)
            entries += 1
        elif chance < 0.4 and entries:
            out += _indexed(random, entries)
        elif chance < 0.63:
            out += random.choice(_REST)
        else:
            out += random.choice(_WRONG)
    return out


def _indexed(random: Random, entries: int) -> bytes:
    """A field, or the name of one, out of the dynamic table."""
    index = _FIRST_DYNAMIC + random.randrange(min(entries, 60))
    if random.random() < 0.8:
        return bytes((0x80 | index,))
    return literal(index, b"other", random.choice((PLAIN, INDEXED, NEVER)))
