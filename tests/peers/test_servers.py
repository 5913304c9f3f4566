from __future__ import annotations

import hashlib
import json
import ssl

import pytest
from h2.connection import ConnectionState
from h2.exceptions import ProtocolError

from examples.worker import pattern
from tests.peers import Peer, servers_with
from tests.peers.plain import Answer, plain_client
from tests.peers.servers import KINDS, OVERLOADED, SIZES, STATUSES, TRAILED, TRAILED_SHA256, Kind


def over(*capabilities: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("peer", servers_with(*capabilities), indirect=True)


@over("rpc")
async def test_an_rpc_is_accepted_without_a_body(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answer = await client.request("POST", "/v1/rpc/generate", b"payload")
    assert (answer.status, answer.body) == (202, b"")


@over("echo")
async def test_an_echo_gives_the_body_back(peer: Peer) -> None:
    body = pattern(10_000)
    async with plain_client(peer) as client:
        answer = await client.request("POST", "/echo", body)
    assert (answer.status, answer.body) == (200, body)


@over("full_duplex")
async def test_a_full_duplex_echo_answers_before_the_body_ends(peer: Peer) -> None:
    answer = Answer()
    async with plain_client(peer) as client:
        stream_id = client.send_head("POST", "/echo", end_stream=False)
        for piece in (b"one", b"two"):
            client.h2.send_data(stream_id, piece)
            while not answer.body.endswith(piece):
                await client.step(stream_id, answer)
        client.h2.end_stream(stream_id)
        await client.finish(stream_id, answer)
    assert answer.body == b"onetwo"


@over("hash")
async def test_a_hash_is_that_of_the_body(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answer = await client.request("POST", "/hash", b"payload")
    assert answer.body.decode() == hashlib.sha256(b"payload").hexdigest()


@over("headers")
async def test_headers_come_back_as_pairs(peer: Peer) -> None:
    fields = [(b"x-twice", b"one"), (b"x-twice", b"two")]
    async with plain_client(peer) as client:
        answer = await client.request("GET", "/headers", fields=fields)
    pairs = json.loads(answer.body)
    assert [value for name, value in pairs if name == "x-twice"] == ["one", "two"]


@over("status")
async def test_a_status_is_the_one_in_the_path(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answers = [await client.request("GET", f"/status/{status}") for status in STATUSES]
    assert [answer.status for answer in answers] == list(STATUSES)


@over("bytes")
async def test_bytes_are_the_pattern(peer: Peer) -> None:
    async with plain_client(peer) as client:
        for size in SIZES:
            answer = await client.request("GET", f"/bytes/{size}")
            assert answer.status == 200
            assert answer.body == pattern(size)


@over("path")
async def test_a_path_comes_back(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answer = await client.request("GET", "/path/a%20b/1")
    assert (answer.status, answer.body) == (200, b"/path/a%20b/1")


@over("put")
async def test_what_was_put_can_be_got(peer: Peer) -> None:
    async with plain_client(peer) as client:
        await client.request("PUT", "/put/it", b"kept")
        answer = await client.request("GET", "/put/it")
    assert (answer.status, answer.body) == (200, b"kept")


@over("stream")
async def test_tokens_come_one_by_one(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answer = await client.request("GET", "/tokens?count=5&interval_ms=1")
    events = [piece for piece in answer.pieces if piece]
    assert [json.loads(event.removeprefix(b"data: "))["index"] for event in events] == [*range(5)]
    assert all(event.endswith(b"}\n\n") for event in events)
    assert (b"content-type", b"text/event-stream") in answer.fields


@over("slow_read")
async def test_a_slow_reader_reads_it_all(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answer = await client.request("POST", "/slow_read?pause_ms=1", pattern(10_000))
    assert answer.body == b"10000"


@over("overloaded")
async def test_an_overloaded_server_says_so(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answer = await client.request("POST", "/overloaded", b"payload")
    assert (answer.status, answer.body.decode()) == (503, OVERLOADED)


@over("hang", "stream", "bytes", "cancelled")
@pytest.mark.parametrize(
    "path", ["/hang", "/tokens?count=1000000&interval_ms=1", f"/bytes/{10**12}"]
)
async def test_a_server_sees_that_its_client_gave_up(peer: Peer, path: str) -> None:
    async with plain_client(peer) as client:
        before = json.loads((await client.request("GET", "/cancelled")).body)
        stream_id = client.send_head("GET", path, end_stream=True)
        # The answer to a second request: the first one has reached the app.
        await client.request("GET", "/status/200")
        client.h2.reset_stream(stream_id, 8)
        now = before
        while now["cancelled"] == before["cancelled"]:
            now = json.loads((await client.request("GET", "/cancelled")).body)
    assert now == {"cancelled": before["cancelled"] + 1, "running": before["running"]}


@over("informational")
async def test_an_informational_answer_comes_first(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answer = await client.request("POST", "/early", b"x", [(b"expect", b"100-continue")])
    assert answer.informational in ([100], [103])
    assert answer.status == 200


@over("trailers")
async def test_trailers_hold_the_hash_of_the_body(peer: Peer) -> None:
    async with plain_client(peer) as client:
        answer = await client.request("POST", "/trailers", TRAILED, [(b"te", b"trailers")])
    assert answer.body == TRAILED
    assert answer.trailers == [(b"x-sha256", TRAILED_SHA256.encode())]


async def test_a_worker_listens_on_a_unix_socket(granian_unix: Peer) -> None:
    async with plain_client(granian_unix) as client:
        answer = await client.request("POST", "/echo", b"by socket")
    assert answer.body == b"by socket"


async def test_nginx_takes_a_client_with_a_certificate(nginx_mtls: Peer) -> None:
    async with plain_client(nginx_mtls, with_certificate=True) as client:
        answer = await client.request("GET", "/bytes/1000")
    assert answer.body == pattern(1000)


async def test_nginx_answers_a_client_without_a_certificate_with_400(nginx_mtls: Peer) -> None:
    async with plain_client(nginx_mtls) as client:
        answer = await client.request("GET", "/bytes/1000")
    assert answer.status == 400


async def test_granian_takes_a_client_with_a_certificate(granian_mtls: Peer) -> None:
    async with plain_client(granian_mtls, with_certificate=True) as client:
        answer = await client.request("POST", "/echo", b"in secret")
    assert answer.body == b"in secret"


async def test_granian_sends_an_alert_to_a_client_without_a_certificate(granian_mtls: Peer) -> None:
    async with plain_client(granian_mtls) as client:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await client.request("POST", "/echo", b"in secret")


async def test_nginx_sends_goaway_with_the_thousandth_answer(nginx: Peer) -> None:
    async with plain_client(nginx) as client:
        for _ in range(999):
            await client.request("GET", "/bytes/1")
        with pytest.raises(ProtocolError):  # h2 takes an answer after GOAWAY for an error
            await client.request("GET", "/bytes/1")
        assert client.h2.state_machine.state is ConnectionState.CLOSED


def test_every_kind_says_why_it_lacks_what_it_lacks() -> None:
    assert all(reason for kind in KINDS.values() for reason in kind.lacks.values())


def test_a_capability_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="no capability"):
        servers_with("ecko")


def test_a_missing_program_skips_the_test_and_names_the_package() -> None:
    kind = Kind({}, "no-such-program", "no-such-package")
    with pytest.raises(pytest.skip.Exception, match="sudo apt-get install no-such-package"):
        kind.program()
