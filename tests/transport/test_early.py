"""Connections that are made in place, whose first bytes leave before the loop has their socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

import pytest

from dynamo_h2 import ConnectError, ConnectTimeout, HttpRequestClient, TransportError
from dynamo_h2.config import Http2Config
from dynamo_h2.origin import Origin
from dynamo_h2.transport.connect import Dialer
from dynamo_h2.transport.early import EarlyTransport
from dynamo_h2.transport.sockets import Address, connect_at_once, is_loopback, socket_options
from tests.behaviours import noise, patient, serve, turns, until
from tests.http2.frame_factory import (
    DATA,
    GOAWAY,
    HEADERS,
    MAX_STREAMS,
    OK,
    SETTINGS,
    WINDOW_UPDATE,
    goaway,
    headers,
    parse,
    settings,
    settings_ack,
)
from tests.peers.scripted import Connection, scripted_peer
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


async def test_the_answer_to_the_first_settings_comes_without_a_response() -> None:
    with accepting() as peer:
        async with begun(peer) as task:
            peer.kinds()
            peer.sock.sendall(settings() + settings_ack())
            await turns(20)
            assert peer.kinds() == [SETTINGS]
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
            assert client.stats().connections_opened == 1  # the other one was no try


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


@pytest.mark.parametrize("after", range(5))
async def test_a_client_that_is_closed_on_the_way_to_the_loop_says_goodbye(after: int) -> None:
    with accepting() as peer:
        async with begun(peer) as task:
            peer.kinds()
            await turns(after)
        with pytest.raises(TransportError, match="client was closed"):
            await task
        received = b""
        while piece := peer.sock.recv(65_536):
            received += piece
        assert [frame.kind for frame in parse(received)] == [GOAWAY]


@pytest.mark.parametrize("after", range(5))
async def test_a_task_that_is_cancelled_on_the_way_to_the_loop_is_the_connections_end(
    after: int,
) -> None:
    """As at the end of a loop that cancels all of its tasks, before and after the socket is its."""
    with accepting() as peer:
        async with HttpRequestClient(patient(max_retries=0)) as client:
            task = asyncio.create_task(client.send_request(f"127.0.0.1:{peer.port}/", b"payload"))
            await asyncio.sleep(0)
            peer.accept()
            assert client._pool is not None
            (host,) = client._pool._hosts.values()
            (protocol,) = host.connections
            adopting = host.tasks
            await turns(after)
            for each in adopting:
                each.cancel()
            await turns(10)
            if all(each.cancelled() for each in adopting):
                with pytest.raises(TransportError, match="was cancelled"):
                    await task
                await protocol.closed
            else:
                peer.sock.sendall(settings() + settings_ack() + headers(1, OK, end_stream=True))
                assert await task == b""


async def test_what_a_peer_said_is_read_though_nothing_can_be_written_any_more() -> None:
    with accepting() as peer:

        def leave() -> None:
            peer.accept()
            peer.sock.sendall(settings() + goaway(0))
            peer.sock.close()  # which is a reset: the first request is not read

        async with HttpRequestClient(patient(max_retries=0)) as client:
            url = f"127.0.0.1:{peer.port}/"
            first = asyncio.create_task(client.send_request(url, b"first"))
            asyncio.get_running_loop().call_soon(leave)
            second = asyncio.create_task(client.send_request(url, b"second"))
            for task in (first, second):
                with pytest.raises(TransportError, match="GOAWAY") as raised:
                    await task
                assert raised.value.processed is False


async def test_without_settings_a_connection_is_given_up_in_time() -> None:
    with accepting() as peer:
        async with begun(peer, connect_timeout=0.1, connect_retries=0, max_retries=0) as task:
            with pytest.raises(ConnectTimeout, match="SETTINGS"):
                await task


def test_a_loop_that_ends_closes_the_socket() -> None:
    """Nothing is left behind, though the loop never took the socket over."""
    client = HttpRequestClient(patient())  # outlives the loop, and keeps what it holds
    with accepting() as peer:

        async def leave() -> None:
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


async def test_a_peer_that_is_left_alone_is_not_connected_to_before_its_time() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{listener.getsockname()[1]}/"
        async with HttpRequestClient(patient(connect_retries=0)) as client:
            with pytest.raises(ConnectError, match="connection refused"):
                await client.send_request(url, b"payload")
            listener.listen()
            listener.setblocking(False)
            peer = Accepted(listener)
            task = asyncio.create_task(client.send_request(url, b"payload"))
            await asyncio.sleep(0)
            with pytest.raises(BlockingIOError):
                peer.accept()
            listener.settimeout(10)
            await asyncio.to_thread(peer.accept)  # once its pause is over
            with peer.sock:
                assert HEADERS in await asyncio.to_thread(peer.kinds)
                peer.sock.sendall(settings() + headers(1, OK, end_stream=True))
                assert await task == b""


async def test_a_peer_that_took_no_streams_is_asked_for_its_settings_first() -> None:
    opened = 0

    async def script(connection: Connection) -> None:
        nonlocal opened
        opened += 1
        if opened == 1:
            await connection.handshake((MAX_STREAMS, 0))
            connection.close()
        else:
            await connection.handshake()
            await connection.serve()

    async with scripted_peer(script) as peer, HttpRequestClient(patient(max_retries=0)) as client:
        assert await client.warm_up([peer.base]) == 1
        await until(lambda: client.stats().connections_closed == 1)
        assert await client.send_request(peer.url(), b"payload") == b""


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


@pytest.mark.parametrize(
    "origin",
    [
        Origin("https", "127.0.0.1", 1),
        Origin("http", "localhost", 1, "/run/worker.sock"),
        Origin("http", "192.0.2.1", 1),
    ],
    ids=str,
)
def test_what_takes_round_trips_is_not_connected_to_in_place(origin: Origin) -> None:
    with accepting() as peer:
        here = origin.scheme == "https" or origin.socket_path is not None
        address = Address(socket.AF_INET, ("127.0.0.1" if here else origin.host, peer.port))
        assert Dialer(Http2Config()).connect_at_once(origin, address) is None


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


def read_all(sock: socket.socket) -> bytes:
    received = bytearray()
    try:
        while piece := sock.recv(1 << 20):
            received += piece
    except ConnectionResetError:
        return bytes(received)
    return bytes(received)


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
        sock = early.get_extra_info("socket")
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await early.adopt(asyncio.get_running_loop(), OPTIONS)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        early.abort()
        assert await protocol.lost is None
        assert protocol.calls == ["made", "made", "lost"]


async def test_an_abort_drops_what_was_not_sent() -> None:
    with accepting() as peer:
        early, protocol = early_pair(peer)
        early.write(bytes(16 << 20))
        unsent = early.get_write_buffer_size()
        early.abort()
        await early.adopt(asyncio.get_running_loop(), OPTIONS)
        assert await protocol.lost is None
        assert len(await asyncio.to_thread(read_all, peer.sock)) <= (16 << 20) - unsent


async def test_a_write_to_a_peer_that_is_gone_is_left_to_the_loop_to_find_out() -> None:
    with accepting() as peer:
        early, protocol = early_pair(peer)
        peer.sock.sendall(b"last words")
        reset_on_close(peer.sock)
        peer.sock.close()
        early.write(b"too late")
        early.write(b"and again")
        assert early.get_write_buffer_size() == 0
        await early.adopt(asyncio.get_running_loop(), OPTIONS)
        assert await protocol.read(10) == b"last words"
        await protocol.lost


class Refusing:
    """A loop that takes no socket."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def connect_accepted_socket(self, *_arguments: object) -> NoReturn:
        raise self._error


async def test_a_loop_that_does_not_take_the_socket_is_a_lost_connection() -> None:
    error = OSError(12, "Cannot allocate memory")
    with accepting() as peer:
        early, protocol = early_pair(peer)
        await early.adopt(Refusing(error), OPTIONS)  # type: ignore[arg-type] # one method is asked
        assert await protocol.lost is error
        assert peer.sock.recv(100) == b""


async def test_what_else_a_loop_raises_is_raised_and_a_lost_connection() -> None:
    error = RuntimeError("no more loops")
    with accepting() as peer:
        early, protocol = early_pair(peer)
        with pytest.raises(RuntimeError, match="no more loops"):
            await early.adopt(Refusing(error), OPTIONS)  # type: ignore[arg-type] # as above
        assert await protocol.lost is error
        assert peer.sock.recv(100) == b""


async def test_only_the_socket_is_known_of_it() -> None:
    with accepting() as peer:
        early, protocol = early_pair(peer)
        assert early.get_extra_info("socket").getpeername()[1] == peer.port
        assert early.get_extra_info("ssl_object") is None
        early.give_up()
        assert isinstance(await protocol.lost, ConnectionAbortedError)
        assert peer.sock.recv(100) == b""
