"""When a connection is dialled, how often, and for whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import TypedDict, TypeVar, Unpack

import pytest

from dynamo_h2 import (
    ClientClosed,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HttpRequestClient,
    RequestTimeout,
)
from dynamo_h2.origin import Origin
from dynamo_h2.transport import addresses, host_pool
from dynamo_h2.transport.connect import Dialer, DialReport
from dynamo_h2.transport.protocol import ClientProtocol
from dynamo_h2.transport.resources import MAX_DIALS
from dynamo_h2.transport.sockets import Address, AddressInfo
from tests.behaviours import greeted, healthy, patient, serve, shake, standstill, turns, until
from tests.behaviours_pool import start
from tests.http2.frame_factory import HEADERS, REFUSED_STREAM, goaway, settings
from tests.peers.scripted import Connection, scripted_peer
from tests.transport.listening import Listener, info, listening, refusing_port, silent_port

# Dialling


async def test_requests_to_a_new_host_share_one_dial() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        await asyncio.gather(*(client.request("GET", peer.url()) for _ in range(100)))
        assert client.stats().connections_opened == 1
    assert len(peer.connections) == 1


async def test_a_hundred_requests_are_written_before_the_settings_of_the_peer_are_there() -> None:
    async def handler(connection: Connection) -> None:
        await connection.expect_preface()
        for _ in range(100):
            await connection.recv_until(HEADERS)
        await standstill(client)
        assert len(connection.log(HEADERS)) == 100
        connection.send_settings()
        for _ in range(50):
            await connection.recv_until(HEADERS)
        for head in connection.log(HEADERS):
            connection.respond(head.stream_id)
        await connection.until_left()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        await asyncio.gather(*(client.request("GET", peer.url()) for _ in range(150)))
        assert client.stats().connections_opened == 1


async def test_requests_that_come_while_a_connection_is_made_use_it() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        tasks = []
        for number in range(30):
            tasks.append(start(client, peer, f"/{number}"))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert client.stats().connections_opened == 1


async def test_a_failed_dial_fails_all_who_wait_and_the_next_request_dials_anew() -> None:
    with refusing_port() as port:
        async with HttpRequestClient(patient(connect_retries=0)) as client:
            url = f"http://127.0.0.1:{port}/"
            errors = await asyncio.gather(
                *(client.request("GET", url) for _ in range(3)), return_exceptions=True
            )
            assert [type(error) for error in errors] == [ConnectError] * 3
            assert len({id(error) for error in errors}) == 3
            assert not client.is_healthy
            with pytest.raises(ConnectError):
                await client.request("GET", url)


@pytest.mark.parametrize("connect_retries", [0, 1, 3])
async def test_a_connection_that_ends_before_its_settings_is_dialled_again_for_who_waits(
    connect_retries: int,
) -> None:
    """Those who wrote on it fail; those who still wait get as many dials as the config allows."""

    async def handler(connection: Connection) -> None:
        await connection.expect_preface()
        for _ in range(100):
            await connection.recv_until(HEADERS)
        connection.close()

    config = patient(connect_retries=connect_retries)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        errors = await asyncio.gather(
            *(client.request("GET", peer.url()) for _ in range(1000)), return_exceptions=True
        )
        assert client.stats().connections_opened == 1 + connect_retries
    lost = [error for error in errors if isinstance(error, ConnectionLost)]
    refused = [error for error in errors if isinstance(error, ConnectError)]
    assert (len(lost), len(refused)) == (100 * (1 + connect_retries), 900 - 100 * connect_retries)
    assert {error.processed for error in lost} == {None}
    assert {error.processed for error in refused} == {False}


async def test_a_listener_that_never_sends_settings_runs_into_the_time_to_connect() -> None:
    listener = Listener()
    config = patient(connect_timeout=0.5)
    async with listening(listener), HttpRequestClient(config) as client:
        url = f"http://127.0.0.1:{listener.port}/"
        errors = await asyncio.gather(
            *(client.request("GET", url) for _ in range(150)), return_exceptions=True
        )
        await until(lambda: listener.ended)
    assert [type(error) for error in errors] == [ConnectTimeout] * 150
    processed = [error.processed for error in errors if isinstance(error, ConnectTimeout)]
    assert (processed.count(None), processed.count(False)) == (100, 50)


async def test_a_dial_that_is_not_answered_runs_into_the_time_to_connect() -> None:
    with silent_port() as port:
        async with HttpRequestClient(patient(connect_timeout=0.1)) as client:
            with pytest.raises(ConnectTimeout) as raised:
                await client.request("GET", f"http://127.0.0.1:{port}/")
    assert raised.value.processed is False


async def test_a_call_may_have_less_time_to_connect_than_the_dial() -> None:
    with silent_port() as port:
        async with HttpRequestClient(patient()) as client:
            url = f"http://127.0.0.1:{port}/"
            patient_one = asyncio.create_task(client.request("GET", url))
            with pytest.raises(ConnectTimeout) as raised:
                await client.request("GET", url, connect_timeout=0.05)
            assert raised.value.processed is False
            assert not patient_one.done()
            patient_one.cancel()
            await asyncio.wait([patient_one])


# Peers that leave in the very turn in which a slot is handed out


P = TypeVar("P", bound=asyncio.Protocol)


class DialOptions(TypedDict, total=False):
    server_hostname: str | None
    addresses: Sequence[Address] | None
    report: DialReport | None


class Leaving(Dialer):
    """A dialer whose connections leave between the turns in which a slot is given and used.

    Attributes:
        leave: What happens to a connection then.
        left: How many are to leave.
    """

    leave: Callable[[ClientProtocol], None]
    left: float

    def connect_at_once(self, origin: Origin, address: Address) -> None:
        """Leave it to a dial."""

    async def dial(
        self, origin: Origin, factory: Callable[[], P], **options: Unpack[DialOptions]
    ) -> P:
        protocol = await super().dial(origin, factory, **options)
        assert isinstance(protocol, ClientProtocol)
        if self.left:
            type(self).left -= 1
            # The slot is given in this turn, and used in the next one, after this.
            asyncio.get_running_loop().call_soon(type(self).leave, protocol)
        return protocol


def leaving(
    monkeypatch: pytest.MonkeyPatch, leave: Callable[[ClientProtocol], None], count: float = inf
) -> None:
    monkeypatch.setattr(Leaving, "leave", staticmethod(leave), raising=False)
    monkeypatch.setattr(Leaving, "left", count, raising=False)
    monkeypatch.setattr("dynamo_h2.client.Dialer", Leaving)


async def silence(connection: Connection) -> None:
    await connection.until_left()


def say_goodbye(protocol: ClientProtocol) -> None:
    assert protocol.reserved == 1
    protocol.data_received(settings() + goaway(0))


def break_off(protocol: ClientProtocol) -> None:
    assert protocol.reserved == 1
    protocol.connection.lost(ConnectionResetError("reset"), time.monotonic())
    protocol.schedule_flush()


@pytest.mark.parametrize("leave", [say_goodbye, break_off])
async def test_a_new_connection_that_leaves_before_its_slot_is_used_costs_no_attempt(
    monkeypatch: pytest.MonkeyPatch, leave: Callable[[ClientProtocol], None]
) -> None:
    leaving(monkeypatch, leave, 1)
    async with scripted_peer(serve) as peer, HttpRequestClient(patient(max_retries=0)) as client:
        response = await client.request("GET", peer.url())
        assert (len(response.attempts), client.stats().connections_opened) == (1, 2)
        assert peer.connections[0].log(HEADERS) == []


async def test_slots_of_connections_that_leave_are_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaving(monkeypatch, say_goodbye)
    async with scripted_peer(serve) as peer, HttpRequestClient(patient(max_retries=1)) as client:
        with pytest.raises(ConnectionLost) as raised:
            await client.request("GET", peer.url())
        assert raised.value.processed is False
        assert len(raised.value.__notes__) == 1
        stats = client.stats()
        # Nothing was sent, so nothing was sent again.
        assert (stats.requests_sent, stats.retries, stats.errors) == (0, 0, 1)
        assert stats.connections_opened == 2 * 2


async def test_who_has_lost_its_slot_is_told_what_those_in_line_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaving(monkeypatch, break_off)
    config = patient(connect_retries=1)
    async with scripted_peer(silence) as peer, HttpRequestClient(config) as client:
        with pytest.raises(ConnectError, match="reset") as raised:
            await client.request("GET", peer.url())
        assert type(raised.value) is ConnectError
        assert (raised.value.processed, client.stats().connections_opened) == (False, 2)


# Dials, counted at the resolver


class Names:
    """A resolver that counts, and answers when it is told to.

    Args:
        infos: What every name leads to; None never answers.
    """

    def __init__(self, infos: Sequence[AddressInfo] | None) -> None:
        self.asked: list[str] = []
        self.infos = infos

    async def __call__(self, host: str, port: int) -> Sequence[AddressInfo]:
        self.asked.append(host)
        if self.infos is None:
            await asyncio.get_running_loop().create_future()
        return self.infos or ()


def with_names(names: Names, **config: object) -> HttpRequestClient:
    return HttpRequestClient(patient(**config), resolver=names)


@pytest.mark.parametrize("connect_retries", [0, 1, 4])
async def test_a_dial_is_tried_again_as_often_as_the_config_says(
    connect_retries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "FIRST_PAUSE", 0.001)  # or the last pauses take seconds
    with refusing_port() as port:
        names = Names([info("127.0.0.1", port)])
        async with with_names(names, connect_retries=connect_retries) as client:
            for round_number in (1, 2):
                errors = await asyncio.gather(
                    *(client.request("GET", "worker.example:80/") for _ in range(10)),
                    return_exceptions=True,
                )
                assert {type(error) for error in errors} == {ConnectError}
                assert len(names.asked) == round_number * (1 + connect_retries)


async def test_a_dial_that_is_made_again_takes_a_token_of_the_budget_of_retries() -> None:
    with refusing_port() as port:
        names = Names([info("127.0.0.1", port)])
        async with with_names(names, connect_retries=1) as client:
            assert client._pool is not None
            while client._pool._resources.retries.take(time.monotonic()):
                pass
            with pytest.raises(ConnectError):
                await client.request("GET", "worker.example:80/")
            assert len(names.asked) == 1


async def test_a_dial_that_fails_leaves_who_waits_to_the_connections_that_are_there() -> None:
    url = "worker.example:80/"
    async with scripted_peer(shake) as peer:
        with refusing_port() as port:
            names = Names([info("127.0.0.1", peer.port)])
            config = {"max_concurrent_streams": 1, "connect_retries": 0}
            async with with_names(names, **config) as client:
                first = asyncio.create_task(client.request("GET", url))
                connection = await greeted(peer)
                head = await connection.recv_until(HEADERS)
                names.infos = [info("127.0.0.1", port)]
                second = asyncio.create_task(client.request("GET", url))
                await until(lambda: len(names.asked) == 2)
                await turns(100)
                assert not second.done()
                connection.respond(head.stream_id)
                assert (await first).status == 200
                head = await connection.recv_until(HEADERS)
                connection.respond(head.stream_id)
                assert (await second).status == 200
                assert len(names.asked) == 2


async def test_a_dial_that_failed_is_tried_again_though_nothing_else_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_pool, "DIAL_PAUSE", 0.05)
    url = "worker.example:80/"
    async with scripted_peer(shake) as peer:
        with refusing_port() as port:
            names = Names([info("127.0.0.1", peer.port)])
            config = {"max_concurrent_streams": 1, "connect_retries": 0}
            async with with_names(names, **config) as client:
                tasks = [asyncio.create_task(client.request("GET", url))]
                head = await (await greeted(peer)).recv_until(HEADERS)
                names.infos = [info("127.0.0.1", port)]
                tasks.append(asyncio.create_task(client.request("GET", url)))
                await until(lambda: len(names.asked) == 3)
                names.infos = [info("127.0.0.1", peer.port)]
                second = await greeted(peer, 1)
                second.respond((await second.recv_until(HEADERS)).stream_id)
                assert (await tasks[1]).status == 200
                peer.connections[0].respond(head.stream_id)
                assert (await tasks[0]).status == 200


async def test_a_name_that_leads_nowhere_is_asked_for_once() -> None:
    names = Names([])
    async with with_names(names, connect_retries=3) as client:
        with pytest.raises(ConnectError, match="has no address"):
            await client.request("GET", "worker.example:80/")
    assert len(names.asked) == 1


async def test_a_host_that_is_back_is_healthy_for_as_long_as_no_dial_fails() -> None:
    url = "worker.example:80/"
    async with scripted_peer(serve) as peer:
        with refusing_port() as port:
            names = Names([info("127.0.0.1", port)])
            async with with_names(names) as client:
                with pytest.raises(ConnectError):
                    await client.request("GET", url)
                assert not healthy(client)
                names.infos = [info("127.0.0.1", peer.port)]
                await client.request("GET", url)
                assert healthy(client)
                (await peer.connection()).close()
                await until(lambda: client.stats().connections_closed == 1)
                assert healthy(client)
                names.infos = [info("127.0.0.1", port)]
                with pytest.raises(ConnectError):
                    await client.request("GET", url)
                assert not healthy(client)


async def test_dials_under_way_at_once_are_bounded_over_all_hosts() -> None:
    names = Names(None)
    async with with_names(names) as client:
        urls = [f"worker-{number}.example:80/" for number in range(MAX_DIALS + 20)]
        tasks = [asyncio.create_task(client.request("GET", url)) for url in urls]
        await until(lambda: len(names.asked) == MAX_DIALS)
        await turns(100)
        assert len(names.asked) == MAX_DIALS
        await client.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {ClientClosed}


async def test_who_stops_waiting_for_a_dial_does_not_stop_it() -> None:
    names = Names(None)
    async with with_names(names) as client:
        impatient = asyncio.create_task(client.request("GET", "worker.example:80/", timeout=0.02))
        waiting = asyncio.create_task(client.request("GET", "worker.example:80/"))
        with pytest.raises(RequestTimeout) as raised:
            await impatient
        assert raised.value.processed is False
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
    assert len(names.asked) == 1


async def test_who_avoids_the_connection_that_refused_it_holds_up_nobody_else() -> None:
    asked_again = asyncio.Event()
    ports: list[int] = []

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        while True:
            request = await connection.recv_request()
            if request[b":path"] == b"/refused":
                connection.rst(request.stream_id, REFUSED_STREAM)
            else:
                connection.respond(request.stream_id)

    async def resolver(_: str, port: int) -> Sequence[tuple[str, int]]:
        if ports:
            asked_again.set()
            await asyncio.Event().wait()  # so that the second dial gets nowhere
        ports.append(port)
        return [("127.0.0.1", port)]

    async with scripted_peer(handler) as peer:
        url = f"http://name:{peer.port}"
        async with HttpRequestClient(patient(dns_refresh=None), resolver=resolver) as client:
            await client.request("GET", f"{url}/")
            refused = asyncio.create_task(client.request("GET", f"{url}/refused"))
            await asked_again.wait()
            answer = await client.request("GET", f"{url}/")
            assert answer.status == 200
            assert not refused.done()
            refused.cancel()
