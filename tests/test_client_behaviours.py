"""What every server should see and show: one list of behaviours, over all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

import pytest

from dynamo_h2 import Overloaded, RequestTimeout, StatusError
from examples.worker import pattern
from tests.behaviours import async_pieces, client_for, noise, pieces, sha256, until, until_known
from tests.peers import Peer, servers_with
from tests.peers.servers import OVERLOADED, SIZES, STATUSES, TRAILED, TRAILED_SHA256

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

BIG = 3 * (1 << 20) + 17


def over(*capabilities: str, **unable: str) -> pytest.MarkDecorator:
    """Run a test on each server that has these capabilities.

    Args:
        capabilities: What the test needs of the server.
        unable: Further servers that cannot show it, each with the reason.
    """
    peers: list[object] = []
    for parameter in servers_with(*capabilities):
        name = cast("ParameterSet", parameter).values[0]
        reason = unable.get(str(name))
        mark = pytest.mark.xfail(reason=f"{name}: {reason}", run=False)
        peers.append(pytest.param(name, marks=mark) if reason else parameter)
    return pytest.mark.parametrize("peer", peers, indirect=True)


# Requests and answers in memory


@over("rpc")
async def test_a_request_is_accepted_with_no_body(peer: Peer) -> None:
    async with client_for(peer) as client:
        assert await client.send_request(peer.url("/v1/rpc/generate"), b"payload") == b""
        response = await client.request("POST", peer.url("/v1/rpc/generate"), body=b"payload")
    assert (response.status, response.body) == (202, b"")


@over("echo")
@pytest.mark.parametrize("size", [0, 1, 16_384, 65_536, 65_537, BIG])
async def test_a_body_comes_back_as_it_went_out(peer: Peer, size: int) -> None:
    body = noise(size)
    async with client_for(peer) as client:
        answer = await client.send_request(peer.url("/echo"), body)
    assert sha256(answer) == sha256(body)


@over("echo")
async def test_a_body_may_come_from_an_iterator(peer: Peer) -> None:
    body = noise(BIG)
    async with client_for(peer) as client:
        answers = await asyncio.gather(
            client.send_request(peer.url("/echo"), pieces(body)),
            client.send_request(peer.url("/echo"), async_pieces(body, 10_007)),
            client.send_request(peer.url("/echo"), lambda: async_pieces(body, 300_000)),
        )
    assert {sha256(answer) for answer in answers} == {sha256(body)}


@over("hash")
async def test_a_big_upload_arrives_whole(peer: Peer) -> None:
    body = noise(4 * BIG)
    async with client_for(peer) as client:
        answer = await client.send_request(peer.url("/hash"), body)
    assert answer.decode() == sha256(body)


@over("put")
async def test_what_was_put_is_given_back(peer: Peer) -> None:
    body = noise(4 * BIG)
    async with client_for(peer) as client:
        created = await client.request("PUT", peer.url("/put/model"), body=async_pieces(body))
        kept = await client.request("GET", peer.url("/put/model"))
    assert created.is_success
    assert sha256(kept.body) == sha256(body)


@over("bytes")
@pytest.mark.parametrize("size", SIZES)
async def test_an_answer_of_any_size_arrives_whole(peer: Peer, size: int) -> None:
    async with client_for(peer) as client:
        response = await client.request("GET", peer.url(f"/bytes/{size}"))
    assert response.status == 200
    assert sha256(response.body) == sha256(pattern(size))


@over("status")
@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_reaches_the_caller(peer: Peer, status: int) -> None:
    async with client_for(peer) as client:
        response = await client.request("GET", peer.url(f"/status/{status}"))
    assert response.status == status
    assert response.is_success == (status < 300)


@over("status")
@pytest.mark.parametrize("status", [400, 404, 418, 500])
async def test_a_status_that_is_no_success_is_an_error_of_send_request(
    peer: Peer, status: int
) -> None:
    async with client_for(peer) as client:
        with pytest.raises(StatusError) as raised:
            await client.send_request(peer.url(f"/status/{status}"), b"")
    assert type(raised.value) is StatusError
    assert (raised.value.status, raised.value.processed) == (status, True)


@over("overloaded")
async def test_an_overloaded_worker_says_so(peer: Peer) -> None:
    async with client_for(peer) as client:
        with pytest.raises(Overloaded) as raised:
            await client.send_request(peer.url("/overloaded"), b"payload")
    assert (raised.value.status, raised.value.body) == (503, OVERLOADED.encode())


@over("bytes", granian="it answers HEAD with a body")
async def test_head_has_the_length_and_no_body(peer: Peer) -> None:
    async with client_for(peer) as client:
        response = await client.request("HEAD", peer.url("/bytes/1000"))
    assert (response.status, response.body) == (200, b"")
    assert response.headers.get("content-length", "1000") == "1000"


@over("status")
async def test_no_content_has_no_body_and_the_next_request_succeeds(peer: Peer) -> None:
    async with client_for(peer) as client:
        empty = await client.request("GET", peer.url("/status/204"))
        after = await client.request("GET", peer.url("/status/200"))
    assert (empty.status, empty.body, after.status) == (204, b"", 200)


@over("headers")
async def test_headers_arrive_as_they_were_given(peer: Peer) -> None:
    given = {"Request-Id": "7", "authorization": "Bearer secret", "x-text": "caf\u00e9"}
    async with client_for(peer) as client:
        for _ in range(3):  # the second and third time some come out of the peer's table
            answer = await client.send_request(peer.url("/headers"), b"1234", given)
            seen = dict(json.loads(answer))
            assert (seen["request-id"], seen["x-text"]) == ("7", "caf\u00e9")
            assert seen["authorization"] == "Bearer secret"
            assert seen["content-type"] == "application/octet-stream"
            assert seen["content-length"] == "4"


@over("path")
async def test_the_path_arrives_as_it_was_given(peer: Peer) -> None:
    path = "/path/v1/a%20b;c=d/~x/@!$&'()*+,"
    async with client_for(peer) as client:
        response = await client.request("GET", peer.url(path))
    assert response.text == path


@over("trailers")
async def test_trailers_come_after_the_body(peer: Peer) -> None:
    wanted = {"te": "trailers"}
    async with client_for(peer) as client:
        url = peer.url("/trailers")
        whole = await client.request("POST", url, headers=wanted, body=TRAILED)
        async with client.stream("POST", url, headers=wanted, body=TRAILED) as response:
            assert not response.trailers
            assert await response.aread() == TRAILED
            assert dict(response.trailers) == {"x-sha256": TRAILED_SHA256}
    assert whole.body == TRAILED
    assert dict(whole.trailers) == {"x-sha256": TRAILED_SHA256}


@over("informational")
async def test_an_interim_response_does_not_end_the_request(peer: Peer) -> None:
    seen: list[int] = []
    async with client_for(peer) as client:
        response = await client.request(
            "POST",
            peer.url("/early"),
            headers={"expect": "100-continue"},
            body=b"payload",
            on_informational=lambda status, _: seen.append(status),
        )
    assert response.status == 200
    assert seen
    assert all(100 < status < 200 or status == 100 for status in seen)


# Answers that are read as they arrive


@over("bytes")
async def test_an_answer_can_be_read_piece_by_piece(peer: Peer) -> None:
    received = bytearray()
    count = 0
    async with (
        client_for(peer) as client,
        client.stream("GET", peer.url(f"/bytes/{1 << 24}")) as response,
    ):
        assert response.status == 200
        async for chunk in response:
            received += chunk
            count += 1
    assert count > 1
    assert sha256(received) == sha256(pattern(1 << 24))


@over("stream")
async def test_tokens_arrive_as_events(peer: Peer) -> None:
    async with client_for(peer) as client:
        url = peer.url("/tokens?count=20&interval_ms=1")
        async with client.stream("POST", url, body=b"prompt") as response:
            events = [json.loads(event.data)["index"] async for event in response.aiter_sse()]
    assert events == list(range(20))


@over("stream")
async def test_a_token_is_there_before_the_next_one_is_made(peer: Peer) -> None:
    async with client_for(peer) as client:
        # A thousand seconds until the second token: whoever waits for it runs into the time limit.
        url = peer.url("/tokens?count=2&interval_ms=1000000")
        async with client.stream("POST", url, body=b"prompt") as response:
            event = await anext(aiter(response.aiter_sse()))
        assert json.loads(event.data)["index"] == 0
        assert client.stats().streams_in_flight == 0


@over("full_duplex")
async def test_a_response_may_begin_while_the_body_is_still_going_out(peer: Peer) -> None:
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    sent = [noise(1000, seed) for seed in range(10)]

    async def question() -> AsyncIterator[bytes]:
        for piece in sent:
            yield piece
            received = b""
            while len(received) < len(piece):
                received += await answers.get()
            assert received == piece

    async with (
        client_for(peer) as client,
        client.stream("POST", peer.url("/echo"), body=question()) as response,
    ):
        async for chunk in response:
            answers.put_nowait(chunk)


@over("bytes")
async def test_leaving_an_answer_early_leaves_the_connection_alone(peer: Peer) -> None:
    async with client_for(peer) as client:
        for _ in range(5):
            async with client.stream("GET", peer.url(f"/bytes/{1 << 24}")) as response:
                await anext(aiter(response))
            after = await client.request("GET", peer.url("/bytes/1000"))
            assert after.body == pattern(1000)
        stats = client.stats()
    assert (stats.streams_in_flight, stats.connections_opened) == (0, 1)


# Giving up


@over("hang", "cancelled")
async def test_a_worker_hears_of_a_cancelled_request(peer: Peer) -> None:
    async with client_for(peer) as client:

        async def cancelled() -> int:
            answer = await client.request("GET", peer.url("/cancelled"))
            return int(answer.json()["cancelled"])

        before = await cancelled()
        task = asyncio.create_task(client.send_request(peer.url("/hang"), b""))
        await until(lambda: client.stats().streams_in_flight == 1)
        await client.send_request(peer.url("/v1/rpc/x"), b"")  # the one before it has arrived too
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_known(cancelled, before + 1)
        assert client.stats().connections_opened == 1


@over("hang", "cancelled")
async def test_a_request_that_is_never_answered_runs_out_of_time(peer: Peer) -> None:
    async with client_for(peer) as client:
        await client.send_request(peer.url("/v1/rpc/x"), b"")
        with pytest.raises(RequestTimeout) as raised:
            await client.send_request(peer.url("/hang"), b"", timeout=0.2)
        assert raised.value.processed is None
        assert await client.send_request(peer.url("/v1/rpc/x"), b"") == b""
        assert client.stats().connections_opened == 1


@over("slow_read")
async def test_a_slow_reader_gets_every_byte(peer: Peer) -> None:
    body = noise(BIG)
    async with client_for(peer) as client:
        answer = await client.send_request(
            peer.url("/slow_read?pause_ms=1"), async_pieces(body), timeout=None
        )
    assert int(answer) == len(body)


# Many requests


@over("bytes")
async def test_a_hundred_requests_at_once_share_one_connection(peer: Peer) -> None:
    async with client_for(peer) as client:
        responses = await asyncio.gather(
            *(client.request("GET", peer.url("/bytes/1000")) for _ in range(100))
        )
        assert client.stats().connections_opened == 1
    assert {response.body for response in responses} == {pattern(1000)}


@over("bytes")
async def test_many_requests_one_after_the_other_share_one_connection(peer: Peer) -> None:
    async with client_for(peer) as client:
        for number in range(200):
            size = (1, 1000, 1024)[number % 3]
            response = await client.request("GET", peer.url(f"/bytes/{size}"))
            assert response.body == pattern(size)
        stats = client.stats()
    assert (stats.responses, stats.connections_opened, stats.retries) == (200, 1, 0)


@over("bytes")
async def test_small_answers_arrive_while_big_ones_are_read(peer: Peer) -> None:
    async with client_for(peer) as client:

        async def small() -> None:
            for _ in range(20):
                response = await client.request("GET", peer.url("/bytes/1000"))
                assert response.body == pattern(1000)

        async def big() -> None:
            response = await client.request("GET", peer.url(f"/bytes/{1 << 24}"))
            assert sha256(response.body) == sha256(pattern(1 << 24))

        await asyncio.gather(big(), small(), small(), big())
