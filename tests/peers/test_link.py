from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.behaviours import client_for, noise
from tests.peers import Peer
from tests.peers.link import Link, LinkError, run_link, start_link
from tests.peers.link_lane import BUFFER, LARGEST
from tests.peers.link_pump import close_with_reset, unsent
from tests.peers.link_wire import (
    MIB,
    Wire,
    both_families,
    connected,
    crosses,
    entered,
    hears_nothing,
    receive,
    receive_all,
    send,
    send_for_ever,
    send_until_full,
    turns,
)
from tests.peers.process import ROOT, free_port

pytest_plugins = ["tests.peers.link_fixtures"]


# What passes


@both_families
async def test_bytes_pass_unharmed_both_ways_at_once(wire: Wire) -> None:
    up, down = noise(8 * MIB, 1), noise(8 * MIB, 2)
    _, _, came_up, came_down = await asyncio.gather(
        send(wire.client, up),
        send(wire.server, down),
        receive(wire.server, len(up)),
        receive(wire.client, len(down)),
    )
    assert (came_up == up, came_down == down) == (True, True)


@both_families
async def test_bytes_pass_unharmed_on_a_bad_link(link: Link, wire: Wire) -> None:
    await link.set(delay=0.005, rate=2e6, jitter=0.02, queue=5000)
    data = noise(400_000)
    sending = asyncio.create_task(send(wire.client, data))
    assert await receive(wire.server, len(data)) == data
    await sending


@both_families
async def test_an_end_passes_after_the_bytes_and_the_way_back_stays_open(
    link: Link, wire: Wire
) -> None:
    await link.set(delay=0.01, rate=1e6)
    await send(wire.client, bytes(10_000))
    wire.client.shutdown(socket.SHUT_WR)
    assert await receive_all(wire.server) == bytes(10_000)
    await send(wire.server, b"still here")
    assert await receive(wire.client, 10) == b"still here"


async def test_a_connection_that_both_have_ended_is_forgotten(link: Link, wire: Wire) -> None:
    assert (await link.stats()).open == 1
    for sock, other in ((wire.client, wire.server), (wire.server, wire.client)):
        sock.shutdown(socket.SHUT_WR)
        assert await receive_all(other) == b""
    await turns(link)
    assert (await link.stats()).open == 0


async def test_a_reset_passes_after_the_bytes(link: Link, wire: Wire) -> None:
    await link.set(delay=0.01)
    await send(wire.client, bytes(1000))
    close_with_reset(wire.client)
    assert await receive(wire.server, 1000) == bytes(1000)
    with pytest.raises(ConnectionResetError):
        await receive(wire.server, 1)


async def test_an_end_comes_at_once_where_a_change_makes_it_due(link: Link, wire: Wire) -> None:
    before = await link.stats()
    await link.set(rate=1.0, queue=MIB)
    await send(wire.client, bytes(1000))
    close_with_reset(wire.client)
    while entered(await link.stats(), "up") < entered(before, "up") + 1000:
        pass
    await turns(link)
    await link.set(rate=None)
    assert await receive(wire.server, 1000) == bytes(1000)
    with pytest.raises(ConnectionResetError):
        await receive(wire.server, 1)


async def test_a_client_that_left_without_reading_resets_its_server(link: Link, wire: Wire) -> None:
    await send(wire.server, bytes(1000))
    await receive(wire.client, 1)
    wire.client.close()  # with bytes unread: TCP turns this into RST
    with pytest.raises(ConnectionError):
        await send_for_ever(wire.server)


async def test_a_target_that_refuses_is_a_reset() -> None:
    async with run_link("127.0.0.1", free_port()) as link:
        with link.address.connect() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionResetError):
                await receive(client, 1)
        assert (await link.stats()).unreachable == 1


@pytest.mark.parametrize("leaver", ["client", "server"])
async def test_a_reset_after_an_orderly_end_passes_too(link: Link, wire: Wire, leaver: str) -> None:
    leaving, staying = wire.client, wire.server
    if leaver == "server":
        leaving, staying = staying, leaving
    leaving.shutdown(socket.SHUT_WR)
    assert await receive_all(staying) == b""
    close_with_reset(leaving)
    with pytest.raises(ConnectionError):
        await send_for_ever(staying)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog does not delay")
async def test_a_command_meets_a_connection_that_is_still_being_made() -> None:
    with socket.socket() as target, socket.socket() as filler:
        target.bind(("127.0.0.1", 0))
        target.listen(0)
        filler.connect(target.getsockname())  # now the kernel answers nobody else
        async with run_link(*target.getsockname()) as link:
            with link.address.connect() as client:
                killing = asyncio.create_task(link.kill_half_open())
                await asyncio.sleep(0.05)
                target.accept()[0].close()
                await killing
                server, _ = target.accept()
                with server:
                    client.sendall(b"lost")
                    await turns(link)
                    server.setblocking(False)
                    assert hears_nothing(server)


async def test_what_passed_is_counted(link: Link, wire: Wire, listener: socket.socket) -> None:
    before = await link.stats()
    await send(wire.client, bytes(1000))
    await receive(wire.server, 1000)
    await send(wire.server, bytes(50))
    await receive(wire.client, 50)
    with connected(link, listener):
        after = await link.stats()
    assert after.up.delivered - before.up.delivered == 1000
    assert after.down.delivered - before.down.delivered == 50
    assert (after.accepted - before.accepted, after.open) == (1, 2)


# Back-pressure


async def send_all_it_takes(link: Link, sender: socket.socket) -> int:
    """Send until nothing more is taken, however often the relay had its turn."""
    sent = more = send_until_full(sender)
    while more:
        await turns(link)
        more = send_until_full(sender)
        sent += more
    return sent


@pytest.mark.parametrize("queue", [2 * MIB, 8 * MIB])
async def test_a_full_queue_presses_back_on_the_sender(link: Link, wire: Wire, queue: int) -> None:
    kernel = MIB  # in all buffers on the way
    wire.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    await link.set(queue=queue)
    sent = await send_all_it_takes(link, wire.server)
    held = (await link.stats()).down.held
    assert queue - LARGEST < held <= queue
    assert held < sent < held + kernel
    assert await receive(wire.client, sent) == bytes(sent)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_slow_link_keeps_the_kernel_from_taking_much_beyond_its_queue(
    link: Link, listener: socket.socket, direction: str
) -> None:
    await link.set(rate=1e6)
    before = await link.stats()
    sent = received = 0
    with connected(link, listener) as wire:
        ends = (wire.client, wire.server) if direction == "up" else (wire.server, wire.client)
        sender, receiver = ends
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while received < 300_000:
            sent += send_until_full(sender)
            received += len(await asyncio.get_running_loop().sock_recv(receiver, MIB))
        await link.freeze()
        taken = sent - unsent(sender)  # by the kernel on the link's side, and by the link
        in_kernel = taken - (entered(await link.stats(), direction) - entered(before, direction))
    assert in_kernel < BUFFER / 4


async def test_memory_is_bounded_by_the_queue(link: Link, wire: Wire) -> None:
    process = psutil.Process(link.pid)
    await crosses(wire)
    before = process.memory_info().rss
    await link.set(queue=16 * MIB)
    await send_all_it_takes(link, wire.server)
    assert process.memory_info().rss - before < (16 + 8) * MIB


# Its life


async def test_a_link_ends_with_its_block_even_if_that_fails(listener: socket.socket) -> None:
    links = []

    async def fail() -> None:
        async with run_link(*listener.getsockname()) as link:
            links.append(link)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail()
    (link,) = links
    assert not psutil.pid_exists(link.pid)
    assert not Path(link.control).parent.exists()
    with pytest.raises(LinkError, match="gone"):
        await link.stats()


async def test_a_link_is_what_it_was_asked_to_be_from_the_first_byte(
    listener: socket.socket,
) -> None:
    async with run_link(*listener.getsockname(), queue=3, rate=1e9) as link:
        with connected(link, listener) as wire:
            await send(wire.client, bytes(1000))
            assert await receive(wire.server, 1000) == bytes(1000)
            assert (await link.stats()).up.held_peak <= 3


async def test_a_link_cannot_be_what_no_link_can(link: Link) -> None:
    with pytest.raises(ValueError, match="delay is -1"):
        await link.set(delay=-1)
    with pytest.raises(ValueError, match="rate is 0"):
        await run_link("127.0.0.1", 1, rate=0).__aenter__()


def test_a_link_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LinkError, match="did not start"), start_link("127.0.0.1", 1):
        pass


def test_a_link_serves_any_event_loop(link: Link) -> None:
    accepted = [asyncio.run(link.stats()).accepted for _ in range(2)]
    assert accepted[0] == accepted[1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of any process's end")
def test_a_link_ends_with_the_process_that_started_it() -> None:
    script = (
        "import time; from tests.peers.link import start_link\n"
        "with start_link('127.0.0.1', 1) as link:\n"
        "    print(link.pid, link.control, flush=True); time.sleep(3600)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, control = parent.stdout.readline().split()
        process = os.pidfd_open(int(pid))
        parent.kill()
    ended, _, _ = select.select([process], [], [], 30)
    os.close(process)
    assert ended
    assert not Path(control).parent.exists()


@pytest.mark.parametrize("server", ["granian", "granian_unix"])
async def test_a_client_reaches_its_server_through_a_link(
    server: str, request: pytest.FixtureRequest
) -> None:
    peer: Peer = request.getfixturevalue(server)
    at, body = peer.address, noise(300_000)
    target = (at.socket_path,) if at.socket_path is not None else ("127.0.0.1", at.port)
    async with run_link(*target, delay=0.005, rate=20e6) as link, client_for(peer) as client:
        response = await client.request("POST", f"{link.base}/echo", body=body)
        stats = await link.stats()
    assert response.body == body
    assert min(stats.up.delivered, stats.down.delivered) > len(body)
