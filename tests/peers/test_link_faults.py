"""What a link does to its connections when it is told to."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from tests.behaviours import noise
from tests.peers.link import Link
from tests.peers.link_pump import close_with_reset
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
    turns,
)

pytest_plugins = ["tests.peers.link_fixtures"]


# Freezing


@both_families
async def test_a_frozen_link_lets_nothing_pass_until_it_thaws(link: Link, wire: Wire) -> None:
    await link.freeze()
    await send(wire.client, b"held")
    wire.server.shutdown(socket.SHUT_WR)
    await turns(link)
    assert (hears_nothing(wire.server), hears_nothing(wire.client)) == (True, True)
    await link.thaw()
    assert await receive(wire.server, 4) == b"held"
    assert await receive_all(wire.client) == b""


async def test_freezing_time_and_again_loses_no_byte(link: Link, wire: Wire) -> None:
    await link.set(delay=0.01, rate=8e6)
    data = noise(2 * MIB)
    sending = asyncio.create_task(send(wire.server, data))
    draw, came = random.Random(3), b""
    while len(came) < len(data):
        came += await receive(wire.client, min(len(data) - len(came), draw.randrange(300_000)))
        await link.freeze(new=draw.random() < 0.5)
        await turns(link)
        await link.thaw()
    await sending
    assert came == data


async def test_a_connection_made_while_the_link_is_frozen_waits(
    link: Link, listener: socket.socket
) -> None:
    await link.freeze()
    await link.refuse()
    await link.accept()  # which does not mean that it thaws
    with link.address.connect() as client:
        client.setblocking(False)
        await send(client, b"patient")
        await turns(link)
        assert (await link.stats()).open == 0
        await link.thaw()
        server, _ = listener.accept()
        with server:
            server.setblocking(False)
            assert await receive(server, 7) == b"patient"


async def test_new_connections_pass_beside_frozen_ones(
    link: Link, wire: Wire, listener: socket.socket
) -> None:
    await link.freeze(new=False)
    await send(wire.client, b"held")
    with connected(link, listener) as other:
        assert await crosses(other)
    assert hears_nothing(wire.server)
    await link.thaw()
    assert await receive(wire.server, 4) == b"held"


async def test_a_frozen_link_can_be_changed_and_reset(link: Link, wire: Wire) -> None:
    await link.freeze()
    await send(wire.client, b"lost")
    await link.set(rate=1e6, delay=0.01)
    await link.reset_connections()
    with pytest.raises(ConnectionResetError):
        await receive(wire.client, 1)


# Death


@both_families
async def test_half_open_death_swallows_bytes_and_ends_and_tells_nobody(
    link: Link, wire: Wire
) -> None:
    await link.kill_half_open()
    await send(wire.client, bytes(4 * MIB))  # no back-pressure either
    await send(wire.server, bytes(4 * MIB))
    wire.client.shutdown(socket.SHUT_WR)
    await turns(link)
    assert (hears_nothing(wire.server), hears_nothing(wire.client)) == (True, True)
    await send(wire.server, b"hello?")


async def test_half_open_death_swallows_a_reset(link: Link, wire: Wire) -> None:
    await link.kill_half_open()
    close_with_reset(wire.client)
    await turns(link)
    await send(wire.server, b"hello?")
    await turns(link)
    assert hears_nothing(wire.server)


async def test_half_open_death_takes_what_is_under_way(link: Link, wire: Wire) -> None:
    await link.set(delay=3600.0)
    await send(wire.client, b"lost")
    while not (await link.stats()).up.held:
        pass
    await link.kill_half_open()
    await link.set(delay=0.0)
    assert (await link.stats()).up.held == 0
    await turns(link)
    assert hears_nothing(wire.server)


async def test_a_connection_that_dies_after_both_have_ended_it_is_forgotten(
    link: Link, wire: Wire
) -> None:
    await link.set(delay=3600.0)
    wire.client.shutdown(socket.SHUT_WR)
    wire.server.shutdown(socket.SHUT_WR)
    await turns(link)
    assert (await link.stats()).open == 1
    await link.kill_half_open()
    assert (await link.stats()).open == 0


async def test_new_connections_pass_beside_dead_ones(
    link: Link, wire: Wire, listener: socket.socket
) -> None:
    await link.kill_half_open()
    with connected(link, listener) as other:
        assert await crosses(other)


async def test_a_dead_connection_that_both_have_left_is_forgotten(link: Link, wire: Wire) -> None:
    await link.kill_half_open()
    wire.client.close()
    await turns(link)
    assert (await link.stats()).open == 1
    close_with_reset(wire.server)
    await turns(link)
    assert (await link.stats()).open == 0


# Ends that the link makes


async def test_a_reset_arrives_as_one_on_both_sides(link: Link, wire: Wire) -> None:
    await link.reset_connections()
    for sock in (wire.client, wire.server):
        with pytest.raises(ConnectionResetError):
            await receive(sock, 1)


@pytest.mark.parametrize("after", [1, 12_345, 1_000_001])
async def test_a_reset_comes_after_exactly_so_many_bytes(
    link: Link, wire: Wire, after: int
) -> None:
    data = noise(16 * MIB)  # more than fits in all buffers on the way
    await link.reset_connections(after)
    sending = asyncio.create_task(send(wire.server, data))
    assert await receive(wire.client, after) == data[:after]
    with pytest.raises(ConnectionResetError):
        await receive(wire.client, 1)
    with pytest.raises(ConnectionError):
        await sending


async def test_the_bytes_before_a_reset_arrive_though_they_are_read_late(
    link: Link, wire: Wire
) -> None:
    after = 150_000  # more than the kernel takes in for a client that does not read
    await link.reset_connections(after)
    await send(wire.server, bytes(2 * after))
    await turns(link)
    assert await receive(wire.client, after) == bytes(after)
    with pytest.raises(ConnectionResetError):
        await receive(wire.client, 1)


async def test_bytes_to_a_reset_count_in_one_direction_and_for_old_connections_only(
    link: Link, wire: Wire, listener: socket.socket
) -> None:
    await link.reset_connections(10, "up")
    await send(wire.server, bytes(100))
    assert await receive(wire.client, 100) == bytes(100)
    with connected(link, listener) as other:
        await send(other.client, bytes(100))
        assert await receive(other.server, 100) == bytes(100)
    await send(wire.client, bytes(9))
    assert await receive(wire.server, 9) == bytes(9)
    await send(wire.client, bytes(9))
    with pytest.raises(ConnectionResetError):
        await receive(wire.server, 2)


@both_families
async def test_a_closed_connection_ends_on_both_sides_after_what_is_under_way(
    link: Link, wire: Wire
) -> None:
    await link.set(delay=0.02, rate=1e6)
    before = await link.stats()
    await send(wire.client, bytes(5000))
    await send(wire.server, bytes(7000))
    for lane, size in (("up", 5000), ("down", 7000)):
        while entered(await link.stats(), lane) < entered(before, lane) + size:
            pass
    await link.close_connections()
    assert await receive_all(wire.server) == bytes(5000)
    assert await receive_all(wire.client) == bytes(7000)


async def test_a_closed_connection_takes_what_still_comes_and_goes_with_its_ends(
    link: Link, wire: Wire
) -> None:
    await link.close_connections()
    assert await receive_all(wire.client) == b""
    await send(wire.client, bytes(MIB))
    wire.client.close()
    wire.server.close()
    await turns(link)
    assert (await link.stats()).open == 0


@both_families
async def test_a_link_refuses_new_connections_until_told_otherwise(
    link: Link, wire: Wire, listener: socket.socket
) -> None:
    await link.refuse()
    with pytest.raises(ConnectionRefusedError):
        link.address.connect()
    assert await crosses(wire)
    await link.accept()
    with connected(link, listener) as other:
        assert await crosses(other)
