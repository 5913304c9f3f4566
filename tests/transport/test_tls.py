"""The client over TLS and Unix sockets, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from dynamo_h2 import ConnectError, ConnectionLost, HttpRequestClient, StatusError
from examples.worker import pattern
from tests.behaviours import client_for, noise, patient, serve, sha256, standstill, until
from tests.http2.frame_factory import HEADERS, OK, data, headers, settings, settings_ack
from tests.peers import Certificates, Peer
from tests.peers.process import Address, accepts, running, speaks_http2
from tests.peers.scripted import scripted_peer
from tests.peers.servers import KINDS
from tests.transport.listening import Listener, listening

BIG = 1 << 20
T = TypeVar("T")


@pytest.fixture(scope="module")
def hypercorn_tls(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Peer]:
    def command(address: Address) -> list[str]:
        files = ["--certfile", str(certificates.server), "--keyfile", str(certificates.server_key)]
        bind = ["--bind", f"127.0.0.1:{address.port}", "--graceful-timeout", "0"]
        return [sys.executable, "-m", "hypercorn", *files, *bind, "examples.worker"]

    directory = tmp_path_factory.mktemp("hypercorn_tls")
    with running(command, directory, accepts) as (process, address):
        base = f"https://127.0.0.1:{address.port}"
        known = KINDS["hypercorn"].capabilities
        yield Peer("hypercorn", base, known, address, process, certificates)


@pytest.fixture(scope="module")
def hypercorn_unix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    def command(address: Address) -> list[str]:
        bind = ["--bind", f"unix:{address.socket_path}", "--graceful-timeout", "0"]
        return [sys.executable, "-m", "hypercorn", *bind, "examples.worker"]

    directory = tmp_path_factory.mktemp("hypercorn_unix")
    with running(command, directory, speaks_http2, unix=True) as (process, address):
        base = f"unix:{address.socket_path}:"
        yield Peer("hypercorn", base, KINDS["hypercorn"].capabilities, address, process)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Peer:
    found: Peer = request.getfixturevalue(request.param)
    return found


class HastyPeer(threading.Thread):
    """Writes a response and its FIN in one go.

    Args:
        context: Its certificate.
        size: How long the body is, in bytes.
    """

    def __init__(self, context: ssl.SSLContext, size: int) -> None:
        super().__init__()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._size = size
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}/"

    def run(self) -> None:
        with self.listener, self.listener.accept()[0] as sock:
            self._until_done(sock, self._tls.do_handshake)
            request = b""
            while b"\x01\x05" not in request[24:]:  # HEADERS, END_HEADERS, END_STREAM
                request += self._until_done(sock, partial(self._tls.read, 65_536))
            self._tls.write(settings() + settings_ack() + headers(1, OK))
            for start in range(0, self._size, 16_384):
                last = start + 16_384 >= self._size
                self._tls.write(data(1, bytes(min(16_384, self._size - start)), end_stream=last))
            sock.sendall(self._outgoing.read())
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while sock.recv(65_536):
                    pass

    def _until_done(self, sock: socket.socket, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                sock.sendall(self._outgoing.read())
                self._incoming.write(sock.recv(65_536))
            finally:
                sock.sendall(self._outgoing.read())


async def test_a_response_is_whole_whose_peer_leaves_right_behind_it(
    certificates: Certificates,
) -> None:
    config = patient(initial_stream_window=8 * BIG, initial_connection_window=8 * BIG)
    for size in (300_000, 400_000, 500_000, 600_000, 800_000) * 3:
        peer = HastyPeer(certificates.server_context(), size)
        peer.start()
        async with HttpRequestClient(config, ssl_context=certificates.client_context()) as client:
            assert len((await client.request("GET", peer.url)).body) == size
        peer.join()


over_tls = pytest.mark.parametrize("server", ["nginx_tls", "hypercorn_tls"], indirect=True)
over_unix = pytest.mark.parametrize("server", ["granian_unix", "hypercorn_unix"], indirect=True)


# TLS


@over_tls
async def test_bodies_of_any_size_arrive_whole_over_tls(server: Peer) -> None:
    async with client_for(server) as client:
        for size in (0, 1000, BIG):
            response = await client.request("GET", server.url(f"/bytes/{size}"))
            assert sha256(response.body) == sha256(pattern(size))
        assert client.stats().connections_opened == 1


@over_tls
async def test_a_hundred_requests_share_one_tls_connection(server: Peer) -> None:
    async with client_for(server) as client:
        responses = await asyncio.gather(
            *(client.request("GET", server.url("/bytes/1000")) for _ in range(100))
        )
        assert client.stats().connections_opened == 1
    assert {response.body for response in responses} == {pattern(1000)}


async def test_a_big_body_is_echoed_over_tls(hypercorn_tls: Peer) -> None:
    body = noise(3 * BIG)
    async with client_for(hypercorn_tls) as client:
        assert sha256(await client.send_request(hypercorn_tls.url("/echo"), body)) == sha256(body)


@over_tls
async def test_leaving_an_answer_early_leaves_the_tls_connection_alone(server: Peer) -> None:
    async with client_for(server) as client:
        for _ in range(3):
            async with client.stream("GET", server.url(f"/bytes/{1 << 24}")) as response:
                await anext(aiter(response))
            after = await client.request("GET", server.url("/bytes/1000"))
            assert after.body == pattern(1000)
        assert client.stats().connections_opened == 1


@over_tls
async def test_a_certificate_of_an_unknown_authority_is_refused_at_once(server: Peer) -> None:
    async with HttpRequestClient(patient()) as client:
        with pytest.raises(ConnectError, match="certificate verify failed") as raised:
            await client.request("GET", server.url("/bytes/1"))
        stats = client.stats()
    assert raised.value.processed is False
    assert (stats.requests_sent, stats.connections_opened) == (0, 0)


@over_tls
async def test_a_call_may_say_whose_certificate_it_wants(server: Peer) -> None:
    async with client_for(server) as client:
        url = server.url("/bytes/1000")
        named = await client.request(
            "GET", url, server_hostname="localhost", authority="worker.pods"
        )
        assert named.body == pattern(1000)
        with pytest.raises(ConnectError, match="certificate verify failed"):
            await client.request("GET", url, server_hostname="elsewhere.example")
        # A connection is shared only by those who want the same name.
        await client.request("GET", url)
        assert client.stats().connections_opened == 2


async def test_a_server_without_http2_is_refused_by_alpn(certificates: Certificates) -> None:
    context = certificates.server_context("http/1.1")
    trusting = certificates.client_context()
    async with (
        listening(Listener(), context=context) as listener,
        HttpRequestClient(patient(), ssl_context=trusting) as client,
    ):
        with pytest.raises(ConnectError, match="ALPN") as raised:
            await client.request("GET", f"https://localhost:{listener.port}/")
    assert raised.value.processed is False


async def test_tls_to_a_server_without_tls_is_a_connect_error(granian: Peer) -> None:
    async with HttpRequestClient(patient()) as client:
        with pytest.raises(ConnectError) as raised:
            await client.request("GET", f"https://127.0.0.1:{granian.address.port}/")
    assert raised.value.processed is False


async def test_a_client_with_a_certificate_is_let_in(
    granian_mtls: Peer, nginx_mtls: Peer, certificates: Certificates
) -> None:
    context = certificates.client_context(with_certificate=True)
    async with HttpRequestClient(patient(), ssl_context=context) as client:
        for server in (granian_mtls, nginx_mtls):
            response = await client.request("GET", server.url("/bytes/1000"))
            assert response.body == pattern(1000)


async def test_an_alert_after_the_request_leaves_open_what_was_processed(
    certificates: Certificates,
) -> None:
    """In TLS 1.3 the client is done before the server has seen that the certificate is missing."""
    context = certificates.server_context(ask_client=True)
    context.minimum_version = ssl.TLSVersion.TLSv1_3

    async def serve_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Look at the client's last flight only when its request has come behind it."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(await reader.read(65_536))
        with pytest.raises(ssl.SSLWantReadError):
            session.do_handshake()
        writer.write(outgoing.read())
        await until(lambda: client.stats().requests_sent == 1)
        await standstill(client)
        incoming.write(await reader.read(65_536))
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            session.do_handshake()
        writer.write(outgoing.read())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve_late, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with (
        server,
        HttpRequestClient(patient(), ssl_context=certificates.client_context()) as client,
    ):
        with pytest.raises(ConnectionLost, match="certificate required") as raised:
            await client.send_request(url, b"payload")
        stats = client.stats()
    assert type(raised.value) is ConnectionLost
    assert raised.value.processed is None
    assert (stats.retries, stats.errors) == (0, 1)


async def test_an_alert_is_followed_by_another_attempt_only_when_nothing_was_sent(
    granian_mtls: Peer,
) -> None:
    """Who is first here, the alert or the request, is a matter of luck.

    Where it is the alert, and the connection stood before, the same attempt has another try. Where
    it is the request, the server closes before it has read it: that is a reset, and the alert may
    be lost with what the client has not read by then.
    """
    told = "certificate required|reset by peer"
    async with client_for(granian_mtls, connect_retries=1) as client:
        with pytest.raises((ConnectError, ConnectionLost), match=told) as raised:
            await client.send_request(granian_mtls.url("/v1/rpc/x"), b"payload")
        stats = client.stats()
    error = raised.value
    attempts = 1 + len(getattr(error, "__notes__", ()))
    if isinstance(error, ConnectError):
        assert error.processed is False
    else:
        assert (error.processed, attempts) in {(None, 1), (None, 2), (None, 3), (False, 3)}
    assert stats.retries == max(0, stats.requests_sent - 1)
    assert stats.connections_opened <= 2 * attempts
    assert stats.requests_sent <= stats.connections_opened


async def test_a_server_that_asks_for_a_certificate_in_http_says_so_itself(
    nginx_mtls: Peer,
) -> None:
    async with client_for(nginx_mtls) as client:
        with pytest.raises(StatusError) as raised:
            await client.send_request(nginx_mtls.url("/v1/rpc/x"), b"payload")
    assert raised.value.status == 400


async def test_closing_a_client_closes_its_tls_connections(certificates: Certificates) -> None:
    tls = certificates.server_context()
    async with scripted_peer(serve, tls=tls) as peer:
        client = HttpRequestClient(patient(), ssl_context=certificates.client_context())
        body = noise(100_000)
        assert (await client.request("POST", peer.url(), body=body)).body == body
        await client.close()
        stats = client.stats()
    assert (stats.connections_opened, stats.connections_closed) == (1, 1)


def test_alpn_is_set_on_the_context_of_the_caller(certificates: Certificates) -> None:
    context = certificates.client_context()
    HttpRequestClient(ssl_context=context)
    client, server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(server, client, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        ours.do_handshake()
    assert b"\x02h2" in client.read()


# Unix sockets


@over_unix
async def test_bodies_of_any_size_are_echoed_over_a_unix_socket(server: Peer) -> None:
    async with client_for(server) as client:
        for size in (0, 1000, BIG):
            body = noise(size)
            assert await client.send_request(server.url("/echo"), body) == body
        assert client.stats().connections_opened == 1


@over_unix
async def test_a_hundred_requests_share_one_unix_socket(server: Peer) -> None:
    async with client_for(server) as client:
        answers = await asyncio.gather(
            *(client.send_request(server.url("/echo"), b"%d" % number) for number in range(100))
        )
        assert client.stats().connections_opened == 1
    assert answers == [b"%d" % number for number in range(100)]


async def test_the_authority_behind_a_unix_socket_is_localhost(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with (
        scripted_peer(serve, socket_path=path) as peer,
        HttpRequestClient(patient()) as client,
    ):
        await client.request("GET", peer.url("/v1/path"))
        seen = dict(peer.connections[0].log(HEADERS)[0].fields or ())
    assert (seen[b":authority"], seen[b":path"]) == (b"localhost", b"/v1/path")


async def test_a_unix_socket_that_is_not_there_is_a_connect_error(tmp_path: Path) -> None:
    async with HttpRequestClient(patient()) as client:
        with pytest.raises(ConnectError, match="no such file") as raised:
            await client.request("GET", f"unix:{tmp_path}/nobody:/v1/path")
    assert raised.value.processed is False
