"""Whose bytes go out next on a connection: urgent ones, and what no body may hold up."""

from __future__ import annotations

import random

import pytest

from dynamo_h2.http2.request import Request
from dynamo_h2.http2.stream import Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import Link, body, ended, kinds
from tests.http2.test_connection_uploads import KIB, MIB, fast_peer, half

pytestmark = pytest.mark.usefixtures("each_engine")


def urgent(link: Link, urgency: int, size: int) -> Stream:
    """A request whose body is too long to go with its head."""
    request = Request(ff.request("POST"), (), bytes(size))
    request.urgency = urgency
    return link.connection.open_stream(request, link.now)


def streams(frames: list[ff.Sent]) -> list[int]:
    """The streams of the DATA frames, each turn once."""
    turns: list[int] = []
    for frame in frames:
        if frame.kind == ff.DATA and turns[-1:] != [frame.stream]:
            turns.append(frame.stream)
    return turns


def test_bodies_go_out_in_the_order_of_their_urgency() -> None:
    link = fast_peer()
    for urgency in (7, 3, 0, 3):
        urgent(link, urgency, 100 * KIB)
    assert streams(link.sent()) == [5, 3, 7, 3, 7, 1]


def test_an_urgent_request_waits_for_none_of_eight_uploads() -> None:
    link = fast_peer()
    for _ in range(8):
        link.open(bytes(8 * MIB))
    link.flush(MIB)
    first = urgent(link, 0, 200 * KIB)
    assert streams(link.sent(MIB))[0] == first.stream_id
    assert half(first).finished


def test_a_cancelled_upload_takes_its_turn_with_it() -> None:
    link = fast_peer()
    first, second = urgent(link, 1, MIB), urgent(link, 5, MIB)
    link.flush(64 * KIB)
    link.connection.cancel(first, link.now)
    frames = link.sent(MIB)
    assert streams(frames) == [second.stream_id]
    assert kinds(frames)[0] == (ff.RST_STREAM, first.stream_id)


def test_every_control_frame_passes_the_bodies() -> None:
    link = fast_peer()
    link.open(bytes(MIB))
    reader = link.open(method="GET")
    ours = link.open(bytes(MIB))
    link.flush(64 * KIB)
    link.feed(
        ff.ping(),
        ff.settings((ff.MAX_FRAME, 20_000)),
        ff.headers(reader.stream_id, ff.OK),
        *(ff.data(reader.stream_id, bytes(16 * KIB)) for _ in range(255)),
    )
    while reader.read():
        pass
    link.connection.cancel(ours, link.now)
    first = [frame.kind for frame in link.sent(MIB)]
    control = first[: first.index(ff.DATA)]
    assert set(control) == {ff.PING, ff.SETTINGS, ff.WINDOW_UPDATE, ff.RST_STREAM}
    assert set(first[len(control) :]) == {ff.DATA}


def test_a_body_of_noise_survives_windows_that_go_up_and_down() -> None:
    """Windows below zero, above everything, and frames of every size, in an order of chance."""
    chance = random.Random(1)
    link = Link()
    bodies = [chance.randbytes(chance.randrange(1, MIB)) for _ in range(4)]
    opened = [link.open(data) for data in bodies]
    frames: list[ff.Sent] = []
    for _ in range(500):
        frames += link.sent(chance.choice([1, 10_000, MIB]))
        window = chance.choice([0, 1, 65_535, chance.randrange(1 << 20)])
        size = chance.randrange(16_384, 100_000)
        link.feed(ff.settings((ff.INITIAL_WINDOW, window), (ff.MAX_FRAME, size)))
        frames += link.sent(0)
        link.feed(ff.window_update(0, chance.randrange(1, 20_000)))
        for stream in opened:
            if not half(stream).finished and chance.random() < 0.5:
                link.feed(ff.window_update(stream.stream_id, chance.randrange(1, 20_000)))
        link.wait(1)  # SETTINGS come slowly enough to be no attack
        frames += link.sent()
    assert [body(frames, stream.stream_id) for stream in opened] == bodies
    assert all(ended(frames, stream.stream_id) for stream in opened)
