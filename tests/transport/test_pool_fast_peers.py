"""Peers that have their say before the dial that leads to them is over."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import TypedDict, TypeVar, Unpack

import pytest

from dynamo_h2 import ConnectError, ConnectionLost, HttpRequestClient, StreamReset
from dynamo_h2.origin import Origin
from dynamo_h2.transport.connect import Dialer, DialReport
from dynamo_h2.transport.protocol import ClientProtocol
from dynamo_h2.transport.sockets import Address
from tests.behaviours import greeted, healthy, patient, turns, until
from tests.behaviours_pool import start
from tests.http2.frame_factory import HEADERS, MAX_STREAMS, goaway, settings
from tests.peers.scripted import Connection, scripted_peer
from tests.peers.tls import Certificates

P = TypeVar("P", bound=asyncio.Protocol)


class DialOptions(TypedDict, total=False):
    server_hostname: str | None
    addresses: Sequence[Address] | None
    report: DialReport | None


class SlowDialer(Dialer):
    """A dialer that is held up until the peer has had its say on the connection that was made."""

    def connect_at_once(self, origin: Origin, address: Address) -> None:
        """Leave it to a dial."""

    async def dial(
        self, origin: Origin, factory: Callable[[], P], **options: Unpack[DialOptions]
    ) -> P:
        protocol = await super().dial(origin, factory, **options)
        assert isinstance(protocol, ClientProtocol)
        connection = protocol.connection
        await until(lambda: connection.ready)
        await turns(10)
        return protocol


@pytest.fixture
def slow_dialer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamo_h2.client.Dialer", SlowDialer)


@pytest.mark.usefixtures("slow_dialer")
async def test_settings_that_come_before_the_dial_is_over_are_not_waited_for_again() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake((MAX_STREAMS, 1))

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        tasks = [start(client, peer, "/") for _ in range(3)]
        connections = [await greeted(peer, index) for index in range(3)]
        requests = [await connection.recv_request() for connection in connections]
        for connection, request in zip(connections, requests, strict=True):
            connection.respond(request.stream_id)
        assert [(await task).status for task in tasks] == [200] * 3
        assert client.stats().connections_opened == 3


async def leave_at_once(connection: Connection) -> None:
    """A script that says goodbye in its first flight."""
    connection.raw(settings() + goaway(0))
    await connection.expect_preface()
    await connection.until_left()


@pytest.mark.usefixtures("slow_dialer")
async def test_a_peer_that_leaves_before_the_dial_is_over_gets_no_request() -> None:
    async def handler(connection: Connection) -> None:
        if connection.index == 0:
            await leave_at_once(connection)
        else:
            await connection.handshake()
            await connection.serve()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        response = await client.request("GET", peer.url())
        assert len(response.attempts) == 1
        assert client.stats().connections_opened == 2
        await until(lambda: client.stats().connections_closed == 1)
        assert peer.connections[0].log(HEADERS) == []


@pytest.mark.usefixtures("slow_dialer")
async def test_a_peer_that_always_leaves_before_the_dial_is_over_is_not_dialled_for_ever() -> None:
    config = patient(connect_retries=2)
    async with scripted_peer(leave_at_once) as peer, HttpRequestClient(config) as client:
        with pytest.raises(ConnectError, match="the peer left as soon as") as raised:
            await client.request("GET", peer.url())
        assert raised.value.processed is False
        stats = client.stats()
        assert (stats.connections_opened, stats.requests_sent) == (3, 0)
        assert not healthy(client)


@pytest.mark.usefixtures("slow_dialer")
async def test_a_peer_that_leaves_before_the_dial_is_over_is_not_warm() -> None:
    config = patient(connect_retries=0)
    async with scripted_peer(leave_at_once) as peer, HttpRequestClient(config) as client:
        assert await client.warm_up([peer.url()]) == 0


async def test_a_peer_that_leaves_with_the_end_of_its_handshake_is_not_dialled_for_ever(
    certificates: Certificates,
) -> None:
    """In TLS 1.2 the server has the last word, and may say more in the same breath."""
    tls = certificates.server_context()
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    async with (
        scripted_peer(leave_at_once, tls=tls) as peer,
        HttpRequestClient(patient(), ssl_context=certificates.client_context()) as client,
    ):
        with pytest.raises((ConnectError, ConnectionLost, StreamReset)) as raised:
            await client.request("GET", peer.url())
        assert raised.value.processed is False
