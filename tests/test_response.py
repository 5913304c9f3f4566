"""Header fields, responses in memory, and responses that are read as they arrive."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import pytest
from hpack import HeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.errors import Overloaded, ReadTimeout, ResponseTooLarge, StatusError
from dynamo_h2.response import Attempt, Headers, Response, StreamResponse
from dynamo_h2.sse import ServerSentEvent

T = TypeVar("T")

FIELDS = (
    (b"content-type", b"text/plain"),
    (b"via", b"one"),
    (b"set-cookie", b"a=1; Expires=Tue, 15 Nov 1994 08:12:31 GMT"),
    (b"via", b"two"),
    (b"set-cookie", b"b=2"),
)


class Pieces:
    """A body that arrives in these pieces, ending in trailers or in an error."""

    def __init__(
        self,
        *pieces: bytes,
        trailers: tuple[tuple[bytes, bytes], ...] = (),
        error: Exception | None = None,
    ) -> None:
        self.pieces = list(pieces)
        self.ended = False
        self.cancelled = False
        self._trailers = trailers
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def read(self) -> bytes:
        assert not self.cancelled
        if self.pieces:
            return self.pieces.pop(0)
        if self._error is not None:
            raise self._error
        self.ended = True
        return b""

    def cancel(self) -> None:
        self.cancelled = True

    @property
    def trailers(self) -> Headers:
        return Headers(self._trailers if self.ended else ())


def streamed(reader: Pieces, *, max_size: int = 1000, status: int = 200) -> StreamResponse:
    attempts = (Attempt("http://worker:1", 7, None, 0.5),)
    return StreamResponse(status, Headers(), reader, max_size=max_size, attempts=attempts)


def buffered(body: bytes = b"", *, content_type: str | None = None, status: int = 200) -> Response:
    fields = [] if content_type is None else [(b"content-type", content_type.encode())]
    return Response(status, Headers(fields), body)


async def collect(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


# Headers


def test_names_are_found_whatever_their_case() -> None:
    headers = Headers(FIELDS)
    assert headers["Content-Type"] == headers["content-type"] == "text/plain"
    assert "VIA" in headers
    assert "x" not in headers
    assert 7 not in headers  # type: ignore[comparison-overlap]
    assert headers.get("x") is None
    with pytest.raises(KeyError):
        headers["x"]


def test_the_values_of_a_name_are_joined_except_cookies() -> None:
    headers = Headers(FIELDS)
    assert headers["via"] == "one, two"
    assert headers["Set-Cookie"] == "a=1; Expires=Tue, 15 Nov 1994 08:12:31 GMT"
    assert headers.get_list("SET-COOKIE") == [headers["set-cookie"], "b=2"]
    assert headers.get_list("x") == []


def test_all_fields_are_kept_in_their_order() -> None:
    headers = Headers(iter(FIELDS))
    assert headers.raw == FIELDS
    assert headers.multi_items() == [(n.decode(), v.decode()) for n, v in FIELDS]
    assert list(headers) == ["content-type", "via", "set-cookie"]
    assert len(headers) == 3
    assert dict(headers)["via"] == "one, two"
    assert isinstance(headers, Mapping)


def test_values_lose_nothing() -> None:
    value = bytes(range(0x80, 0x100))
    assert Headers([(b"x", value)])["x"].encode("latin-1") == value


def test_what_get_list_returns_can_be_changed_without_harm() -> None:
    headers = Headers(FIELDS)
    headers.get_list("via").clear()
    assert headers["via"] == "one, two"


def test_headers_have_no_way_to_change_them() -> None:
    headers = Headers(FIELDS)
    with pytest.raises(TypeError):
        headers["via"] = "three"  # type: ignore[index]
    with pytest.raises(AttributeError):
        headers.new = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        hash(headers)


def test_headers_equal_headers_by_each_value_and_mappings_by_the_joined_ones() -> None:
    assert Headers(FIELDS) == Headers(FIELDS)
    assert Headers(FIELDS) == Headers(sorted(FIELDS, key=lambda field: field[0]))
    assert Headers([(b"a", b"1, 2")]) != Headers([(b"a", b"1"), (b"a", b"2")])
    assert Headers([(b"a", b"1"), (b"a", b"2")]) == {"a": "1, 2"}
    assert Headers() == {}
    assert Headers() != "x"


def test_secrets_do_not_show() -> None:
    shown = repr(Headers([(b"set-cookie", b"hunter2"), (b"x", b"y")]))
    assert shown == "Headers([('set-cookie', '(not shown)'), ('x', 'y')])"


@pytest.mark.parametrize("looked_up", [False, True])
def test_headers_made_of_the_decoders_tuples_can_be_copied_and_pickled(looked_up: bool) -> None:
    headers = Headers([HeaderTuple(b"via", b"one"), HeaderTuple(b"via", b"two")])
    if looked_up:
        assert headers["via"] == "one, two"
    for again in (
        copy.copy(headers),
        copy.deepcopy(headers),
        pickle.loads(pickle.dumps(headers)),
    ):
        assert again.raw == ((b"via", b"one"), (b"via", b"two"))
        assert again == headers


field_names = st.text("abc-", min_size=1, max_size=3).map(str.encode)


@settings(max_examples=200)
@given(st.lists(st.tuples(field_names, st.binary(max_size=5))))
def test_lookup_agrees_with_the_fields(fields: list[tuple[bytes, bytes]]) -> None:
    headers = Headers(fields)
    assert list(headers) == list(dict.fromkeys(name.decode() for name, _ in fields))
    for name in headers:
        values = [value.decode("latin-1") for key, value in fields if key == name.encode()]
        assert headers.get_list(name.upper()) == values
        assert headers[name] == ", ".join(values)


# Responses in memory


def test_a_response_says_what_came() -> None:
    response = Response(
        201,
        Headers(FIELDS),
        b"{}",
        trailers=Headers([(b"t", b"1")]),
        elapsed=0.25,
        attempts=(Attempt("http://worker:1", 1, None, 0.2),),
    )
    assert (response.status, response.body, response.text, response.json()) == (
        201,
        b"{}",
        "{}",
        {},
    )
    assert response.headers["via"] == "one, two"
    assert response.trailers == {"t": "1"}
    assert response.http_version == "HTTP/2"
    assert response.elapsed == 0.25
    assert response.attempts[0].stream_id == 1
    assert repr(response) == "<Response 201, 2 bytes>"


def test_a_response_without_trailers_has_empty_ones() -> None:
    assert buffered().trailers == {}


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (None, "grün".encode(), "grün"),
        ("text/plain", "grün".encode(), "grün"),
        ("text/plain; charset=latin-1", b"gr\xfcn", "grün"),
        ('text/plain; charset="ISO-8859-1"; x=y', b"gr\xfcn", "grün"),
        ("text/plain;Charset=utf-16", "grün".encode("utf-16"), "grün"),
        ("text/plain; xcharset=latin-1", "grün".encode(), "grün"),
        ("text/plain", b"a\xffb", "a\ufffdb"),
        ("text/plain; charset=ascii", b"a\xffb", "a\ufffdb"),
        ("text/plain; charset=klingon", "grün".encode(), "grün"),
        ("text/plain; charset=base64", b"YQ==", "YQ=="),
        ("text/plain; charset=undefined", b"a", "a"),
        ("text/plain; charset=", b"a", "a"),
    ],
)
def test_text_is_read_in_its_charset_and_else_in_utf_8(
    content_type: str | None, body: bytes, text: str
) -> None:
    assert buffered(body, content_type=content_type).text == text


def test_json_is_read_in_any_unicode_encoding() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32-le"):
        assert buffered('{"a": "é"}'.encode(encoding)).json() == {"a": "é"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several classes of the standard library
        buffered(body).json()


@pytest.mark.parametrize("status", [200, 202, 299])
def test_a_success_passes_through_raise_for_status(status: int) -> None:
    response = buffered(b"Server overloaded: no", status=status)
    assert response.is_success
    assert response.raise_for_status() is response


@pytest.mark.parametrize("status", [304, 400, 404, 500, 503, 999])
def test_anything_else_is_a_status_error(status: int) -> None:
    response = buffered(b"why", status=status)
    assert not response.is_success
    with pytest.raises(StatusError) as caught:
        response.raise_for_status()
    assert (caught.value.status, caught.value.body, caught.value.processed) == (
        status,
        b"why",
        True,
    )
    assert caught.value.headers is response.headers
    assert isinstance(caught.value, Overloaded) == (status == 503)


@pytest.mark.parametrize("body", [b"Server overloaded: queue", b"Server unavailable: draining"])
def test_an_overloaded_worker_is_known_by_its_words(body: bytes) -> None:
    with pytest.raises(Overloaded):
        buffered(body, status=429).raise_for_status()


# Streamed responses: the body


async def test_chunks_come_as_they_arrive_and_trailers_after_them() -> None:
    response = streamed(Pieces(b"one", b"two", trailers=((b"t", b"1"),)))
    chunks = aiter(response)
    assert await anext(chunks) == b"one"
    assert response.trailers == {}
    assert [chunk async for chunk in chunks] == [b"two"]
    assert response.trailers == {"t": "1"}
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_aread_keeps_the_body() -> None:
    response = streamed(Pieces(b'{"a":', b" 1}"))
    assert await response.aread() == b'{"a": 1}'
    assert await response.aread() == response.body == b'{"a": 1}'
    assert (response.text, response.json()) == ('{"a": 1}', {"a": 1})
    assert repr(response) == "<StreamResponse 200, 8 bytes>"


async def test_an_empty_body_is_a_body() -> None:
    response = streamed(Pieces())
    assert await response.aread() == await response.aread() == response.body == b""


async def test_after_aread_the_body_can_be_read_in_every_way() -> None:
    response = streamed(Pieces(b"data: 1\n\n"))
    await response.aread()
    for _ in range(2):
        assert [chunk async for chunk in response] == [b"data: 1\n\n"]
        assert await collect(response.aiter_lines()) == ["data: 1", ""]
        assert await collect(response.aiter_sse()) == [ServerSentEvent("message", "1", "", None)]


def test_a_body_that_was_not_read_says_so() -> None:
    response = streamed(Pieces(b"x"))
    for use in (lambda: response.body, lambda: response.text, response.json):
        with pytest.raises(RuntimeError, match=r"await response\.aread"):
            use()
    assert repr(response) == "<StreamResponse 200, body not read>"


WAYS: list[Callable[[StreamResponse], object]] = [
    StreamResponse.__aiter__,
    StreamResponse.aiter_lines,
    StreamResponse.aiter_sse,
]


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
def test_a_body_is_read_once(
    first: Callable[[StreamResponse], object], second: Callable[[StreamResponse], object]
) -> None:
    response = streamed(Pieces(b"x"))
    first(response)
    with pytest.raises(RuntimeError, match="read already; it can be read once"):
        second(response)


@pytest.mark.parametrize("first", WAYS)
async def test_aread_needs_a_body_that_nobody_reads(
    first: Callable[[StreamResponse], object],
) -> None:
    response = streamed(Pieces(b"x"))
    first(response)
    with pytest.raises(RuntimeError, match="read already; it can be read once"):
        await response.aread()


async def test_a_body_may_be_as_long_as_the_limit() -> None:
    reader = Pieces(b"12345", b"67890")
    assert await streamed(reader, max_size=10).aread() == b"1234567890"
    assert not reader.cancelled


async def test_a_longer_body_is_given_up_at_once() -> None:
    reader = Pieces(b"12345", b"67890", b"1", b"never read")
    response = streamed(reader, max_size=10)
    with pytest.raises(ResponseTooLarge, match="over 10 bytes") as caught:
        await response.aread()
    assert reader.cancelled
    assert reader.pieces == [b"never read"]
    assert caught.value.processed is True
    assert (caught.value.origin, caught.value.stream_id) == ("http://worker:1", 7)


async def test_iterating_has_no_limit_on_the_whole() -> None:
    response = streamed(Pieces(*[b"12345"] * 100), max_size=10)
    assert sum([len(chunk) async for chunk in response]) == 500


async def test_an_error_in_mid_body_reaches_every_kind_of_reader() -> None:
    error = ReadTimeout("silence")
    response = streamed(Pieces(b"a\nb", error=error))
    with pytest.raises(ReadTimeout):
        await response.aread()
    chunks = aiter(streamed(Pieces(b"a\nb", error=error)))
    assert await anext(chunks) == b"a\nb"
    with pytest.raises(ReadTimeout):
        await anext(chunks)
    lines = streamed(Pieces(b"a\nb", error=error)).aiter_lines()
    assert await anext(lines) == "a"
    with pytest.raises(ReadTimeout):
        await anext(lines)
    events = streamed(Pieces(b"data: a\n\ndata", error=error)).aiter_sse()
    assert (await anext(events)).data == "a"
    with pytest.raises(ReadTimeout):
        await anext(events)


async def test_raise_for_status_knows_the_body_once_it_was_read() -> None:
    response = streamed(Pieces(b"Server overloaded: x"), status=500)
    with pytest.raises(StatusError) as caught:
        response.raise_for_status()
    assert not isinstance(caught.value, Overloaded)
    await response.aread()
    with pytest.raises(Overloaded) as overloaded:
        response.raise_for_status()
    assert overloaded.value.body == b"Server overloaded: x"


# Streamed responses: lines and events


async def test_lines_are_cut_at_every_line_end_and_decoded() -> None:
    response = streamed(Pieces(b"a\r", b"\nb\xe2", b"\x82\xac\rc", b"\n\nlast"))
    assert await collect(response.aiter_lines()) == ["a", "b€", "c", "", "last"]


async def test_a_line_is_there_as_soon_as_it_is_complete() -> None:
    reader = Pieces(b"a\nb\nc", b"d\n")
    lines = streamed(reader).aiter_lines()
    assert [await anext(lines), await anext(lines)] == ["a", "b"]
    assert reader.pieces == [b"d\n"]
    assert await collect(lines) == ["cd"]


async def test_events_are_there_as_soon_as_they_are_complete() -> None:
    reader = Pieces(b"id: 1\nda", b"ta: one\n\n", b"event: x\ndata: two\n\ndata: lost")
    events = streamed(reader).aiter_sse()
    assert await anext(events) == ServerSentEvent("message", "one", "1", None)
    assert len(reader.pieces) == 1
    assert await collect(events) == [ServerSentEvent("x", "two", "1", None)]
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_line_over_the_limit_is_given_up_after_those_before_it() -> None:
    reader = Pieces(b"ok\n" + b"x" * 11, b"never read")
    lines = streamed(reader, max_size=10).aiter_lines()
    assert await anext(lines) == "ok"
    assert reader.cancelled
    for _ in range(2):
        with pytest.raises(ResponseTooLarge, match="over 10 bytes") as caught:
            await anext(lines)
        assert (caught.value.origin, caught.value.stream_id) == ("http://worker:1", 7)


async def test_an_event_over_the_limit_is_given_up() -> None:
    reader = Pieces(b"data:123456\n", b"data:123456\n", b"never read")
    events = streamed(reader, max_size=12).aiter_sse()
    with pytest.raises(ResponseTooLarge):
        await anext(events)
    assert reader.cancelled
    assert reader.pieces == [b"never read"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=10), max_size=10))
async def test_every_way_of_reading_gives_the_same_bytes(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert await streamed(Pieces(*pieces)).aread() == whole
    assert b"".join([chunk async for chunk in streamed(Pieces(*pieces))]) == whole
    lines = await collect(streamed(Pieces(*pieces)).aiter_lines())
    assert lines == [line.decode("utf-8", "replace") for line in whole.splitlines()]


async def test_a_token_stream_reads_as_its_client_would() -> None:
    tokens = [{"token": word} for word in ("Grüße", "an", "alle")]
    wire = "".join(f"data: {json.dumps(token)}\n\n" for token in tokens) + "data: [DONE]\n\n"
    reader = Pieces(*(bytes([byte]) for byte in wire.encode()))
    received = [event.data async for event in streamed(reader).aiter_sse()]
    assert received[-1] == "[DONE]"
    assert [json.loads(data) for data in received[:-1]] == tokens
