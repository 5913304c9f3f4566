from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.transport.connect import Dialer, _default_context, _Gate, dial_may_be_retried
from dynamo_h2.transport.sockets import AddressInfo
from tests.behaviours import until
from tests.peers.tls import Certificates
from tests.transport.dialling import NAME, reason, refusal
from tests.transport.listening import Listener, Recorder, https, info, listening, turns

pytestmark = pytest.mark.usefixtures("quiet")


@asynccontextmanager
async def alerting(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A peer whose handshake fails, and which says why in a TLS alert.

    In a thread, because asyncio and uvloop close without sending their alert.
    """

    def handshake() -> None:
        connection, _ = listener.accept()
        with connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = asyncio.ensure_future(asyncio.to_thread(handshake))
        yield listener.getsockname()[1]
        await peer


async def test_tls_is_agreed_with_h2_and_the_name_of_the_origin(
    dialer: Dialer, certificates: Certificates
) -> None:
    asked: list[str | None] = []
    context = certificates.server_context("http/1.1", "h2")
    context.sni_callback = lambda sock, name, context: asked.append(name)
    async with listening(Listener(echo=True), context=context) as listener:
        protocol = await dialer.dial(https(listener.port), Recorder)
        tls = protocol.transport.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "h2"
        assert asked == ["localhost"]
        protocol.transport.write(b"hello")
        assert await protocol.read(5) == b"hello"
        await protocol.end()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_certificate_may_be_for_an_address(
    dialer: Dialer, certificates: Certificates, host: str
) -> None:
    context = certificates.server_context()
    async with listening(Listener(), host=host, context=context) as listener:
        protocol = await dialer.dial(https(listener.port, host), Recorder)
        await protocol.end()


@pytest.mark.parametrize(("host", "address"), [("localhost.", "127.0.0.1"), ("::1%lo", "::1")])
async def test_a_zone_and_a_final_dot_are_no_part_of_the_name(
    certificates: Certificates, host: str, address: str
) -> None:
    async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
        return [info(address, port)]

    dialer = Dialer(Http2Config(), certificates.client_context(), resolver=resolve)
    context = certificates.server_context()
    async with listening(Listener(), host=address, context=context) as listener:
        protocol = await dialer.dial(https(listener.port, host), Recorder)
        await protocol.end()


async def test_server_hostname_takes_the_place_of_the_host(
    dialer: Dialer, certificates: Certificates
) -> None:
    async with listening(Listener(), context=certificates.server_context()) as listener:
        origin = https(listener.port, "127.0.0.1")
        protocol = await dialer.dial(origin, Recorder, server_hostname="localhost")
        assert protocol.transport.get_extra_info("ssl_object").server_hostname == "localhost"
        await protocol.end()
        error = await refusal(dialer, origin, server_hostname=NAME)
        assert reason(error) == (
            "TLS handshake failed: certificate verify failed: Hostname mismatch, certificate is"
            f" not valid for '{NAME}' (peer 127.0.0.1:{listener.port})"
        )
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert not dial_may_be_retried(error)


async def test_the_default_context_trusts_no_unknown_authority(certificates: Certificates) -> None:
    async with listening(Listener(), context=certificates.server_context()) as listener:
        error = await refusal(Dialer(Http2Config()), https(listener.port))
    assert "certificate verify failed: " in reason(error)
    assert not dial_may_be_retried(error)


def test_the_default_context_verifies_and_refuses_what_http2_forbids() -> None:
    context = _default_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def test_a_peer_without_alpn_is_refused(dialer: Dialer, certificates: Certificates) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(str(certificates.server))
    listener = Listener()
    async with listening(listener, context=context):
        error = await refusal(dialer, https(listener.port))
        assert reason(error) == (
            "TLS handshake failed: the peer picked nothing by ALPN, not h2"
            f" (peer 127.0.0.1:{listener.port})"
        )
        assert not dial_may_be_retried(error)
        await until(lambda: listener.ended)
    assert all(not each.received for each in listener.accepted)


async def test_a_peer_that_picks_http_1_1_is_refused(certificates: Certificates) -> None:
    context = certificates.client_context()
    dialer = Dialer(Http2Config(), context)
    context.set_alpn_protocols(["http/1.1", "h2"])  # by somebody who shares the context
    async with listening(Listener(), context=certificates.server_context("http/1.1")) as listener:
        error = await refusal(dialer, https(listener.port))
    assert "the peer picked http/1.1 by ALPN, not h2" in reason(error)
    assert not dial_may_be_retried(error)


async def test_a_tls_alert_is_named(certificates: Certificates) -> None:
    ours, theirs = certificates.client_context(), certificates.server_context()
    ours.minimum_version = ssl.TLSVersion.TLSv1_3
    theirs.maximum_version = ssl.TLSVersion.TLSv1_2
    async with alerting(theirs) as port:
        error = await refusal(Dialer(Http2Config(), ours), https(port))
    assert reason(error) == (
        f"TLS handshake failed: tlsv1 alert protocol version (peer 127.0.0.1:{port})"
    )
    assert isinstance(error.__cause__, ssl.SSLError)
    assert not dial_may_be_retried(error)


@pytest.mark.parametrize(
    ("ending", "text"),
    [("close", "the peer closed the connection"), ("reset", "connection reset by peer")],
)
async def test_a_peer_that_leaves_during_the_handshake_may_be_tried_again(
    dialer: Dialer, ending: str, text: str
) -> None:
    async with listening(Listener(ending=ending)) as listener:
        error = await refusal(dialer, https(listener.port))
    assert reason(error) == f"TLS handshake failed: {text} (peer 127.0.0.1:{listener.port})"
    assert dial_may_be_retried(error)


async def test_a_peer_that_answers_without_tls_is_told_apart(dialer: Dialer) -> None:
    async with listening(Listener(echo=True)) as listener:
        error = await refusal(dialer, https(listener.port))
        assert not dial_may_be_retried(error)
    async with listening(Listener(), host="127.0.0.1") as listener:
        dial = asyncio.create_task(refusal(dialer, https(listener.port)))
        await listener.arrival.wait()
        transport = listener.accepted[0].transport
        assert transport is not None
        transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        error = await dial
        assert not dial_may_be_retried(error)


async def test_a_peer_that_speaks_before_the_handshake_is_refused(dialer: Dialer) -> None:
    async with listening(Listener(greeting=b"SSH-2.0-x\r\n")) as listener:
        error = await refusal(dialer, https(listener.port))
    assert "TLS handshake failed: " in reason(error)
    assert not dial_may_be_retried(error)


async def test_a_connection_that_ended_under_the_handshake_gives_its_reason() -> None:
    gate = _Gate()
    with pytest.raises(ConnectionResetError, match="the peer closed the connection"):
        gate.require_open(None)  # what start_tls of asyncio may return
    gate.connection_lost(ConnectionAbortedError("mine"))
    with pytest.raises(ConnectionAbortedError, match="mine"):
        gate.require_open(None)


async def test_the_callers_context_shows_its_certificate(certificates: Certificates) -> None:
    context = certificates.server_context(ask_client=True)
    async with listening(Listener(), context=context) as listener:
        ours = certificates.client_context(with_certificate=True)
        protocol = await Dialer(Http2Config(), ours).dial(https(listener.port), Recorder)
        await listener.arrival.wait()
        theirs = listener.accepted[0].transport
        assert theirs is not None
        assert theirs.get_extra_info("peercert")["subjectAltName"] == (
            ("email", "client@example.org"),
        )
        await protocol.end()


async def test_a_missing_client_certificate_fails_the_handshake_of_tls_1_2(
    dialer: Dialer, certificates: Certificates
) -> None:
    context = certificates.server_context(ask_client=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with alerting(context) as port:
        error = await refusal(dialer, https(port))
    assert "TLS handshake failed: " in reason(error)
    assert "alert" in reason(error)
    assert not dial_may_be_retried(error)


async def test_a_missing_client_certificate_is_told_after_the_handshake_of_tls_1_3(
    dialer: Dialer, certificates: Certificates
) -> None:
    context = certificates.server_context(ask_client=True)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    async with alerting(context) as port:
        protocol = await dialer.dial(https(port), Recorder)
        lost = await protocol.lost
    assert isinstance(lost, ssl.SSLError)
    assert lost.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


@pytest.mark.parametrize("name", ["", ".example", "a\0b", "x" * 64])
async def test_an_impossible_name_is_found_before_anything_is_dialled(
    dialer: Dialer, name: str
) -> None:
    async with listening(Listener()) as listener:
        error = await refusal(dialer, https(listener.port), server_hostname=name)
        assert reason(error).startswith(f"TLS with the name {name!r} is not possible: ")
        assert not dial_may_be_retried(error)
        await turns(20)
        assert not listener.accepted


async def test_the_context_of_a_server_is_refused(certificates: Certificates) -> None:
    dialer = Dialer(Http2Config(), certificates.server_context())
    error = await refusal(dialer, https(443))
    assert not dial_may_be_retried(error)
