"""Many hosts: those that are used no more are forgotten, and dials are bounded over all."""

from __future__ import annotations

import asyncio
import gc

import pytest

from dynamo_h2 import ClientClosed, ConnectError, HttpRequestClient
from dynamo_h2.transport import pool
from dynamo_h2.transport.pool import REMEMBERED
from tests.behaviours import patient, serve, turns, until
from tests.http2.frame_factory import ENHANCE_YOUR_CALM
from tests.peers.scripted import Connection, scripted_peer
from tests.transport.listening import silent_port


class Few:
    """A resolver that knows every two hundredth host: all of them are one peer."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __call__(self, host: str, port: int) -> list[tuple[str, int]]:
        number = int(host.partition(".")[0].removeprefix("worker-"))
        return [] if number % 200 else [("127.0.0.1", self._port)]


async def use_once(client: HttpRequestClient, numbers: range) -> None:
    """One request to each of so many hosts, of which most are not to be reached."""
    for number in numbers:
        request = client.request("GET", f"worker-{number}.example/", affinity="key")
        if number % 200:
            with pytest.raises(ConnectError):
                await request
        else:
            await request
    await until(lambda: not client.stats().connections_idle)


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


async def test_hosts_that_were_used_once_leave_no_memory_behind() -> None:
    async with scripted_peer(serve) as peer:
        config = patient(connect_retries=0, pool_max_idle_per_host=0)
        async with HttpRequestClient(config, resolver=Few(peer.port)) as client:
            await use_once(client, range(2_000))
            before = objects()
            peers_own = len(peer.connections)
            await use_once(client, range(2_000, 10_000))
            assert client._pool is not None
            assert len(client._pool._hosts) <= REMEMBERED + 2
            per_connection = 100  # what the peer keeps of each: its log, its reader, its tables
            kept_by_the_peer = per_connection * (len(peer.connections) - peers_own)
            assert objects() - before < kept_by_the_peer + 2_000


async def test_a_host_that_is_used_is_not_forgotten() -> None:
    async with scripted_peer(serve) as peer:
        config = patient(connect_retries=0)
        async with HttpRequestClient(config, resolver=Few(peer.port)) as client:
            await client.request("GET", "worker-0.example/")
            for number in range(1, 1_000):
                if number % 200:
                    with pytest.raises(ConnectError):
                        await client.request("GET", f"worker-{number}.example/")
            await client.request("GET", "worker-0.example/")
            assert client.stats().connections_opened == 1


async def test_a_host_that_asked_for_calm_is_forgotten_with_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        connection.respond((await connection.recv_request()).stream_id)
        connection.goaway(1, ENHANCE_YOUR_CALM, b"too_many_pings")
        await connection.until_left()

    async with scripted_peer(handler) as peer:
        config = patient(connect_retries=0)
        async with HttpRequestClient(config, resolver=Few(peer.port)) as client:
            await client.request("GET", "worker-0.example/")
            await until(lambda: client.stats().connections_closed)
            assert client.stats().keep_alive_intervals == {"http://worker-0.example": 60}
            monkeypatch.setattr(pool, "HEALTH_WINDOW", 0.0)
            for number in (1, 2):
                with pytest.raises(ConnectError):
                    await client.request("GET", f"worker-{number}.example/")
            assert client.stats().keep_alive_intervals == {}


async def test_a_request_to_a_forgotten_host_is_served_and_ended_as_any_other() -> None:
    async with scripted_peer(serve) as peer:
        client = HttpRequestClient(patient(connect_retries=0), resolver=Few(peer.port))
        prepared = client.stream("GET", "worker-0.example/")
        for number in range(1, 2 * REMEMBERED):
            if number % 200:
                with pytest.raises(ConnectError):
                    await client.request("GET", f"worker-{number}.example/")
        async with prepared as response:
            assert await response.aread() == b""
        await client.close()
        assert client.stats().connections_closed == 1


async def test_closing_ends_what_a_forgotten_host_has_begun_in_place() -> None:
    async with scripted_peer(serve) as peer:
        client = HttpRequestClient(patient(connect_retries=0), resolver=Few(1))
        prepared = client.stream("GET", peer.url())
        for number in range(1, 2 * REMEMBERED):
            if number % 200:
                with pytest.raises(ConnectError):
                    await client.request("GET", f"worker-{number}.example/")
        before = asyncio.all_tasks()
        task = asyncio.create_task(prepared.__aenter__())
        await asyncio.sleep(0)
        (taking_over,) = asyncio.all_tasks() - before - {task}
        await client.close()
        assert taking_over.done()
        with pytest.raises(ClientClosed):
            await task


async def test_closing_ends_the_dial_of_a_forgotten_host() -> None:
    with silent_port() as port:
        client = HttpRequestClient(patient(connect_retries=0), resolver=Few(port))
        prepared = client.stream("GET", "worker-0.example/")
        for number in range(1, 2 * REMEMBERED):
            if number % 200:
                with pytest.raises(ConnectError):
                    await client.request("GET", f"worker-{number}.example/")
        task = asyncio.create_task(prepared.__aenter__())
        await turns(10)
        await client.close()
        with pytest.raises(ClientClosed):
            await task
