"""Connections that are made ahead, and those that are left though nothing is wrong with them."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from dynamo_h2 import ClientClosed, HttpRequestClient, InvalidRequest
from dynamo_h2.transport import pool
from dynamo_h2.transport.protocol import ClientProtocol
from tests.behaviours import greeted, patient, serve, shake, turns, until
from tests.behaviours_pool import answer, limited, start
from tests.http2.frame_factory import GOAWAY, NO_ERROR
from tests.peers.scripted import Connection, scripted_peer
from tests.transport.listening import refusing_port, silent_port


def connections_of(client: HttpRequestClient) -> int:
    """How many connections of the client take requests."""
    assert client._pool is not None
    return sum(len(host.connections) for host in client._pool._hosts.values())


# Leaving


async def test_drain_finishes_requests_in_flight_and_new_ones_dial_anew() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        old = start(client, peer, "/old")
        connection = await greeted(peer)
        request = await connection.recv_request()
        draining = asyncio.create_task(client.drain(peer.url("/whatever")))
        await turns(5)
        new = start(client, peer, "/new")
        assert await answer(await greeted(peer, 1)) == "/new"
        await new
        assert not draining.done()
        connection.respond(request.stream_id, b"finished")
        assert (await old).body == b"finished"
        goodbye = await connection.recv_until(GOAWAY)
        assert (goodbye.code, goodbye.last_stream_id) == (NO_ERROR, 0)
        await draining
        stats = client.stats()
        assert (stats.connections_opened, stats.connections_closed) == (2, 1)


async def test_drain_leaves_all_connections_of_the_origin_and_no_others() -> None:
    async with (
        limited(1) as (peer, client),
        scripted_peer(serve) as other,
    ):
        await client.request("GET", other.url())
        tasks = [start(client, peer, f"/{number}") for number in range(3)]
        connections = [await greeted(peer, index) for index in range(3)]
        draining = asyncio.create_task(client.drain(peer.url()))
        await turns(5)
        for connection in connections:
            await answer(connection)
        await asyncio.gather(*tasks)
        await draining
        assert client.stats().connections_closed == 3
        await client.request("GET", other.url())
        assert len(other.connections) == 1


async def test_who_waits_for_a_slot_of_a_drained_connection_gets_one_of_another() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        holder, waiting = start(client, peer, "/holder"), start(client, peer, "/waiting")
        connection = await peer.connection()
        request = await connection.recv_request()
        draining = asyncio.create_task(client.drain(peer.url()))
        assert await answer(await greeted(peer, 1)) == "/waiting"
        connection.respond(request.stream_id)
        await asyncio.gather(holder, waiting, draining)


async def test_to_stop_waiting_for_a_drain_does_not_call_it_off() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = start(client, peer, "/")
        connection = await greeted(peer)
        request = await connection.recv_request()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.drain(peer.url()), 0.01)
        connection.respond(request.stream_id)
        await task
        await connection.recv_until(GOAWAY)


async def test_an_origin_without_connections_is_drained_at_once() -> None:
    async with HttpRequestClient(patient()) as client:
        await client.drain("worker.example:80/")
        with pytest.raises(InvalidRequest):
            await client.drain("worker.example:port/")
    with pytest.raises(ClientClosed):
        await client.drain("worker.example:80/")


# Age


async def test_an_old_connection_finishes_its_requests_and_is_replaced() -> None:
    config = patient(max_connection_age=0.1)
    async with scripted_peer(shake) as peer, HttpRequestClient(config) as client:
        began = time.monotonic()
        old = start(client, peer, "/old")
        connection = await greeted(peer)
        request = await connection.recv_request()
        await until(lambda: not connections_of(client))
        assert time.monotonic() - began >= 0.09
        new = start(client, peer, "/new")
        assert await answer(await greeted(peer, 1)) == "/new"
        connection.respond(request.stream_id, b"finished")
        assert (await old).body == b"finished"
        assert (await connection.recv_until(GOAWAY)).code == NO_ERROR
        await new


async def test_an_old_connection_that_is_idle_closes_by_itself() -> None:
    config = patient(max_connection_age=0.05)
    async with scripted_peer(serve) as peer, HttpRequestClient(config) as client:
        await client.request("GET", peer.url())
        await until(lambda: client.stats().connections_closed == 1)
        await client.request("GET", peer.url())


async def test_nothing_is_dialled_for_who_stopped_waiting_as_the_connection_was_left() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        connection = await greeted(peer)
        holder = start(client, peer, "/holder")
        request = await connection.recv_request()
        waiter = start(client, peer, "/waiter")
        await turns(2)
        assert client._pool is not None
        (host,) = client._pool._hosts.values()
        (protocol,) = host.connections
        assert len(host._waiters) == 1
        waiter.cancel()
        protocol.connection.drain(time.monotonic())
        assert host.tasks == []
        connection.respond(request.stream_id, b"held")
        assert (await holder).body == b"held"
        assert client.stats().connections_opened == 1


# Ahead


async def test_warm_up_connects_ahead_of_the_first_request() -> None:
    async with (
        scripted_peer(serve) as one,
        scripted_peer(serve) as other,
        HttpRequestClient(patient()) as client,
    ):
        assert await client.warm_up([one.url("/a"), one.url("/b"), other.url()]) == 2
        assert client.stats().connections_idle == 2
        for peer in (one, other):
            await client.request("GET", peer.url())
        assert client.stats().connections_opened == 2
        assert await client.warm_up([one.url(), other.url()]) == 2
        assert client.stats().connections_opened == 2


async def test_warm_up_logs_what_it_cannot_reach(caplog: pytest.LogCaptureFixture) -> None:
    async def gone(connection: Connection) -> None:
        await connection.expect_preface()
        connection.close()

    config = patient(connect_retries=2, connect_timeout=0.5)
    with refusing_port() as refusing, silent_port() as silent:
        async with (
            scripted_peer(serve) as peer,
            scripted_peer(gone) as early,
            HttpRequestClient(config) as client,
        ):
            ports = (refusing, silent)
            urls = [peer.url(), early.url(), *(f"127.0.0.1:{port}/" for port in ports)]
            assert await client.warm_up(urls) == 1
            assert len(early.connections) == 3
    messages = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(messages) == 3
    for port in (early.port, *ports):
        assert any(f"warm_up: cannot connect to http://127.0.0.1:{port}" in m for m in messages)


async def test_warm_up_of_a_wrong_address_dials_nothing() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(InvalidRequest):
            await client.warm_up([peer.url(), "worker.example:port/"])
        assert client.stats().connections_opened == 0


@pytest.mark.parametrize("count", [0, 1, 3, 5, 8])
async def test_warm_up_can_be_cancelled_at_any_turn(count: int) -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.warm_up([peer.url()]))
        await turns(count)
        task.cancel()
        await asyncio.wait([task])
        await client.request("GET", peer.url())
        assert client.stats().connections_opened == 1


async def test_closing_ends_a_warm_up() -> None:
    with silent_port() as port:
        client = HttpRequestClient(patient())
        task = asyncio.create_task(client.warm_up([f"127.0.0.1:{port}/"]))
        await turns(5)
        await client.close()
        assert await task == 0


async def test_closing_in_the_same_turn_ends_a_warm_up() -> None:
    async with scripted_peer(serve) as peer:
        client = HttpRequestClient(patient())
        task = asyncio.create_task(client.warm_up([peer.url()]))
        closing = asyncio.create_task(client.close())
        await closing
        assert await task == 0


async def test_a_connection_lost_as_its_dial_ends_is_made_again_for_a_warm_up() -> None:
    loop = asyncio.get_running_loop()

    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.warm_up([peer.url()]))
        lost: list[ClientProtocol] = []

        def watch() -> None:
            # Loops that read their sockets between two turns say so at this very moment.
            hosts = [] if client._pool is None else list(client._pool._hosts.values())
            if not any(dial.done() for host in hosts for dial in host.tasks):
                loop.call_soon(watch)
                return
            lost.extend(protocol for host in hosts for protocol in host.connections)
            for protocol in lost:
                protocol.connection.lost(ConnectionResetError(), time.monotonic())

        watch()
        assert await task == 1
        assert len(lost) == 1
        assert client.stats().connections_opened == 2


async def test_warm_up_forgets_none_of_many_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[tuple[str, int]]:
        return [("127.0.0.1", peer.port)]

    monkeypatch.setattr(pool, "REMEMBERED", 2)
    urls = [f"worker-{number}.example/" for number in range(8)]
    async with (
        scripted_peer(serve) as peer,
        HttpRequestClient(patient(), resolver=resolve) as client,
    ):
        assert await client.warm_up(urls) == 8
        for url in urls:
            await client.request("GET", url)
        assert client.stats().connections_opened == 8


async def test_a_request_shares_the_dial_of_a_warm_up() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        results = await asyncio.gather(
            client.warm_up([peer.url()]), client.request("GET", peer.url())
        )
        assert results[0] == 1
        assert client.stats().connections_opened == 1
