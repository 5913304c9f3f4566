"""Fixtures for the link's own tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.peers.link import Link, start_link
from tests.peers.link_wire import Wire, connected


@pytest.fixture(scope="module")
def listener(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[socket.socket]:
    """The target, on TCP unless asked otherwise."""
    if getattr(request, "param", "tcp") == "tcp":
        sock = socket.create_server(("127.0.0.1", 0))
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path_factory.mktemp("target") / "socket"))
        sock.listen()
    with sock:
        sock.settimeout(30)
        yield sock


@pytest.fixture(scope="module")
def running(listener: socket.socket) -> Iterator[Link]:
    at = listener.getsockname()
    with start_link(*((at,) if isinstance(at, str) else at)) as link:
        yield link


@pytest.fixture
def link(running: Link) -> Iterator[Link]:
    """One for all tests, back as it was after each."""
    yield running
    asyncio.run(running.restore())


@pytest.fixture
def wire(link: Link, listener: socket.socket) -> Iterator[Wire]:
    with connected(link, listener) as wire:
        yield wire
