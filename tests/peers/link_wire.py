"""A client and its server as bare sockets with a link between them, for the link's own tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.peers.link import Link, LinkStats

MIB: Final = 1 << 20
TURNS: Final = 20
"""Commands, one after the other, each a turn of the relay's loop at least: what it had before the
first and is going to pass on at once is out after the last."""

both_families = pytest.mark.parametrize("listener", ["tcp", "unix"], indirect=True)


@dataclass(frozen=True, slots=True)
class Wire:
    """A client and its server with the link between them; neither blocks."""

    client: socket.socket
    server: socket.socket


@contextlib.contextmanager
def connected(link: Link, listener: socket.socket) -> Iterator[Wire]:
    with link.address.connect() as client:
        server, _ = listener.accept()
        with server:
            client.setblocking(False)
            server.setblocking(False)
            yield Wire(client, server)


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def send_for_ever(sock: socket.socket) -> None:
    while True:
        await send(sock, bytes(65_536))


async def receive(sock: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    data = bytearray()
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        assert more, f"the end came after {len(data)} bytes"
        data += more
    return bytes(data)


async def receive_all(sock: socket.socket) -> bytes:
    """All up to the end."""
    data = bytearray()
    while more := await asyncio.get_running_loop().sock_recv(sock, MIB):
        data += more
    return bytes(data)


async def crosses(wire: Wire) -> bool:
    """Whether bytes come through, there and back."""
    await send(wire.client, b"there")
    await send(wire.server, b"back")
    return (await receive(wire.server, 5), await receive(wire.client, 4)) == (b"there", b"back")


async def turns(link: Link) -> None:
    for _ in range(TURNS):
        await link.stats()


def entered(stats: LinkStats, direction: str) -> int:
    """Bytes that the link has read."""
    lane = stats.up if direction == "up" else stats.down
    return lane.delivered + lane.held


def hears_nothing(sock: socket.socket) -> bool:
    """Whether neither bytes nor an end have come."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


def send_until_full(sock: socket.socket) -> int:
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(65_536))
    return sent
