"""Which connection a request goes to, when another is dialled, and who waits for whom."""

from __future__ import annotations

import asyncio

import pytest

from dynamo_h2 import HttpRequestClient, PoolTimeout, RequestTimeout
from tests.behaviours import greeted, patient, serve, settled, shake, standstill, turns, until
from tests.behaviours_pool import answer, hold, limited, start
from tests.http2.frame_factory import (
    GOAWAY,
    HEADERS,
    MAX_STREAMS,
    NO_ERROR,
    OK,
    REFUSED_STREAM,
    goaway,
    headers,
    settings,
)
from tests.peers.scripted import Connection, scripted_peer

# Room


async def test_another_connection_is_dialled_when_every_stream_is_taken() -> None:
    async with limited(2) as (peer, client):
        tasks = [start(client, peer, f"/{number}") for number in range(3)]
        first, second = await peer.connection(0), await greeted(peer, 1)
        assert await answer(second) == "/2"
        assert {await answer(first), await answer(first)} == {"/0", "/1"}
        await asyncio.gather(*tasks)
        assert client.stats().connections_opened == 2


async def test_our_own_limit_of_streams_counts_too() -> None:
    async with limited(1000, max_concurrent_streams=1) as (peer, client):
        tasks = [start(client, peer, f"/{number}") for number in range(2)]
        second = await greeted(peer, 1)
        assert await answer(second) == "/1"
        assert await answer(await peer.connection(0)) == "/0"
        await asyncio.gather(*tasks)


async def test_requests_wait_in_line_when_there_may_be_no_other_connection() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        tasks = []
        for number in range(10):
            tasks.append(start(client, peer, f"/{number}"))
            await asyncio.sleep(0)
        connection = await peer.connection()
        assert [await answer(connection) for _ in range(10)] == [f"/{n}" for n in range(10)]
        await asyncio.gather(*tasks)
        assert client.stats().connections_opened == 1


async def test_nobody_overtakes_who_waits_in_line() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):

        async def one_after_the_other(name: str) -> None:
            for number in range(5):
                await client.request("GET", peer.url(f"/{name}{number}"))

        tasks = [asyncio.create_task(one_after_the_other(name)) for name in "abc"]
        connection = await peer.connection()
        order = [await answer(connection) for _ in range(15)]
        await asyncio.gather(*tasks)
    assert order == [f"/{name}{number}" for number in range(5) for name in "abc"]


async def test_who_waits_is_served_when_the_peer_allows_more_streams() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        tasks = [start(client, peer, f"/{number}") for number in range(4)]
        connection = await peer.connection()
        requests = [await connection.recv_request()]
        connection.send_settings((MAX_STREAMS, 3))
        requests += [await connection.recv_request() for _ in range(2)]
        await standstill(client)
        for request in requests:
            connection.respond(request.stream_id)
        await answer(connection)
        await asyncio.gather(*tasks)


async def test_a_limit_that_was_lowered_holds_for_new_requests() -> None:
    async with limited(3, max_connections_per_host=1) as (peer, client):
        tasks = [start(client, peer, f"/{number}") for number in range(3)]
        connection = await peer.connection()
        requests = [await connection.recv_request() for _ in range(3)]
        connection.send_settings((MAX_STREAMS, 1))
        await settled(connection)
        tasks += [start(client, peer, f"/{number}") for number in range(3, 5)]
        for request in requests[:2]:
            connection.respond(request.stream_id)
        await asyncio.gather(*tasks[:2])
        await standstill(client)
        assert len(connection.log(HEADERS)) == 4
        connection.respond(requests[2].stream_id)
        assert [await answer(connection), await answer(connection)] == ["/3", "/4"]
        await asyncio.gather(*tasks)


async def test_requests_go_to_the_least_loaded_connection() -> None:
    async with limited(2) as (peer, client):
        tasks = [start(client, peer, f"/{number}") for number in range(4)]
        first, second = await peer.connection(0), await greeted(peer, 1)
        requests = [await second.recv_request() for _ in range(2)]
        await answer(first)
        for request in requests:
            second.respond(request.stream_id)
        await until(lambda: sum(task.done() for task in tasks) == 3)
        tasks.append(start(client, peer, "/next"))
        assert await answer(second) == "/next"
        await answer(first)
        await asyncio.gather(*tasks)


# Waiting in vain


async def test_a_request_that_waits_too_long_for_a_slot_gets_a_pool_timeout() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        holder = await hold(client, peer)
        patient_one = start(client, peer, "/patient")
        with pytest.raises(PoolTimeout) as raised:
            await client.request("GET", peer.url(), pool_timeout=0.05)
        assert raised.value.processed is False
        assert raised.value.origin == peer.base
        connection = await peer.connection()
        assert [await answer(connection), await answer(connection)] == ["/holder", "/patient"]
        await asyncio.gather(holder, patient_one)


async def test_the_pool_timeout_of_the_config_holds_where_a_call_says_nothing() -> None:
    config = {"max_connections_per_host": 1, "pool_timeout": 0.05}
    async with limited(1, **config) as (peer, client):
        holder = await hold(client, peer)
        with pytest.raises(PoolTimeout):
            await client.request("GET", peer.url())
        await answer(await peer.connection())
        await holder


async def test_a_request_that_waits_past_its_deadline_was_not_processed() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        holder = await hold(client, peer)
        with pytest.raises(RequestTimeout) as raised:
            await client.request("GET", peer.url(), timeout=0.05)
        assert raised.value.processed is False
        await answer(await peer.connection())
        await holder


@pytest.mark.parametrize("count", range(12))
async def test_cancelling_who_waits_at_any_turn_passes_the_slot_on(count: int) -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        connection = await peer.connection()
        holder, first, second = (start(client, peer, f"/{name}") for name in "abc")
        request = await connection.recv_request()
        connection.respond(request.stream_id)
        await turns(count)
        first.cancel()
        await asyncio.wait([first])
        while not second.done():
            receiving = asyncio.create_task(answer(connection))
            await asyncio.wait([receiving, second], return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                receiving.cancel()
                await asyncio.wait([receiving])
        assert (await holder).status == (await second).status == 200
        stats = client.stats()
        assert (stats.streams_in_flight, stats.connections_opened) == (0, 1)
        assert (await asyncio.gather(client.request("GET", peer.url()), answer(connection)))[1]


@pytest.mark.parametrize("count", range(12))
async def test_cancelling_a_request_while_its_connection_is_made_leaves_nothing_behind(
    count: int,
) -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        task = start(client, peer, "/")
        await turns(count)
        task.cancel()
        await asyncio.wait([task])
        assert (await client.request("GET", peer.url())).status == 200
        assert (client.stats().streams_in_flight, client.stats().connections_opened) == (0, 1)


async def test_a_whole_line_can_be_cancelled() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        holder = start(client, peer, "/holder")
        line = [start(client, peer, "/waiting") for _ in range(50)]
        await asyncio.sleep(0)
        for task in line:
            task.cancel()
        await asyncio.wait(line)
        last = start(client, peer, "/last")
        connection = await peer.connection()
        assert [await answer(connection), await answer(connection)] == ["/holder", "/last"]
        await asyncio.gather(holder, last)


# Connections that are leaving or gone


async def test_a_draining_connection_finishes_its_streams_and_takes_no_others() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        old = start(client, peer, "/old")
        first = await greeted(peer)
        request = await first.recv_request()
        first.goaway(2**31 - 1)
        await settled(first)
        new = start(client, peer, "/new")
        assert await answer(await greeted(peer, 1)) == "/new"
        first.respond(request.stream_id, b"finished")
        assert (await old).body == b"finished"
        assert (await new).status == 200
        goodbye = await first.recv_until(GOAWAY)
        assert goodbye.code == NO_ERROR
        await first.until_left()
        assert client.stats().connections_closed == 1


async def test_goaway_on_an_idle_connection_closes_it() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        for index in range(3):
            task = start(client, peer, "/")
            connection = await greeted(peer, index)
            connection.respond((await connection.recv_request()).stream_id)
            await task
            connection.goaway(1)
            await connection.until_left()
        assert client.stats().connections_opened == 3


async def test_a_request_gets_past_a_connection_that_leaves_as_soon_as_it_is_there() -> None:
    """A slot is handed out in one turn and used in the next: GOAWAY may come in between."""

    async def handler(connection: Connection) -> None:
        await connection.expect_preface()
        connection.send_settings()
        if connection.index == 0:
            connection.goaway(0)
            await connection.until_left()
        else:
            await connection.serve()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        await asyncio.gather(*(client.request("GET", peer.url()) for _ in range(5)))
        assert client.stats().connections_opened == 2


async def test_a_limit_that_is_lowered_before_a_slot_is_used_costs_no_attempt() -> None:
    async with limited(2, max_connections_per_host=1, max_retries=0) as (peer, client):
        tasks = [start(client, peer, f"/{number}") for number in range(3)]
        connection = await peer.connection()
        requests = [await connection.recv_request() for _ in range(2)]
        # Both are read in one turn: the slot goes to who waits, and is gone when it is used.
        head = headers(requests[0].stream_id, OK, end_stream=True)
        connection.raw(head + settings((MAX_STREAMS, 1)))
        await settled(connection)
        assert len(connection.log(HEADERS)) == 3
        connection.respond(requests[1].stream_id)
        assert await answer(connection) == "/2"
        await asyncio.gather(*tasks)


async def test_a_connection_that_leaves_before_its_slot_is_used_costs_no_attempt_and_no_place() -> (
    None
):
    async with limited(1, max_connections_per_host=1, max_retries=0) as (peer, client):
        tasks = [start(client, peer, f"/{number}") for number in range(3)]
        first = await peer.connection()
        holder = await first.recv_request()
        # Both are read in one turn: the slot goes to who waits, and its connection leaves.
        first.raw(headers(holder.stream_id, OK, end_stream=True) + goaway(holder.stream_id))
        second = await greeted(peer, 1)
        assert [await answer(second), await answer(second)] == ["/1", "/2"]
        responses = await asyncio.gather(*tasks)
        assert [len(response.attempts) for response in responses] == [1, 1, 1]


async def test_who_has_lost_its_slot_has_the_time_to_connect_anew() -> None:
    config = {"max_connections_per_host": 1, "connect_timeout": 0.5}
    async with limited(1, **config) as (peer, client):
        holder = await hold(client, peer)
        waiting = start(client, peer, "/waiting")
        first = await peer.connection()
        request = await first.recv_request()
        await asyncio.sleep(0.6)  # longer than a connection may take
        first.raw(headers(request.stream_id, OK, end_stream=True) + goaway(request.stream_id))
        assert await answer(await greeted(peer, 1)) == "/waiting"
        await asyncio.gather(holder, waiting)


async def test_no_more_is_written_ahead_than_the_host_is_known_to_take() -> None:
    async def handler(connection: Connection) -> None:
        if connection.index:
            await connection.expect_preface()
            await connection.until_left()
        await connection.handshake((MAX_STREAMS, 3))
        connection.respond((await connection.recv_request()).stream_id)
        await connection.until_left()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        await client.request("GET", peer.url())
        tasks = [start(client, peer, "/") for _ in range(10)]
        second = await peer.connection(1)
        await until(lambda: second.log(HEADERS))
        await standstill(client)
        assert len(second.log(HEADERS)) == 3
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


# Idle connections


async def test_a_connection_that_is_idle_too_long_is_closed_with_goaway() -> None:
    config = patient(pool_idle_timeout=0.05)
    async with scripted_peer(shake) as peer, HttpRequestClient(config) as client:
        task = start(client, peer, "/")
        connection = await greeted(peer)
        await answer(connection)
        await task
        goodbye = await connection.recv_until(GOAWAY)
        assert (goodbye.code, goodbye.last_stream_id) == (NO_ERROR, 0)
        await connection.until_left()
        await until(lambda: client.stats().connections_closed == 1)
        assert client.stats().connections_idle == 0
        task = start(client, peer, "/again")
        assert await answer(await greeted(peer, 1)) == "/again"
        await task


async def test_a_connection_that_is_used_is_not_idle() -> None:
    config = patient(pool_idle_timeout=0.2)
    async with scripted_peer(shake) as peer, HttpRequestClient(config) as client:
        long = start(client, peer, "/long")
        connection = await greeted(peer)
        request = await connection.recv_request()
        await asyncio.sleep(0.4)
        connection.respond(request.stream_id, b"still there")
        assert (await long).body == b"still there"


async def test_idle_connections_over_the_limit_are_closed_at_once() -> None:
    config = {"max_connections_per_host": 5, "pool_max_idle_per_host": 2}
    async with limited(1, **config) as (peer, client):
        tasks = [start(client, peer, f"/{number}") for number in range(5)]
        connections = [await greeted(peer, index) for index in range(5)]
        for connection in connections:
            await answer(connection)
        await asyncio.gather(*tasks)
        await until(lambda: client.stats().connections_closed == 3)
        stats = client.stats()
        assert (stats.connections_idle, stats.connections_active) == (2, 0)


async def test_without_idle_connections_each_one_closes_after_its_request() -> None:
    config = patient(pool_max_idle_per_host=0)
    async with scripted_peer(serve) as peer, HttpRequestClient(config) as client:
        for number in range(1, 4):
            await client.request("GET", peer.url())
            await until(lambda number=number: client.stats().connections_closed == number)  # type: ignore[misc]
        assert client.stats().connections_opened == 3


async def test_a_connection_that_nobody_waits_for_any_more_is_idle_too() -> None:
    config = patient(pool_max_idle_per_host=0)
    async with scripted_peer(serve) as peer, HttpRequestClient(config) as client:
        task = start(client, peer, "/")
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: client.stats().connections_opened == 1)
        await until(lambda: client.stats().connections_closed == 1)


# Hosts


async def test_each_origin_has_connections_of_its_own() -> None:
    async with (
        scripted_peer(serve) as one,
        scripted_peer(serve) as other,
        HttpRequestClient(patient()) as client,
    ):
        for peer in (one, other, one, other):
            await client.request("GET", peer.url("/a"))
            await client.request("GET", peer.url("/b"))
        assert client.stats().connections_opened == 2
    assert len(one.connections) == len(other.connections) == 1


async def test_a_refused_stream_makes_room_for_who_waits() -> None:
    async with limited(1, max_connections_per_host=1, max_retries=0) as (peer, client):
        refused, waiting = start(client, peer, "/refused"), start(client, peer, "/waiting")
        connection = await peer.connection()
        request = await connection.recv_request()
        connection.rst(request.stream_id, REFUSED_STREAM)
        assert await answer(connection) == "/waiting"
        await waiting
        await asyncio.wait([refused])
        assert refused.exception() is not None


async def test_the_slot_of_who_is_cancelled_goes_to_the_next_in_the_same_turn() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        connection = await peer.connection()
        holder = await hold(client, peer)
        first, second = start(client, peer, "/first"), start(client, peer, "/second")
        assert client._pool is not None
        (host,) = client._pool._hosts.values()
        await until(lambda: len(host._waiters) == 2)
        connection.respond((await connection.recv_request()).stream_id)
        while len(host._waiters) == 2:  # noqa: ASYNC110 - to a single turn
            await asyncio.sleep(0)
        # The slot is handed to the first, which has not had its turn yet.
        first.cancel()
        await asyncio.sleep(0)
        assert not host._waiters
        assert await answer(connection) == "/second"
        await asyncio.gather(holder, second)
        await asyncio.wait([first])
        assert first.cancelled()
