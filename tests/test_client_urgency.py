"""What a call says about its urgency, and how far a body is read ahead of the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from dynamo_h2 import HttpRequestClient, InvalidRequest
from dynamo_h2.call import CallOptions
from tests.behaviours import patient, serve, standstill
from tests.http2.frame_factory import INITIAL_WINDOW
from tests.peers.scripted import Connection, Request, scripted_peer

QUANTUM = 65_536


def priority(request: Request) -> bytes:
    """The values of the field, each with a semicolon."""
    return b"".join(value + b";" for name, value in request.fields if name == b"priority")


async def prioritized(connection: Connection) -> None:
    await connection.handshake()
    await connection.serve(priority)


@pytest.mark.parametrize(
    ("headers", "options", "said"),
    [
        ({}, {}, b""),
        ({}, {"urgency": 3}, b""),
        ({}, {"urgency": 0}, b"u=0;"),
        ({}, {"urgency": 7, "timeout": 30}, b"u=7;"),
        ({"x-a": "b"}, {"urgency": 1}, b"u=1;"),
        ({"Priority": "u=5, i"}, {"urgency": 1}, b"u=5, i;"),
        ({"Priority": "u=5, i"}, {}, b"u=5, i;"),
    ],
)
async def test_the_peer_is_told_of_an_urgency_that_is_not_the_usual(
    headers: dict[str, str], options: CallOptions, said: bytes
) -> None:
    async with scripted_peer(prioritized) as peer, HttpRequestClient(patient()) as client:
        assert await client.send_request(peer.url(), b"", headers, **options) == said
        response = await client.request("GET", peer.url(), headers=headers, **options)
        assert response.body == said
        async with client.stream("GET", peer.url(), headers=headers, **options) as stream:
            assert await stream.aread() == said


async def test_the_urgency_of_a_call_goes_before_that_of_the_client() -> None:
    async with (
        scripted_peer(prioritized) as peer,
        HttpRequestClient(patient(), headers={"priority": "u=6"}) as client,
    ):
        assert await client.send_request(peer.url(), b"") == b"u=6;"
        assert await client.send_request(peer.url(), b"", urgency=1) == b"u=1;"


@pytest.mark.parametrize("wrong", [-1, 8, 1.0, True, "3", None])
async def test_an_urgency_that_does_not_exist_sends_nothing(wrong: Any) -> None:  # noqa: ANN401
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(InvalidRequest, match="allowed: 0 to 7"):
            await client.request("GET", peer.url(), urgency=wrong)
        assert client.stats().requests_sent == 0


@pytest.mark.parametrize("piece", [1_000, 10_000, QUANTUM - 1, QUANTUM])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_no_more_than_two_quanta_of_a_body_are_taken_ahead_of_the_wire(
    piece: int, asynchronous: bool
) -> None:
    taken = 0

    def produce() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += piece
            yield bytes(piece)

    async def produce_later() -> AsyncIterator[bytes]:
        for chunk in produce():
            yield chunk

    window = 50_000  # of the stream, so that it does not matter how the connection's stands

    async def handler(connection: Connection) -> None:
        await connection.handshake((INITIAL_WINDOW, window))

    config = patient(send_quantum=QUANTUM)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        await client.warm_up([peer.url()])  # on a new connection the window is 65,535 at first
        source = produce_later() if asynchronous else produce()
        task = asyncio.create_task(client.request("POST", peer.url(), body=source))
        await standstill(client)
        assert window < taken <= window + 2 * QUANTUM
        task.cancel()
        await asyncio.wait([task])
