"""What goes out: bodies of every kind, buffers that belong to the caller, requests that may not."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from h2.errors import ErrorCodes

from dynamo_h2 import (
    DynamoH2Error,
    HttpRequestClient,
    InvalidRequest,
    RequestTimeout,
    StreamReset,
    WrongEventLoop,
)
from dynamo_h2.http2.body import BodySource
from tests.behaviours import (
    async_pieces,
    greeted,
    noise,
    patient,
    pieces,
    serve,
    settled,
    shake,
    stuck,
)
from tests.http2.frame_factory import (
    CANCEL,
    DATA,
    HEADERS,
    INITIAL_WINDOW,
    NO_ERROR,
    RST_STREAM,
)
from tests.peers.scripted import Connection, Request, scripted_peer

BIG = noise(300_000)
CONTENT = b"0123456789" * 1000


def describe(request: Request) -> bytes:
    """What a request said of its body, and the body."""
    lengths = [value for name, value in request.fields if name == b"content-length"]
    return b"%d %b" % (len(request.body), b",".join(lengths) or b"-")


async def describing(connection: Connection) -> None:
    await connection.handshake()
    await connection.serve(describe)


# Kinds of bodies


def numbered() -> Iterator[bytes]:
    yield from (b"one", b"", b"two")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (None, b""),
        (b"", b""),
        (b"bytes", b"bytes"),
        ("caf\u00e9", "caf\u00e9".encode()),
        (bytearray(b"bytearray"), b"bytearray"),
        (memoryview(b"a view")[2:], b"view"),
        ([b"a ", b"list"], b"a list"),
        (numbered(), b"onetwo"),
        (numbered, b"onetwo"),
        (async_pieces(b"iterated", 3), b"iterated"),
        (io.BytesIO(b"a file"), b"a file"),
        (lambda: io.BytesIO(b"opened"), b"opened"),
        (BIG, BIG),
        (list(pieces(BIG)), BIG),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_body_of_any_kind_is_sent_as_it_is(body: BodySource, sent: bytes) -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        assert await client.send_request(peer.url(), body) == sent


@pytest.mark.parametrize(
    ("method", "body", "announced"),
    [
        ("GET", None, b"0 -"),
        ("POST", None, b"0 0"),
        ("PUT", b"", b"0 0"),
        ("DELETE", None, b"0 -"),
        ("POST", b"four", b"4 4"),
        ("POST", [BIG], b"300000 300000"),
        ("POST", numbered, b"6 -"),
    ],
)
async def test_a_length_that_is_known_is_announced(
    method: str, body: BodySource, announced: bytes
) -> None:
    async with scripted_peer(describing) as peer, HttpRequestClient(patient()) as client:
        assert (await client.request(method, peer.url(), body=body)).body == announced


async def test_a_file_is_read_from_where_it_stands_and_left_open() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"skipped" + CONTENT)
        file.seek(len(b"skipped"))
        async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
            response = await client.request("POST", peer.url(), body=file)
        assert response.body == CONTENT
        assert not file.closed


async def test_an_empty_iterator_is_an_empty_body() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        nothing: list[bytes] = []
        assert (await client.request("POST", peer.url(), body=iter(nothing))).body == b""


@pytest.mark.parametrize("body", [None, b"in memory", numbered, BIG], ids=type)
async def test_trailers_follow_the_body(body: BodySource) -> None:
    seen: list[Request] = []

    def note(request: Request) -> bytes:
        seen.append(request)
        return bytes(request.body)

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.serve(note)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        trailers = {"X-Checksum": "7", "x-more": "8"}
        await client.request("POST", peer.url(), body=body, trailers=trailers)
    assert seen[0].trailers == ((b"x-checksum", b"7"), (b"x-more", b"8"))


async def test_default_headers_go_out_unless_a_call_has_its_own() -> None:
    def named(request: Request) -> bytes:
        names = (b"x-a", b"x-b", b"content-type")
        return b" ".join(value for name, value in request.fields if name in names)

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.serve(named)

    async with (
        scripted_peer(handler) as peer,
        HttpRequestClient(patient(), headers={"x-a": "1", "X-B": "2"}) as client,
    ):
        for _ in range(2):
            assert await client.send_request(peer.url(), b"") == b"application/octet-stream 1 2"
            own = {"x-b": "3", "content-type": "text/plain"}
            assert await client.send_request(peer.url(), b"", own) == b"1 3 text/plain"


async def test_a_call_may_name_another_authority() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.serve(lambda request: request[b":authority"])

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        own = f"127.0.0.1:{peer.port}".encode()
        assert await client.send_request(peer.url(), b"") == own
        named = await client.send_request(peer.url(), b"", authority="worker-7.pods:8000")
        assert named == b"worker-7.pods:8000"


# Buffers of the caller


def resize(buffer: bytearray) -> None:
    """Fails with BufferError while anybody holds a view of the buffer."""
    buffer += b"more"
    del buffer[:]


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("readonly", [False, True])
async def test_a_buffer_is_free_again_after_the_request(size: int, readonly: bool) -> None:
    buffer = bytearray(noise(size))
    view = memoryview(buffer).toreadonly() if readonly else memoryview(buffer)
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        assert await client.send_request(peer.url(), buffer) == buffer
        assert await client.send_request(peer.url(), view) == buffer
        view.release()
        resize(buffer)


@pytest.mark.parametrize("size", [100, 300_000])
async def test_a_buffer_is_free_again_after_a_request_that_failed(size: int) -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        while True:
            head = await connection.recv_until(HEADERS)
            connection.rst(head.stream_id, ErrorCodes.INTERNAL_ERROR)

    buffer = bytearray(noise(size))
    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        try:
            await client.send_request(peer.url(), buffer)
        except StreamReset:
            resize(buffer)
        assert not buffer


async def test_a_buffer_is_free_again_after_a_request_that_ran_out_of_time() -> None:
    buffer = bytearray(BIG)
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        try:
            await client.send_request(peer.url(), buffer, timeout=0.05)
        except RequestTimeout:
            resize(buffer)
        assert not buffer


async def test_a_buffer_is_free_again_after_a_streamed_response() -> None:
    buffer = bytearray(BIG)
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        async with client.stream("POST", peer.url(), body=buffer) as response:
            assert await response.aread() == BIG
        resize(buffer)


@pytest.mark.parametrize("readonly", [False, True])
async def test_what_was_sent_of_a_buffer_does_not_change_after_the_request(readonly: bool) -> None:
    """The peer reads only after the call has ended and the caller has used the buffer anew."""

    async def handler(connection: Connection) -> None:
        await connection.handshake((INITIAL_WINDOW, 2**31 - 1))
        connection.window_update(0, 2**31 - 1 - 65_535)
        await settled(connection)
        connection.freeze()

    buffer = bytearray(noise(16 << 20))
    original = bytes(buffer)
    body = memoryview(buffer).toreadonly() if readonly else buffer
    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        await client.warm_up([peer.url()])
        connection = await greeted(peer)
        task = asyncio.create_task(client.request("POST", peer.url(), body=body))
        await stuck(client)
        task.cancel()
        await asyncio.wait([task])
        buffer[:] = bytes(len(buffer))
        connection.thaw()
        await connection.recv_until(RST_STREAM)
        received = b"".join(frame.data for frame in connection.log(DATA))
    assert len(received) > 100_000
    assert received == original[: len(received)]


# Lengths that do not hold


@pytest.mark.parametrize(
    ("length", "said"), [(3, "longer than its length, 3 bytes"), (7, "shorter than its length, 7")]
)
async def test_a_body_that_contradicts_its_length_is_reset(length: int, said: str) -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        headers = {"content-length": str(length)}
        task = asyncio.create_task(
            client.request("POST", peer.url(), headers=headers, body=numbered())
        )
        connection = await greeted(peer)
        reset = await connection.recv_until(RST_STREAM)
        with pytest.raises(InvalidRequest, match=said) as raised:
            await task
    assert reset.code == CANCEL
    # Something was sent, and who can tell what the peer did with it?
    error: DynamoH2Error = raised.value
    assert error.processed is None
    assert sum(frame.length for frame in connection.log(DATA)) <= length
    assert not any(frame.end_stream for frame in connection.log(DATA))


async def test_a_body_of_the_announced_length_is_sent() -> None:
    async with scripted_peer(describing) as peer, HttpRequestClient(patient()) as client:
        headers = {"content-length": "6"}
        response = await client.request("POST", peer.url(), headers=headers, body=numbered())
    assert response.body == b"6 6"


async def test_a_chunk_that_is_not_bytes_is_an_invalid_request() -> None:
    def wrong() -> Iterator[Any]:
        yield b"bytes"
        yield 7

    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(InvalidRequest, match="chunk of type int"):
            await client.request("POST", peer.url(), body=wrong())


# Requests that may not be sent

WRONG: Mapping[str, dict[str, Any]] = {
    "method with a space": {"method": "GET IT"},
    "method CONNECT": {"method": "CONNECT"},
    "address without a host": {"url": "http:///path"},
    "address of another scheme": {"url": "ftp://127.0.0.1/"},
    "address with a space": {"path": "/a b"},
    "address with a line break": {"path": "/a\r\nb"},
    "header that is a pseudo-header": {"headers": {":path": "/other"}},
    "header with a bad name": {"headers": {"x y": "1"}},
    "header with a line break": {"headers": {"x-y": "1\r\nx-z: 2"}},
    "header connection": {"headers": {"Connection": "close"}},
    "header keep-alive": {"headers": {"Keep-Alive": "timeout=5"}},
    "header proxy-connection": {"headers": {"proxy-connection": "close"}},
    "header transfer-encoding": {"headers": {"transfer-encoding": "chunked"}},
    "header upgrade": {"headers": {"upgrade": "h2c"}},
    "header te": {"headers": {"te": "gzip"}},
    "header host of another": {"headers": {"host": "elsewhere"}},
    "content-length of another": {"headers": {"content-length": "5"}, "body": b"four"},
    "content-length that is none": {"headers": {"content-length": "x"}},
    "two content-lengths": {"headers": [("content-length", "4"), ("content-length", "4")]},
    "trailer content-length": {"trailers": {"content-length": "4"}},
    "trailer that is a pseudo-header": {"trailers": {":status": "200"}},
    "body of int": {"body": 7},
    "body of text mode": {"body": io.StringIO("text")},
    "authority with userinfo": {"authority": "user@host"},
    "timeout of nothing": {"timeout": 0},
    "timeout below nothing": {"read_timeout": -1},
    "timeout of infinity": {"write_timeout": float("inf")},
    "timeout that is no number": {"pool_timeout": float("nan")},
    "timeout of more than a day": {"connect_timeout": timedelta(days=2)},
    "timeout of text": {"timeout": "5"},
    "timeout of bool": {"timeout": True},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_a_request_that_may_not_be_sent_sends_nothing(wrong: dict[str, Any]) -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        await client.request("POST", peer.url(), body=b"before")
        before = client.stats()
        call = {"method": "POST", "url": peer.url(wrong.get("path", "/")), **wrong}
        call.pop("path", None)
        with pytest.raises(InvalidRequest) as raised:
            await client.request(**call)
        with pytest.raises(InvalidRequest):
            async with client.stream(**call):
                pass
        assert raised.value.processed is False
        assert client.stats() == before
        # The peer can decode what comes next: nothing that it does not know was encoded.
        assert (await client.request("POST", peer.url(), body=b"after")).body == b"after"


async def test_a_keyword_that_does_not_exist_is_an_error_of_type() -> None:
    async with HttpRequestClient(patient()) as client:
        with pytest.raises(TypeError, match="time_out"):
            await client.send_request("127.0.0.1:1/", b"", time_out=5)  # type: ignore[call-arg]


def test_a_default_header_that_may_not_be_sent_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="upgrade"):
        HttpRequestClient(headers={"upgrade": "h2c"})


@pytest.mark.parametrize(
    "use",
    [
        lambda client, url: client.request("GET", url),
        lambda client, url: client.send_request(url, b""),
        lambda client, url: client.stream("GET", url).__aenter__(),
        lambda client, url: client.close(),
    ],
    ids=["request", "send_request", "stream", "close"],
)
async def test_a_client_belongs_to_the_loop_of_its_first_request(
    use: Callable[[HttpRequestClient, str], Any],
) -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        await client.request("GET", peer.url())

        async def elsewhere() -> None:
            await use(client, peer.url())

        with pytest.raises(WrongEventLoop) as raised:
            await asyncio.to_thread(asyncio.run, elsewhere())
        assert raised.value.processed is False


async def test_what_a_generator_holds_is_closed_when_the_request_ends_early() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1000)
        finally:
            closed.set()

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        head = await connection.recv_until(HEADERS)
        connection.rst(head.stream_id, ErrorCodes.INTERNAL_ERROR)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(StreamReset):
            await client.request("POST", peer.url(), body=endless())
        assert closed.is_set()


# Bodies that outlive their responses


async def answered_early(connection: Connection) -> None:
    """A script that answers at the head of a request, and takes the body."""
    await connection.handshake()
    head = await connection.recv_until(HEADERS)
    connection.respond(head.stream_id, b"early")
    while not connection.log(RST_STREAM):
        frame = await connection.recv_frame()
        if frame.kind == DATA and frame.length:
            connection.window_update(0, frame.length)
            connection.window_update(frame.stream_id, frame.length)
        if frame.end_stream:
            return


async def hangs() -> AsyncIterator[bytes]:
    yield b"the beginning"
    await asyncio.get_running_loop().create_future()


async def never_ends() -> AsyncIterator[bytes]:
    while True:
        yield bytes(1000)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("make", "length"), [(hangs, None), (hangs, 8000), (never_ends, None)])
async def test_who_has_read_the_response_is_not_kept_by_a_body_without_an_end(
    make: Callable[[], AsyncIterator[bytes]], length: int | None
) -> None:
    headers = {} if length is None else {"content-length": str(length)}
    async with scripted_peer(answered_early) as peer, HttpRequestClient(patient()) as client:
        async with client.stream("POST", peer.url(), body=make(), headers=headers) as response:
            assert await response.aread() == b"early"
        assert client.stats().streams_in_flight == 0
        await peer.finished()
        connection = await peer.connection()
        assert [frame.code for frame in connection.log(RST_STREAM)] == [NO_ERROR]


async def test_a_body_that_is_slow_and_has_an_end_is_waited_for() -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(8):
            await asyncio.sleep(0.2)
            yield bytes(1000)

    headers = {"content-length": "8000"}
    async with scripted_peer(answered_early) as peer, HttpRequestClient(patient()) as client:
        async with client.stream("POST", peer.url(), body=slow(), headers=headers) as response:
            assert await response.aread() == b"early"
        await peer.finished()
        connection = await peer.connection()
        assert sum(frame.length for frame in connection.log(DATA)) == 8000
        assert connection.log(RST_STREAM) == []


async def test_an_error_of_a_body_behind_a_whole_response_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"the beginning"
        await go_on.wait()
        raise OSError("of the body")

    go_on = asyncio.Event()
    async with scripted_peer(answered_early) as peer, HttpRequestClient(patient()) as client:
        async with client.stream("POST", peer.url(), body=failing()) as response:
            assert await response.aread() == b"early"
            go_on.set()
        await peer.finished()
    (record,) = caplog.records
    assert record.name == "dynamo_h2"
    assert record.message == f"a body for {peer.base} failed after its request was over"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "of the body"
