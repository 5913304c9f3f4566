"""A scripted worker does what it is told, and its log says what it did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from bench.drill.app import Log
from bench.drill.scripted import STREAMS, Connection, Control, Script
from bench.drill.waiting import until
from dynamo_h2 import HttpRequestClient, RemoteProtocolError, StatusError, StreamReset
from dynamo_h2.config import Http2Config
from dynamo_h2.errors import TransportError

Headers = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Worker:
    """A worker in this process, and what it has written down."""

    control: Control
    port: int
    log: Path

    def tell(self, command: str) -> None:
        self.control.datagram_received(command.encode(), None)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    log = tmp_path / "log"
    script, connections = Script(Log(str(log))), set[Connection]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Connection, script, connections), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield Worker(Control(script, connections), port, log)
    server.close()
    await server.wait_closed()
    script.log.close()


class Caller:
    """A client that counts its requests."""

    def __init__(self, worker: Worker, client: HttpRequestClient) -> None:
        self._base = f"http://127.0.0.1:{worker.port}"
        self._client = client
        self._count = 0

    def headers(self, work: float = 0.01) -> dict[str, str]:
        self._count += 1
        return {"request-id": str(self._count), "x-work": str(work)}

    async def send(self, body: bytes = b"hello", work: float = 0.01, more: Headers = ()) -> bytes:
        headers = {**self.headers(work), **dict(more)}
        return await self._client.send_request(f"{self._base}/unary", body, headers=headers)

    async def tokens(self) -> bytes:
        headers = self.headers()
        async with self._client.stream("GET", f"{self._base}/tokens", headers=headers) as response:
            return await response.aread()


@contextlib.asynccontextmanager
async def calling(worker: Worker, **config: object) -> AsyncIterator[Caller]:
    async with HttpRequestClient(Http2Config().replace(max_retries=0, **config)) as client:
        yield Caller(worker, client)


async def test_it_executes_answers_and_writes_that_down(worker: Worker) -> None:
    async with calling(worker) as caller:
        assert await caller.send() == b"1 5 907060870"
        assert (await caller.send(bytes(200_000))).startswith(b"2 200000 ")
        assert (await caller.tokens()).splitlines()[::9] == [b"3 0", b"3 9 end"]
    assert worker.lines() == ["1", "2", "3"]


async def test_it_refuses_as_many_as_it_is_told(worker: Worker) -> None:
    worker.tell("refuse 20")
    async with calling(worker) as caller:
        results = await asyncio.gather(*[caller.send() for _ in range(22)], return_exceptions=True)
    refused = [each for each in results if isinstance(each, StreamReset)]
    assert len(refused) == 20
    lines = worker.lines()
    assert sorted(line.strip("-~") for line in lines) == sorted(str(n) for n in range(1, 23))
    assert lines.count("21") + lines.count("22") == 2
    unsure = {line for line in lines if line.startswith("~")}
    assert len(unsure) == sum(each.processed is None for each in refused)
    assert 0 < len(unsure) < 20


async def test_it_cuts_answers_short_after_it_has_executed(worker: Worker) -> None:
    worker.tell("cut 9")
    async with calling(worker) as caller:
        asked = [caller.send() for _ in range(5)] + [caller.tokens() for _ in range(4)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in results} <= {StreamReset, RemoteProtocolError}
        await caller.send()
    assert sorted(worker.lines(), key=int) == [str(number) for number in range(1, 11)]


async def test_it_says_that_it_has_no_room_and_executes_nothing(worker: Worker) -> None:
    async with calling(worker) as caller:
        with pytest.raises(StatusError, match="overloaded"):
            await caller.send(more=[("x-overload", "1")])
    assert worker.lines() == []


async def test_goaway_with_requests_above_it_executes_none_of_them(worker: Worker) -> None:
    async with calling(worker) as caller:
        running = [asyncio.create_task(caller.send(work=0.1)) for _ in range(3)]
        await until(lambda: len(worker.lines()) == 3)
        worker.tell("goaway cut")
        above = await asyncio.gather(*[caller.send() for _ in range(3)], return_exceptions=True)
        assert len(await asyncio.gather(*running)) == 3
        assert [each.processed for each in above if isinstance(each, TransportError)] == [False] * 3
        await caller.send()
    assert worker.lines() == ["1", "2", "3", "-4", "-5", "-6", "7"]


async def test_goaway_in_two_steps_loses_nothing(worker: Worker) -> None:
    async with calling(worker) as caller:
        running = [asyncio.create_task(caller.send(work=0.1)) for _ in range(3)]
        await until(lambda: len(worker.lines()) == 3)
        worker.tell("goaway steps")
        await asyncio.gather(*running, *[caller.send() for _ in range(10)])
    assert sorted(worker.lines(), key=int) == [str(number) for number in range(1, 14)]


async def test_goaway_with_an_error_leaves_what_it_executed_unknown(worker: Worker) -> None:
    async with calling(worker) as caller:
        running = [asyncio.create_task(caller.send(work=5)) for _ in range(3)]
        await until(lambda: len(worker.lines()) == 3)
        worker.tell("goaway error")
        results = await asyncio.gather(*running, return_exceptions=True)
    assert [each.processed for each in results if isinstance(each, TransportError)] == [None] * 3


async def test_it_takes_no_more_streams_than_it_allows(worker: Worker) -> None:
    async with calling(worker, max_connections_per_host=1) as caller:
        await caller.send()
        many = [caller.send(work=0.02) for _ in range(2 * STREAMS)]
        assert len(await asyncio.gather(*many)) == 2 * STREAMS
    assert not [line for line in worker.lines() if line.startswith(("-", "~", "!"))]
