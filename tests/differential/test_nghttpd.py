"""A peer that is strict about HPACK reads what an engine sends, however small its table is."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.headers import Field, build_head
from tests.differential.watcher import Watcher
from tests.http2.frame_factory import HEADER_TABLE_SIZE, parse
from tests.peers.servers import Peer, run_nghttpd

TABLE_SIZES = (0, 1024)
HEAD = build_head(
    "POST",
    "http",
    "worker",
    "/echo",
    ((b"content-type", b"application/json"), (b"x-model", b"large"), (b"authorization", b"s")),
)
BODY = b"what comes back"
FIELDS: tuple[Field, ...] = ((b"content-length", b"15"), (b"x-request-id", b"1"))


@pytest.fixture(scope="module", params=TABLE_SIZES)
def strict(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, site: Path
) -> Iterator[Peer]:
    """An nghttpd that announces a small table."""
    directory = tmp_path_factory.mktemp("strict")
    with run_nghttpd(directory, site, f"--header-table-size={request.param}") as peer:
        yield peer


class Client:
    """An engine with a socket."""

    def __init__(self, kind: type[Engine], peer: Peer) -> None:
        self.watcher = Watcher({0})
        self.engine = self.watcher.engine = kind(Http2Config(), self.watcher)
        self._socket = socket.create_connection(("127.0.0.1", peer.address.port), timeout=10)
        self.engine.initiate()

    def close(self) -> None:
        self._socket.close()

    def flush(self) -> None:
        self._socket.sendall(b"".join(self.engine.take_output()))

    def request(self) -> int:
        """Send a request with all of its body."""
        return self.engine.send_request(HEAD, FIELDS, BODY)

    def receive(self, event: str, stream: int | None = None) -> None:
        """Read on until an event came, on a stream if one is named."""
        while not any(
            call[0] == event and (stream is None or call[1] == stream)
            for call in self.watcher.calls
        ):
            data = self._socket.recv(65_536)
            assert data, f"the peer hung up, after {self.watcher.calls}"
            self.engine.receive(data)
            self.flush()

    def answered(self, stream: int) -> None:
        """Wait for a response; it has to be the request."""
        self.receive("trailers", stream)
        told = [call for call in self.watcher.calls if len(call) > 1 and call[1] == stream]
        assert told[0][:3] == ("head", stream, 200)
        body = b"".join(bytes(call[2]) for call in told if isinstance(call[2], bytes))
        assert body == BODY


@pytest.fixture
def client(engine_class: type[Engine], strict: Peer) -> Iterator[Client]:
    with contextlib.closing(Client(engine_class, strict)) as made:
        yield made


def test_requests_before_and_after_the_small_table_is_announced_are_read(client: Client) -> None:
    early = [client.request() for _ in range(3)]
    client.flush()
    client.receive("settings")
    late = [client.request() for _ in range(3)]
    client.flush()
    for stream in early + late:
        client.answered(stream)


def test_the_first_request_after_the_small_table_was_announced_is_read(client: Client) -> None:
    client.flush()
    client.receive("settings")
    client.flush()
    for _ in range(3):
        stream = client.request()
        client.flush()
        client.answered(stream)


def test_the_first_block_after_it_was_announced_says_so(client: Client) -> None:
    client.flush()
    client.receive("settings")
    client.engine.take_output()
    for expected in (True, False):
        client.request()
        payload = parse(b"".join(client.engine.take_output()))[0].payload
        assert (payload[0] & 0xE0 == 0x20) is expected
    assert client.engine.encoder.header_table_size == client.engine.remote_settings.get(
        HEADER_TABLE_SIZE
    )
