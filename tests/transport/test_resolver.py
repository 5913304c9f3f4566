"""A resolver of the caller's own: what it may answer, and what becomes of a wrong answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from dynamo_h2 import ConnectError, HttpRequestClient
from dynamo_h2.transport.sockets import AddressInfo
from tests.behaviours import patient, serve, until
from tests.peers.scripted import Connection, scripted_peer
from tests.transport.listening import info, refusing_port

Answer = Sequence[tuple[str, int] | AddressInfo]


class Known:
    """A resolver that knows one answer, and what it was asked."""

    def __init__(self, answer: Answer | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Answer:
        self.asked.append((host, port))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_resolver_is_asked_for_names_with_their_ports() -> None:
    async with scripted_peer(serve) as peer:
        known = Known([("127.0.0.1", peer.port)])
        async with HttpRequestClient(patient(), resolver=known) as client:
            assert await client.send_request("worker.example:81/", b"hello") == b"hello"
    assert known.asked == [("worker.example", 81)]


async def test_a_resolver_may_answer_as_getaddrinfo_does() -> None:
    async with scripted_peer(serve) as peer:
        known = Known([info("127.0.0.1", peer.port)])
        async with HttpRequestClient.with_config(patient(), resolver=known) as client:
            assert await client.send_request("worker.example:81/", b"hello") == b"hello"


async def test_a_resolver_is_not_asked_for_addresses_in_figures() -> None:
    async with scripted_peer(serve) as peer:
        known = Known(RuntimeError("asked"))
        async with HttpRequestClient(patient(), resolver=known) as client:
            assert await client.send_request(peer.url(), b"hello") == b"hello"


async def test_all_ways_to_make_a_client_take_a_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_HTTP2_CONNECT_RETRIES", "0")
    known = Known(OSError("not today"))
    for client in (
        HttpRequestClient.from_env(resolver=known),
        HttpRequestClient.with_timeout(30, resolver=known),
    ):
        async with client:
            with pytest.raises(ConnectError, match="not today"):
                await client.send_request("worker.example:81/", b"")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "has no address"),
        ([("worker-1", 80)], "'worker-1', which is no IP address"),
        ([("127.0.0.1",)], "cannot connect to http://worker.example"),
        (["127.0.0.1"], "cannot connect to http://worker.example"),
        (None, "cannot connect to http://worker.example"),
        (OSError("not today"), "does not resolve: not today"),
        (LookupError("broken"), "broken"),
        (TimeoutError(), "cannot connect to http://worker.example"),
    ],
)
async def test_what_a_resolver_does_wrong_is_an_error_that_says_so(
    answer: Answer | Exception, message: str
) -> None:
    config = patient(connect_retries=0)
    async with HttpRequestClient(config, resolver=Known(answer)) as client:
        with pytest.raises(ConnectError, match=message) as raised:
            await client.send_request("http://worker.example/", b"")
        assert raised.value.processed is False


async def test_the_number_of_a_zone_is_asked_for_at_each_dial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # An interface that goes and comes back has another number: another address to dial.
    async with scripted_peer(serve) as peer:
        with refusing_port() as refusing:
            ports = [refusing]

            def getaddrinfo(host: str, *_: object, **__: object) -> list[AddressInfo]:
                assert host == "fe80::1%worker"
                return [info("127.0.0.1", ports[-1])]

            monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
            async with HttpRequestClient(patient(connect_retries=0)) as client:
                with pytest.raises(ConnectError):
                    await client.send_request("[fe80::1%worker]:81/", b"hello")
                ports.append(peer.port)
                assert await client.send_request("[fe80::1%worker]:81/", b"hello") == b"hello"


async def test_what_nobody_waited_for_takes_no_try_from_the_next_dial() -> None:
    gone = asyncio.Event()

    async def leave(connection: Connection) -> None:
        await connection.expect_preface()
        await gone.wait()
        connection.close()

    async with scripted_peer(leave) as peer:
        known = Known([("127.0.0.1", peer.port)])
        config = patient(connect_retries=1)
        async with HttpRequestClient(config, resolver=known) as client:
            task = asyncio.create_task(client.request("POST", "worker.example/"))
            await peer.connection(0)
            task.cancel()
            await asyncio.wait([task])
            gone.set()
            await until(lambda: client.stats().connections_closed)
            with refusing_port() as refusing:
                known.answer = [("127.0.0.1", refusing)]
                known.asked.clear()
                with pytest.raises(ConnectError):
                    await client.request("POST", "worker.example/")
            assert len(known.asked) == 2
