from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config
from dynamo_h2.transport.sockets import (
    Address,
    Race,
    alternate,
    check_not_itself,
    connect_tcp,
    connect_unix,
    literal,
    socket_options,
)
from tests.transport.listening import (
    Listener,
    forever,
    info,
    listening,
    refusing_port,
    silent_port,
    turns,
)

FOREVER = 3_600.0


def v4(port: int) -> Address:
    return Address(socket.AF_INET, ("127.0.0.1", port))


def v6(port: int, scope: int = 0) -> Address:
    return Address(socket.AF_INET6, ("::1", port, 0, scope))


def attempt(address: Address) -> Awaitable[socket.socket]:
    return connect_tcp(address, socket_options(Http2Config()))


async def win(race: Race) -> Address:
    """Run a race that somebody wins."""
    winner = await race.run()
    assert winner is not None
    with winner[0] as sock:
        assert sock.getpeername()[:2] == winner[1].sockaddr[:2]
    return winner[1]


# --- addresses ----------------------------------------------------------------------------------

hosts = st.sampled_from(["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1", "::2", "::3"])


@given(st.lists(hosts, max_size=8))
def test_alternate_keeps_each_address_once_and_the_order_within_a_family(names: list[str]) -> None:
    addresses = alternate([info(name, 80) for name in names])
    tried = [address.sockaddr[0] for address in addresses]
    assert sorted(tried) == sorted(set(names))
    for is_v6 in (False, True):
        wanted = [name for name in dict.fromkeys(names) if (":" in name) is is_v6]
        assert [name for name in tried if (":" in name) is is_v6] == wanted


@given(st.lists(hosts, min_size=1, max_size=8))
def test_families_take_turns_while_both_have_addresses(names: list[str]) -> None:
    families = [address.family for address in alternate([info(name, 80) for name in names])]
    assert families[0] == info(names[0], 80)[0]
    runs = [len(list(run)) for _, run in groupby(families)]
    assert runs[:-1] == [1] * (len(runs) - 1)


def test_addresses_of_other_kinds_are_left_out() -> None:
    datagram = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 80))
    unix = (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("/run/x",))
    assert alternate([datagram, unix, info("127.0.0.1", 80)]) == [v4(80)]


@pytest.mark.parametrize(
    ("host", "count"),
    [("127.0.0.1", 1), ("::1", 1), ("fe80::1%1", 1), ("localhost", 0), ("a.b", 0)],
)
def test_only_addresses_in_figures_are_literal(host: str, count: int) -> None:
    assert len(literal(host, 80)) == count


def test_the_zone_of_a_literal_becomes_its_scope() -> None:
    assert [address.sockaddr for address in alternate(literal("fe80::1%1", 80))] == [
        ("fe80::1", 80, 0, 1)
    ]


def test_an_address_is_written_as_in_a_url() -> None:
    assert [str(v4(80)), str(v6(80))] == ["127.0.0.1:80", "[::1]:80"]


# --- the race -----------------------------------------------------------------------------------


async def test_the_first_address_wins_when_it_answers() -> None:
    async with listening(Listener()) as one, listening(Listener(), host="::1") as other:
        race = Race([v6(other.port), v4(one.port)], attempt, FOREVER)
        assert await win(race) == v6(other.port)
        await other.arrival.wait()
        assert not one.accepted


async def test_the_next_address_is_tried_as_soon_as_one_fails() -> None:
    async with listening(Listener()) as listener:
        with refusing_port("::1") as closed:
            race = Race([v6(closed), v4(listener.port)], attempt, FOREVER)
            assert await win(race) == v4(listener.port)
            await listener.arrival.wait()
            assert [address for address, _ in race.failures] == [v6(closed)]


async def test_an_address_that_does_not_answer_holds_up_nobody() -> None:
    async with listening(Listener(), host="::1") as listener:
        with silent_port() as silent:
            race = Race([v4(silent), v6(listener.port)], attempt)
            assert await win(race) == v6(listener.port)
            await listener.arrival.wait()
            assert not race.failures


async def test_a_failure_does_not_end_the_wait_for_a_slow_address() -> None:
    released = asyncio.Event()

    async def connect(address: Address) -> socket.socket:
        if address == v4(1):
            await released.wait()
            return socket.socket()
        released.set()
        raise ConnectionRefusedError(errno.ECONNREFUSED, "no")

    winner = await Race([v4(1), v4(2)], connect, 0.0).run()
    assert winner is not None
    assert winner[1] == v4(1)
    winner[0].close()


async def test_a_race_that_nobody_wins_tells_each_failure() -> None:
    with refusing_port() as one, refusing_port("::1") as other:
        race = Race([v4(one), v6(other)], attempt, FOREVER)
        assert await race.run() is None
    assert [address for address, _ in race.failures] == [v4(one), v6(other)]
    assert [error.errno for _, error in race.failures] == [errno.ECONNREFUSED] * 2


async def test_the_sockets_of_all_losers_are_closed_when_several_connect_at_once() -> None:
    sockets: list[socket.socket] = []
    together = asyncio.Event()

    async def connect(address: Address) -> socket.socket:
        sockets.append(socket.socket())
        if len(sockets) == 5:
            together.set()
        await together.wait()
        number: int = address.sockaddr[1]
        return sockets[number]

    winner = await Race([v4(port) for port in range(5)], connect, 0.0).run()
    assert winner is not None
    await turns(1)  # in which the losers close
    assert [sock for sock in sockets if sock.fileno() != -1] == [winner[0]]
    winner[0].close()


async def test_an_error_that_is_no_failure_to_connect_ends_the_race() -> None:
    async def connect(address: Address) -> socket.socket:
        if address == v4(1):
            return await forever()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Race([v4(1), v4(2)], connect, 0.0).run()


Script = Sequence[tuple[str, int]]
scripts = st.lists(
    st.tuples(st.sampled_from(["fail", "connect", "hang"]), st.integers(0, 4)), max_size=5
)


def scripted(
    script: Script, sockets: list[socket.socket]
) -> Callable[..., Awaitable[socket.socket]]:
    async def connect(address: Address) -> socket.socket:
        what, count = script[address.sockaddr[1]]
        await turns(count)
        if what == "fail":
            raise ConnectionRefusedError(errno.ECONNREFUSED, "no")
        if what == "hang":
            await forever()
        sockets.append(socket.socket())
        return sockets[-1]

    return connect


@given(scripts)
def test_a_race_is_won_when_anybody_can_win_and_only_the_winner_stays_open(script: Script) -> None:
    async def run() -> None:
        sockets: list[socket.socket] = []
        race = Race([v4(n) for n in range(len(script))], scripted(script, sockets), 0.0)
        outcomes = {what for what, _ in script}
        if "hang" in outcomes and "connect" not in outcomes:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(race.run(), 0.001)
            return
        winner = await race.run()
        await turns(1)  # in which the losers close
        assert (winner is not None) == ("connect" in outcomes)
        assert [s for s in sockets if s.fileno() != -1] == ([winner[0]] if winner else [])
        if winner:
            assert script[winner[1].sockaddr[1]][0] == "connect"
            winner[0].close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@given(scripts, st.integers(0, 12), st.booleans())
def test_a_cancelled_race_leaves_no_socket_and_no_task(
    script: Script, count: int, twice: bool
) -> None:
    async def run() -> None:
        sockets: list[socket.socket] = []
        race = Race([v4(n) for n in range(len(script))], scripted(script, sockets), 0.0)
        task = asyncio.create_task(race.run())
        await turns(count)
        task.cancel()
        if twice:
            await asyncio.sleep(0)
            task.cancel()
        winner = None
        with suppress(asyncio.CancelledError):
            winner = await task
        await turns(1)  # in which the losers close
        assert [s for s in sockets if s.fileno() != -1] == ([winner[0]] if winner else [])
        if winner:
            winner[0].close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


# --- sockets ------------------------------------------------------------------------------------


async def test_small_frames_leave_at_once_and_the_kernel_probes_a_silent_peer() -> None:
    config = Http2Config(keep_alive_interval=20.5, keep_alive_timeout=6)
    async with listening(Listener()) as listener:
        with await connect_tcp(v4(listener.port), socket_options(config)) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 21
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 2
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3


@pytest.mark.parametrize(("seconds", "kernel"), [(0.001, 1), (86_400, 32_767)])
async def test_keep_alive_times_are_brought_into_the_range_of_the_kernel(
    seconds: float, kernel: int
) -> None:
    config = Http2Config(keep_alive_interval=seconds, keep_alive_timeout=0.001)
    async with listening(Listener()) as listener:
        with await connect_tcp(v4(listener.port), socket_options(config)) as sock:
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == kernel
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 1


async def test_without_pings_the_kernels_own_keep_alive_times_stay() -> None:
    with socket.socket() as fresh:
        usual = fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
    async with listening(Listener()) as listener:
        config = Http2Config(keep_alive_interval=None)
        with await connect_tcp(v4(listener.port), socket_options(config)) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == usual


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the platform has none")
@pytest.mark.parametrize(
    ("write_timeout", "kernel"), [(5.0, 26_500), (26.5, 26_500), (26.6, 0), (None, 0)]
)
async def test_the_kernel_ends_what_takes_longer_than_keep_alive_where_no_caller_waits_longer(
    write_timeout: float | None, kernel: int
) -> None:
    config = Http2Config(
        keep_alive_interval=20.5, keep_alive_timeout=6, write_timeout=write_timeout
    )
    async with listening(Listener()) as listener:
        with await connect_tcp(v4(listener.port), socket_options(config)) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == kernel
        without = config.replace(keep_alive_interval=None)
        with await connect_tcp(v4(listener.port), socket_options(without)) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


@pytest.mark.parametrize("scoped", [False, True])
async def test_the_scope_of_an_ipv6_address_is_kept(scoped: bool) -> None:
    scope = socket.if_nameindex()[0][0] if scoped else 0
    with pytest.raises(OSError, match=r"\w") as caught:
        await connect_tcp(Address(socket.AF_INET6, ("fe80::1", 80, 0, scope)), ())
    # The kernel refuses a link-local address as invalid when it does not know the link; with one,
    # the loopback, it looks for a route.
    assert (caught.value.errno == errno.EINVAL) is not scoped


async def test_an_attempt_can_be_cancelled_at_every_turn_of_the_loop() -> None:
    with silent_port() as port:
        for count in range(5):
            task = asyncio.create_task(connect_tcp(v4(port), ()))
            await turns(count)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def test_a_socket_that_met_its_own_syn_is_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        with pytest.raises(ConnectionRefusedError):
            check_not_itself(sock)


async def test_a_full_queue_of_a_unix_listener_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as first,
    ):
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        task = asyncio.create_task(connect_unix(path))
        await asyncio.sleep(0)
        assert not task.done()
        listener.accept()[0].close()
        with await task as sock:
            listener.accept()[0].close()
            assert sock.recv(1) == b""


async def test_waiting_for_a_unix_listener_can_be_cancelled(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as first,
    ):
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connect_unix(path), 0.02)


@pytest.mark.parametrize("name", ["missing", "x" * 200])
async def test_a_unix_socket_that_is_not_there_is_an_os_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"No such file|too long"):
        await connect_unix(str(tmp_path / name))
