"""Request bodies: what may be one, how long it is, and whether it can be sent a second time.

A body is read in *passes*. A pass is an iterator, or an async iterator, over chunks that are never
empty; whoever makes one closes it. A body that is *replayable* gives a fresh pass each time, and
only such a body can be sent again on another connection.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias, cast

from dynamo_h2.errors import InvalidRequest
from dynamo_h2.http2.headers import content_length

if TYPE_CHECKING:
    from dynamo_h2.http2.headers import Field

__all__ = ["BodyPass", "BodySource", "Chunk", "RequestBody", "SyncPass", "make_body", "with_length"]

Chunk: TypeAlias = bytes | memoryview
_Bytes: TypeAlias = bytes | bytearray | memoryview
_Plain: TypeAlias = _Bytes | str | Iterable[_Bytes] | AsyncIterable[_Bytes] | BinaryIO | None
BodySource: TypeAlias = _Plain | Callable[[], _Plain]

# Files are read in pieces of this size, in bytes: a few frames, and little memory per request.
FILE_CHUNK = 65536

# Lists of chunks up to this size, in bytes, are joined: one small copy for one write.
JOIN_LIMIT = 65536

# Methods whose requests have a meaning for a body: an empty one is announced (RFC 9110 §8.6).
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})

_ALLOWED = (
    "bytes-like objects, str, binary files, iterables and async iterables of bytes, "
    "callables that return one of these, and None"
)


class SyncPass(Protocol):
    """One pass over a body that needs no waiting."""

    def __iter__(self) -> Iterator[Chunk]: ...

    def __next__(self) -> Chunk: ...

    def close(self) -> None:
        """Give up what the pass holds: close the caller's generator, or a file made for it."""


BodyPass: TypeAlias = SyncPass | AsyncGenerator[Chunk, None]


class RequestBody:
    """What a request sends after its head.

    Args:
        open_pass: Makes a pass; it is given this body, to set `started` at the first chunk.
        data: The whole body where it is in memory; nobody needs to iterate then.
        length: In bytes; None when it is not known before the end.
        replayable: Whether every call of `open_pass` gives the same bytes.
    """

    __slots__ = ("_open_pass", "data", "length", "replayable", "started")

    def __init__(
        self,
        open_pass: Callable[[RequestBody], BodyPass],
        *,
        data: Chunk | None = None,
        length: int | None = None,
        replayable: bool = True,
    ) -> None:
        self._open_pass = open_pass
        self.data = data
        self.length = length
        self.replayable = replayable
        self.started = False

    @property
    def available(self) -> bool:
        """Whether `chunks` can make a pass now: it is replayable, or nothing of it was read."""
        return self.replayable or not self.started

    @property
    def mutable(self) -> bool:
        """Whether `data` is memory that the caller may change once the request has ended."""
        return isinstance(self.data, memoryview) and not isinstance(self.data.obj, bytes)

    def chunks(self) -> BodyPass:
        """Begin a pass from the start of the body.

        What the caller's own generator, file or callable raises passes through unchanged.

        Raises:
            InvalidRequest: The body is gone, or (from the pass) a chunk is not bytes-like.
        """
        if not self.available:
            raise InvalidRequest(
                "this body can be read only once and was: give bytes, a list of chunks, a "
                "seekable file, or a callable that makes a fresh iterator"
            )
        return self._open_pass(self)


def make_body(source: BodySource) -> RequestBody:
    """Make a body of whatever a caller may send.

    Text is sent as UTF-8. Files are read from where they stand, and never closed unless a callable
    opened them. A mutable buffer that is the whole body is not copied: it must not change until
    the request has ended. Buffers that an iterable yields are, so that it may fill them again.

    Args:
        source: See `BodySource`.

    Raises:
        InvalidRequest: It is none of these; names the type and those that are allowed.
    """
    if isinstance(source, bytes):
        return _in_memory(source)
    if source is None:
        return _in_memory(b"")
    if isinstance(source, str):
        return _in_memory(_encoded(source))
    view = _view(source)
    if view is not None:
        return _in_memory(view)
    if isinstance(source, (list, tuple)):
        return _from_parts(source)
    return _from_stream(source)


def _from_stream(source: object) -> RequestBody:
    # Async files have a read() too, but one that must be awaited: ask for iteration first.
    if isinstance(source, AsyncIterable):
        once = isinstance(source, AsyncIterator)
        return RequestBody(partial(_async_pass, source), replayable=not once)
    if hasattr(source, "read") and not isinstance(source, type):
        return _from_file(cast("BinaryIO", source))
    if isinstance(source, Iterable) and not isinstance(source, Mapping):
        once = isinstance(source, Iterator)
        return RequestBody(partial(_sync_pass, source), replayable=not once)
    if callable(source):
        return RequestBody(partial(_called_pass, source))
    raise _refused(source)


def _refused(source: object) -> InvalidRequest:
    if isinstance(source, Coroutine):
        # It would complain that it was never awaited, which is not what went wrong.
        source.close()
    return InvalidRequest(f"body of type {type(source).__name__}; allowed: {_ALLOWED}")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"body of type str: {error}; allowed: text that is UTF-8") from None


def _in_memory(data: Chunk) -> RequestBody:
    return RequestBody(_data_pass, data=data, length=len(data))


def _from_parts(source: Iterable[object]) -> RequestBody:
    parts = tuple([_chunk(item) for item in source])
    length = sum(map(len, parts))
    if length <= JOIN_LIMIT:
        return _in_memory(b"".join(parts))
    return RequestBody(partial(_parts_pass, parts), length=length)


def _from_file(file: BinaryIO) -> RequestBody:
    _check_file(file)
    start = _position(file)
    length = None if start is None else _file_length(file, start)

    def read(body: RequestBody) -> SyncPass:
        return _FilePass(body, file, start, length)

    return RequestBody(read, length=length, replayable=start is not None)


# Chunks


def _view(source: object) -> memoryview | None:
    """Return the bytes of any object with a buffer, or None for one without."""
    try:
        view = memoryview(source)  # type: ignore[arg-type]  # asking is the only way to find out
    except TypeError:
        return None
    except ValueError:
        raise InvalidRequest("a released memoryview cannot be sent") from None
    if view.nbytes == 0:
        return memoryview(b"")
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    try:
        return view.cast("B")
    except (TypeError, ValueError):
        raise InvalidRequest(
            f"{type(source).__name__} of format {view.format!r} cannot be sent as it is; allowed: "
            "contiguous buffers of native items (copy it with bytes())"
        ) from None


def _chunk(item: object) -> Chunk:
    """Return a chunk that stays as it is when its producer goes on and fills the buffer again."""
    if isinstance(item, bytes):
        return item
    view = _view(item)
    if view is None:
        raise InvalidRequest(f"body chunk of type {type(item).__name__}; allowed: bytes-like")
    return view if isinstance(view.obj, bytes) else bytes(view)


# Passes


def _data_pass(body: RequestBody) -> Generator[Chunk, None, None]:
    if body.data:
        yield body.data


def _parts_pass(parts: Iterable[Chunk], body: RequestBody) -> Generator[Chunk, None, None]:
    body.started = True
    yield from filter(None, parts)


def _sync_pass(source: Iterable[object], body: RequestBody) -> Generator[Chunk, None, None]:
    body.started = True
    items = iter(source)
    try:
        for item in items:
            chunk = _chunk(item)
            if chunk:
                yield chunk
    finally:
        if isinstance(items, Generator):
            items.close()


async def _async_pass(
    source: AsyncIterable[object], body: RequestBody
) -> AsyncGenerator[Chunk, None]:
    body.started = True
    items = aiter(source)
    try:
        async for item in items:
            chunk = _chunk(item)
            if chunk:
                yield chunk
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


def _called_pass(make: Callable[[], object], _body: RequestBody) -> BodyPass:
    source = make()
    # Not one more callable: that might never come to an end.
    if callable(source) and not isinstance(source, (Iterable, AsyncIterable)):
        raise _refused(source)
    try:
        made = make_body(cast("BodySource", source)).chunks()
    except InvalidRequest:
        if isinstance(source, io.IOBase):
            source.close()
        raise
    if isinstance(made, _FilePass):
        made.owned = True
    return made


# Files


class _FilePass:
    """One pass over a binary file, from `start` on and `length` bytes long where these are known.

    A file that grows meanwhile is read as far as its length was announced; one that shrinks is an
    error, as the peer would take the request for malformed (RFC 9113 §8.1.1).
    """

    __slots__ = ("_body", "_file", "_left", "_start", "owned")

    def __init__(
        self, body: RequestBody, file: BinaryIO, start: int | None, length: int | None
    ) -> None:
        self._body = body
        self._file = file
        self._start = start
        self._left = length
        self.owned = False

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        self._body.started = True
        if self._start is not None:
            self._file.seek(self._start)
            self._start = None
        wanted = FILE_CHUNK if self._left is None else min(FILE_CHUNK, self._left)
        if wanted == 0:
            self.close()
            raise StopIteration
        return self._counted(_chunk(self._file.read(wanted)))

    def _counted(self, chunk: Chunk) -> Chunk:
        if self._left is not None:
            self._left -= len(chunk)
        if chunk:
            return chunk
        missing = self._left
        self.close()
        if missing:
            raise InvalidRequest(f"the file ended {missing} bytes before its length")
        raise StopIteration

    def close(self) -> None:
        """End the pass, and close the file when it was opened for this pass."""
        self._left = 0
        if self.owned:
            self._file.close()


def _check_file(file: object) -> None:
    name = type(file).__name__
    if getattr(file, "closed", False):
        raise InvalidRequest(f"body is a closed {name}; allowed: a binary file open for reading")
    # Wrappers such as NamedTemporaryFile are no TextIOBase, but show the encoding inside.
    if isinstance(file, io.TextIOBase) or getattr(file, "encoding", None) is not None:
        raise InvalidRequest(f"body is a text file ({name}); allowed: files opened in binary mode")
    readable = getattr(file, "readable", None)
    if readable is not None and not readable():
        raise InvalidRequest(f"body is a {name} not open for reading")


def _position(file: BinaryIO) -> int | None:
    """Return where the file stands, in bytes, or None when it cannot go back there."""
    try:
        return file.tell() if file.seekable() else None
    except (AttributeError, OSError, ValueError):
        return None


def _file_length(file: BinaryIO, start: int) -> int | None:
    """Return the bytes from `start` to the end; None for devices and where seeking cannot tell."""
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
    except (AttributeError, OSError, ValueError):
        pass  # not a file of the system, such as BytesIO
    try:
        end = file.seek(0, os.SEEK_END)
    except (OSError, ValueError):
        end = None
    file.seek(start)
    return None if end is None else max(end - start, 0)


def with_length(
    method: str,
    fields: tuple[Field, ...],
    data: bytes | memoryview | None,
    body: RequestBody | None,
) -> tuple[Field, ...]:
    """Announce the length of the body, where it is known and not announced.

    Args:
        method: The request's.
        fields: Its own checked fields.
        data: The body in memory; None where it has to be iterated.
        body: The body, where it is more than bytes; held against a length that is announced.

    Raises:
        InvalidRequest: Another length is announced.
    """
    declared = content_length(fields) if fields else None
    length = len(data) if data is not None else body.length if body is not None else None
    if declared is None:
        if length or (length == 0 and method in _WITH_BODY):
            return (*fields, (b"content-length", b"%d" % length))
    elif length is None and body is not None:
        body.length = declared  # held against what is sent
    elif length != declared:
        raise InvalidRequest(
            f"content-length is {declared}, allowed: {length}, the length of the body"
        )
    return fields
