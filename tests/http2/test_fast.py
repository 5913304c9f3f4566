"""What the fast engine's shortcuts must not change, one trap each, and that they are taken."""

from __future__ import annotations

from collections.abc import Callable

import hpack
import pytest
from h2.exceptions import ProtocolError

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.fast import COPY_LIMIT, FastEngine
from dynamo_h2.http2.fast_outbound import JOIN_LIMIT
from dynamo_h2.http2.headers import Field, build_head
from tests.http2.frame_factory import (
    CANCEL,
    COMPRESSION_ERROR,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    MAX_LIST,
    MAX_STREAMS,
    OK,
    PING,
    PROTOCOL_ERROR,
    RST_STREAM,
    Recorder,
    Rig,
    block,
    continuation,
    data,
    frame,
    headers,
    parse,
    ping,
    request,
    settings,
    settings_ack,
    window_update,
)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rig, "engine_class", FastEngine)


@pytest.fixture
def detours(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of the stock engine."""
    calls: list[str] = []

    def watch(name: str) -> None:
        stock = getattr(Engine, name)

        def watched(*args: object, **named: object) -> object:
            calls.append(name)
            return stock(*args, **named)

        monkeypatch.setattr(Engine, name, watched)

    for name in ("receive", "open_stream", "send_request", "send_body"):
        watch(name)
    return calls


# The shortcuts are taken


def test_a_request_and_a_response_that_are_plain_take_no_detour(detours: list[str]) -> None:
    rig = Rig(streams=1)
    rig.feed(headers(1, OK, end_stream=True))
    detours.clear()
    rig.engine.send_request(request("POST"), (), b"body")
    rig.engine.open_stream(request(), (), end_stream=True)
    rig.engine.open_stream(request(), (), end_stream=False)
    rig.engine.send_body(7, b"body", end_stream=True)
    rig.feed(
        *(headers(3, OK), data(3, b"1"), data(3, b"2", end_stream=True)),
        *(headers(5, OK, end_stream=True), window_update(0, 1), window_update(7, 1)),
        *(headers(7, OK), data(7, b"in parts")[:12]),
    )
    rig.feed(data(7, b"in parts")[12:])
    assert detours == []


def test_the_beginning_of_a_connection_takes_no_detour(detours: list[str]) -> None:
    recorder = Recorder()
    engine = FastEngine(Http2Config(), recorder)
    engine.initiate()
    assert engine.send_request(request("POST"), (), b"body") == 1
    limits = ((MAX_STREAMS, 7), (INITIAL_WINDOW, 70_000), (MAX_FRAME, 20_000), (MAX_LIST, 9))
    engine.receive(settings(*limits) + settings_ack() + headers(1, OK, end_stream=True))
    assert detours == []
    assert [call[0] for call in recorder.calls] == ["settings", "settings_ack", "head"]
    assert dict(engine.remote_settings) == {1: 4096, 2: 0, 3: 7, 4: 70_000, 5: 20_000, 6: 9, 8: 0}


@pytest.mark.parametrize("cut", range(1, 9))
def test_data_whose_header_came_in_parts_is_delivered_as_it_arrives(cut: int) -> None:
    rig = Rig(streams=1)
    rig.feed(headers(1, OK))
    body = data(1, b"0123456789", end_stream=True)
    assert rig.feed(body[:cut]) == []
    assert rig.feed(body[cut:12]) == [("data", 1, b"012", 3, False)]
    assert rig.feed(body[12:]) == [("data", 1, b"3456789", 7, True)]


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_header_in_parts_between_those_of_a_field_block_is_not_taken_out(cut: int) -> None:
    rig = Rig(streams=1)
    fields = block(OK, (b"x-model", b"large"))
    first, second = frame(HEADERS, 0, 1, fields[:4]), continuation(1, fields[4:])
    assert rig.feed(first + second[:cut]) == []
    assert [call[:2] for call in rig.feed(second[cut:])] == [("head", 1)]


class Impatient(Recorder):
    """Does something as soon as a piece of a body comes."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act

    def on_data(
        self, stream_id: int, data: bytes | memoryview, flow_length: int, end_stream: bool
    ) -> None:
        super().on_data(stream_id, data, flow_length, end_stream)
        self._act()


def impatient(act: Callable[[FastEngine], None]) -> tuple[FastEngine, Impatient]:
    """An engine with a response under way, whose receiver acts at the first piece of its body."""
    recorder = Impatient(lambda: act(engine))
    engine = FastEngine(Http2Config(), recorder)
    engine.initiate()
    engine.receive(settings() + settings_ack())
    engine.open_stream(request(), (), end_stream=True)
    engine.receive(headers(1, OK))
    engine.take_output()
    recorder.calls.clear()
    return engine, recorder


def test_a_stream_may_be_reset_while_a_part_of_its_frame_is_delivered() -> None:
    engine, recorder = impatient(lambda engine: engine.reset(1, CANCEL))
    body = data(1, b"0123456789", end_stream=True)
    engine.receive(body[:12])
    engine.receive(body[12:15])
    engine.receive(body[15:] + ping())
    assert recorder.calls == [
        ("data", 1, b"012", 3, False),
        ("late_data", 3),
        ("late_data", 4),
        ("ping",),
    ]
    assert [sent.kind for sent in parse(b"".join(engine.take_output()))] == [RST_STREAM, PING]


def test_a_receiver_may_end_the_connection_while_a_part_of_a_frame_is_delivered() -> None:
    def give_up(_engine: FastEngine) -> None:
        raise ProtocolError("enough")

    engine, recorder = impatient(give_up)
    body = data(1, b"0123456789", end_stream=True)
    with pytest.raises(ProtocolError, match="enough"):
        engine.receive(body[:12])
    engine.receive(body[12:])
    assert engine.failed
    assert recorder.calls == [("data", 1, b"012", 3, False)]
    assert [sent.kind for sent in parse(b"".join(engine.take_output()))] == [GOAWAY]


def test_a_small_request_is_one_buffer() -> None:
    rig = Rig(streams=1)
    rig.engine.send_request(request("POST"), ((b"content-length", b"4"),), b"body")
    (buffer,) = rig.engine.take_output()
    head, body = parse(bytes(buffer))
    assert (head.kind, head.flags, head.stream) == (HEADERS, END_HEADERS, 3)
    assert (body.kind, body.flags, body.stream) == (DATA, END_STREAM, 3)
    assert body.payload == b"body"


def test_a_large_body_is_not_copied() -> None:
    rig = Rig(streams=1)
    body = bytes(JOIN_LIMIT + 1)
    rig.engine.send_request(request("POST"), (), body)
    assert any(buffer is body for buffer in rig.engine.take_output())


def test_a_large_payload_is_a_view_of_the_read_and_a_small_one_is_not() -> None:
    kinds: list[type] = []

    class Looking(Recorder):
        def on_data(
            self, stream_id: int, data: bytes | memoryview, flow_length: int, end_stream: bool
        ) -> None:
            kinds.append(type(data))

    engine = FastEngine(Http2Config(), Looking())
    engine.initiate()
    engine.receive(settings())
    engine.open_stream(request(), (), end_stream=True)
    engine.receive(headers(1, OK))
    engine.receive(memoryview(data(1, bytes(COPY_LIMIT)) + data(1, bytes(COPY_LIMIT + 1))))
    assert kinds == [bytes, memoryview]


@pytest.mark.parametrize("huffman", [False, True])
def test_a_head_is_encoded_once_for_all_connections(huffman: bool) -> None:
    head = build_head("GET", "http", "worker", "/", ())
    blocks = []
    for _ in range(2):
        engine = FastEngine(Http2Config(huffman=huffman), Recorder())
        engine.initiate()
        engine.open_stream(head, (), end_stream=True)
        blocks.append(head.blocks[huffman])
        assert bytes(engine.output[-1]).endswith(blocks[-1])
    assert blocks[0] is blocks[1]
    assert list(head.blocks) == [huffman]


# Heads that were seen before


def test_a_known_head_is_too_long_once_the_limit_is_lowered() -> None:
    rig = Rig(streams=2)
    head = OK, (b"x-long", b"v" * 100)
    rig.feed(headers(1, *head))
    assert rig.engine.change_settings({MAX_LIST: 60})
    rig.feed(settings_ack())
    rig.sent()
    assert rig.stream_error(headers(3, *head), stream=3) == PROTOCOL_ERROR


def test_a_known_head_is_wrong_while_the_peer_owes_a_table_size_update() -> None:
    rig = Rig(streams=2)
    rig.feed(headers(1, OK))
    assert rig.engine.change_settings({HEADER_TABLE_SIZE: 100})
    rig.feed(settings_ack())
    assert rig.connection_error(headers(3, OK)) == COMPRESSION_ERROR


def test_a_known_head_means_something_else_after_each_insertion() -> None:
    rig = Rig(streams=4)
    encoder = hpack.Encoder()
    newest = b"\x88\xbe"

    def insert(stream: int, value: bytes) -> None:
        fields = encoder.encode([(b":status", b"200"), (b"x", value)])
        rig.feed(frame(HEADERS, END_HEADERS | END_STREAM, stream, fields))

    insert(1, b"1")
    assert rig.feed(frame(HEADERS, END_HEADERS, 3, newest))[0][3] == [(b"x", b"1")]
    insert(5, b"2")
    assert rig.feed(frame(HEADERS, END_HEADERS, 7, newest))[0][3] == [(b"x", b"2")]


def test_a_known_head_is_held_to_the_method_and_the_state_of_its_stream() -> None:
    rig = Rig(streams=2)
    head = OK, (b"content-length", b"5")
    rig.open("HEAD")
    rig.feed(headers(1, *head))
    assert rig.feed(headers(5, *head, end_stream=True))[0][0] == "head"
    assert rig.feed(headers(3, *head, end_stream=True))[0][0] == "stream_error"
    assert rig.feed(headers(1, *head))[0][0] == "stream_error"


# Table size updates (RFC 7541 §4.2)

SECRET: Field = (b"authorization", b"secret")


def blocks(rig: Rig) -> list[bytes]:
    return [sent.payload for sent in rig.sent() if sent.kind == HEADERS]


def test_no_request_is_sent_from_memory_while_a_table_size_update_is_owed() -> None:
    rig = Rig(streams=2)
    for size, update in ((0, b"\x20"), (1024, b"\x3f\xe1\x07")):
        rig.feed(settings((HEADER_TABLE_SIZE, size)))
        for _ in range(2):
            rig.open("GET", SECRET)
        first, second = blocks(rig)
        assert first.startswith(update)
        assert second[0] & 0xE0 != 0x20


def test_a_table_that_is_changed_before_the_first_request_is_signalled_with_it() -> None:
    rig = Rig(pairs=((HEADER_TABLE_SIZE, 0), (HEADER_TABLE_SIZE, 4096)))
    for _ in range(2):
        rig.open("GET", SECRET)
    decoder = hpack.Decoder()
    first, second = blocks(rig)
    assert first.startswith(b"\x20\x3f\xe1\x1f")
    for payload in (first, second):
        fields = list(decoder.decode(payload, raw=True))
        assert [tuple(field) for field in fields] == [*GET, SECRET]
        assert not fields[-1].indexable


# Reads that end anywhere


def test_an_empty_read_inside_data_says_nothing() -> None:
    rig = Rig(streams=1)
    rig.feed(headers(1, OK))
    assert rig.feed(data(1, b"12345")[:11]) == [("data", 1, b"12", 2, False)]
    assert rig.feed(b"") == []
    assert rig.feed(data(1, b"12345")[11:]) == [("data", 1, b"345", 3, False)]


def test_the_rest_of_a_frame_is_late_once_its_stream_is_reset() -> None:
    rig = Rig(streams=1)
    rig.feed(headers(1, OK))
    window = rig.engine.connection_receive_window.current_window_size
    rig.feed(data(1, b"12345", end_stream=True)[:11])
    rig.engine.reset(1, CANCEL)
    assert rig.feed(data(1, b"12345")[11:], ping()) == [("late_data", 3), ("ping",)]
    assert rig.engine.connection_receive_window.current_window_size == window - 5


def test_a_frame_that_breaks_a_window_delivers_not_one_byte() -> None:
    rig = Rig(Http2Config(initial_stream_window=4), streams=1)
    rig.feed(headers(1, OK))
    assert rig.feed(data(1, b"12345")[:13]) == []
    (late, error) = rig.feed(data(1, b"12345")[13:])
    assert late == ("late_data", 5)
    assert error[:2] == ("stream_error", 1)
