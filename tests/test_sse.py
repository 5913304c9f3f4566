"""Lines and server-sent events out of bytes, however these are cut."""

from __future__ import annotations

import codecs
import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynamo_h2.errors import ResponseTooLarge
from dynamo_h2.sse import LineDecoder, ServerSentEvent, SseDecoder


def event(
    data: str, *, kind: str = "message", last_id: str = "", retry: int | None = None
) -> ServerSentEvent:
    return ServerSentEvent(kind, data, last_id, retry)


def events_of(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut ``data`` at these places, wherever they fall."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


# Events: the examples of the WHATWG page and its rules, one by one


def test_data_lines_are_joined() -> None:
    assert events_of(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [event("YHOO\n+2\n10")]


def test_comments_ids_and_leading_spaces_follow_the_rules() -> None:
    stream = b": test stream\n\ndata: first event\nid: 1\n\n"
    stream += b"data:second event\nid\n\ndata:  third event\n"
    decoder = SseDecoder()
    assert decoder.feed(stream) == [event("first event", last_id="1"), event("second event")]
    assert decoder.finish() == []


def test_an_event_may_have_empty_data_but_not_none() -> None:
    stream = b"data\n\ndata\ndata\n\ndata:"
    assert events_of(stream) == [event(""), event("\n")]
    assert events_of(b"event: ping\nid: 1\n\n\n\n") == []


def test_one_space_after_the_colon_is_left_out() -> None:
    assert events_of(b"data:test\n\ndata: test\n\n") == [event("test"), event("test")]
    assert events_of(b"data:\ttest \n\n") == [event("\ttest ")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_one(end: bytes) -> None:
    stream = end.join([b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""])
    assert events_of(stream) == [event("1\n2", kind="a"), event("3")]


def test_line_ends_may_be_mixed() -> None:
    assert events_of(b"data: 1\rdata: 2\r\ndata: 3\n\r") == [event("1\n2\n3")]
    assert events_of(b"data: 1\r\r\n") == [event("1")]


def test_an_event_is_given_out_at_a_cr_without_waiting_for_a_lf() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\r\r") == [event("1")]
    assert decoder.feed(b"\ndata: 2\r\n\r") == [event("2")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n\n") == []


def test_a_byte_order_mark_is_left_out_at_the_start_only() -> None:
    bom = codecs.BOM_UTF8
    assert events_of(bom + b"data: 1\n\n" + bom + b"data: 2\n\n") == [event("1")]
    assert events_of(*(bytes([byte]) for byte in bom + b"data: 1\n\n")) == [event("1")]
    assert events_of(bom + bom + b"data: 1\n\n") == []
    assert events_of(b"\n" + bom + b"data: 1\n\n") == []
    assert events_of(bom + b"\ndata: 1\n\n") == [event("1")]


def test_the_type_lasts_for_one_event() -> None:
    stream = (
        b"event: add\ndata: 1\n\ndata: 2\n\nevent: x\n\ndata: 3\n\nevent: a\nevent:\ndata: 4\n\n"
    )
    assert events_of(stream) == [event("1", kind="add"), event("2"), event("3"), event("4")]


def test_the_last_event_id_stays_until_another_is_set() -> None:
    decoder = SseDecoder()
    events = decoder.feed(b"id: 7\ndata: 1\n\ndata: 2\n\nid: 8\n\ndata: 3\n\nid\ndata: 4\n\n")
    assert [event.id for event in events] == ["7", "7", "8", ""]
    decoder.feed(b"id: 9\n")
    assert decoder.last_event_id == "9"


def test_an_id_with_nul_is_ignored() -> None:
    assert events_of(b"id: 1\nid: 2\0\ndata: x\n\n") == [event("x", last_id="1")]


@pytest.mark.parametrize(
    ("value", "retry"),
    [
        (b"1500", 1500),
        (b"007", 7),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"1 ", None),
        (b" 1", None),
        (b"\xd9\xa1", None),
        (b"\xc2\xb2", None),
        (b"9" * 5000, None),
    ],
)
def test_a_retry_is_ascii_digits(value: bytes, retry: int | None) -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"retry: " + value + b"\ndata: x\n\n") == [event("x", retry=retry)]
    assert decoder.retry == retry


def test_a_retry_belongs_to_its_event_and_stays_with_the_stream() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"retry: 5\n\ndata: 1\n\n") == [event("1")]
    assert decoder.retry == 5


def test_unknown_fields_comments_and_wrong_case_are_ignored() -> None:
    assert events_of(b"foo: bar\n:data: 1\nData: 2\n data: 3\ndata : 4\nid2: 5\n\n") == []


def test_an_event_without_its_blank_line_is_discarded() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\n\ndata: 2\n") == [event("1")]
    assert decoder.finish() == []


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    assert events_of(b"data: a\xffb\xe2\x82\n\n") == [event("a\ufffdb\ufffd")]


def test_characters_that_only_python_takes_for_line_ends_are_data() -> None:
    text = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g"
    assert events_of(f"data: {text}\n\n".encode()) == [event(text)]


# Any cut gives the same

stream_pieces = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b":",
        b": ",
        b"data",
        b"data: x",
        b"event: e",
        b"id: 1",
        b"id: \x00",
        b"retry: 9",
        codecs.BOM_UTF8,
        "é€😀".encode(),
        b"\xe2\x82",
        b"\xff",
    ]
)
streams = st.lists(stream_pieces | st.binary(max_size=4), max_size=30).map(b"".join)
cut_places = st.lists(st.integers(0, 500), max_size=20)


@settings(max_examples=500)
@given(streams, cut_places)
@example(b"data: 1\r\n\r\n", [8, 10])
def test_every_cut_of_a_stream_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    assert events_of(*cut(stream, cuts)) == events_of(stream)
    assert events_of(*(bytes([byte]) for byte in stream)) == events_of(stream)


@settings(max_examples=500)
@given(streams)
def test_events_are_those_of_a_decoder_that_sees_all_at_once(stream: bytes) -> None:
    assert events_of(stream) == reference(stream)


def reference(stream: bytes) -> list[ServerSentEvent]:
    """Decode a whole stream as the WHATWG page tells it, step by step."""
    text = stream.decode("utf-8-sig", "replace")
    *lines, _incomplete = re.split("\r\n|\r|\n", text)
    found = []
    data, kind, last_id, retry = "", "", "", None
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append(ServerSentEvent(kind or "message", data[:-1], last_id, retry))
            data, kind, retry = "", "", None
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            kind = value
        elif field == "id" and "\0" not in value:
            last_id = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return found


event_text = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)
written = st.builds(
    ServerSentEvent,
    event=event_text.filter(bool),
    data=st.lists(event_text, min_size=1, max_size=4).map("\n".join),
    id=event_text,
    retry=st.none() | st.integers(0, 10**9),
)


@settings(max_examples=300)
@given(st.lists(written, max_size=5), st.sampled_from(["\n", "\r", "\r\n"]), cut_places)
def test_what_a_server_writes_is_what_comes_out(
    events: list[ServerSentEvent], end: str, cuts: list[int]
) -> None:
    stream = "".join(serialised(event, end) for event in events).encode()
    assert events_of(*cut(stream, cuts)) == events


def serialised(event: ServerSentEvent, end: str) -> str:
    lines = [f"event: {event.event}", f"id: {event.id}"]
    lines += [f"data: {line}" for line in event.data.split("\n")]
    if event.retry is not None:
        lines.append(f"retry: {event.retry}")
    return "".join(line + end for line in [*lines, ""])


# Bounds


def test_a_line_may_be_as_long_as_the_limit() -> None:
    decoder = SseDecoder(max_size=8)
    assert decoder.feed(b"data: 12\n\n") == [event("12")]
    with pytest.raises(ResponseTooLarge, match="a line of the response is over 8 bytes"):
        decoder.feed(b"data: 123\n\n")


def test_a_line_that_does_not_end_is_an_error_before_it_does() -> None:
    decoder = SseDecoder(max_size=8)
    assert decoder.feed(b":" * 8) == []
    with pytest.raises(ResponseTooLarge):
        decoder.feed(b":")


def test_the_data_of_an_event_may_be_as_long_as_the_limit() -> None:
    decoder = SseDecoder(max_size=8)
    assert decoder.feed(b"data:12\ndata:34\ndata:56\n\n") == [event("12\n34\n56")]
    with pytest.raises(ResponseTooLarge, match="server-sent event is over 8 characters"):
        decoder.feed(b"data:12\ndata:34\ndata:567\n\n")


def test_many_lines_without_data_do_not_add_up() -> None:
    decoder = SseDecoder(max_size=8)
    assert decoder.feed(b": ping\n" * 1000 + b"data:\n\n") == [event("")]


def test_data_lines_that_are_empty_add_up_too() -> None:
    decoder = SseDecoder(max_size=8)
    with pytest.raises(ResponseTooLarge):
        decoder.feed(b"data\n" * 10)


@pytest.mark.parametrize("bad", [b":12345678\n", b":12345678", b"data:12\n" * 4])
def test_events_before_an_error_come_out_before_it(bad: bytes) -> None:
    decoder = SseDecoder(max_size=8)
    assert decoder.feed(b"data: 1\n\n" + bad + b"\ndata: 2\n\n") == [event("1")]
    assert isinstance(decoder.error, ResponseTooLarge)
    for data in (b"", b"data: 3\n\n"):
        with pytest.raises(ResponseTooLarge) as caught:
            decoder.feed(data)
        assert caught.value is decoder.error
    with pytest.raises(ResponseTooLarge):
        decoder.finish()


def test_the_error_says_that_the_peer_did_act() -> None:
    with pytest.raises(ResponseTooLarge) as caught:
        LineDecoder(max_size=1).feed(b"ab")
    assert caught.value.processed is True


@settings(max_examples=300)
@given(streams, cut_places, st.integers(1, 12))
def test_every_cut_gives_the_same_events_and_the_same_error(
    stream: bytes, cuts: list[int], limit: int
) -> None:
    results = [until_error(pieces, limit) for pieces in ([stream], cut(stream, cuts))]
    assert results[0] == results[1]


def until_error(pieces: list[bytes], limit: int) -> tuple[list[ServerSentEvent], str]:
    decoder = SseDecoder(max_size=limit)
    found = []
    try:
        for piece in pieces:
            found += decoder.feed(piece)
        found += decoder.finish()
    except ResponseTooLarge as error:
        return found, str(error)
    return found, ""


# Lines


def test_lines_end_at_lf_cr_and_cr_lf_and_nowhere_else() -> None:
    decoder = LineDecoder()
    assert decoder.feed(b"a\nb\r\nc\rd\x0be\xc2\x85f\n\n\r") == [
        "a",
        "b",
        "c",
        "d\x0be\x85f",
        "",
        "",
    ]
    assert decoder.finish() == []


def test_the_last_line_needs_no_end() -> None:
    decoder = LineDecoder()
    assert decoder.feed(b"a\nb") == ["a"]
    assert decoder.feed(b"c") == []
    assert decoder.finish() == ["bc"]
    assert decoder.finish() == []


def test_a_character_may_be_cut() -> None:
    decoder = LineDecoder()
    assert decoder.feed(b"\xe2\x82") == []
    assert decoder.feed(b"\xac\n") == ["€"]
    decoder.feed(b"\xe2\x82")
    assert decoder.finish() == ["\ufffd"]


@settings(max_examples=300)
@given(streams, cut_places)
def test_every_cut_gives_the_same_lines(stream: bytes, cuts: list[int]) -> None:
    decoder = LineDecoder()
    lines = [line for piece in cut(stream, cuts) for line in decoder.feed(piece)]
    expected = re.split("\r\n|\r|\n", stream.decode("utf-8", "replace"))
    assert lines + decoder.finish() == (expected if expected[-1] else expected[:-1])
