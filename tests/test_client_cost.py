"""What a request costs besides its bytes: it is the same for the first and for the thousandth."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from dynamo_h2 import Http2Config, HttpRequestClient
from dynamo_h2.http2.outbound import Outbound
from tests.peers import Peer

PATH = "/v1/rpc/test"
BODY = bytes(1_024)
COUNT = 200


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop that counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.made = Counter[str]()

    def create_future(self) -> asyncio.Future[Any]:
        self.made["futures"] += 1
        return super().create_future()

    def create_task(self, *args: Any, **options: Any) -> asyncio.Task[Any]:  # noqa: ANN401
        self.made["tasks"] += 1
        return super().create_task(*args, **options)

    def call_at(self, *args: Any, **options: Any) -> asyncio.TimerHandle:  # type: ignore[override]  # noqa: ANN401
        self.made["timers"] += 1
        return super().call_at(*args, **options)


def counted(
    peer: Peer, config: Http2Config, use: Callable[[HttpRequestClient, str], Any]
) -> Counter[str]:
    """What the loop is asked for by `COUNT` uses of a client that is warm."""

    async def run() -> Counter[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        async with HttpRequestClient(config) as client:
            await use(client, peer.url(PATH))
            before = loop.made.copy()
            for _ in range(COUNT):
                await use(client, peer.url(PATH))
            return loop.made - before

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        return runner.run(run())


async def send(client: HttpRequestClient, url: str) -> None:
    await client.send_request(url, BODY)


async def read(client: HttpRequestClient, url: str) -> None:
    async with client.stream("POST", url, body=BODY) as response:
        await response.aread()


@pytest.mark.parametrize("timeout", [30, None])
def test_a_warm_request_takes_one_future_and_no_task_and_no_timer(
    granian: Peer, timeout: float | None
) -> None:
    config = Http2Config().replace(request_timeout=timeout, keep_alive_interval=None)
    made = counted(granian, config, send)
    assert made["futures"] == COUNT
    assert made["tasks"] == 0
    # The connection's one timer looks at the deadlines each second.
    assert made["timers"] <= 3


def test_a_warm_response_that_is_read_takes_a_future_where_it_waits(granian: Peer) -> None:
    made = counted(granian, Http2Config().replace(keep_alive_interval=None), read)
    assert made["futures"] <= 2 * COUNT
    assert made["tasks"] == 0
    assert made["timers"] <= 3


async def calls_of(client: HttpRequestClient, url: str) -> int:
    """How many functions, of Python and of C, one request calls."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        await client.send_request(url, BODY)
    finally:
        sys.setprofile(None)
    return calls


async def fewest_calls(client: HttpRequestClient, url: str) -> int:
    """The same without what happens at times only, such as a look at the deadlines."""
    return min([await calls_of(client, url) for _ in range(20)])


async def test_a_request_calls_as_much_after_thousands_of_others_as_at_first(
    granian: Peer,
) -> None:
    # A loop that stays awake makes calls for as long as an answer takes.
    async with HttpRequestClient(Http2Config(busy_poll=None)) as client:
        url = granian.url(PATH)
        for _ in range(10):
            await client.send_request(url, BODY)
        early = await fewest_calls(client, url)
        for _ in range(100):
            await asyncio.gather(*[client.send_request(url, BODY) for _ in range(50)])
        assert client.stats().connections_active + client.stats().connections_idle == 1
        assert client.stats().requests_sent > 2 * Outbound.MAX_CLOSED_STREAMS
        assert await fewest_calls(client, url) <= early
