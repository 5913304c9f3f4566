"""Responses that are malformed, and some that only look so (RFC 9113 §8.1 to §8.3)."""

from __future__ import annotations

from dynamo_h2 import HttpRequestClient, Response
from dynamo_h2.response import Headers
from tests.hostile.stage import Stage
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import CANCEL, OK, PROTOCOL_ERROR
from tests.peers.scripted import Connection, Field


async def malformed(stage: Stage, *fields: Field) -> None:
    """A head with these fields ends its stream and no other."""

    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, *fields))
        peer.data(stream, b"body", end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def malformed_end(stage: Stage, *fields: Field) -> None:
    """Trailers with these fields end their stream and no other, though the body was complete."""

    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"body"))
        peer.raw(frames.headers(stream, *fields, end_stream=True))

    await stage.stream_error(attack, PROTOCOL_ERROR)


# Pseudo-header fields (§8.3)


async def test_a_head_without_a_status_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b"server", b"nameless"))


async def test_a_second_status_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, OK)


async def test_a_status_after_a_field_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b"server", b"late"), OK)


async def test_a_pseudo_field_of_requests_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b":path", b"/"))


async def test_an_unknown_pseudo_field_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b":reason", b"because"))


async def test_a_whole_request_for_a_response_is_malformed(stage: Stage) -> None:
    await malformed(stage, *frames.GET)


async def test_a_status_that_is_no_number_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", b"abc"))


async def test_a_status_without_a_digit_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", b""))


async def test_a_status_of_two_digits_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", b"20"))


async def test_a_status_of_four_digits_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", b"2000"))


async def test_a_status_below_100_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", b"099"))


async def test_a_status_with_a_reason_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", b"200 OK"))


async def test_a_status_with_a_sign_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", b"+20"))


async def test_a_status_in_other_digits_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", "٢٠٠".encode()))


async def test_switching_protocols_is_malformed(stage: Stage) -> None:
    await malformed(stage, (b":status", b"101"))


async def test_a_status_of_no_known_class_is_the_callers_to_judge(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, (b":status", b"999"), end_stream=True))

    assert (await stage.accepted(attack)).status == 999


# Fields (§8.2)


async def test_an_upper_case_name_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"Server", b"shouting"))


async def test_an_empty_name_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"", b"nameless"))


async def test_a_name_with_a_space_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"two words", b"v"))


async def test_a_name_with_a_colon_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"a:b", b"v"))


async def test_a_name_with_a_line_end_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"a\r\nset-cookie", b"v"))


async def test_a_name_that_is_not_ascii_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, ("é".encode(), b"v"))


async def test_a_value_with_a_line_feed_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"x", b"a\nset-cookie: b"))


async def test_a_value_with_a_carriage_return_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"x", b"a\rb"))


async def test_a_value_with_a_null_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"x", b"a\0b"))


async def test_a_value_that_begins_with_a_space_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"x", b" a"))


async def test_a_value_that_ends_with_a_tab_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"x", b"a\t"))


async def test_connection_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"connection", b"close"))


async def test_keep_alive_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"keep-alive", b"timeout=5"))


async def test_proxy_connection_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"proxy-connection", b"keep-alive"))


async def test_transfer_encoding_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"transfer-encoding", b"chunked"))


async def test_upgrade_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"upgrade", b"h2c"))


async def test_te_in_a_response_is_malformed(stage: Stage) -> None:
    await malformed(stage, OK, (b"te", b"trailers"))


async def test_what_only_looks_odd_is_taken(stage: Stage) -> None:
    odd: list[Field] = [
        (b"!#$%&'*+-.^_`|~0", b"token"),
        (b"x-empty", b""),
        (b"x-latin", b"\xe9t\xe9"),
        (b"x-tab", b"a\tb"),
        (b"x-control", b"a\x01b\x7f"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]

    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, *odd, end_stream=True))

    headers = (await stage.accepted(attack)).headers
    assert [(name, value.encode("latin-1")) for name, value in headers.multi_items()] == [
        (name.decode(), value) for name, value in odd
    ]


# Interim responses (§8.1, RFC 9110 §15.2)


async def hinted(client: HttpRequestClient, url: str) -> Response:
    """A call that puts the interim responses into the header ``x-seen`` of what it returns."""
    seen: list[str] = []

    def note(status: int, headers: Headers) -> None:
        seen.append(f"{status} {headers.get('link', '')}".strip())

    response = await client.request("GET", url, on_informational=note)
    assert ", ".join(seen) == response.headers["x-expected"]
    return response


async def test_interim_responses_are_handed_over_and_end_nothing(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [(b":status", b"100")])
        peer.headers(stream, [(b":status", b"103"), (b"link", b"</a>")])
        peer.headers(stream, [(b":status", b"103"), (b"content-length", b"7")])
        peer.headers(stream, [(b":status", b"199")])
        peer.headers(stream, [OK, (b"x-expected", b"100, 103 </a>, 103, 199")])
        peer.data(stream, b"final", end_stream=True)

    assert (await stage.accepted(attack, call=hinted)).body == b"final"


async def test_an_interim_response_that_ends_the_stream_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [(b":status", b"103")], end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_an_interim_response_after_the_head_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        peer.headers(stream, [(b":status", b"103")])

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_data_after_an_interim_response_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [(b":status", b"103")])
        peer.data(stream, b"body", end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_a_malformed_interim_response_ends_its_stream(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [(b":status", b"103"), (b"connection", b"x")])

    await stage.stream_error(attack, PROTOCOL_ERROR)


# The order of a message (§8.1)


async def test_data_before_the_head_is_malformed(stage: Stage) -> None:
    await stage.stream_error(lambda peer, stream: peer.data(stream, b"body"), PROTOCOL_ERROR)


async def test_data_without_a_byte_before_the_head_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.data(stream, b"", end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_a_second_head_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        peer.headers(stream, [OK])

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_a_second_response_in_one_stream_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"one"))
        peer.raw(frames.headers(stream, OK, end_stream=True))

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_trailers_that_do_not_end_the_stream_are_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"body"))
        peer.raw(frames.headers(stream, (b"x", b"trailer")))
        peer.raw(frames.data(stream, b"more", end_stream=True))

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_a_status_in_trailers_is_malformed(stage: Stage) -> None:
    await malformed_end(stage, OK)


async def test_a_pseudo_field_behind_a_trailer_is_malformed(stage: Stage) -> None:
    await malformed_end(stage, (b"x", b"trailer"), (b":path", b"/"))


async def test_an_upper_case_trailer_is_malformed(stage: Stage) -> None:
    await malformed_end(stage, (b"X", b"trailer"))


async def test_a_trailer_with_a_line_end_is_malformed(stage: Stage) -> None:
    await malformed_end(stage, (b"x", b"a\r\nb"))


async def test_a_trailer_of_the_connection_is_malformed(stage: Stage) -> None:
    await malformed_end(stage, (b"transfer-encoding", b"chunked"))


async def test_trailers_without_a_field_are_an_end(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"body"))
        peer.raw(frames.headers(stream, end_stream=True))

    response = await stage.accepted(attack)
    assert (response.body, list(response.trailers)) == (b"body", [])


async def test_trailers_right_after_the_head_are_an_end(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.headers(stream, (b"x", b"t"), end_stream=True))

    response = await stage.accepted(attack)
    assert (response.body, response.trailers["x"]) == (b"", "t")


async def test_what_was_malformed_is_reset_once_whatever_follows(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        for _ in range(3):
            peer.raw(frames.headers(stream, (b"Bad", b"x")))
            peer.data(stream, b"body")
        peer.rst(stream, CANCEL)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_an_interim_response_in_pieces_is_one(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, (b":status", b"103"), flags=0))
        peer.raw(frames.continuation(stream, frames.block((b"link", b"</a>"))))
        peer.headers(stream, [OK, (b"x-expected", b"103 </a>")])
        peer.data(stream, b"final", end_stream=True)

    assert (await stage.accepted(attack, call=hinted)).body == b"final"


async def test_an_interim_response_longer_than_announced_ends_its_stream(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, (b":status", b"103"), (b"x", b"v" * 70_000)))

    await stage.stream_error(attack, PROTOCOL_ERROR)
