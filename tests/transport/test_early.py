"""Connections that are made in place, whose first bytes leave before the loop has their socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

import pytest

from dynamo_h2 import ConnectError, HttpRequestClient, TransportError
from dynamo_h2.config import Http2Config
from dynamo_h2.origin import Origin
from dynamo_h2.transport.connect import Dialer
from dynamo_h2.transport.early import EarlyTransport
from dynamo_h2.transport.sockets import Address, connect_at_once, is_loopback, socket_options
from tests.behaviours import noise, patient, serve, turns
from tests.http2.frame_factory import (
    DATA,
    GOAWAY,
    HEADERS,
    OK,
    SETTINGS,
    WINDOW_UPDATE,
    headers,
    parse,
    settings,
    settings_ack,
)
from tests.peers.scripted import scripted_peer
from tests.transport.listening import Recorder, refusing_port, reset_on_close, silent_port

OPTIONS = socket_options(Http2Config())


class Accepted:
    """A listener that no loop watches, and the one connection that it takes."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.port: int = listener.getsockname()[1]
        self.sock: socket.socket

    def accept(self) -> None:
        self.sock, _ = self._listener.accept()
        self.sock.settimeout(10)

    def kinds(self) -> list[int]:
        """The frames that are here."""
        return [frame.kind for frame in parse(self.sock.recv(65_536))]


@contextmanager
def accepting() -> Iterator[Accepted]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Accepted(listener)
        yield peer
        if hasattr(peer, "sock"):
            peer.sock.close()


@asynccontextmanager
async def begun(peer: Accepted, **config: object) -> AsyncIterator[asyncio.Task[bytes]]:
    """A request that has run up to where it waits, in the same turn of the loop."""
    async with HttpRequestClient(patient(**config)) as client:
        task = asyncio.create_task(client.send_request(f"127.0.0.1:{peer.port}/", b"payload"))
        await asyncio.sleep(0)
        peer.accept()
        yield task


def early_pair(peer: Accepted) -> tuple[EarlyTransport, Recorder]:
    """An early transport to a peer, and the protocol that is to have its successor."""
    sock = connect_at_once(Address(socket.AF_INET, ("127.0.0.1", peer.port)))
    assert sock is not None
    protocol = Succeeding()
    early = EarlyTransport(sock, protocol)
    protocol.early = early
    protocol.connection_made(early)
    peer.accept()
    return early, protocol


class Succeeding(Recorder):
    """Lets the second transport go on where the first one stopped."""

    early: EarlyTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.calls == ["made"] * 2:
            self.early.hand_over(self.transport)


# What the peer of a client sees


async def test_the_first_request_is_out_before_the_loop_turns() -> None:
    with accepting() as peer:
        async with begun(peer) as task:
            assert peer.kinds() == [SETTINGS, WINDOW_UPDATE, HEADERS, DATA]
            peer.sock.sendall(settings() + settings_ack() + headers(1, OK, end_stream=True))
            assert await task == b""


async def test_the_answer_to_the_first_settings_does_not_hold_up_the_response() -> None:
    with accepting() as peer:
        async with begun(peer) as task:
            peer.kinds()
            peer.sock.sendall(settings() + settings_ack())
            await turns(20)
            assert [frame.kind for frame in parse(peer.sock.recv(65_536))] == [SETTINGS]
            peer.sock.sendall(headers(1, OK, end_stream=True))
            assert await task == b""


async def test_requests_that_come_behind_the_first_take_the_same_connection() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        bodies = [noise(1 << 16, seed) for seed in range(20)]
        answers = await asyncio.gather(*(client.send_request(peer.url(), body) for body in bodies))
        assert answers == bodies
        assert client.stats().connections_opened == 1


async def test_a_peer_that_was_gone_before_the_request_gets_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class LeftDialer(Dialer):
        """A dialer whose peer has left by the time at which its socket is connected."""

        def connect_at_once(self, origin: Origin, address: Address) -> socket.socket | None:
            sock = super().connect_at_once(origin, address)
            peer.accept()
            peer.sock.close()
            return sock

    monkeypatch.setattr("dynamo_h2.client.Dialer", LeftDialer)
    with accepting() as peer:
        async with HttpRequestClient(patient(max_retries=0)) as client:
            task = asyncio.create_task(client.send_request(f"127.0.0.1:{peer.port}/", b"payload"))
            await asyncio.sleep(0)  # the first one, which is made in place, has come and gone
            await asyncio.to_thread(peer.accept)  # of a second connection, which a dial makes
            assert await asyncio.to_thread(peer.kinds) == [SETTINGS, WINDOW_UPDATE, HEADERS, DATA]
            peer.sock.sendall(settings() + settings_ack() + headers(1, OK, end_stream=True))
            assert await task == b""
            assert client.stats().connections_opened == 2


@pytest.mark.parametrize("reset", [False, True])
async def test_a_peer_that_leaves_without_an_answer_is_told_of(reset: bool) -> None:
    with accepting() as peer:
        async with begun(peer, max_retries=0) as task:
            peer.kinds()
            if reset:
                reset_on_close(peer.sock)
            peer.sock.close()
            with pytest.raises(TransportError) as raised:
                await task
            assert raised.value.processed is None  # the request was out


async def test_a_client_that_is_closed_in_the_same_turn_says_goodbye() -> None:
    with accepting() as peer:
        async with begun(peer) as task:
            peer.kinds()
        with pytest.raises(TransportError, match="client was closed"):
            await task
        received = b""
        while piece := peer.sock.recv(65_536):
            received += piece
        assert [frame.kind for frame in parse(received)] == [GOAWAY]


def test_a_loop_that_ends_closes_the_socket() -> None:
    """Nothing is left behind, though the loop never took the socket over."""
    with accepting() as peer:

        async def leave() -> None:
            client = HttpRequestClient(patient())
            await client.__aenter__()
            asyncio.create_task(client.send_request(f"127.0.0.1:{peer.port}/", b"x"))  # noqa: RUF006
            await asyncio.sleep(0)

        asyncio.run(leave())
        peer.accept()
        assert peer.kinds() == [SETTINGS, WINDOW_UPDATE, HEADERS, DATA]
        assert peer.sock.recv(1) == b""


async def test_a_peer_that_is_not_there_is_dialled_and_told_of() -> None:
    with refusing_port() as port:
        async with HttpRequestClient(patient(connect_retries=0)) as client:
            with pytest.raises(ConnectError, match="connection refused"):
                await client.send_request(f"127.0.0.1:{port}/", b"payload")
            assert client.stats().connections_opened == 0


async def test_a_peer_that_takes_its_time_is_dialled() -> None:
    with silent_port() as port:
        async with HttpRequestClient(patient(connect_timeout=0.2, connect_retries=0)) as client:
            with pytest.raises(ConnectError, match="not connected within"):
                await client.send_request(f"127.0.0.1:{port}/", b"payload")


async def test_without_a_socket_to_be_had_a_dial_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_arguments: object) -> NoReturn:
        raise OSError(24, "Too many open files")

    with accepting() as peer:
        async with HttpRequestClient(patient(connect_retries=0)) as client:
            monkeypatch.setattr("dynamo_h2.transport.sockets.socket.socket", none_left)
            with pytest.raises(ConnectError, match="too many open files"):
                await client.send_request(f"127.0.0.1:{peer.port}/", b"payload")


@pytest.mark.parametrize(
    ("address", "here"),
    [
        (Address(socket.AF_INET, ("127.0.0.1", 80)), True),
        (Address(socket.AF_INET, ("127.9.8.7", 80)), True),
        (Address(socket.AF_INET, ("128.0.0.1", 80)), False),
        (Address(socket.AF_INET, ("12.7.0.1", 80)), False),
        (Address(socket.AF_INET6, ("::1", 80, 0, 0)), True),
        (Address(socket.AF_INET6, ("::12", 80, 0, 0)), False),
    ],
)
def test_only_this_machine_is_connected_to_in_place(address: Address, here: bool) -> None:
    assert is_loopback(address) is here


# The transport by itself


async def test_what_the_socket_does_not_take_is_written_by_the_loop() -> None:
    payload = noise(16 << 20)
    with accepting() as peer:
        early, protocol = early_pair(peer)
        early.writelines([payload[:1000], payload[1000:-1000]])
        left = early.get_write_buffer_size()
        assert 0 < left < len(payload) - 1000
        early.write(payload[-1000:])
        assert early.get_write_buffer_size() == left + 1000
        await early.adopt(asyncio.get_running_loop(), OPTIONS)
        early.close()  # by then without effect: its successor is the protocol's
        received = await asyncio.to_thread(read_exactly, peer.sock, len(payload))
        assert received == payload
        assert early.get_write_buffer_size() == 0
        await protocol.end()


def read_exactly(sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        received += sock.recv(1 << 20)
    return bytes(received)


@pytest.mark.parametrize("abort", [False, True])
async def test_an_end_that_was_asked_for_early_comes_with_the_loop(abort: bool) -> None:
    with accepting() as peer:
        early, protocol = early_pair(peer)
        early.write(b"the last words")
        if abort:
            early.abort()
        else:
            early.close()
        assert early.is_closing()
        await early.adopt(asyncio.get_running_loop(), OPTIONS)
        assert await protocol.lost is None
        assert peer.sock.recv(100) == b"the last words"
        assert peer.sock.recv(100) == b""


async def test_an_abort_goes_on_to_the_successor() -> None:
    with accepting() as peer:
        early, protocol = early_pair(peer)
        await early.adopt(asyncio.get_running_loop(), OPTIONS)
        early.abort()
        assert await protocol.lost is None
        assert protocol.calls == ["made", "made", "lost"]


async def test_a_loop_that_does_not_take_the_socket_is_a_lost_connection() -> None:
    class Refusing:
        async def connect_accepted_socket(self, *_arguments: object) -> NoReturn:
            raise OSError(12, "Cannot allocate memory")

    with accepting() as peer:
        early, protocol = early_pair(peer)
        await early.adopt(Refusing(), OPTIONS)  # type: ignore[arg-type] # the one method that is asked
        error = await protocol.lost
        assert isinstance(error, OSError)
        assert peer.sock.recv(100) == b""


async def test_only_the_socket_is_known_of_it() -> None:
    with accepting() as peer:
        early, protocol = early_pair(peer)
        assert early.get_extra_info("socket").getpeername()[1] == peer.port
        assert early.get_extra_info("ssl_object") is None
        early.give_up()
        assert await protocol.lost is None
        assert peer.sock.recv(100) == b""
