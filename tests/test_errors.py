"""The tree of errors: what each one is, says and carries."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest

from dynamo_h2 import errors
from dynamo_h2.errors import (
    ClientClosed,
    ConfigError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    DynamoH2Error,
    InvalidRequest,
    KeepAliveTimeout,
    LocalProtocolError,
    Overloaded,
    PoolTimeout,
    Problem,
    ReadTimeout,
    RemoteProtocolError,
    RequestTimeout,
    ResponseTooLarge,
    StatusError,
    StreamReset,
    TransportError,
    WriteTimeout,
    WrongEventLoop,
    code_name,
    status_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TREE: dict[type[DynamoH2Error], tuple[type[BaseException], ...]] = {
    DynamoH2Error: (Exception,),
    ConfigError: (DynamoH2Error, ValueError),
    InvalidRequest: (DynamoH2Error, ValueError),
    WrongEventLoop: (DynamoH2Error, RuntimeError),
    TransportError: (DynamoH2Error,),
    ConnectError: (TransportError, ConnectionError),
    ConnectTimeout: (ConnectError, TimeoutError),
    ConnectionLost: (TransportError, ConnectionError),
    KeepAliveTimeout: (ConnectionLost, TimeoutError),
    PoolTimeout: (TransportError, TimeoutError),
    RequestTimeout: (TransportError, TimeoutError),
    ReadTimeout: (TransportError, TimeoutError),
    WriteTimeout: (TransportError, TimeoutError),
    StreamReset: (TransportError,),
    RemoteProtocolError: (TransportError,),
    LocalProtocolError: (TransportError,),
    ResponseTooLarge: (TransportError,),
    ClientClosed: (TransportError,),
    StatusError: (DynamoH2Error,),
    Overloaded: (StatusError,),
}

PLAIN_TRANSPORT_ERRORS = [
    each
    for each in TREE
    if issubclass(each, TransportError) and each not in {StreamReset, RemoteProtocolError}
]

SAMPLES: list[DynamoH2Error] = [
    DynamoH2Error("something"),
    ConfigError([Problem("a", 1, "2 to 3"), Problem("b", None, "true or false")]),
    InvalidRequest("no such path"),
    WrongEventLoop("another loop"),
    StreamReset("reset", code=8, by_peer=True, origin="http://a", stream_id=5, processed=None),
    RemoteProtocolError("bad frame", code=1, origin="http://a", stream_id=7, processed=False),
    StatusError(status=418, headers={"a": "b"}, body=b"teapot"),
    Overloaded("full", status=503, headers={}, body=b""),
    *(
        cls("it broke", origin="http://a:1", stream_id=3, processed=False)
        for cls in PLAIN_TRANSPORT_ERRORS
    ),
]


def state(error: DynamoH2Error) -> tuple[object, ...]:
    return type(error), str(error), error.args, vars(error), error.processed


def test_the_tree_is_the_one_that_is_drawn() -> None:
    found = {
        each: each.__bases__
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, DynamoH2Error)
    }
    assert found == TREE


def test_the_docstring_draws_every_error() -> None:
    assert errors.__doc__ is not None
    drawn = errors.__doc__.replace("(", " ").split()
    assert [each.__name__ for each in TREE if each.__name__ not in drawn] == []


def test_there_is_a_sample_of_every_error() -> None:
    assert {type(each) for each in SAMPLES} == set(TREE)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickle(error: DynamoH2Error, protocol: int) -> None:
    assert state(pickle.loads(pickle.dumps(error, protocol))) == state(error)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_an_error_survives_copy(
    error: DynamoH2Error, duplicate: Callable[[DynamoH2Error], DynamoH2Error]
) -> None:
    twin = duplicate(error)
    assert twin is not error
    assert state(twin) == state(error)


def test_a_copy_does_not_share_its_state() -> None:
    error = ConnectError("no route", processed=False)
    twin = copy.copy(error)
    twin.processed = None
    assert error.processed is False


def test_notes_survive_pickle() -> None:
    error = ConnectError("no route")
    error.add_note("after three dials")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["after three dials"]


@pytest.mark.parametrize("cls", PLAIN_TRANSPORT_ERRORS)
def test_the_text_of_an_error_is_its_message(cls: type[TransportError]) -> None:
    error = cls("peer went away", origin="http://a", stream_id=1, processed=None)
    assert str(error) == "peer went away"
    assert error.args == ("peer went away",)
    assert (error.origin, error.stream_id, error.processed) == ("http://a", 1, None)


@pytest.mark.parametrize("cls", PLAIN_TRANSPORT_ERRORS)
def test_a_second_positional_argument_is_refused(cls: Callable[..., TransportError]) -> None:
    with pytest.raises(TypeError):
        cls(104, "reset")


@pytest.mark.parametrize(
    ("cls", "processed"),
    [(each, None) for each in PLAIN_TRANSPORT_ERRORS if each is not ResponseTooLarge]
    + [(ResponseTooLarge, True)],
)
def test_a_transport_error_is_undecided_unless_it_is_told(
    cls: type[TransportError], processed: bool | None
) -> None:
    error = cls("it broke")
    assert error.processed is processed
    assert (error.origin, error.stream_id) == (None, None)


@pytest.mark.parametrize(
    "error",
    [ConfigError([Problem("a", 1, "2")]), InvalidRequest("no"), WrongEventLoop("no")],
)
def test_errors_before_sending_say_that_nothing_was_processed(error: DynamoH2Error) -> None:
    assert error.processed is False


@pytest.mark.parametrize(
    "cls",
    [each for each in TREE if each.__name__.endswith("Timeout")],
)
def test_every_time_out_is_caught_as_timeout_error(cls: type[TransportError]) -> None:
    with pytest.raises(TimeoutError):
        raise cls("too late")


def test_connection_errors_are_caught_as_connection_error() -> None:
    for cls in (ConnectError, ConnectTimeout, ConnectionLost, KeepAliveTimeout):
        with pytest.raises(ConnectionError):
            raise cls("gone")


def test_a_reset_carries_its_code_and_its_sender() -> None:
    error = StreamReset("reset", code=7, by_peer=False, stream_id=9, processed=False)
    assert (error.code, error.by_peer, error.stream_id, error.processed) == (7, False, 9, False)


def test_a_protocol_error_of_the_peer_carries_its_code() -> None:
    error = RemoteProtocolError("bad", code=9, origin="https://a")
    assert (error.code, error.origin, error.processed) == (9, "https://a", None)


def test_a_config_error_tells_all_problems_and_shows_the_first() -> None:
    first, second = Problem("a", -1, "0 to 9"), Problem("B_C", "x", "true or false")
    error = ConfigError([first, second])
    assert error.problems == (first, second)
    assert (error.field, error.value, error.allowed) == first
    assert str(error) == "a is -1, allowed: 0 to 9; B_C is 'x', allowed: true or false"


@pytest.mark.parametrize(
    "value",
    ["x" * 100_000, 10**3000, 10**100_000, b"\n" * 999],
    ids=["text", "number", "number too long to print", "bytes"],
)
def test_a_problem_shows_any_value_on_one_short_line(value: object) -> None:
    text = str(Problem("field", value, "1 to 2"))
    assert len(text) < 300
    assert text.isprintable()
    assert text.endswith(", allowed: 1 to 2")


def test_a_status_error_carries_the_response() -> None:
    headers = {"content-type": "text/plain"}
    error = StatusError(status=404, headers=headers, body=b"no such model")
    assert (error.status, error.headers, error.body) == (404, headers, b"no such model")
    assert error.processed is True
    assert str(error) == "the peer answered with status 404: 'no such model'"


def test_a_status_error_without_a_body_says_so() -> None:
    error = StatusError(status=500, headers={}, body=b"")
    assert str(error) == "the peer answered with status 500 and no body"


def test_a_status_error_shows_only_the_beginning_of_a_body() -> None:
    error = StatusError(status=500, headers={}, body=b"\xff\x00\n" * 10_000)
    assert len(str(error)) < 300
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("status", "body", "cls"),
    [
        (503, b"", Overloaded),
        (503, b"down for a moment", Overloaded),
        (500, b"Server overloaded: 12 waiting", Overloaded),
        (429, b"Server unavailable: draining", Overloaded),
        (500, b"the Server overloaded: no", StatusError),
        (500, b"server overloaded: no", StatusError),
        (500, b"", StatusError),
        (404, b"Server", StatusError),
    ],
)
def test_overload_is_told_from_other_failures(
    status: int, body: bytes, cls: type[StatusError]
) -> None:
    error = status_error(status=status, headers={"a": "b"}, body=body)
    assert type(error) is cls
    assert (error.status, error.headers, error.body) == (status, {"a": "b"}, body)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x0, "NO_ERROR (0x0)"),
        (0x1, "PROTOCOL_ERROR (0x1)"),
        (0x7, "REFUSED_STREAM (0x7)"),
        (0x8, "CANCEL (0x8)"),
        (0xB, "ENHANCE_YOUR_CALM (0xb)"),
        (0xD, "HTTP_1_1_REQUIRED (0xd)"),
        (0xE, "UNKNOWN (0xe)"),
        (0xFFFF_FFFF, "UNKNOWN (0xffffffff)"),
    ],
)
def test_an_error_code_has_its_name_of_the_rfc(code: int, name: str) -> None:
    assert code_name(code) == name


def test_the_exports_are_sorted_and_whole() -> None:
    assert sorted(errors.__all__) == sorted(
        {each.__name__ for each in TREE} | {"Problem", "code_name", "status_error"}
    )
