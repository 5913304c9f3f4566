from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.leaks import LeakCheck
from tests.peers import Certificates
from tests.watched import LOOPS, WatchedLoop


@pytest.fixture(params=sorted(LOOPS))
def loop(request: pytest.FixtureRequest) -> Iterator[WatchedLoop]:
    loop = LOOPS[request.param]()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def leaks_of(loop: WatchedLoop, test: Callable[[], Awaitable[object]]) -> list[str]:
    async def run() -> None:
        await test()

    loop.run_until_complete(asyncio.sleep(0))
    check = LeakCheck(loop)
    loop.run_until_complete(run())
    return check.leaks()


def test_a_test_that_clears_away_leaks_nothing(loop: WatchedLoop) -> None:
    async def tidy() -> None:
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
        async with asyncio.timeout(60):
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
            await reader.read()
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    assert leaks_of(loop, tidy) == []


def test_a_pending_task_is_a_leak(loop: WatchedLoop) -> None:
    kept: list[object] = []

    async def leave_a_task() -> None:
        kept.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))

    (leak,) = leaks_of(loop, leave_a_task)
    assert "forgotten" in leak


def test_an_open_socket_is_a_leak(loop: WatchedLoop) -> None:
    kept: list[socket.socket] = []

    async def leave_a_socket() -> None:
        kept.append(socket.socket())

    (leak,) = leaks_of(loop, leave_a_socket)
    assert leak.startswith("still open: socket ")
    kept[0].close()


@pytest.mark.parametrize("how", ["call_later", "call_at"])
def test_a_live_timer_is_a_leak(loop: WatchedLoop, how: str) -> None:
    async def leave_a_timer() -> None:
        if how == "call_later":
            asyncio.get_running_loop().call_later(3600, print)
        else:
            asyncio.get_running_loop().call_at(loop.time() + 3600, print)

    (leak,) = leaks_of(loop, leave_a_timer)
    assert "TimerHandle" in leak


def test_a_cancelled_timer_is_none(loop: WatchedLoop) -> None:
    async def cancel_a_timer() -> None:
        asyncio.get_running_loop().call_later(3600, print).cancel()

    assert leaks_of(loop, cancel_a_timer) == []


def test_an_exception_that_nobody_retrieved_is_a_leak(loop: WatchedLoop) -> None:
    async def forget_an_exception() -> None:
        asyncio.get_running_loop().create_future().set_exception(ValueError("nobody looks"))

    (leak,) = leaks_of(loop, forget_an_exception)
    assert "never retrieved" in leak
    assert "nobody looks" in leak


def test_a_time_limit_ends_a_test_that_waits_for_nothing(loop: WatchedLoop) -> None:
    def pass_the_limit(number: int, frame: object) -> None:
        pytest.fail("the limit has passed")

    before = signal.signal(signal.SIGUSR1, pass_the_limit)
    alarm = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    alarm.start()
    try:
        with pytest.raises((RuntimeError, pytest.fail.Exception)):
            leaks_of(loop, asyncio.Event().wait)
    finally:
        alarm.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_task_that_does_not_end_does_not_keep_the_loop_from_closing(loop: WatchedLoop) -> None:
    async def endure() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    kept = []

    async def leave_it() -> None:
        kept.append(asyncio.create_task(endure()))

    check = LeakCheck(loop)
    loop.run_until_complete(leave_it())
    check.clear()
    assert not asyncio.all_tasks(loop)


def test_a_client_that_leaves_in_the_handshake_is_none(
    loop: WatchedLoop, certificates: Certificates
) -> None:
    async def leave_in_the_handshake() -> None:
        context = certificates.server_context()
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0, ssl=context)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, server.sockets[0].getsockname())
            for _ in range(10):  # the server accepts, and waits for the client's first words
                await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    loop.set_debug(True)
    assert leaks_of(loop, leave_in_the_handshake) == []
