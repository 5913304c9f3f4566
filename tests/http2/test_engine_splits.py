"""However bytes are cut on their way, both engines say and send the same."""

from __future__ import annotations

import itertools

import hpack
from h2.exceptions import ProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.headers import Field
from tests.http2 import frame_factory as ff

CONFIG = Http2Config(
    max_frame_size=16_384,
    initial_stream_window=300,
    initial_connection_window=70_000,
    max_header_list_size=400,
)

streams = st.sampled_from([1, 1, 1, 3, 3, 5, 7, 2, 0])
small = st.integers(0, 40).map(lambda size: b"d" * size)
numbers = st.sampled_from([0, 1, 5, 100, 65_535, 2**31 - 1])
fields = st.lists(
    st.sampled_from(
        [
            (b"x", b"y"),
            (b"x-long", b"v" * 150),
            (b"content-length", b"40"),
            (b"content-length", b"0"),
            (b"Bad", b"x"),
            (b"date", b"today"),
        ]
    ),
    max_size=3,
)
heads: st.SearchStrategy[list[Field]] = st.builds(
    lambda status, rest: [*status, *rest],
    st.sampled_from([[ff.OK], [(b":status", b"103")], [(b":status", b"204")], []]),
    fields,
)

# What a peer does: the frame as bytes, or fields that are still to be encoded.
Action = bytes | tuple[int, list[Field], bool, int]
noise: st.SearchStrategy[list[Action]] = st.one_of(
    st.tuples(streams, heads, st.booleans(), st.integers(0, 3)),
    st.builds(lambda s, d, end: ff.data(s, d, end_stream=end), streams, small, st.booleans()),
    st.builds(lambda s, d, pad: ff.padded_data(s, d, pad), streams, small, st.integers(0, 9)),
    st.builds(ff.rst, streams, numbers),
    st.builds(ff.window_update, streams, numbers),
    st.builds(lambda pairs: ff.settings(*pairs), st.lists(st.tuples(st.integers(1, 9), numbers))),
    st.builds(ff.goaway, numbers),
    st.just(ff.ping()),
    st.just(ff.ping(ack=True)),
    st.just(ff.settings_ack()),
    st.builds(ff.frame, st.integers(0, 12), st.integers(0, 255), streams, small),
).map(lambda action: [action])


def response(
    stream: int, rest: list[Field], cuts: int, chunks: list[bytes], trailers: bool
) -> list[Action]:
    """A response that is right unless its stream has ended or its fields are wrong."""
    return [
        (stream, [ff.OK, *rest], False, cuts),
        *[ff.data(stream, chunk) for chunk in chunks],
        (stream, rest[:1], True, cuts) if trailers else ff.data(stream, end_stream=True),
    ]


responses = st.builds(
    response,
    st.sampled_from([1, 3, 5]),
    fields,
    st.integers(0, 3),
    st.lists(small, max_size=3),
    st.booleans(),
)
conversations: st.SearchStrategy[list[Action]] = st.lists(
    st.one_of(responses, noise), max_size=8
).map(lambda parts: [action for part in parts for action in part])


def encode(conversation: list[Action]) -> bytes:
    """Put actions into bytes, with one encoder, and blocks in as many pieces as they ask for."""
    encoder = hpack.Encoder()
    out = b""
    for action in conversation:
        if isinstance(action, bytes):
            out += action
            continue
        stream, block_fields, end_stream, cuts = action
        block = encoder.encode(block_fields)
        size = len(block) // (cuts + 1) + 1
        pieces = [block[at : at + size] for at in range(0, len(block), size)] or [b""]
        flags = ff.END_STREAM if end_stream else 0
        first, *rest = pieces
        out += ff.frame(ff.HEADERS, flags | (0 if rest else ff.END_HEADERS), stream, first)
        for number, piece in enumerate(rest, 1):
            out += ff.continuation(stream, piece, end=number == len(rest))
    return out


def joined(calls: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Join adjacent DATA of one stream, which may come as it arrives."""
    out: list[tuple[object, ...]] = []
    for call in calls:
        last = out[-1] if out else ("",)
        if call[0] == last[0] == "data" and call[1] == last[1] and not last[4]:
            _, stream, data, length, _ = last
            assert isinstance(data, bytes)
            assert isinstance(length, int)
            assert isinstance(call[2], bytes)
            assert isinstance(call[3], int)
            out[-1] = ("data", stream, data + call[2], length + call[3], call[4])
        else:
            out.append(call)
    return out


def outcome(engine_class: type[Engine], pieces: list[bytes]) -> tuple[object, ...]:
    """Everything that can be seen of an engine with three streams after it received ``pieces``."""
    recorder = ff.Recorder()
    engine = engine_class(CONFIG, recorder)
    engine.initiate()
    for end_stream in (True, False, True):
        engine.open_stream(ff.request(), (), end_stream)
    engine.take_output()
    error: tuple[int, str] | None = None
    for piece in pieces:
        try:
            engine.receive(piece)
        except ProtocolError as raised:
            assert error is None
            error = int(raised.error_code), str(raised)
    states = {
        stream_id: (
            stream.state_machine.state,
            stream.outbound_flow_control_window,
            stream.inbound_flow_control_window,
        )
        for stream_id, stream in engine.streams.items()
    }
    return (
        joined(recorder.calls),
        error,
        b"".join(engine.take_output()),
        states,
        engine.outbound_flow_control_window,
        engine.connection_receive_window.current_window_size,
        list(engine.decoder.header_table.dynamic_entries),
        engine.encoder.header_table_size,
    )


@settings(max_examples=400, deadline=None)
@given(conversation=conversations, cuts=st.lists(st.integers(0, 600), max_size=12))
def test_any_split_of_what_is_received_has_the_same_result(
    engine_class: type[Engine], conversation: list[Action], cuts: list[int]
) -> None:
    received = ff.settings() + encode(conversation)
    marks = sorted({0, len(received), *[cut % (len(received) + 1) for cut in cuts]})
    pieces = [received[start:end] for start, end in itertools.pairwise(marks)]
    assert outcome(engine_class, pieces) == outcome(Engine, [received])


@settings(max_examples=200, deadline=None)
@given(conversation=conversations)
def test_bytes_that_come_one_by_one_have_the_same_result(
    engine_class: type[Engine], conversation: list[Action]
) -> None:
    received = ff.settings() + encode(conversation)
    pieces = [received[at : at + 1] for at in range(len(received))]
    assert outcome(engine_class, pieces) == outcome(Engine, [received])


@settings(max_examples=400, deadline=None)
@given(
    conversation=conversations,
    damage=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=4),
)
def test_broken_bytes_end_in_a_protocol_error_or_in_nothing(
    engine_class: type[Engine], conversation: list[Action], damage: list[tuple[int, int]]
) -> None:
    received = bytearray(ff.settings() + encode(conversation))
    for place, value in damage:
        received[place % len(received)] = value
    outcome(engine_class, [bytes(received)])


def test_the_conversations_reach_every_kind_of_event() -> None:
    """The strategies above are worth their time only while they get past the first frames."""
    seen: set[object] = set()

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(conversations)
    def collect(conversation: list[Action]) -> None:
        calls, error, *_ = outcome(Engine, [ff.settings() + encode(conversation)])
        assert isinstance(calls, list)
        seen.update(call[0] for call in calls)
        seen.add("failed" if error else "went on")

    collect()
    events = {name.removeprefix("on_") for name in vars(ff.Recorder) if name.startswith("on_")}
    assert seen >= events | {"failed", "went on"}
