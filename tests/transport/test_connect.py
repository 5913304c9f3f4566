from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import ConnectError, ConnectionLost, ConnectTimeout, RemoteProtocolError
from dynamo_h2.origin import Origin
from dynamo_h2.transport.connect import Dialer, dial_may_be_retried
from dynamo_h2.transport.sockets import AddressInfo
from tests.peers.tls import Certificates
from tests.transport.dialling import NAME, answering, failing, never, reason, refusal
from tests.transport.listening import (
    Listener,
    Recorder,
    forever,
    http,
    https,
    info,
    listening,
    refusing_port,
    silent_port,
    turns,
)
from tests.watched import open_sockets

pytestmark = pytest.mark.usefixtures("quiet")

# --- TCP ----------------------------------------------------------------------------------------


async def test_a_dial_ends_with_a_protocol_whose_connection_is_made(dialer: Dialer) -> None:
    async with listening(Listener(echo=True)) as listener:
        protocol = await dialer.dial(http(listener.port), Recorder)
        assert protocol.calls == ["made"]
        protocol.transport.write(b"hello")
        assert await protocol.read(5) == b"hello"
        await protocol.end()
        assert protocol.calls == ["made", "data", "lost"]


@pytest.mark.parametrize("secure", [False, True])
async def test_what_the_peer_sends_first_is_not_lost(
    dialer: Dialer, certificates: Certificates, secure: bool
) -> None:
    greeting = b"settings" * 10_000
    context = certificates.server_context() if secure else None
    async with listening(Listener(greeting=greeting), context=context) as listener:
        origin = https(listener.port) if secure else http(listener.port)
        protocol = await dialer.dial(origin, Recorder)
        assert await protocol.read(len(greeting)) == greeting
        assert protocol.calls[0] == "made"
        await protocol.end()


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_peer_that_leaves_at_once_is_never_passed_over_in_silence(
    dialer: Dialer, ending: str
) -> None:
    async with listening(Listener(ending=ending, at_once=True)) as listener:
        await dial_often(dialer, http(listener.port))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_peer_that_leaves_after_the_handshake_is_never_passed_over_in_silence(
    dialer: Dialer, certificates: Certificates, ending: str, version: ssl.TLSVersion
) -> None:
    context = certificates.server_context()
    context.maximum_version = version
    async with listening(Listener(ending=ending, at_once=True), context=context) as listener:
        await dial_often(dialer, https(listener.port))


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_peer_that_leaves_before_the_handshake_may_be_tried_again(
    dialer: Dialer, ending: str
) -> None:
    async with listening(Listener(ending=ending, at_once=True)) as listener:
        for _ in range(20):
            assert dial_may_be_retried(await refusal(dialer, https(listener.port)))


async def dial_often(dialer: Dialer, origin: Origin) -> None:
    """Dial a peer that leaves: each dial fails, or its protocol hears of the end."""
    for _ in range(20):
        (outcome,) = await asyncio.gather(dialer.dial(origin, Recorder), return_exceptions=True)
        if isinstance(outcome, Recorder):
            await outcome.lost
            assert outcome.calls == ["made", "lost"]
        else:
            assert isinstance(outcome, ConnectError)
            assert outcome.processed is False
            assert dial_may_be_retried(outcome)


async def test_the_socket_of_a_connection_has_its_options(dialer: Dialer) -> None:
    async with listening(Listener()) as listener:
        protocol = await dialer.dial(http(listener.port), Recorder)
        sock = protocol.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await protocol.end()


async def test_a_refused_dial_says_who_refused(dialer: Dialer) -> None:
    with refusing_port() as port:
        error = await refusal(dialer, http(port))
    assert reason(error) == f"connection refused (tried 127.0.0.1:{port})"
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert dial_may_be_retried(error)


async def test_many_dials_to_a_port_that_refuses_each_get_their_error(dialer: Dialer) -> None:
    with refusing_port() as port:
        await asyncio.gather(*(refusal(dialer, http(port)) for _ in range(200)))


async def test_a_name_that_refuses_in_both_families_lists_what_was_tried() -> None:
    with refusing_port() as v4, refusing_port("::1") as v6:
        resolver = answering(info("::1", v6), info("127.0.0.1", v4))
        error = await refusal(Dialer(Http2Config(), resolver=resolver), http(v4, NAME))
    assert reason(error) == f"connection refused (tried [::1]:{v6}, 127.0.0.1:{v4})"
    assert dial_may_be_retried(error)


async def test_different_reasons_are_told_apart() -> None:
    with refusing_port() as port:
        resolver = answering(info("fe80::1", 80), info("127.0.0.1", port))
        error = await refusal(Dialer(Http2Config(), resolver=resolver), http(port, NAME))
    # A link-local address without a scope.
    assert reason(error) == (
        f"[fe80::1]:80: invalid argument, 127.0.0.1:{port}: connection refused"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_name_is_reached_in_the_family_that_listens(host: str) -> None:
    async with listening(Listener(), host=host) as listener:
        with refusing_port("::1" if host == "127.0.0.1" else "127.0.0.1") as closed:
            infos = [info("::1", closed), info("127.0.0.1", closed)]
            infos[host == "127.0.0.1"] = info(host, listener.port)
            dialer = Dialer(Http2Config(), resolver=answering(*infos))
            protocol = await dialer.dial(http(80, NAME), Recorder)
            assert protocol.transport.get_extra_info("peername")[0] == host
            await protocol.end()


async def test_a_family_that_does_not_answer_does_not_hold_up_the_other() -> None:
    async with listening(Listener(), host="::1") as listener:
        with silent_port() as silent:
            resolver = answering(info("127.0.0.1", silent), info("::1", listener.port))
            dialer = Dialer(Http2Config(), resolver=resolver)
            protocol = await dialer.dial(http(80, NAME), Recorder)
            assert protocol.transport.get_extra_info("peername")[0] == "::1"
            await protocol.end()


async def test_the_system_resolves_names_when_nobody_else_does() -> None:
    async with listening(Listener()) as listener:
        protocol = await Dialer(Http2Config()).dial(http(listener.port, "localhost"), Recorder)
        await protocol.end()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_literal_address_never_reaches_the_resolver(host: str) -> None:
    async with listening(Listener(), host=host) as listener:
        dialer = Dialer(Http2Config(), resolver=failing(ZeroDivisionError()))
        protocol = await dialer.dial(http(listener.port, host), Recorder)
        await protocol.end()


@pytest.mark.parametrize(
    ("error", "text", "again"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name unknown"), "Name unknown", False),
        (socket.gaierror(socket.EAI_AGAIN, "Try again"), "Try again", True),
        (OSError("no network"), "no network", True),
    ],
)
async def test_a_name_that_does_not_resolve_is_a_connect_error(
    error: OSError, text: str, again: bool
) -> None:
    dialer = Dialer(Http2Config(), resolver=failing(error))
    caught = await refusal(dialer, http(80, NAME))
    assert reason(caught) == f"the name '{NAME}' does not resolve: {text}"
    assert caught.__cause__ is error
    assert dial_may_be_retried(caught) is again


async def test_a_name_that_no_resolver_takes_is_a_connect_error(dialer: Dialer) -> None:
    error = await refusal(dialer, http(80, f"{'x' * 64}.example"))
    assert isinstance(error.__cause__, UnicodeError)
    assert not dial_may_be_retried(error)


async def test_a_name_without_an_address_is_a_connect_error() -> None:
    error = await refusal(Dialer(Http2Config(), resolver=answering()), http(80, NAME))
    assert reason(error) == f"the name '{NAME}' has no address"
    assert not dial_may_be_retried(error)


async def test_a_bug_in_a_resolver_is_not_taken_for_the_network() -> None:
    dialer = Dialer(Http2Config(), resolver=failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        await dialer.dial(http(80, NAME), never)


async def test_an_error_of_the_factory_reaches_the_caller_and_closes_the_socket(
    dialer: Dialer,
) -> None:
    def factory() -> Recorder:
        raise ZeroDivisionError

    async with listening(Listener()) as listener:
        with pytest.raises(ZeroDivisionError):
            await dialer.dial(http(listener.port), factory)


# --- Unix sockets -------------------------------------------------------------------------------


async def test_a_unix_socket_is_dialled_by_its_path(dialer: Dialer, tmp_path: Path) -> None:
    path = str(tmp_path / "worker.sock")
    async with listening(Listener(echo=True), path=path):
        protocol = await dialer.dial(Origin("http", "localhost", 80, path), Recorder)
        protocol.transport.write(b"hello")
        assert await protocol.read(5) == b"hello"
        await protocol.end()


async def test_a_unix_socket_can_carry_tls(
    dialer: Dialer, certificates: Certificates, tmp_path: Path
) -> None:
    path = str(tmp_path / "worker.sock")
    async with listening(Listener(), path=path, context=certificates.server_context()):
        protocol = await dialer.dial(Origin("https", "localhost", 443, path), Recorder)
        assert protocol.transport.get_extra_info("cipher")
        await protocol.end()


async def test_a_missing_unix_socket_may_come_back(dialer: Dialer, tmp_path: Path) -> None:
    origin = Origin("http", "localhost", 80, str(tmp_path / "missing.sock"))
    error = await refusal(dialer, origin)
    assert str(error) == f"cannot connect to unix:{origin.socket_path}: no such file or directory"
    assert dial_may_be_retried(error)


# --- cancelling ---------------------------------------------------------------------------------

Dial = Callable[[], Awaitable[Recorder]]


async def cancel_at_every_turn(dial: Dial) -> int:
    """Dial and cancel after 0, 1, 2 … turns of the loop, until a dial is quicker; tell how many.

    The sockets of both sides are in this process: when all of them are gone, ours are.
    """
    before = open_sockets()
    for count in range(200):
        task = asyncio.ensure_future(dial())
        await turns(count)
        task.cancel()
        try:
            protocol = await task
        except asyncio.CancelledError:
            await settle(before)
        else:
            await protocol.end()
            return count
    pytest.fail("no dial came to its end within 200 turns of the loop")


async def settle(before: set[str]) -> None:
    """See to it that nothing is open that was not `before`, after the turns that closing takes.

    After a hundred of them the kernel gets some time, too: the peer has to hear of the end.
    """
    for turn in range(120):
        if not open_sockets() - before and asyncio.all_tasks() == {asyncio.current_task()}:
            return
        await asyncio.sleep(0 if turn < 100 else 0.01)
    pytest.fail(f"left behind: {open_sockets() - before}, {asyncio.all_tasks()}")


async def test_a_plain_dial_can_be_cancelled_at_every_turn_of_the_loop(dialer: Dialer) -> None:
    async with listening(Listener(greeting=b"settings")) as listener:
        assert await cancel_at_every_turn(lambda: dialer.dial(http(listener.port), Recorder)) > 2


async def test_a_dial_over_a_unix_socket_can_be_cancelled_at_every_turn_of_the_loop(
    dialer: Dialer, tmp_path: Path
) -> None:
    path = str(tmp_path / "worker.sock")
    origin = Origin("http", "localhost", 80, path)
    async with listening(Listener(), path=path):
        assert await cancel_at_every_turn(lambda: dialer.dial(origin, Recorder)) > 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_tls_dial_can_be_cancelled_at_every_turn_of_the_loop(
    dialer: Dialer, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = certificates.server_context()
    context.maximum_version = version
    async with listening(Listener(greeting=b"settings"), context=context) as listener:
        assert await cancel_at_every_turn(lambda: dialer.dial(https(listener.port), Recorder)) > 5


async def test_a_race_between_families_can_be_cancelled_at_every_turn_of_the_loop() -> None:
    async with listening(Listener()) as listener:
        with refusing_port("::1") as closed:
            resolver = answering(info("::1", closed), info("127.0.0.1", listener.port))
            dialer = Dialer(Http2Config(), resolver=resolver)
            await cancel_at_every_turn(lambda: dialer.dial(http(80, NAME), Recorder))


async def test_a_second_cancellation_does_not_leave_more_behind(dialer: Dialer) -> None:
    async with listening(Listener()) as listener:
        before = open_sockets()
        for count in range(10):
            task = asyncio.ensure_future(dialer.dial(http(listener.port), Recorder))
            await turns(count)
            task.cancel()
            await turns(1)
            task.cancel()
            try:
                await (await task).end()
            except asyncio.CancelledError:
                await settle(before)


async def test_a_dial_that_nobody_answers_can_be_cancelled(dialer: Dialer) -> None:
    with silent_port() as port, pytest.raises(TimeoutError):
        await asyncio.wait_for(dialer.dial(http(port), never), 0.02)


async def test_a_handshake_that_nobody_answers_can_be_cancelled(dialer: Dialer) -> None:
    async with listening(Listener()) as listener:
        task = asyncio.ensure_future(dialer.dial(https(listener.port), never))
        await listener.arrival.wait()
        await turns(20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_resolver_that_never_answers_can_be_cancelled() -> None:
    async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
        return await forever()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            Dialer(Http2Config(), resolver=resolve).dial(http(80, NAME), never), 0.02
        )


# --- may it be dialled again? -------------------------------------------------------------------


def caused(cause: Exception | None, kind: type[ConnectError] = ConnectError) -> ConnectError:
    error = kind("x", processed=False)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "cause",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "x"),
        ConnectionResetError(errno.ECONNRESET, "x"),
        TimeoutError(errno.ETIMEDOUT, "x"),
        OSError(errno.EHOSTUNREACH, "x"),
        ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "x"),
        ConnectionLost("x"),
        caused(ConnectionRefusedError(errno.ECONNREFUSED, "x")),
    ],
)
def test_a_dial_may_be_repeated_when_the_peer_was_not_there(cause: Exception) -> None:
    assert dial_may_be_retried(caused(cause))
    assert not dial_may_be_retried(caused(cause, ConnectTimeout))


@pytest.mark.parametrize(
    "cause",
    [
        None,
        ssl.SSLCertVerificationError(1, "x"),
        ssl.SSLError(ssl.SSL_ERROR_SSL, "x"),
        socket.gaierror(socket.EAI_NONAME, "x"),
        UnicodeError("x"),
        RemoteProtocolError("x", code=1),
        caused(ssl.SSLError(ssl.SSL_ERROR_SSL, "x")),
    ],
)
def test_a_dial_is_not_repeated_when_the_peer_is_there_and_wrong(cause: Exception | None) -> None:
    assert not dial_may_be_retried(caused(cause))
