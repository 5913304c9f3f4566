"""Requests with the same key: where they go, and what makes them go elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dynamo_h2 import HttpRequestClient, InvalidRequest, Response
from dynamo_h2.transport import pins
from tests.behaviours import patient, serve, turns, until
from tests.http2.frame_factory import MAX_STREAMS, REFUSED_STREAM
from tests.peers.scripted import Connection, ScriptedPeer, scripted_peer

STREAMS = 2


class Worker:
    """A peer that answers with the number of the connection, and holds what is to be held."""

    def __init__(self) -> None:
        self.held: list[tuple[Connection, int]] = []
        self.refuse = False

    async def __call__(self, connection: Connection) -> None:
        await connection.handshake((MAX_STREAMS, STREAMS))
        while True:
            request = await connection.recv_request()
            if self.refuse:
                self.refuse = False
                connection.rst(request.stream_id, REFUSED_STREAM)
            elif request[b":path"] == b"/hold":
                self.held.append((connection, request.stream_id))
            else:
                connection.respond(request.stream_id, b"%d" % connection.index)

    def release(self) -> None:
        for connection, stream_id in self.held:
            connection.respond(stream_id, b"%d" % connection.index)
        self.held.clear()


class Setting:
    """A client with two idle connections to one worker."""

    def __init__(self, client: HttpRequestClient, peer: ScriptedPeer, worker: Worker) -> None:
        self.client = client
        self.peer = peer
        self.worker = worker

    def start(self, path: str, key: str | None = None) -> asyncio.Task[Response]:
        request = self.client.request("GET", self.peer.url(path), affinity=key)
        return asyncio.create_task(request)

    async def hold(self, count: int, key: str | None = None) -> list[asyncio.Task[Response]]:
        """Begin requests that the worker does not answer yet."""
        already = len(self.worker.held)
        tasks = [self.start("/hold", key) for _ in range(count)]
        await until(lambda: len(self.worker.held) == already + count)
        return tasks

    async def release(self, tasks: list[asyncio.Task[Response]]) -> list[int]:
        """Have them answered; the connections they were on."""
        self.worker.release()
        return [int(response.body) for response in await asyncio.gather(*tasks)]

    async def ask(self, key: str) -> int:
        """The connection that a request with that key goes to."""
        return int((await self.start("/", key)).body)


@asynccontextmanager
async def two_connections(**config: object) -> AsyncIterator[Setting]:
    worker = Worker()
    settings = patient(**{"max_connections_per_host": 2, **config})
    async with scripted_peer(worker) as peer, HttpRequestClient(settings) as client:
        setting = Setting(client, peer, worker)
        await client.request("GET", peer.url())
        await setting.release(await setting.hold(2 * STREAMS))
        yield setting


async def test_requests_with_one_key_go_over_one_connection() -> None:
    async with two_connections() as setting:
        homes = {key: await setting.ask(key) for key in "abcd"}
        assert sorted(homes.values()) == [0, 0, 1, 1]
        for _ in range(3):
            assert {key: await setting.ask(key) for key in "dbca"} == homes


async def test_a_key_keeps_its_connection_however_loaded_it_is() -> None:
    async with two_connections() as setting:
        home = await setting.ask("key")
        tasks = await setting.hold(STREAMS - 1, "key")
        assert await setting.ask("key") == home
        assert await setting.release(tasks) == [home] * (STREAMS - 1)


async def test_a_key_whose_connection_is_full_goes_elsewhere_and_comes_back() -> None:
    async with two_connections() as setting:
        home = await setting.ask("key")
        tasks = await setting.hold(STREAMS, "key")
        assert await setting.ask("key") == 1 - home
        assert await setting.release(tasks) == [home] * STREAMS
        assert await setting.ask("key") == home


async def test_a_request_with_a_key_waits_in_line_as_others_do() -> None:
    async with two_connections() as setting:
        home = await setting.ask("key")
        tasks = await setting.hold(2 * STREAMS)
        waiting = [setting.start("/", "key"), setting.start("/", "new")]
        await turns(20)
        assert not any(task.done() for task in waiting)
        await setting.release(tasks)
        await asyncio.gather(*waiting)
        assert await setting.ask("key") == home
        assert await setting.ask("new") == int((await waiting[1]).body)


async def test_a_key_moves_when_its_connection_goes() -> None:
    async with two_connections() as setting:
        home = await setting.ask("key")
        connection = setting.peer.connections[home]
        connection.goaway(2**31 - 1)
        await until(lambda: setting.client.stats().connections_closed == 1)
        assert {await setting.ask("key") for _ in range(3)} == {1 - home}


async def test_a_request_that_was_refused_goes_elsewhere_once() -> None:
    async with two_connections() as setting:
        home = await setting.ask("key")
        setting.worker.refuse = True
        assert await setting.ask("key") == 1 - home
        assert await setting.ask("key") == home


async def test_keys_that_were_not_used_for_the_longest_time_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pins, "MAX_PINS", 10)
    async with two_connections() as setting:
        home = await setting.ask("kept")
        for number in range(50):
            await setting.ask(f"key {number}")
            assert await setting.ask("kept") == home
        assert setting.client._pool is not None
        (host,) = setting.client._pool._hosts.values()
        assert len(host.pins) == 10
        assert sum(map(len, host.pins._keys.values())) == 10
        for connection in setting.peer.connections:
            connection.goaway(2**31 - 1)
        await until(lambda: setting.client.stats().connections_closed == 2)
        assert len(host.pins) == 0
        assert host.pins._keys == {}


async def test_a_key_is_text() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(InvalidRequest, match="affinity is 7, allowed: a str"):
            await client.request("GET", peer.url(), affinity=7)  # type: ignore[arg-type]
        assert (await client.request("GET", peer.url(), affinity=None)).status == 200
        async with client.stream("GET", peer.url(), affinity="key") as response:
            await response.aread()
        assert await client.send_request(peer.url(), b"echo", affinity="key") == b"echo"
