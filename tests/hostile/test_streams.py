"""Frames on streams that are idle, half closed or closed (RFC 9113 §5.1)."""

from __future__ import annotations

from dynamo_h2 import RemoteProtocolError, Response
from tests.hostile.stage import (
    NEIGHBOUR,
    VICTIM,
    Outcome,
    Stage,
    expect_goaway,
    expect_unharmed,
    leave,
    upload,
    uploading,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    CANCEL,
    FRAME_SIZE_ERROR,
    OK,
    PROTOCOL_ERROR,
    RST_STREAM,
    STREAM_CLOSED,
    WINDOW_UPDATE,
)
from tests.peers.scripted import Connection

IDLE, SERVERS_OWN = 5, 2
WHOLE = (b"content-length", b"5")


def whole(stream: int) -> bytes:
    """A whole response."""
    return frames.headers(stream, OK, WHOLE) + frames.data(stream, b"whole", end_stream=True)


# Idle


async def test_data_on_an_idle_stream_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.data(IDLE, b"early"), PROTOCOL_ERROR)


async def test_headers_on_an_idle_stream_end_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.headers(IDLE, [OK]), PROTOCOL_ERROR)


async def test_rst_stream_on_an_idle_stream_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.rst(IDLE, CANCEL), PROTOCOL_ERROR)


async def test_window_update_on_an_idle_stream_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.window_update(IDLE, 1), PROTOCOL_ERROR)


async def test_continuation_on_an_idle_stream_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.raw(frames.continuation(IDLE, frames.block(OK)))

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_a_stream_that_the_server_opens_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.headers(SERVERS_OWN, frames.GET, end_stream=True)

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_data_on_a_stream_of_the_server_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.data(SERVERS_OWN, b"x"), PROTOCOL_ERROR)


async def test_rst_stream_on_a_stream_of_the_server_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.rst(SERVERS_OWN, CANCEL), PROTOCOL_ERROR)


# Closed by END_STREAM: what was complete before stays complete


def expect_delivered(outcome: Outcome) -> None:
    """The response before the broken rule counts; who waited still gets the error."""
    assert outcome.response.body == b"whole"
    error = outcome.neighbour
    assert type(error) is RemoteProtocolError
    assert (error.code, error.processed, error.stream_id) == (STREAM_CLOSED, None, NEIGHBOUR)
    expect_goaway(outcome, STREAM_CLOSED)


async def test_data_after_the_end_ends_the_connection_and_spares_the_response(
    stage: Stage,
) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(whole(stream) + frames.data(stream, b"more"))

    expect_delivered(await stage.attack(attack))


async def test_data_without_a_byte_after_the_end_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(whole(stream) + frames.data(stream, b"", end_stream=True))

    expect_delivered(await stage.attack(attack))


async def test_headers_after_the_end_end_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(whole(stream) + frames.headers(stream, (b"x", b"trailer"), end_stream=True))

    expect_delivered(await stage.attack(attack))


async def test_data_after_trailers_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        answer = frames.headers(stream, OK) + frames.data(stream, b"whole")
        answer += frames.headers(stream, (b"x", b"trailer"), end_stream=True)
        peer.raw(answer + frames.data(stream, b"more"))

    expect_delivered(await stage.attack(attack))


async def test_frames_that_may_cross_the_end_are_let_pass(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        late = frames.window_update(stream, 1) + frames.rst(stream) + frames.rst(stream, 0)
        peer.raw(whole(stream) + late + frames.frame(frames.PRIORITY, 0, stream, bytes(5)))

    assert (await stage.accepted(attack)).body == b"whole"


async def test_priority_of_a_wrong_length_after_the_end_is_let_pass(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(whole(stream) + frames.frame(frames.PRIORITY, 0, stream, bytes(4)))

    assert (await stage.accepted(attack)).body == b"whole"


async def test_rst_stream_of_a_wrong_length_after_the_end_ends_the_connection(
    stage: Stage,
) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(whole(stream) + frames.frame(RST_STREAM, 0, stream, bytes(3)))

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"whole"
    assert isinstance(outcome.neighbour, RemoteProtocolError)
    expect_goaway(outcome, FRAME_SIZE_ERROR)


async def test_even_a_wrong_window_update_after_the_end_is_let_pass(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(whole(stream) + frames.window_update(stream, 0))
        peer.window_update(stream, 2**31 - 1)

    assert (await stage.accepted(attack)).body == b"whole"


# Half closed: the response is over, the body still goes out


async def test_data_after_the_end_of_an_early_response_ends_only_the_upload(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        peer.raw(whole(stream) + frames.data(stream, b"more"))

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"whole"
    assert outcome.resets == [(1, STREAM_CLOSED)]
    outcome.lives()


async def test_headers_after_the_end_of_an_early_response_end_only_the_upload(
    stage: Stage,
) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        peer.raw(whole(stream) + frames.headers(stream, OK))

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"whole"
    assert outcome.resets == [(1, STREAM_CLOSED)]
    outcome.lives()


async def test_a_bad_window_update_after_an_early_response_ends_only_the_upload(
    stage: Stage,
) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        peer.raw(whole(stream) + frames.window_update(stream, 0))

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"whole"
    assert outcome.resets == [(1, PROTOCOL_ERROR)]
    outcome.lives()


async def test_an_upload_goes_on_behind_its_early_response(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        peer.raw(whole(stream))
        peer.window_update(0, 2**20)
        peer.window_update(stream, 2**20)
        while not (await peer.recv_until(frames.DATA, stream)).end_stream:
            pass

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"whole"
    assert sum(frame.length for frame in outcome.first.log(frames.DATA)) == 300_000
    outcome.quiet()


# Closed by the peer's own RST_STREAM


async def test_data_after_the_peers_own_reset_is_ignored(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.rst(stream, CANCEL))
        peer.data(stream, b"after all", end_stream=True)

    await stage.peer_reset(attack, CANCEL)


async def test_headers_after_the_peers_own_reset_are_decoded_and_ignored(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.rst(stream, CANCEL)
        peer.headers(stream, [OK, (b"x-entered", b"into the table")], end_stream=True)

    await stage.peer_reset(attack, CANCEL)


async def test_continuation_after_the_peers_own_reset_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.rst(stream) + frames.continuation(stream, frames.block(OK)))

    outcome = await stage.attack(attack)
    assert not isinstance(outcome.result, Response)
    assert isinstance(outcome.neighbour, RemoteProtocolError)
    expect_goaway(outcome, PROTOCOL_ERROR)


# Closed by our RST_STREAM: anything may still be on its way


async def test_whatever_crosses_our_reset_is_ignored(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await peer.recv_until(RST_STREAM, stream)
        for _ in range(20):
            peer.data(stream, bytes(1000))
        peer.window_update(stream, 1)
        peer.headers(stream, [(b"x-entered", b"into the table")], end_stream=True)
        peer.rst(stream, CANCEL)

    outcome = await stage.attack(attack, call=leave)
    assert outcome.result == 200
    assert outcome.resets == [(VICTIM, CANCEL)]
    expect_unharmed(outcome)


async def test_a_malformed_message_that_crosses_our_reset_is_ignored(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await peer.recv_until(RST_STREAM, stream)
        peer.headers(stream, [OK, (b"Upper", b"case"), (b":path", b"/")])
        peer.data(stream, b"too much")
        peer.headers(stream, [])

    outcome = await stage.attack(attack, call=leave)
    assert outcome.resets == [(VICTIM, CANCEL)]
    expect_unharmed(outcome)


async def test_the_credit_of_data_that_crosses_our_reset_comes_back(stage: Stage) -> None:
    late = 200_000

    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await peer.recv_until(RST_STREAM, stream)
        granted = _granted(peer)
        for _ in range(10):
            peer.data(stream, bytes(late // 10))
        while _granted(peer) < granted + late:
            await peer.recv_until(WINDOW_UPDATE, 0)

    outcome = await stage.attack(
        attack, call=leave, max_frame_size=20_000, initial_connection_window=100_000
    )
    expect_unharmed(outcome)


def _granted(peer: Connection) -> int:
    """The connection credit that the client has granted, in bytes."""
    return sum(frame.increment for frame in peer.log(WINDOW_UPDATE, 0))
