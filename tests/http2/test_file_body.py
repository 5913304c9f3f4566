"""Request bodies out of files: where they begin, how long they are, and who closes them."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from dynamo_h2.errors import InvalidRequest
from dynamo_h2.http2.body import FILE_CHUNK, BodySource, RequestBody, SyncPass, make_body

CONTENT = b"0123456789" * 20_000


def sync_pass(body: RequestBody) -> SyncPass:
    """Begin a pass over a body that needs no waiting."""
    chunks = body.chunks()
    assert not isinstance(chunks, AsyncGenerator)
    return chunks


def content(body: RequestBody) -> bytes:
    return b"".join(sync_pass(body))


def wrong(source: object) -> BodySource:
    """Pass what the type checker would have refused."""
    return cast("BodySource", source)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "content"
    file.write_bytes(CONTENT)
    return file


def test_a_file_is_read_from_where_it_stands_and_again(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(7)
        body = make_body(file)
        assert (body.data, body.length, body.replayable) == (None, len(CONTENT) - 7, True)
        first = list(sync_pass(body))
        assert b"".join(first) == CONTENT[7:]
        assert max(map(len, first)) == FILE_CHUNK
        assert content(body) == CONTENT[7:]
        assert not file.closed


@pytest.mark.parametrize("buffering", [0, -1])
def test_files_with_and_without_a_buffer_are_read(path: Path, buffering: int) -> None:
    with path.open("rb", buffering=buffering) as file:
        body = make_body(file)
        assert body.length == len(CONTENT)
        assert content(body) == CONTENT


def test_files_that_are_not_of_the_system_have_a_length_too() -> None:
    body = make_body(io.BytesIO(CONTENT))
    assert body.length == len(CONTENT)
    assert content(body) == content(body) == CONTENT


def test_a_file_that_stands_behind_its_end_is_empty(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(len(CONTENT) + 10)
        body = make_body(file)
        assert body.length == 0
        assert file.tell() == len(CONTENT) + 10
        assert list(sync_pass(body)) == []


def test_the_length_of_a_compressed_file_is_that_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "content.gz"
    path.write_bytes(gzip.compress(CONTENT))
    with gzip.open(path, "rb") as file:
        body = make_body(cast("BinaryIO", file))
        assert body.length in {None, len(CONTENT)}
        assert body.replayable
        assert content(body) == content(body) == CONTENT


def test_a_pipe_is_read_once() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file:
        with open(writing, "wb") as other:
            other.write(b"abc")
        body = make_body(file)
        assert (body.length, body.replayable) == (None, False)
        assert content(body) == b"abc"
        with pytest.raises(InvalidRequest, match="only once"):
            body.chunks()


def test_a_device_has_no_length() -> None:
    with open("/dev/zero", "rb") as file:
        body = make_body(file)
        assert body.length is None
        chunks = sync_pass(body)
        assert next(chunks) == bytes(FILE_CHUNK)
        chunks.close()
        assert list(chunks) == []


def test_an_object_that_can_only_be_read_is_read_once() -> None:
    class Source:
        def __init__(self) -> None:
            self.pieces = [b"ab", b"c"]

        def read(self, _size: int) -> bytes:
            return self.pieces.pop(0) if self.pieces else b""

    body = make_body(wrong(Source()))
    assert (body.length, body.replayable) == (None, False)
    assert list(sync_pass(body)) == [b"ab", b"c"]


def test_a_file_that_grows_is_read_as_far_as_was_announced(path: Path) -> None:
    with path.open("rb") as file:
        body = make_body(file)
        path.write_bytes(CONTENT + b"more")
        assert content(body) == CONTENT


def test_a_file_that_shrinks_is_an_error(path: Path) -> None:
    with path.open("rb") as file:
        body = make_body(file)
        path.write_bytes(CONTENT[:-3])
        with pytest.raises(InvalidRequest, match="ended 3 bytes before its length"):
            list(sync_pass(body))


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_text_file_is_refused(path: Path, mode: str) -> None:
    with path.open(mode) as file, pytest.raises(InvalidRequest, match=r"text file .* binary mode"):
        make_body(wrong(file))


def test_a_wrapped_text_file_is_refused() -> None:
    with tempfile.NamedTemporaryFile("w+") as file, pytest.raises(InvalidRequest, match="text"):
        make_body(wrong(file))
    with pytest.raises(InvalidRequest, match="text"):
        make_body(wrong(io.StringIO("abc")))


def test_temporary_files_are_files() -> None:
    with tempfile.NamedTemporaryFile() as named, tempfile.SpooledTemporaryFile() as spooled:
        for file in (named, spooled):
            file.write(b"abc")
            file.seek(1)
            body = make_body(cast("BinaryIO", file))
            assert body.length == 2
            assert content(body) == b"bc"


def test_a_closed_file_and_one_for_writing_are_refused(path: Path) -> None:
    with path.open("rb") as file:
        pass
    with pytest.raises(InvalidRequest, match="closed BufferedReader"):
        make_body(file)
    unreadable = pytest.raises(InvalidRequest, match="BufferedWriter not open for reading")
    with path.open("ab") as file_for_writing, unreadable:
        make_body(file_for_writing)


def test_a_file_that_returns_text_or_nothing_is_found_out() -> None:
    class Source:
        def __init__(self, result: object) -> None:
            self.result = result

        def read(self, _size: int) -> object:
            return self.result

    for result in ("text", None):
        chunks = sync_pass(make_body(wrong(Source(result))))
        with pytest.raises(InvalidRequest, match=f"of type {type(result).__name__}"):
            next(chunks)


def test_a_file_that_a_callable_opened_is_closed_after_its_pass(path: Path) -> None:
    opened: list[BinaryIO] = []

    def open_again() -> BinaryIO:
        opened.append(path.open("rb"))
        return opened[-1]

    body = make_body(open_again)
    assert content(body) == content(body) == CONTENT
    unfinished = sync_pass(body)
    next(unfinished)
    unfinished.close()
    never_begun = sync_pass(body)
    never_begun.close()
    assert [file.closed for file in opened] == [True] * 4


def test_a_text_file_that_a_callable_opened_is_refused_and_closed(path: Path) -> None:
    opened: list[io.TextIOBase] = []

    def open_text() -> object:
        opened.append(path.open())
        return opened[-1]

    with pytest.raises(InvalidRequest, match="text file"):
        make_body(wrong(open_text)).chunks()
    assert opened[0].closed
