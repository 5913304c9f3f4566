"""Which header fields may be sent, and which may be received (RFC 9113 §8.2 and §8.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived
from h2.exceptions import ProtocolError
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.errors import InvalidRequest
from dynamo_h2.http2.headers import (
    SENSITIVE,
    Field,
    HeaderChecker,
    Malformed,
    build_head,
    check_response_head,
    check_trailers,
    content_length,
    normalize_headers,
    normalize_trailers,
    response_content_length,
)

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
CONNECTION_SPECIFIC = (
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
)
OK: Field = (b":status", b"200")

# Names and values without meaning of their own: what remains is the grammar.
names = st.text(TOKEN, min_size=1, max_size=20).map("x-".__add__)
inner = st.characters(codec="latin-1", categories=("L", "N", "P", "S"))
values = st.text(inner | st.sampled_from("\t "), max_size=20).map(str.strip)
pairs = st.lists(st.tuples(names, values), max_size=8)


# Outbound


@pytest.mark.parametrize(
    "headers",
    [
        {"X-One": "1", "x-two": "zwei"},
        {b"X-One": b"1", b"X-TWO": b"zwei"},
        [("X-One", "1"), ("X-Two", "zwei")],
        [(b"x-one", "1"), ["x-two", b"zwei"]],
        iter([("x-one", "1"), ("x-two", "zwei")]),
    ],
)
def test_names_are_lower_cased_whatever_form_the_headers_have(headers: object) -> None:
    assert normalize_headers(headers) == ((b"x-one", b"1"), (b"x-two", b"zwei"))  # type: ignore[arg-type]


def test_no_headers_are_no_fields() -> None:
    assert normalize_headers(None) == ()
    assert normalize_headers({}) == ()
    assert normalize_trailers(None) == ()


def test_a_name_may_repeat_and_keeps_its_order() -> None:
    fields = normalize_headers([("accept", "a"), ("x", "1"), ("Accept", "b")])
    assert fields == ((b"accept", b"a"), (b"x", b"1"), (b"accept", b"b"))


def test_text_values_are_latin_1_and_bytes_go_as_they_are() -> None:
    fields = normalize_headers([("a", "caf\xe9"), ("b", "caf\xe9".encode())])
    assert fields == ((b"a", b"caf\xe9"), (b"b", b"caf\xc3\xa9"))


def test_text_that_is_not_latin_1_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"'price': value '5 €'; allowed: str within Latin-1"):
        normalize_headers({"price": "5 €"})


def test_a_value_may_be_empty_and_may_hold_whitespace_inside() -> None:
    assert normalize_headers({"a": "", "b": "x \t y"}) == ((b"a", b""), (b"b", b"x \t y"))


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "a\n", "\na", "a\0", "a(", "é", "a\x7f"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    for given_as in (name, name.encode()):
        with pytest.raises(InvalidRequest, match=r"header name .* are allowed"):
            normalize_headers([(given_as, "x")])


@pytest.mark.parametrize(
    "value",
    [
        "a\rb",
        "a\nb",
        "a\0b",
        "\r\n",
        "a\n",
        "a\r",
        "\x01",
        "\x1f",
        "\x7f",
        " a",
        "a ",
        "\ta",
        "a\t",
        " ",
    ],
)
def test_a_value_with_control_characters_or_whitespace_around_it_is_refused(value: str) -> None:
    for given_as in (value, value.encode()):
        with pytest.raises(InvalidRequest, match=r"header 'x': value .* allowed: no control"):
            normalize_headers([("x", given_as)])
        with pytest.raises(InvalidRequest, match="header 'x': value"):
            normalize_trailers([("x", given_as)])


@pytest.mark.parametrize("name", CONNECTION_SPECIFIC)
def test_connection_specific_fields_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"no connection-specific field .*§8.2.2"):
        normalize_headers({name.title(): "x"})
    with pytest.raises(InvalidRequest, match=name):
        normalize_trailers({name: "x"})


def test_te_may_say_trailers_and_nothing_else() -> None:
    assert normalize_headers({"TE": "trailers"}) == ((b"te", b"trailers"),)
    for value in ("gzip", "trailers, gzip", ""):
        with pytest.raises(InvalidRequest, match='"trailers" and nothing else'):
            normalize_headers({"te": value})


@pytest.mark.parametrize("name", [":path", ":status", ":protocol", ":", b":method"])
def test_pseudo_header_fields_are_refused(name: str | bytes) -> None:
    with pytest.raises(InvalidRequest, match="pseudo-header fields are made from"):
        normalize_headers([(name, "x")])
    with pytest.raises(InvalidRequest, match="pseudo-header fields are made from"):
        normalize_trailers([(name, "x")])


@pytest.mark.parametrize("pair", ["ab", b"ab", ("a",), ("a", "b", "c"), 7, None, {"a": "b"}])
def test_what_is_no_pair_is_refused(pair: object) -> None:
    with pytest.raises(InvalidRequest, match=r"must be \(name, value\) pairs"):
        normalize_headers([pair])  # type: ignore[list-item]


@pytest.mark.parametrize("value", [7, None, 1.5, bytearray(b"x"), ["x"]])
def test_a_value_of_another_type_is_refused_by_the_name_of_its_type(value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"str or bytes, not {type(value).__name__}"):
        normalize_headers([("x", value)])  # type: ignore[list-item]


def test_a_name_of_another_type_is_refused_by_the_name_of_its_type() -> None:
    with pytest.raises(InvalidRequest, match="must be str or bytes, not int"):
        normalize_headers([(7, "x")])  # type: ignore[list-item]


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidRequest) as caught:
        normalize_headers({"x": "a" * 10_000 + "\n"})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", sorted(SENSITIVE))
def test_the_value_of_a_sensitive_field_is_not_in_the_message(name: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        normalize_headers([(name, b"Bearer hunter2\n")])
    assert "hunter2" not in str(caught.value)
    assert name.decode() in str(caught.value)


@settings(max_examples=300)
@given(pairs)
def test_what_the_grammar_allows_goes_out_as_it_was_given(fields: list[tuple[str, str]]) -> None:
    sent = normalize_headers(fields)
    assert [name for name, _ in sent] == [name.lower().encode() for name, _ in fields]
    assert [value for _, value in sent] == [value.encode("latin-1") for _, value in fields]
    assert normalize_headers(sent) == sent


@settings(max_examples=300)
@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=4))
def test_any_bytes_are_refused_or_harmless(fields: list[Field]) -> None:
    try:
        sent = normalize_headers(fields)
    except InvalidRequest:
        return
    for name, value in sent:
        assert name
        assert set(name) <= set(TOKEN.lower().encode())
        assert not set(value) & set(range(0x20)) - {0x09}
        assert value == value.strip()
    check_trailers([field for field in sent if field[0] != b"te"])


# Content-length


def test_the_content_length_is_a_number_and_there_is_one() -> None:
    assert content_length(normalize_headers({"Content-Length": "42"})) == 42
    assert content_length(normalize_headers({"x": "1"})) is None
    for value in ("", "-1", "+1", "1.0", "0x10", "1 2", "1,1", "²", "9" * 20):
        with pytest.raises(InvalidRequest, match="one number of bytes, in digits"):
            normalize_headers({"content-length": value})


@pytest.mark.parametrize("second", ["42", "43"])
def test_a_second_content_length_is_refused_even_when_it_agrees(second: str) -> None:
    with pytest.raises(InvalidRequest, match="content-length"):
        normalize_headers([("content-length", "42"), ("Content-Length", second)])


# Trailers out


def test_trailers_are_fields_like_others() -> None:
    assert normalize_trailers({"X-Checksum": "1f"}) == ((b"x-checksum", b"1f"),)


@pytest.mark.parametrize(
    "name", ["content-length", "Host", "te", "trailer", "authorization", "content-type", "range"]
)
def test_what_must_come_before_the_body_is_refused_in_trailers(name: str) -> None:
    with pytest.raises(InvalidRequest, match="in trailers only"):
        normalize_trailers({name: "1"})


# The head


def test_pseudo_header_fields_come_first() -> None:
    head = build_head("POST", "https", "worker:8443", "/v1/rpc?x=1", ((b"a", b"b"),))
    assert head.fields == (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"worker:8443"),
        (b":path", b"/v1/rpc?x=1"),
        (b"a", b"b"),
    )
    assert head.method == b"POST"


def test_heads_are_compared_and_hashed_by_identity_and_never_change() -> None:
    one, two = (build_head("GET", "http", "a", "/", ()) for _ in range(2))
    assert one.fields == two.fields
    assert one != two
    assert len({one, two, one}) == 2
    with pytest.raises(AttributeError):
        one.method = b"PUT"  # type: ignore[misc]


@pytest.mark.parametrize("method", ["", "GE T", "GET\n", "GÉT", "GET:", "\r\n"])
def test_a_method_is_a_token(method: str) -> None:
    with pytest.raises(InvalidRequest, match=r"':method'.*a token"):
        build_head(method, "http", "a", "/", ())


def test_the_case_of_a_method_is_kept() -> None:
    assert build_head("Purge", "http", "a", "/", ()).method == b"Purge"


def test_connect_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="any method but CONNECT"):
        build_head("CONNECT", "http", "a", "/", ())


@pytest.mark.parametrize("scheme", ["", "ftp", "HTTP", "http\n"])
def test_the_scheme_is_http_or_https(scheme: str) -> None:
    with pytest.raises(InvalidRequest, match="':scheme'"):
        build_head("GET", scheme, "a", "/", ())


@pytest.mark.parametrize(
    "authority", ["", "user@host", "a b", "a/b", "a\r\nx: y", "ü", "a?b", "a#b"]
)
def test_an_authority_is_host_and_port(authority: str) -> None:
    with pytest.raises(InvalidRequest, match=r"':authority'.*host or host:port"):
        build_head("GET", "http", authority, "/", ())


@pytest.mark.parametrize("authority", ["a", "a:1", "[::1]:80", "xn--bcher-kva.example", "a_b.c"])
def test_common_forms_of_an_authority_pass(authority: str) -> None:
    assert build_head("GET", "http", authority, "/", ()).fields[2][1] == authority.encode()


@pytest.mark.parametrize("path", ["", "a", "/a b", "/a#b", "/é", "/\n", "/\x7f", "*", "http://a/"])
def test_a_path_begins_with_a_slash_and_is_quoted(path: str) -> None:
    with pytest.raises(InvalidRequest, match="':path'"):
        build_head("GET", "http", "a", path, ())


@pytest.mark.parametrize("path", ["/", "/a?b=c&d", "/%20", "/{id}", '/"', "//", "/[x]|"])
def test_a_path_may_hold_what_servers_take(path: str) -> None:
    assert build_head("GET", "http", "a", path, ()).fields[3][1] == path.encode()


def test_only_options_may_ask_for_the_whole_server() -> None:
    assert build_head("OPTIONS", "http", "a", "*", ()).fields[3] == (b":path", b"*")


def test_a_host_field_that_repeats_the_authority_is_left_out() -> None:
    head = build_head("GET", "http", "a:1", "/", ((b"host", b"A:1"), (b"x", b"y")))
    assert head.fields[4:] == ((b"x", b"y"),)


def test_a_host_field_that_contradicts_the_authority_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'host': value 'b'; allowed: the authority 'a'"):
        build_head("GET", "http", "a", "/", ((b"host", b"b"),))


# Inbound


@pytest.mark.parametrize("status", [100, 103, 200, 204, 304, 404, 503, 999])
def test_the_status_is_returned(status: int) -> None:
    assert check_response_head([(b":status", b"%d" % status), (b"a", b"")]) == status
    assert check_response_head([(b":status", b"%d" % status)]) == status


@pytest.mark.parametrize(
    "status",
    [
        b"",
        b"abc",
        b"99",
        b"099",
        b"2000",
        b"101",
        b"+20",
        b"2 0",
        b"200 ",
        b"200\n",
        b"\xb2\xb2\xb2",
    ],
)
def test_a_bad_status_is_malformed(status: bytes) -> None:
    with pytest.raises(Malformed, match=":status '"):
        check_response_head([(b":status", status)])


BAD_HEADS: list[tuple[list[Field], str]] = [
    ([], "no :status"),
    ([(b"a", b"b")], "no :status"),
    ([(b"a", b"b"), OK], ":status after a regular field"),
    ([OK, OK], "':status' out of place"),
    ([OK, (b"a", b"b"), (b":path", b"/")], "':path' out of place"),
    ([OK, (b":path", b"/")], "':path' out of place"),
    ([OK, (b":new", b"x")], "':new' out of place"),
    ([(b":path", b"/"), OK], "pseudo-header field :path of a request in a response"),
    ([(b":new", b"/"), OK], "unknown pseudo-header field ':new'"),
]
BAD_FIELDS: list[tuple[Field, str]] = [
    ((b"", b"x"), "empty field name"),
    ((b"Server", b"x"), "upper case in field name 'Server'"),
    ((b"a b", b"x"), "bad character in field name 'a b'"),
    ((b"a:b", b"x"), "bad character in field name"),
    ((b"a\0", b"x"), "bad character in field name"),
    ((b"a\n", b"x"), "bad character in field name"),
    ((b"\xe9", b"x"), "bad character in field name"),
    ((b"a\x7f", b"x"), "bad character in field name"),
    ((b"te", b"trailers"), "connection-specific field 'te'"),
    *(
        ((name.encode(), b"x"), f"connection-specific field '{name}'")
        for name in CONNECTION_SPECIFIC
    ),
    ((b"a", b"x\ry"), "CR, LF or NUL in the value of 'a'"),
    ((b"a", b"x\ny"), "CR, LF or NUL in the value of 'a'"),
    ((b"a", b"x\0y"), "CR, LF or NUL in the value of 'a'"),
    ((b"a", b"x\n"), "CR, LF or NUL in the value of 'a'"),
    ((b"a", b" x"), "whitespace around the value of 'a'"),
    ((b"a", b"x\t"), "whitespace around the value of 'a'"),
    ((b"a", b" "), "whitespace around the value of 'a'"),
]


@pytest.mark.parametrize(("fields", "reason"), BAD_HEADS)
def test_pseudo_header_fields_out_of_order_are_malformed(fields: list[Field], reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        check_response_head(fields)
    assert reason in str(caught.value)


@pytest.mark.parametrize(("bad", "reason"), BAD_FIELDS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_field_is_malformed_wherever_it_stands(bad: Field, reason: str, place: int) -> None:
    fields: list[Field] = [(b"x", b"1"), (b"y", b"")]
    fields.insert(place, bad)
    with pytest.raises(Malformed) as caught:
        check_response_head([OK, *fields])
    assert reason in str(caught.value)
    with pytest.raises(Malformed) as caught:
        check_trailers(fields)
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", [b":status", b":path", b":new"])
def test_pseudo_header_fields_in_trailers_are_malformed(name: bytes) -> None:
    with pytest.raises(Malformed, match="out of place"):
        check_trailers([(name, b"200")])


def test_trailers_may_be_empty_and_values_too() -> None:
    check_trailers([])
    check_trailers([(b"grpc-status", b"0"), (b"grpc-message", b"")])


def test_values_with_other_control_characters_and_high_bytes_are_let_in() -> None:
    assert check_response_head([OK, (b"a", b"x\x01\x7f\xff y")]) == 200


header_bytes = st.one_of(
    st.sampled_from([b":status", b":path", b"te", b"connection", b"x-a", b"X", b"", b"200"]),
    st.binary(max_size=4),
    st.text("aA: \t\n\r\0é(", max_size=4).map(str.encode),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(header_bytes, header_bytes), max_size=4))
def test_the_checks_agree_with_those_of_h2(rest: list[Field]) -> None:
    fields = [OK, *rest]
    try:
        check_response_head(fields)
        accepted = True
    except Malformed:
        accepted = False
    # h2 has one rule less: it lets "te: trailers" pass in responses too.
    if all(name != b"te" for name, _ in fields):
        assert accepted == _accepted_by_h2(fields)


def _accepted_by_h2(fields: list[Field]) -> bool:
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    client.initiate_connection()
    client.send_headers(
        1, [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
    )
    block = Encoder().encode(fields)
    try:
        events = client.receive_data(
            b"\0\0\0\4\0\0\0\0\0" + len(block).to_bytes(3, "big") + b"\1\4\0\0\0\1" + block
        )
    except ProtocolError:
        return False
    return any(isinstance(event, ResponseReceived) for event in events)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([], None), ([b"0"], 0), ([b"42"], 42), ([b"42", b"42"], 42), ([b"42", b"042"], 42)],
)
def test_the_content_length_of_a_response_is_read(
    lengths: list[bytes], expected: int | None
) -> None:
    fields = [OK, *((b"content-length", length) for length in lengths)]
    assert response_content_length(fields) == expected


@pytest.mark.parametrize(
    "lengths", [[b""], [b"-1"], [b"a"], [b"1, 1"], [b"42", b"43"], [b"9" * 5000], [b"1\n"]]
)
def test_a_bad_or_contradictory_content_length_is_malformed(lengths: list[bytes]) -> None:
    with pytest.raises(Malformed, match="content-length"):
        response_content_length([(b"content-length", length) for length in lengths])


# Checked once

NAMES = st.sampled_from(
    [
        "Request-ID",
        b"traceparent",
        "x-custom",
        "content-length",
        "host",
        "cookie",
        ":path",
        "te",
        "",
    ]
)
VALUES = st.sampled_from(["7", b"7", "é", "ключ", " 7", "a\nb", "trailers", "", 7, None])
PAIRS = st.one_of(
    st.tuples(NAMES, VALUES), st.tuples(NAMES), st.tuples(NAMES, VALUES, VALUES), VALUES
)


def outcome(normalize: Callable[[Any], object], headers: object) -> object:
    """What comes of it: fields, or an error, whichever of several bad fields it names."""
    try:
        return normalize(headers)
    except InvalidRequest:
        return InvalidRequest


@given(st.lists(st.lists(PAIRS, max_size=3), max_size=12))
def test_a_checker_that_remembers_says_what_one_without_memory_says(calls: list[Any]) -> None:
    checker = HeaderChecker()
    for headers in calls:
        for _ in range(2):
            assert outcome(checker.normalize, headers) == outcome(normalize_headers, headers)


def test_of_a_field_that_differs_the_value_is_checked_each_time() -> None:
    checker = HeaderChecker()
    for number in range(3_000):
        value = f"{number}"
        assert checker.normalize([("Request-ID", value)]) == ((b"request-id", value.encode()),)
    for bad in ("a\r\nb: c", " 7", "\x00"):
        with pytest.raises(InvalidRequest, match="request-id"):
            checker.normalize([("Request-ID", bad)])
