"""The memory budget against real servers: stalled streams hold up nobody, and stay within it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest

from dynamo_h2 import HttpRequestClient
from dynamo_h2.http2.memory import MemoryBudget
from examples.worker import pattern
from tests.behaviours import client_for
from tests.peers import Peer

MIB = 1 << 20
STALLED = 99  # with the one that is read as many as nghttpd takes at once
SIZE = 16 * MIB
BUDGET = 32 * MIB
# What a stream may have at once is 4 MiB: together far more than the connection, and the budget.
OPTIONS = {
    "memory_budget": BUDGET,
    "initial_stream_window": 4 * MIB,
    "initial_connection_window": 16 * MIB,
    "max_connections_per_host": 1,
    "request_timeout": 60.0,
    "read_timeout": 60.0,
}


def budget_of(client: HttpRequestClient) -> MemoryBudget:
    pool = client._pool
    assert pool is not None
    return pool._resources.memory


def held(client: HttpRequestClient) -> int:
    """Bytes that came and were not taken."""
    return sum(tenant.held for tenant in budget_of(client)._tenants)


@pytest.mark.parametrize("peer", ["granian", "nghttpd", "nginx"], indirect=True)
async def test_a_stream_is_read_to_its_end_beside_a_hundred_that_stall(peer: Peer) -> None:
    url = peer.url(f"/bytes/{SIZE}")
    async with client_for(peer, **OPTIONS) as client, contextlib.AsyncExitStack() as stack:
        stalled = [
            await stack.enter_async_context(client.stream("GET", url)) for _ in range(STALLED)
        ]
        while held(client) < BUDGET // 2:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        whole, most = hashlib.sha256(), 0
        async with client.stream("GET", url) as response:
            async for chunk in response:
                whole.update(chunk)
                most = max(most, held(client), budget_of(client).leased)
        assert whole.digest() == hashlib.sha256(pattern(SIZE)).digest()
        assert most <= BUDGET
        # And those that stalled go on when they are read, one after another.
        for response in stalled[:3]:
            digest = hashlib.sha256(await response.aread()).digest()
            assert digest == hashlib.sha256(pattern(SIZE)).digest()
        assert client.stats().connections_opened == 1
    assert held(client) == 0


@pytest.mark.parametrize("peer", ["granian", "nghttpd", "nginx"], indirect=True)
async def test_bodies_that_do_not_fit_at_once_are_collected_all_the_same(peer: Peer) -> None:
    url = peer.url(f"/bytes/{SIZE}")
    async with client_for(peer, **OPTIONS) as client:
        answers = await asyncio.gather(*(client.request("GET", url) for _ in range(8)))
        expected = pattern(SIZE)
        assert all(answer.body == expected for answer in answers)
        assert budget_of(client).leased <= BUDGET
        assert held(client) == 0
