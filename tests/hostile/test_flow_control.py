"""Windows: too much, too little, and credit that breaks the bounds (RFC 9113 §5.2, §6.9)."""

from __future__ import annotations

import asyncio

from dynamo_h2 import (
    HttpRequestClient,
    RemoteProtocolError,
    Response,
    WriteTimeout,
)
from tests.hostile.stage import (
    UPLOAD,
    Stage,
    expect_error,
    expect_goaway,
    expect_unharmed,
    opening,
    upload,
    uploading,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    CANCEL,
    DATA,
    FLOW_CONTROL_ERROR,
    HEADERS,
    INITIAL_WINDOW,
    NO_ERROR,
    OK,
    PING,
    PROTOCOL_ERROR,
    RST_STREAM,
    WINDOW_UPDATE,
)
from tests.peers.scripted import Connection

LARGEST = 2**31 - 1
DEFAULT = 65_535
BODY = b"a body of 25 bytes, whole"


async def small(client: HttpRequestClient, url: str) -> Response:
    """A call whose body would fit into a single frame."""
    return await client.request("POST", url, body=BODY)


async def impatient(client: HttpRequestClient, url: str) -> Response:
    """An upload that does not wait for ever."""
    return await client.request("POST", url, body=UPLOAD, write_timeout=0.1)


def sent(peer: Connection, stream: int = 1) -> int:
    """How many bytes of its body a request has sent."""
    return sum(frame.length for frame in peer.log(DATA, stream))


async def settled(peer: Connection) -> None:
    """Wait until the client has read all that was sent, and has sent all that it may.

    An answer goes out before the body bytes of the same write: those have come with the next one.
    """
    for _ in range(2):
        peer.ping(b"settled?")
        while not (await peer.recv_until(PING)).ack:
            pass


# More than was granted


async def test_data_past_the_window_of_a_stream_ends_the_stream(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        peer.data(stream, bytes(16_385))

    await stage.stream_error(attack, FLOW_CONTROL_ERROR, initial_stream_window=16_384)


async def test_padding_past_the_window_of_a_stream_ends_the_stream(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        peer.raw(frames.padded_data(stream, bytes(16_200), 184))

    await stage.stream_error(attack, FLOW_CONTROL_ERROR, initial_stream_window=16_384)


async def test_data_past_the_window_of_the_connection_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        peer.data(stream, bytes(100_001))

    await stage.connection_error(attack, FLOW_CONTROL_ERROR, initial_connection_window=100_000)


async def test_late_data_past_the_window_of_the_connection_ends_the_connection(
    stage: Stage,
) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.rst(stream, CANCEL)
        peer.data(stream, bytes(100_001))

    outcome = await stage.attack(attack, initial_connection_window=100_000)
    assert isinstance(outcome.neighbour, RemoteProtocolError)
    expect_goaway(outcome, FLOW_CONTROL_ERROR)


async def test_data_that_fills_the_window_is_taken_and_credited(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        for _ in range(3):
            peer.data(stream, bytes(16_384))
            await peer.recv_until(WINDOW_UPDATE, stream)
        peer.data(stream, b"", end_stream=True)

    response = await stage.accepted(attack, initial_stream_window=16_384)
    assert response.body == bytes(3 * 16_384)


async def test_padding_is_credited_though_nobody_reads_it(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        for _ in range(3):
            for _ in range(64):
                peer.raw(frames.padded_data(stream, b"", 255))
            await peer.recv_until(WINDOW_UPDATE, stream)
        peer.data(stream, b"", end_stream=True)

    assert (await stage.accepted(attack, initial_stream_window=16_384)).body == b""


# Credit that breaks the bounds (§6.9, §6.9.1)


async def test_credit_of_zero_on_the_connection_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.window_update(0, 0), PROTOCOL_ERROR)


async def test_credit_of_zero_on_a_stream_ends_the_stream(stage: Stage) -> None:
    await stage.stream_error(lambda peer, stream: peer.window_update(stream, 0), PROTOCOL_ERROR)


async def test_a_window_of_the_connection_past_its_largest_ends_the_connection(
    stage: Stage,
) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.window_update(0, LARGEST - DEFAULT)
        peer.window_update(0, 1)

    await stage.connection_error(attack, FLOW_CONTROL_ERROR)


async def test_a_window_of_a_stream_past_its_largest_ends_the_stream(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.window_update(stream, LARGEST - DEFAULT)
        peer.window_update(stream, 1)

    await stage.stream_error(attack, FLOW_CONTROL_ERROR)


async def test_a_setting_that_lifts_a_stream_past_its_largest_ends_the_connection(
    stage: Stage,
) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.window_update(stream, 1)
        peer.send_settings((INITIAL_WINDOW, LARGEST))

    await stage.connection_error(attack, FLOW_CONTROL_ERROR)


async def test_the_largest_windows_are_taken(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.window_update(0, LARGEST - DEFAULT)
        peer.send_settings((INITIAL_WINDOW, LARGEST))
        peer.respond(stream, b"wide open")

    assert (await stage.accepted(attack)).body == b"wide open"


# Less than is needed (§6.9.2)


async def after_settings(client: HttpRequestClient, url: str) -> Response:
    """A call with a small body on a connection where the peer's SETTINGS are known."""
    await client.request("GET", url)
    return await small(client, url)


async def test_a_small_body_waits_where_streams_begin_without_a_window(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer, (INITIAL_WINDOW, 0)))
        stream = (await peer.recv_until(HEADERS)).stream_id
        await settled(peer)
        assert sent(peer, stream) == 0
        peer.window_update(stream, 10)
        await settled(peer)
        assert sent(peer, stream) == 10
        peer.window_update(stream, len(BODY))
        assert (await peer.recv_until(DATA, stream)).end_stream
        peer.respond(stream, b"".join(frame.data for frame in peer.log(DATA, stream)))

    outcome = await stage.play(script, after_settings)
    assert outcome.response.body == BODY
    outcome.quiet()


async def test_a_body_goes_out_byte_by_byte_where_windows_are_that_small(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer, (INITIAL_WINDOW, 1)))
        stream = (await peer.recv_until(HEADERS)).stream_id
        while not (frame := await peer.recv_until(DATA, stream)).end_stream:
            assert frame.length == 1
            peer.window_update(stream, 1)
        peer.respond(stream, b"".join(frame.data for frame in peer.log(DATA, stream)))

    outcome = await stage.play(script, after_settings)
    assert outcome.response.body == BODY
    outcome.quiet()


async def test_a_body_without_a_byte_needs_no_window(stage: Stage) -> None:
    async def empty(client: HttpRequestClient, url: str) -> Response:
        await client.request("POST", url)
        return await client.request("POST", url, body=iter([]), trailers={"x": "end"})

    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer, (INITIAL_WINDOW, 0)))
        request = await peer.recv_request()
        peer.respond(request.stream_id, b"%r" % dict(request.trailers))

    outcome = await stage.play(script, empty)
    assert outcome.response.body == b"{b'x': b'end'}"
    outcome.quiet()


async def test_a_window_that_a_setting_makes_negative_is_waited_for(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        while sent(peer) < DEFAULT:
            await peer.recv_until(DATA, stream)
        peer.send_settings((INITIAL_WINDOW, 0))
        peer.window_update(0, LARGEST - DEFAULT)
        peer.window_update(stream, DEFAULT)
        await settled(peer)
        assert sent(peer) == DEFAULT
        peer.window_update(stream, 1)
        await settled(peer)
        assert sent(peer) == DEFAULT + 1
        peer.send_settings((INITIAL_WINDOW, len(UPLOAD)))
        while not (await peer.recv_until(DATA, stream)).end_stream:
            pass
        peer.respond(stream, b"%d" % sent(peer))

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"300000"
    outcome.quiet()


async def test_a_stream_window_alone_is_not_enough(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer, (INITIAL_WINDOW, LARGEST))
        while sent(peer) < DEFAULT:
            await peer.recv_until(DATA, stream)
        await settled(peer)
        peer.respond(stream, b"enough")
        peer.rst(stream, NO_ERROR)

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"enough"
    assert sent(outcome.first) == DEFAULT
    outcome.lives()


async def test_an_upload_that_gets_no_credit_is_given_up(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await peer.recv_until(RST_STREAM, await uploading(peer))

    outcome = await stage.play(script, impatient)
    expect_error(outcome.result, WriteTimeout, processed=None)
    assert (outcome.resets, sent(outcome.first)) == ([(1, CANCEL)], DEFAULT)
    outcome.lives()


async def test_credit_byte_by_byte_keeps_an_upload_alive(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        while sent(peer) < DEFAULT:
            await peer.recv_until(DATA, stream)
        for _ in range(200):
            peer.window_update(0, 1)
            peer.window_update(stream, 1)
            await peer.recv_until(DATA, stream)
        peer.respond(stream, b"that will do")
        peer.rst(stream, NO_ERROR)

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"that will do"
    assert sent(outcome.first) == DEFAULT + 200
    outcome.lives()


async def test_an_upload_without_credit_does_not_hold_up_its_neighbours(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        await peer.recv_until(DATA, 5)
        await settled(peer)
        peer.data(stream, b"not held up", end_stream=True)
        assert not peer.log(DATA, 5)[-1].end_stream
        peer.respond(5, b"enough")
        peer.rst(5, NO_ERROR)

    async def beside(client: HttpRequestClient, url: str) -> Response:
        response, _ = await asyncio.gather(client.request("GET", url), upload(client, url))
        return response

    outcome = await stage.attack(attack, call=beside)
    assert outcome.response.body == b"not held up"
    expect_unharmed(outcome)


async def test_credit_of_nothing_but_the_reserved_bit_ends_the_stream(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(WINDOW_UPDATE, 0, stream, b"\x80\0\0\0")

    await stage.stream_error(attack, PROTOCOL_ERROR)
