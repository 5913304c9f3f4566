"""Reading addresses: what is taken, in which one spelling, and what is refused and why."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import string
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dynamo_h2.errors import InvalidRequest
from dynamo_h2.origin import Origin, Target, parse_address

LABEL = st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True)
NAMES = (
    st.lists(LABEL, min_size=1, max_size=4).map(".".join).filter(lambda name: not _numeric(name))
)
V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6)
ZONES = st.from_regex(r"[A-Za-z][A-Za-z0-9._~-]{0,14}", fullmatch=True)
PORTS = st.integers(1, 65_535)
PATH_CHARACTERS = "".join(chr(each) for each in range(0x21, 0x7F) if chr(each) not in "#%")
PIECES = st.one_of(
    st.sampled_from(PATH_CHARACTERS), st.integers(0, 255).map("%{:02X}".format), st.just("/")
)
PATHS = st.lists(PIECES, max_size=30).map(lambda pieces: "/" + "".join(pieces))
SOCKETS = st.text(
    st.characters(exclude_characters=":", exclude_categories=("Cc", "Cs")), max_size=40
).map(lambda name: "/" + name.lstrip("/"))
# Mostly what addresses are made of, so that many are taken and the rest is refused deep inside.
ADDRESS_LIKE = st.lists(
    st.sampled_from(["http", "https", "unix", ":", "/", "//", "?", "#", "@", "[", "]", "%", "25"])
    | st.sampled_from(["host", "a.b", ".", "127.0.0.1", "::1", "fe80::1", "eth0", "8000", "70000"])
    | st.sampled_from([" ", "\x00", "\r\n", "\\", "é", "。", "\uff11", "x" * 64, "%2F", "%zz"]),
    max_size=10,
).map("".join)


def _numeric(name: str) -> bool:
    return set(name) <= set(string.digits + ".")


def reason(address: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse_address(address)
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "scheme", "host", "port", "path"),
    [
        ("http://worker:8080/v1/rpc", "http", "worker", 8080, "/v1/rpc"),
        ("https://worker:8443/v1/rpc", "https", "worker", 8443, "/v1/rpc"),
        ("worker:8080/v1/rpc", "http", "worker", 8080, "/v1/rpc"),
        ("[::1]:8080/v1/rpc", "http", "::1", 8080, "/v1/rpc"),
        ("http://[::1]:8080/", "http", "::1", 8080, "/"),
        ("https://[2001:DB8:0:0::1]/", "https", "2001:db8::1", 443, "/"),
        ("127.0.0.1:9000", "http", "127.0.0.1", 9000, "/"),
        ("http://worker", "http", "worker", 80, "/"),
        ("https://worker", "https", "worker", 443, "/"),
        ("worker", "http", "worker", 80, "/"),
        ("worker/path", "http", "worker", 80, "/path"),
        ("[::1]", "http", "::1", 80, "/"),
        ("HTTPS://Worker.Example:1/X", "https", "worker.example", 1, "/X"),
        ("http://worker?model=a", "http", "worker", 80, "/?model=a"),
        ("http://worker:1?model=a", "http", "worker", 1, "/?model=a"),
        ("http://worker/a?b=/c?d", "http", "worker", 80, "/a?b=/c?d"),
        ("http://worker//a//b", "http", "worker", 80, "//a//b"),
        ("http://worker/a@b:c", "http", "worker", 80, "/a@b:c"),
        ("http://worker/a%20b", "http", "worker", 80, "/a%20b"),
        ('http://worker/?q={"a":[1]}', "http", "worker", 80, '/?q={"a":[1]}'),
        ("http://worker/://x", "http", "worker", 80, "/://x"),
        ("http://worker:00080/", "http", "worker", 80, "/"),
        ("http://worker:65535/", "http", "worker", 65_535, "/"),
        ("http://worker.example./", "http", "worker.example.", 80, "/"),
        ("http://my_svc.ns-1.svc/", "http", "my_svc.ns-1.svc", 80, "/"),
        ("http://bücher.example/", "http", "xn--bcher-kva.example", 80, "/"),
        ("http://BÜCHER.example/", "http", "xn--bcher-kva.example", 80, "/"),
        ("http://\uff11\uff12\uff17.0.0.1/", "http", "127.0.0.1", 80, "/"),
        ("[fe80::1%eth0]:7/", "http", "fe80::1%eth0", 7, "/"),
        ("http://[fe80::1%25eth0]:7/", "http", "fe80::1%eth0", 7, "/"),
        ("unix.example:1/", "http", "unix.example", 1, "/"),
        ("http://unix:1/", "http", "unix", 1, "/"),
    ],
)
def test_an_address_is_read_into_its_parts(
    address: str, scheme: str, host: str, port: int, path: str
) -> None:
    assert parse_address(address) == Target(Origin(scheme, host, port), path)


@pytest.mark.parametrize(
    ("address", "socket_path", "path"),
    [
        ("unix:/run/worker.sock:/v1/rpc", "/run/worker.sock", "/v1/rpc"),
        ("unix:/run/worker.sock:/", "/run/worker.sock", "/"),
        ("unix:/run/worker.sock", "/run/worker.sock", "/"),
        ("UNIX:/run/w:/v1", "/run/w", "/v1"),
        ("unix:/run/a:b.sock:/v1", "/run/a:b.sock", "/v1"),
        ("unix:/run/a:/v1:/v2", "/run/a", "/v1:/v2"),
        ("unix:/run/a b/ü#?.sock:/v1?q=1", "/run/a b/ü#?.sock", "/v1?q=1"),
    ],
)
def test_a_unix_address_is_split_at_the_first_colon_and_slash(
    address: str, socket_path: str, path: str
) -> None:
    target = parse_address(address)
    assert target == Target(Origin("http", "localhost", 80, socket_path), path)
    assert target.origin.authority == "localhost"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "empty"),
        ("/v1/rpc", "no host"),
        ("http://", "no host"),
        ("http:///v1", "no host"),
        ("http://:80/", "no host"),
        ("?q", "no host"),
        ("ftp://worker/", "'ftp' is not http, https or unix"),
        ("h2c://worker/", "'h2c' is not"),
        ("http://user@worker/", "user information"),
        ("user:secret@worker:80/", "user information"),
        ("http://worker/a#b", "fragment"),
        ("http://worker#b", "fragment"),
        ("http://worker:0/", "the port '0'"),
        ("http://worker:65536/", "the port '65536'"),
        ("http://worker:123456/", "the port '123456'"),
        ("http://worker:/", "the port ''"),
        ("http://worker:-1/", "the port '-1'"),
        ("http://worker:\uff18\uff10/", "the port '\uff18\uff10'"),
        ("http://worker:80a/", "the port '80a'"),
        ("mailto:someone", "the port 'someone'"),
        ("::1:8000/", "two colons"),
        ("a:b:c", "two colons"),
        ("[::1/", "not [IPv6 address]:port"),
        ("[::1]8000/", "not [IPv6 address]:port"),
        ("[::1]:", "the port ''"),
        ("[]:80", "not an IPv6 address"),
        ("[::1::2]", "not an IPv6 address"),
        ("[127.0.0.1]", "not an IPv6 address"),
        ("[v1.x]", "not an IPv6 address"),
        ("[fe80::1%]", "the zone"),
        ("[fe80::1%25]", "the zone"),
        ("[fe80::1%a%b]", "the zone"),
        ("[fe80::1%eth 0]", "the zone"),
        ("127.1", "not an IPv4 address"),
        ("http://256.0.0.1/", "not an IPv4 address"),
        ("http://1.2.3.4.5/", "not an IPv4 address"),
        ("http://01.2.3.4/", "not an IPv4 address"),
        ("http://2130706433/", "not an IPv4 address"),
        ("http://a..b/", "'a..b' is not a host name"),
        ("http://.a/", "not a host name"),
        ("http://a b/", "not a host name"),
        ("http://a%20b/", "not a host name"),
        ("http://a\\b/", "not a host name"),
        ("http://a,b/", "not a host name"),
        ("http://a\r\nx: y/", "not a host name"),
        ("http://a\n", "not a host name"),
        ("http://a\x00/", "not a host name"),
        ("http://{}/".format("a" * 64), "not a host name"),
        ("http://{}/".format(".".join(["a" * 49] * 6)), "not a host name"),
        ("http://{}/".format("ü" * 64), "not a host name"),
        ("http://a\uff0fb/", "not a host name"),
        ("http://ü..b/", "not a host name"),
        ("unix:", "a Unix socket is written"),
        ("unix:run/w.sock:/v1", "a Unix socket is written"),
        ("unix:@abstract:/v1", "a Unix socket is written"),
        ("unix:///run/w.sock:/v1", "a Unix socket is written"),
        ("unix://worker/v1", "a Unix socket is written"),
        ("unix::/v1", "a Unix socket is written"),
        ("unix:/run/\x00w", "control character"),
        ("unix:/run/w\n:/v1", "control character"),
        ("unix:/run/w:/a b", "the character ' '"),
        ("http://worker/a b", "the character ' '; percent-encode it (at 2 of the path)"),
        ("http://worker/a\tb", r"the character '\t'"),
        ("http://worker/a\r\nb", r"the character '\r'"),
        ("http://worker/\x00", r"the character '\x00'"),
        ("http://worker/\x7f", r"the character '\x7f'"),
        ("http://worker/a\n", r"the character '\n'"),
        ("http://worker/é", "the character 'é'"),
        ("http://worker?q=é", "the character 'é'"),
        ("http://worker/100%", "percent sign"),
        ("http://worker/%2", "percent sign"),
        ("http://worker/%zz", "percent sign"),
        ("http://worker/%\uff120", "percent sign"),
    ],
)
def test_a_bad_address_is_refused_with_its_reason(address: str, why: str) -> None:
    assert why in reason(address)


@pytest.mark.parametrize("address", [None, b"http://worker/", 80, Origin("http", "a", 80)])
def test_what_is_no_text_is_refused(address: object) -> None:
    text = reason(address)  # type: ignore[arg-type]
    assert text == f"the address must be a str, not {type(address).__name__}"


def test_a_password_is_not_repeated_in_the_message() -> None:
    assert "secret" not in reason("http://user:secret@worker/")


def test_a_long_path_with_a_bad_end_is_refused_without_backtracking() -> None:
    assert "(at 200001 of the path)" in reason("http://worker/" + "a" * 200_000 + " ")


@pytest.mark.parametrize(
    ("address", "authority"),
    [
        ("http://worker", "worker"),
        ("http://worker:80", "worker"),
        ("http://worker:443", "worker:443"),
        ("https://worker:443", "worker"),
        ("https://worker:80", "worker:80"),
        ("https://WORKER:8443", "worker:8443"),
        ("[::1]:80", "[::1]"),
        ("[::1]:8000", "[::1]:8000"),
        ("[fe80::1%eth0]:8000", "[fe80::1]:8000"),
        ("unix:/run/w.sock", "localhost"),
    ],
)
def test_the_authority_leaves_out_the_default_port_and_the_zone(
    address: str, authority: str
) -> None:
    assert parse_address(address).origin.authority == authority


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("worker/x", "http://worker"),
        ("Worker:8080/x", "http://worker:8080"),
        ("https://worker:443/x", "https://worker"),
        ("[::1]:8000/x", "http://[::1]:8000"),
        ("[fe80::1%eth0]:8000/x", "http://[fe80::1%25eth0]:8000"),
        ("unix:/run/w.sock:/x", "unix:/run/w.sock"),
    ],
)
def test_an_origin_is_written_as_an_address(address: str, text: str) -> None:
    assert str(parse_address(address).origin) == text


def test_spellings_of_one_origin_are_one_key() -> None:
    spellings = ["http://Worker:80/a", "worker/b", "WORKER:080?c", "http://worker"]
    assert len({parse_address(each).origin for each in spellings}) == 1


def test_scheme_port_host_and_socket_make_different_keys() -> None:
    addresses = ["http://a", "https://a", "http://a:443", "http://b", "unix:/a", "unix:/b"]
    addresses += ["localhost", "[fe80::1]", "[fe80::1%a]", "[fe80::1%b]"]
    assert len({parse_address(each).origin for each in addresses}) == len(addresses)


def test_origins_are_values() -> None:
    origin = Origin("https", "worker", 8443)
    assert pickle.loads(pickle.dumps(origin)) == origin
    assert hash(copy.copy(origin)) == hash(origin)
    with pytest.raises(dataclasses.FrozenInstanceError):
        origin.port = 1  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(scheme=st.sampled_from(["http", "https"]), host=NAMES | V4, port=PORTS, path=PATHS)
def test_any_name_and_ipv4_address_is_read_back(
    scheme: str, host: str, port: int, path: str
) -> None:
    target = parse_address(f"{scheme}://{host}:{port}{path}")
    assert target == Target(Origin(scheme, host, port), path)
    assert parse_address(f"{target.origin}{path}") == target
    assert parse_address(f"{scheme.upper()}://{host.upper()}:{port:05}{path}") == target


@settings(max_examples=200, deadline=None)
@given(host=NAMES | V4, port=PORTS, path=PATHS)
def test_an_address_without_a_scheme_is_http(host: str, port: int, path: str) -> None:
    assert parse_address(f"{host}:{port}{path}") == parse_address(f"http://{host}:{port}{path}")


@settings(max_examples=300, deadline=None)
@given(address=V6, zone=st.none() | ZONES, port=st.none() | PORTS, path=PATHS)
def test_any_ipv6_address_has_one_spelling(
    address: IPv6Address, zone: str | None, port: int | None, path: str
) -> None:
    end = path if port is None else f":{port}{path}"
    raw, escaped = ("", "") if zone is None else (f"%{zone}", f"%25{zone}")
    target = parse_address(f"[{address}{raw}]{end}")
    assert target == Target(Origin("http", f"{address}{raw}", port or 80), path)
    assert parse_address(f"http://[{address.exploded.upper()}{escaped}]{end}") == target
    assert parse_address(f"{target.origin}{path}") == target
    assert IPv6Address(target.origin.authority[1:].partition("]")[0]) == address


@settings(max_examples=300, deadline=None)
@given(socket_path=SOCKETS, path=PATHS)
def test_any_unix_socket_is_read_back(socket_path: str, path: str) -> None:
    target = parse_address(f"unix:{socket_path}:{path}")
    assert target == Target(Origin("http", "localhost", 80, socket_path), path)
    assert parse_address(f"{target.origin}:{path}") == target


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=40) | ADDRESS_LIKE)
@example("http://ß.example/")
@example("http://a。b/")
@example("http://\u00ad/")
def test_any_text_is_refused_or_read_into_a_clean_target(text: str) -> None:
    try:
        target = parse_address(text)
    except InvalidRequest:
        return
    origin = target.origin
    assert target.path.startswith("/")
    assert set(target.path) <= set(PATH_CHARACTERS + "%")
    assert 1 <= origin.port <= 65_535
    assert origin.authority.isascii()
    assert set(origin.authority) <= set(string.ascii_lowercase + string.digits + "._-[]:")
    again = f"{origin}:{target.path}" if origin.socket_path else f"{origin}{target.path}"
    assert parse_address(again) == target


@settings(max_examples=200, deadline=None)
@given(
    path=PATHS,
    at=st.integers(0, 30),
    bad=st.characters(max_codepoint=0x2FF, exclude_characters=PATH_CHARACTERS + "%"),
)
def test_a_character_outside_of_visible_ascii_is_refused_anywhere(
    path: str, at: int, bad: str
) -> None:
    cut = 1 + at % len(path)
    # A percent-encoded byte that is cut in two would be refused for the percent sign.
    assume("%" not in path[max(0, cut - 2) : cut])
    with pytest.raises(InvalidRequest, match=r"fragment|character"):
        parse_address(f"http://worker{path[:cut]}{bad}{path[cut:]}")


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){0,5}", fullmatch=True))
def test_digits_and_dots_are_an_ipv4_address_or_refused(host: str) -> None:
    try:
        expected = str(IPv4Address(host))
    except ValueError:
        assert "not an IPv4 address" in reason(f"http://{host}/")
    else:
        assert parse_address(f"http://{host}/").origin.host == expected
