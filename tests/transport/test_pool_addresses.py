"""A name that leads to several places, and to others as time goes by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dynamo_h2 import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HttpRequestClient,
    RequestTimeout,
    Response,
)
from dynamo_h2.transport import addresses, host_pool
from tests.behaviours import greeted, patient, serve, shake, turns, until
from tests.http2.frame_factory import (
    GOAWAY,
    HEADERS,
    MAX_STREAMS,
    NO_ERROR,
    OK,
    headers,
    settings,
)
from tests.peers.scripted import Connection, ScriptedPeer, scripted_peer
from tests.transport.listening import refusing_port, silent_port

URL = "worker.example:80/"


class Places:
    """A resolver whose answer the test changes.

    Args:
        ports: Those of 127.0.0.1 that it answers; an error to raise.
    """

    def __init__(self, *ports: int) -> None:
        self.ports: Sequence[int] | Exception = ports
        self.asked = 0
        self.hangs = False

    async def __call__(self, host: str, port: int) -> list[tuple[str, int]]:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.ports, Exception):
            raise self.ports
        return [("127.0.0.1", number) for number in self.ports]


@asynccontextmanager
async def workers(
    count: int, **config: object
) -> AsyncIterator[tuple[list[ScriptedPeer], Places, HttpRequestClient]]:
    """So many workers behind one name, asked for anew at every request, and a client."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(scripted_peer(serve)) for _ in range(count)]
        places = Places(*(peer.port for peer in peers))
        settings = patient(**{"dns_refresh": 0.001, **config})
        client = HttpRequestClient(settings, resolver=places)
        yield peers, places, await stack.enter_async_context(client)


async def ask(client: HttpRequestClient, count: int = 1) -> None:
    for _ in range(count):
        await client.request("GET", URL)
        await asyncio.sleep(0.002)


def connections(peers: Sequence[ScriptedPeer]) -> list[int]:
    return [len(peer.connections) for peer in peers]


# Places


async def test_each_address_gets_a_connection_and_its_turn() -> None:
    async with workers(3, dns_refresh=None) as (peers, places, client):
        await until_connected(client, 3)
        before = [len(peer.connections[0].log(HEADERS)) for peer in peers]
        await ask(client, 9)
        after = [len(peer.connections[0].log(HEADERS)) for peer in peers]
        assert [new - old for new, old in zip(after, before, strict=True)] == [3, 3, 3]
        assert connections(peers) == [1, 1, 1]
        assert client.stats().connections_opened == 3
        assert places.asked == 3


async def until_connected(client: HttpRequestClient, count: int) -> None:
    while client.stats().connections_opened < count:
        await ask(client)
    await ask(client)


async def test_a_host_does_not_grow_past_its_limit_for_its_addresses() -> None:
    async with workers(3, max_connections_per_host=2) as (peers, _, client):
        await ask(client, 20)
        assert sorted(connections(peers)) == [0, 1, 1]


async def test_no_connection_is_made_that_would_be_closed_for_being_idle() -> None:
    config = {"max_connections_per_host": 5, "pool_max_idle_per_host": 2}
    async with workers(3, **config) as (peers, _, client):
        await ask(client, 20)
        assert sorted(connections(peers)) == [0, 1, 1]


async def test_an_address_that_refuses_is_passed_over() -> None:
    with refusing_port() as port:
        async with workers(1) as (peers, places, client):
            places.ports = [port, peers[0].port]
            await ask(client, 20)
            assert connections(peers) == [1]
            assert client.stats().errors == 0


async def test_an_address_that_does_not_answer_holds_up_nobody_who_waits() -> None:
    """Its dial makes way for one that is needed, which goes to the other address too."""
    with silent_port() as port:
        async with workers(1, max_concurrent_streams=1, dns_refresh=None) as (
            peers,
            places,
            client,
        ):
            places.ports = [peers[0].port, port]
            await ask(client, 2)
            await asyncio.gather(*(client.request("GET", URL) for _ in range(4)))
            assert client.stats().errors == 0


async def test_an_address_whose_connection_ended_early_gets_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_pool, "DIAL_PAUSE", 0.01)

    async def handler(connection: Connection) -> None:
        if connection.index:
            await serve(connection)
        await connection.expect_preface()
        connection.close()

    async with (
        scripted_peer(handler) as hasty,
        workers(1, dns_refresh=None) as (peers, places, client),
    ):
        places.ports = [peers[0].port, hasty.port]
        await until_connected(client, 3)
        assert client.stats().errors == 0


async def test_who_waits_for_a_spare_connection_that_ends_early_has_its_tries_left() -> None:
    leave = asyncio.Event()

    async def leaving(connection: Connection) -> None:
        await connection.handshake((MAX_STREAMS, 1))
        if connection.index:
            await connection.serve()
        for _ in range(2):
            connection.respond((await connection.recv_request()).stream_id)
        await leave.wait()
        connection.goaway(3)
        await connection.until_left()

    async def hasty(connection: Connection) -> None:
        if connection.index:
            await serve(connection)
        await connection.expect_preface()
        await connection.recv_until(HEADERS)
        connection.close()

    async with scripted_peer(leaving) as first, scripted_peer(hasty) as spare:
        places = Places(first.port, spare.port)
        async with HttpRequestClient(patient(dns_refresh=None), resolver=places) as client:
            await ask(client, 2)
            await until(lambda: client.stats().connections_opened == 2)
            leave.set()
            await until(lambda: client.stats().connections_closed == 1)
            written, waiting = await asyncio.gather(
                *(client.request("GET", URL) for _ in range(2)), return_exceptions=True
            )
            assert isinstance(written, ConnectionLost)
            assert isinstance(waiting, Response)


async def test_an_address_gets_a_connection_once_another_takes_streams_again() -> None:
    ready = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.handshake((MAX_STREAMS, 1))
        request = await connection.recv_request()
        answer = headers(request.stream_id, OK, end_stream=True)
        connection.raw(answer + settings((MAX_STREAMS, 0)))
        await ready.wait()
        connection.send_settings((MAX_STREAMS, 100))
        await connection.serve()

    async with (
        scripted_peer(handler) as busy,
        workers(1, dns_refresh=None) as (peers, places, client),
    ):
        places.ports = [busy.port, peers[0].port]
        await ask(client)
        waiting = asyncio.create_task(client.request("GET", URL))
        await turns(10)
        assert client.stats().connections_opened == 1
        ready.set()
        await waiting
        await until_connected(client, 2)


# Changes


async def test_a_new_address_is_used_as_soon_as_it_is_known() -> None:
    async with workers(2) as (peers, places, client):
        places.ports = [peers[0].port]
        await ask(client, 5)
        assert connections(peers) == [1, 0]
        places.ports = [peer.port for peer in peers]
        await until_connected(client, 2)
        assert connections(peers) == [1, 1]


async def test_connections_to_an_address_that_is_no_more_drain() -> None:
    async with AsyncExitStack() as stack:
        old, new = [await stack.enter_async_context(scripted_peer(h)) for h in (shake, serve)]
        places = Places(old.port)
        config = patient(dns_refresh=0.001)
        client = await stack.enter_async_context(HttpRequestClient(config, resolver=places))
        tasks = [asyncio.create_task(client.request("GET", URL))]
        connection = await greeted(old)
        requests = [await connection.recv_request()]
        places.ports = [new.port]
        await asyncio.sleep(0.002)
        tasks.append(asyncio.create_task(client.request("GET", URL)))  # has them asked for
        requests.append(await connection.recv_request())
        await until(lambda: places.asked == 2)
        await turns(10)
        await client.request("GET", URL)
        assert len(new.connections) == 1
        for request in requests:
            connection.respond(request.stream_id, b"finished")
        assert [response.body for response in await asyncio.gather(*tasks)] == [b"finished"] * 2
        assert (await connection.recv_until(GOAWAY)).code == NO_ERROR


@pytest.mark.parametrize("answer", [(), OSError("no answer"), LookupError("broken")])
async def test_an_answer_that_failed_or_is_empty_changes_nothing(
    answer: Sequence[int] | Exception,
) -> None:
    async with workers(1) as (peers, places, client):
        await ask(client)
        places.ports = answer
        await ask(client, 10)
        assert places.asked > 2
        assert connections(peers) == [1]
        peers[0].connections[0].close()
        await until(lambda: client.stats().connections_closed == 1)
        await ask(client)  # dialled where it was
        assert connections(peers) == [2]


async def test_a_resolver_that_does_not_answer_is_asked_once_at_a_time() -> None:
    async with workers(1) as (_, places, client):
        await ask(client)
        asked = 0

        async def silent(host: str, port: int) -> list[tuple[str, int]]:
            nonlocal asked
            asked += 1
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        client._dialer._resolver = silent
        await ask(client, 10)
        assert asked == 1
        assert places.asked == 1


async def test_a_dial_does_without_an_answer_that_does_not_come() -> None:
    async with workers(1, dns_refresh=None, connect_timeout=0.5) as (peers, places, client):
        await ask(client)
        await client.drain(URL)
        places.hangs = True
        response = await client.request("GET", URL)
        assert response.status == 200
        assert places.asked == 2
        assert connections(peers) == [2]


async def test_nothing_is_asked_while_nobody_asks() -> None:
    async with workers(1) as (_, places, client):
        await ask(client)
        await asyncio.sleep(0.05)
        assert places.asked == 1


async def test_without_a_refresh_only_dials_ask() -> None:
    async with workers(1, dns_refresh=None) as (_, places, client):
        await ask(client, 10)
        assert places.asked == 1


async def test_addresses_are_not_asked_for_before_it_is_time() -> None:
    async with workers(1, dns_refresh=3600) as (_, places, client):
        await ask(client, 10)
        assert places.asked == 1


# Pauses


def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(addresses, name, 1e9)


async def test_a_request_waits_for_the_next_try() -> None:
    """The worker is back before the tries are spent."""
    async with scripted_peer(serve) as peer:
        with refusing_port() as port:
            places = Places(port)
            config = patient(connect_retries=100)
            async with HttpRequestClient(config, resolver=places) as client:
                task = asyncio.create_task(client.request("GET", URL))
                await until(lambda: places.asked == 3)
                places.ports = [peer.port]
                assert (await task).status == 200


async def test_tries_are_spaced_out() -> None:
    with refusing_port() as port:
        places = Places(port)
        config = patient(connect_retries=100, request_timeout=0.5)
        async with HttpRequestClient(config, resolver=places) as client:
            with pytest.raises((ConnectError, RequestTimeout)):
                await client.request("GET", URL)
    # Half a second is worth about five pauses that double: far from the hundreds without any.
    assert places.asked < 30


async def test_who_cannot_wait_for_the_next_try_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long_pauses(monkeypatch)
    with refusing_port() as port:
        places = Places(port)
        async with HttpRequestClient(patient(connect_retries=5), resolver=places) as client:
            for _ in range(3):
                with pytest.raises(ConnectError, match="refused") as raised:
                    await client.request("GET", URL)
                assert raised.value.processed is False
                assert not isinstance(raised.value, ConnectTimeout)
            assert places.asked == 1


async def test_who_can_wait_longer_is_not_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    long_pauses(monkeypatch)
    with refusing_port() as port:
        places = Places(port)
        async with HttpRequestClient(patient(), resolver=places) as client:
            limits = {"timeout": None, "connect_timeout": None}
            task = asyncio.create_task(client.request("GET", URL, **limits))  # type: ignore[arg-type]
            await until(lambda: places.asked == 1)
            await turns(50)
            with pytest.raises(ConnectError, match="refused"):
                await client.request("GET", URL)
            assert not task.done()
            task.cancel()
            await asyncio.wait([task])


async def test_another_address_is_tried_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    long_pauses(monkeypatch)
    async with scripted_peer(serve) as peer:
        with refusing_port() as port:
            places = Places(port, peer.port)
            config = patient(pool_max_idle_per_host=0, dns_refresh=None)
            async with HttpRequestClient(config, resolver=places) as client:
                for _ in range(5):
                    await client.request("GET", URL)
                    await until(lambda: not client.stats().connections_idle)
    assert len(peer.connections) == 5
