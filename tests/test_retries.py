"""What retries cost: tokens of the client's budget, time, and nothing where nobody looked."""

from __future__ import annotations

import asyncio
import time

import pytest

from dynamo_h2 import HttpRequestClient, InvalidRequest, StreamReset
from dynamo_h2.transport.retry import LIFE, PER_SECOND
from tests.behaviours import patient, serve, turns, until
from tests.http2.frame_factory import HEADERS, MAX_STREAMS, REFUSED_STREAM
from tests.peers.scripted import Connection, ScriptedPeer, scripted_peer

SPENT = "not sent again: the client's budget of retries is spent"
ONE = {"max_connections_per_host": 1}


async def refuse_after_the_first(connection: Connection) -> None:
    """A script that answers the first request, and refuses all others."""
    await connection.handshake()
    connection.respond((await connection.recv_request()).stream_id)
    while True:
        head = await connection.recv_until(HEADERS)
        connection.rst(head.stream_id, REFUSED_STREAM)


def spend(client: HttpRequestClient) -> None:
    """Use up the budget."""
    assert client._pool is not None
    budget = client._pool._resources.retries
    while budget.take(time.monotonic()):
        pass


async def get(client: HttpRequestClient, peer: ScriptedPeer, **options: bool) -> int:
    return (await client.request("GET", peer.url(), **options)).status  # type: ignore[arg-type]


# The budget


async def test_a_peer_that_refuses_everything_is_not_sent_everything_twice() -> None:
    config = patient(max_retries=1, **ONE)
    async with scripted_peer(refuse_after_the_first) as peer, HttpRequestClient(config) as client:
        await get(client, peer)
        began = time.monotonic()
        errors = await asyncio.gather(
            *(get(client, peer) for _ in range(100)), return_exceptions=True
        )
        elapsed = time.monotonic() - began
        retries = client.stats().retries
    assert 50 <= retries <= 52 + PER_SECOND * elapsed
    assert retries < 100
    notes = [getattr(error, "__notes__", []) for error in errors]
    assert notes.count([SPENT]) == 100 - retries
    for error in errors:
        assert isinstance(error, StreamReset)
        assert (error.code, error.processed) == (REFUSED_STREAM, False)


async def test_a_retry_that_takes_a_token_is_not_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = patient(max_retries=3, **ONE)
    monkeypatch.setattr("random.random", lambda: 1.0)
    async with scripted_peer(refuse_after_the_first) as peer, HttpRequestClient(config) as client:
        await get(client, peer)
        began = time.monotonic()
        with pytest.raises(StreamReset) as raised:
            await get(client, peer)
        assert time.monotonic() - began >= 0.02 + 0.04 + 0.08
    assert len(raised.value.__notes__) == 3


async def test_a_request_that_is_cancelled_while_it_waits_to_be_sent_again_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 1e6)
    config = patient(**ONE)
    async with scripted_peer(refuse_after_the_first) as peer, HttpRequestClient(config) as client:
        await get(client, peer)
        task = asyncio.create_task(get(client, peer))
        connection = await peer.connection()
        await until(lambda: len(connection.log(HEADERS)) == 2)
        await until(lambda: client.stats().streams_in_flight == 0)
        await turns(10)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert (client.stats().retries, client.stats().errors) == (0, 0)


# For nothing


async def test_what_one_goaway_returns_is_sent_again_though_the_budget_is_spent() -> None:
    count = 10 * PER_SECOND * LIFE

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        if connection.index == 0:
            connection.respond((await connection.recv_request()).stream_id)
            for _ in range(count):
                await connection.recv_request()
            connection.goaway(1)
            await connection.until_left()
        await connection.serve()

    config = patient(max_concurrent_streams=count)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        await get(client, peer)
        spend(client)
        await asyncio.gather(*(get(client, peer) for _ in range(count)))
        stats = client.stats()
    assert (stats.retries, stats.errors, stats.connections_opened) == (count, 0, 2)


async def test_what_was_written_ahead_of_settings_that_allow_less_is_sent_again_for_nothing() -> (
    None
):
    async def handler(connection: Connection) -> None:
        await connection.expect_preface()
        if connection.index:
            connection.send_settings()
            await connection.serve()
        heads = [await connection.recv_until(HEADERS) for _ in range(100)]
        connection.send_settings((MAX_STREAMS, 1))
        for head in heads[1:]:
            connection.rst(head.stream_id, REFUSED_STREAM)
        connection.respond(heads[0].stream_id)
        await connection.serve()

    config = patient(max_connections_per_host=2)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        first = [asyncio.create_task(get(client, peer)) for _ in range(100)]
        await turns(1)
        spend(client)
        assert await asyncio.gather(*first) == [200] * 100


async def test_only_the_first_retry_is_for_nothing() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.recv_request()
        connection.goaway(0)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(get(client, peer))
        await turns(1)
        spend(client)
        with pytest.raises(StreamReset) as raised:
            await task
        assert client.stats().retries == 1
    assert raised.value.__notes__[0] == SPENT
    assert raised.value.__notes__[1].startswith("attempt 1: ")


# Turned off


@pytest.mark.parametrize("retryable", [True, False])
async def test_a_call_may_turn_retries_off(retryable: bool) -> None:
    async def refuse_first(connection: Connection) -> None:
        await connection.handshake()
        if connection.index == 0:
            head = await connection.recv_until(HEADERS)
            connection.rst(head.stream_id, REFUSED_STREAM)
        await connection.serve()

    async with scripted_peer(refuse_first) as peer, HttpRequestClient(patient()) as client:
        if retryable:
            assert await get(client, peer, retryable=True) == 200
        else:
            with pytest.raises(StreamReset) as raised:
                await get(client, peer, retryable=False)
            assert raised.value.processed is False
        assert client.stats().retries == retryable


@pytest.mark.parametrize("value", [None, 0, 1, "yes"])
async def test_retryable_is_true_or_false(value: object) -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(InvalidRequest, match=r"retryable is .*, allowed: True or False"):
            await get(client, peer, retryable=value)  # type: ignore[arg-type]
        assert await get(client, peer) == 200
