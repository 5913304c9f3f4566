"""Request bodies: what may be one, its length, and reading it again."""

from __future__ import annotations

import array
import io
import mmap
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.errors import InvalidRequest
from dynamo_h2.http2.body import (
    JOIN_LIMIT,
    BodySource,
    Chunk,
    RequestBody,
    SyncPass,
    make_body,
)


async def read(body: RequestBody) -> list[Chunk]:
    """Read one pass to its end."""
    chunks = body.chunks()
    if isinstance(chunks, AsyncGenerator):
        return [chunk async for chunk in chunks]
    return list(chunks)


async def whole(body: RequestBody) -> bytes:
    return b"".join(await read(body))


def sync_pass(body: RequestBody) -> SyncPass:
    """Begin a pass over a body that needs no waiting."""
    chunks = body.chunks()
    assert not isinstance(chunks, AsyncGenerator)
    return chunks


def wrong(source: object) -> BodySource:
    """Pass what the type checker would have refused."""
    return cast("BodySource", source)


def numbers() -> Generator[bytes, None, None]:
    yield b"one"
    yield b""
    yield b"two"


async def async_numbers() -> AsyncGenerator[bytes, None]:
    yield b"one"
    yield b""
    yield b"two"


class Numbers:
    """An iterable that is no iterator: each pass is a fresh one."""

    def __iter__(self) -> Iterator[bytes]:
        return numbers()


class AsyncNumbers:
    """The same, async."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return async_numbers()


# In memory


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, b""),
        ("", b""),
        ("grüße", "grüße".encode()),
        (b"abc", b"abc"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abc"), b"abc"),
        (memoryview(b"abcdef")[2:4], b"cd"),
        (array.array("i", [1, 2]), array.array("i", [1, 2]).tobytes()),
        (memoryview(bytes(6)).cast("B", (2, 3)), bytes(6)),
        (memoryview(b""), b""),
        (array.array("d"), b""),
        ([b"a", bytearray(b"b"), memoryview(b"c"), b""], b"abc"),
        ((b"a",), b"a"),
        ([], b""),
    ],
)
async def test_what_is_in_memory_needs_no_reading(source: BodySource, expected: bytes) -> None:
    body = make_body(source)
    assert body.data == expected
    assert body.length == len(expected)
    assert body.replayable
    assert [await whole(body), await whole(body)] == [expected, expected]


def test_bytes_and_buffers_are_not_copied() -> None:
    data = bytes(100)
    assert make_body(data).data is data
    buffer = bytearray(100)
    view = make_body(buffer).data
    assert isinstance(view, memoryview)
    assert view.obj is buffer


@pytest.mark.parametrize(
    ("source", "mutable"),
    [
        (b"abc", False),
        ("abc", False),
        (memoryview(b"abc"), False),
        (bytearray(b"abc"), True),
        (memoryview(bytearray(b"abc")).toreadonly(), True),
        ([bytearray(b"abc")], False),
        (numbers, False),
    ],
)
def test_only_the_callers_own_buffer_is_mutable(source: BodySource, mutable: bool) -> None:
    assert make_body(source).mutable is mutable


def test_a_memory_map_is_bytes_like(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"abc")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        body = make_body(wrong(mapped))
        assert body.data == b"abc"
        del body


def test_a_view_with_gaps_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"memoryview of format 'B' .* contiguous"):
        make_body(memoryview(b"abcdef")[::2])


def test_a_released_view_is_refused() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(InvalidRequest, match="released"):
        make_body(view)


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="surrogates not allowed"):
        make_body("a\ud800")


def test_an_empty_body_has_no_chunks() -> None:
    assert list(sync_pass(make_body(b""))) == []


# Lists


async def test_a_long_list_is_not_joined() -> None:
    parts = [bytes(JOIN_LIMIT), b"", b"end"]
    body = make_body(parts)
    assert body.data is None
    assert body.length == JOIN_LIMIT + 3
    assert await read(body) == await read(body) == [parts[0], b"end"]


async def test_a_list_is_taken_as_it_is_when_the_request_is_made() -> None:
    buffer = bytearray(JOIN_LIMIT + 1)
    parts = [buffer]
    body = make_body(parts)
    parts.append(bytearray(b"more"))
    buffer[0] = 1
    assert await whole(body) == bytes(JOIN_LIMIT + 1)


@pytest.mark.parametrize("item", ["text", 7, None, ["nested"]])
def test_a_list_of_something_else_is_refused_at_once(item: object) -> None:
    message = f"body chunk of type {type(item).__name__}; allowed: bytes-like"
    with pytest.raises(InvalidRequest, match=message):
        make_body(wrong([b"ok", item]))


# Iterables


@pytest.mark.parametrize("source", [Numbers(), AsyncNumbers(), numbers, async_numbers])
async def test_an_iterable_or_a_callable_gives_a_fresh_pass_each_time(source: BodySource) -> None:
    body = make_body(source)
    assert (body.data, body.length, body.replayable) == (None, None, True)
    assert await read(body) == await read(body) == [b"one", b"two"]
    assert body.available


@pytest.mark.parametrize("make", [numbers, async_numbers, lambda: iter([b"one", b"two"])])
async def test_an_iterator_is_read_once(make: Callable[[], BodySource]) -> None:
    body = make_body(make())
    assert (body.replayable, body.available) == (False, True)
    assert await read(body) == [b"one", b"two"]
    assert not body.available
    with pytest.raises(InvalidRequest, match="can be read only once and was"):
        body.chunks()


async def test_an_iterator_that_was_not_started_can_still_be_sent() -> None:
    for source in (numbers(), async_numbers()):
        body = make_body(source)
        body.chunks()
        assert body.available
        assert await read(body) == [b"one", b"two"]


async def test_a_chunk_of_the_wrong_type_is_named_when_it_comes() -> None:
    def bad() -> Iterator[object]:
        yield b"ok"
        yield "text"

    async def async_bad() -> AsyncIterator[object]:
        yield b"ok"
        yield {}

    for source, name in ((bad(), "str"), (async_bad(), "dict"), (bad, "str")):
        with pytest.raises(InvalidRequest, match=f"body chunk of type {name}"):
            await read(make_body(wrong(source)))


async def test_a_generator_may_fill_the_same_buffer_again() -> None:
    def refill() -> Iterator[bytearray]:
        buffer = bytearray(1)
        for number in range(3):
            buffer[0] = number
            yield buffer

    async def async_refill() -> AsyncIterator[bytearray]:
        for buffer in refill():
            yield buffer

    assert await read(make_body(refill())) == [b"\0", b"\1", b"\2"]
    assert await read(make_body(async_refill())) == [b"\0", b"\1", b"\2"]


async def test_closing_a_pass_closes_the_generator() -> None:
    closed = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append("sync")

    async def async_endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append("async")

    # Held here, so that nobody but the pass can end it.
    held = endless()
    for source in (held, endless):
        chunks = sync_pass(make_body(source))
        assert next(chunks) == b"x"
        chunks.close()
    for async_source in (async_endless(), async_endless):
        async_chunks = make_body(async_source).chunks()
        assert isinstance(async_chunks, AsyncGenerator)
        assert await anext(async_chunks) == b"x"
        await async_chunks.aclose()
    assert closed == ["sync", "sync", "async", "async"]


async def test_an_exception_of_the_caller_passes_through_unchanged() -> None:
    error = KeyError("the caller's own")

    def failing() -> Iterator[bytes]:
        yield b"x"
        raise error

    async def async_failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise error

    def failing_at_once() -> bytes:
        raise error

    for source in (failing(), async_failing(), failing, failing_at_once):
        with pytest.raises(KeyError) as caught:
            await read(make_body(source))
        assert caught.value is error


# Callables


@pytest.mark.parametrize("source", [lambda: b"abc", lambda: "abc", lambda: [b"a", b"bc"]])
async def test_a_callable_may_return_anything_else(source: BodySource) -> None:
    body = make_body(source)
    assert (body.length, body.replayable) == (None, True)
    assert await whole(body) == await whole(body) == b"abc"


async def test_a_class_is_a_callable() -> None:
    assert await whole(make_body(Numbers)) == b"onetwo"
    assert await whole(make_body(io.BytesIO)) == b""


async def test_a_callable_is_called_for_each_pass_and_not_before() -> None:
    calls: list[int] = []

    def make() -> bytes:
        calls.append(len(calls))
        return b"x"

    body = make_body(make)
    assert calls == []
    await read(body)
    await read(body)
    assert calls == [0, 1]


def test_a_callable_that_returns_one_more_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="body of type function"):
        make_body(wrong(lambda: numbers)).chunks()


async def test_an_async_file_is_read_by_iterating() -> None:
    class AsyncFile(AsyncNumbers):
        async def read(self, size: int) -> bytes:
            raise NotImplementedError

    assert await whole(make_body(wrong(AsyncFile()))) == b"onetwo"


# What is none of these


@pytest.mark.parametrize("source", [7, 1.5, True, {}, {"a": b"b"}, object(), Ellipsis])
def test_anything_else_is_refused_by_the_name_of_its_type(source: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_body(wrong(source))
    assert str(caught.value).startswith(f"body of type {type(source).__name__}; allowed: ")
    assert "callables" in str(caught.value)


def test_a_coroutine_is_refused_without_a_warning() -> None:
    async def produce() -> bytes:
        return b"x"

    with pytest.raises(InvalidRequest, match="body of type coroutine"):
        make_body(wrong(produce()))
    with pytest.raises(InvalidRequest, match="body of type coroutine"):
        make_body(wrong(produce)).chunks()


chunks_strategy = st.lists(st.binary(max_size=50), max_size=10)


@settings(max_examples=200, deadline=None)
@given(chunks_strategy)
def test_all_forms_of_a_body_give_the_same_bytes(parts: list[bytes]) -> None:
    expected = b"".join(parts)
    forms: list[BodySource] = [
        expected,
        bytearray(expected),
        parts,
        tuple(parts),
        iter(parts),
        (part for part in parts),
        lambda: iter(parts),
        io.BytesIO(expected),
        lambda: io.BytesIO(expected),
    ]
    for form in forms:
        body = make_body(form)
        chunks = list(sync_pass(body))
        assert b"".join(chunks) == expected
        assert all(chunks)
        assert body.length in {None, len(expected)}
