"""The errors of the package: one tree, each error with what it says about sending again.

::

    DynamoH2Error
    ├ ConfigError(ValueError)            problems: (field or variable, value, allowed)…
    ├ InvalidRequest(ValueError)         nothing was sent
    ├ WrongEventLoop(RuntimeError)       nothing was sent
    ├ TransportError                     origin, stream_id, processed
    │ ├ ConnectError(ConnectionError)
    │ │ └ ConnectTimeout(TimeoutError)
    │ ├ ConnectionLost(ConnectionError)
    │ │ └ KeepAliveTimeout(TimeoutError)
    │ ├ PoolTimeout(TimeoutError)
    │ ├ RequestTimeout(TimeoutError)
    │ ├ ReadTimeout(TimeoutError)
    │ ├ WriteTimeout(TimeoutError)
    │ ├ StreamReset                      code, by_peer
    │ ├ RemoteProtocolError              code
    │ ├ LocalProtocolError
    │ ├ ResponseTooLarge
    │ └ ClientClosed
    └ StatusError                        status, headers, body
      └ Overloaded

Every error carries ``processed``: False when the peer provably did not act on the request, so that
it may be sent again; None when nobody can know; True when it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from h2.errors import ErrorCodes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "ClientClosed",
    "ConfigError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "DynamoH2Error",
    "InvalidRequest",
    "KeepAliveTimeout",
    "LocalProtocolError",
    "Overloaded",
    "PoolTimeout",
    "Problem",
    "ReadTimeout",
    "RemoteProtocolError",
    "RequestTimeout",
    "ResponseTooLarge",
    "StatusError",
    "StreamReset",
    "TransportError",
    "WriteTimeout",
    "WrongEventLoop",
    "code_name",
    "status_error",
]

# How much of a body or of a configured value is repeated in a message: enough to recognise it.
_EXCERPT = 200

# What an overloaded worker puts at the beginning of the body, whatever status it answers with.
_OVERLOAD_MARKS = (b"Server overloaded:", b"Server unavailable:")


def code_name(code: int) -> str:
    """Name an HTTP/2 error code, as in ``REFUSED_STREAM (0x7)`` (RFC 9113 §7).

    Args:
        code: The code of a RST_STREAM or GOAWAY frame; ``UNKNOWN`` when the RFC has no such code.
    """
    try:
        name = ErrorCodes(code).name
    except ValueError:
        name = "UNKNOWN"
    return f"{name} ({code:#x})"


class DynamoH2Error(Exception):
    """What every error of this package is.

    Args:
        message: What happened, for a person; ``str()`` of the error is exactly this.

    Attributes:
        processed: Whether the peer acted on the request: False, True, or None for unknown.
    """

    processed: bool | None = None

    def __init__(self, message: str) -> None:
        # One positional argument and no more: an OSError with two prints as "[Errno …]".
        super().__init__(message)

    def __reduce__(self) -> tuple[Callable[..., DynamoH2Error], tuple[Any, ...]]:
        """Copy and pickle by state: the default calls the class with ``args`` alone."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[DynamoH2Error], args: tuple[Any, ...], state: dict[str, Any]
) -> DynamoH2Error:
    """Make an error again from what ``__reduce__`` took apart."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class Problem(NamedTuple):
    """One wrong value of a configuration.

    Attributes:
        field: The field or the environment variable that was wrong.
        value: What it was set to; for a variable the text as it stood.
        allowed: The range that is allowed, in words.
    """

    field: str
    value: object
    allowed: str

    def __str__(self) -> str:
        """Say what is wrong, and what would be right."""
        return f"{self.field} is {_excerpt(self.value)}, allowed: {self.allowed}"


class ConfigError(DynamoH2Error, ValueError):
    """A configuration is wrong; all that is wrong in it is told at once.

    Args:
        problems: Each wrong value, at least one.

    Attributes:
        problems: The same as a tuple.
    """

    processed = False

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))

    @property
    def field(self) -> str:
        """The field or variable of the first problem."""
        return self.problems[0].field

    @property
    def value(self) -> object:
        """The value of the first problem."""
        return self.problems[0].value

    @property
    def allowed(self) -> str:
        """The allowed range of the first problem."""
        return self.problems[0].allowed


class InvalidRequest(DynamoH2Error, ValueError):
    """The request cannot be sent as it is; nothing of it was."""

    processed = False


class WrongEventLoop(DynamoH2Error, RuntimeError):
    """The client was used from another event loop than the one that its connections belong to."""

    processed = False


class TransportError(DynamoH2Error):
    """Something between the caller and the worker went wrong.

    Args:
        message: What happened, for a person.
        origin: The origin it happened with, as ``str(Origin)``; None when there is none yet.
        stream_id: The HTTP/2 stream; None when the request had none, or all streams are meant.
        processed: False when the peer provably did not act on the request, True when it did,
            None when nobody can know.
    """

    def __init__(
        self,
        message: str,
        *,
        origin: str | None = None,
        stream_id: int | None = None,
        processed: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.origin = origin
        self.stream_id = stream_id
        self.processed = processed


class ConnectError(TransportError, ConnectionError):
    """No usable HTTP/2 connection to the origin could be made."""


class ConnectTimeout(ConnectError, TimeoutError):
    """The connection was not ready, the peer's SETTINGS included, within ``connect_timeout``."""


class ConnectionLost(TransportError, ConnectionError):
    """The connection ended while the request was on it."""


class KeepAliveTimeout(ConnectionLost, TimeoutError):
    """The peer was silent for ``keep_alive_timeout`` after a PING."""


class PoolTimeout(TransportError, TimeoutError):
    """No connection had room for the request within ``pool_timeout``."""


class RequestTimeout(TransportError, TimeoutError):
    """The response was not there within ``request_timeout``."""


class ReadTimeout(TransportError, TimeoutError):
    """The response fell silent for longer than ``read_timeout``."""


class WriteTimeout(TransportError, TimeoutError):
    """The peer took nothing of the request's body for longer than ``write_timeout``."""


class StreamReset(TransportError):
    """The stream was ended by RST_STREAM before the response was whole (RFC 9113 §5.4.2).

    Args:
        message: What happened, for a person.
        code: The error code of the frame (RFC 9113 §7).
        by_peer: True when the peer sent the frame, False when this side did.
        origin: As in `TransportError`.
        stream_id: As in `TransportError`.
        processed: As in `TransportError`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int,
        by_peer: bool,
        origin: str | None = None,
        stream_id: int | None = None,
        processed: bool | None = None,
    ) -> None:
        super().__init__(message, origin=origin, stream_id=stream_id, processed=processed)
        self.code = code
        self.by_peer = by_peer


class RemoteProtocolError(TransportError):
    """The peer broke the protocol (RFC 9113 §5.4).

    Args:
        message: What it did, for a person.
        code: The error code that it was answered with (RFC 9113 §7).
        origin: As in `TransportError`.
        stream_id: As in `TransportError`.
        processed: As in `TransportError`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int,
        origin: str | None = None,
        stream_id: int | None = None,
        processed: bool | None = None,
    ) -> None:
        super().__init__(message, origin=origin, stream_id=stream_id, processed=processed)
        self.code = code


class LocalProtocolError(TransportError):
    """This package was about to break the protocol: a bug of ours, never the caller's fault."""


class ResponseTooLarge(TransportError):
    """The response's body is longer than ``max_response_size``; the peer did act on the request."""

    def __init__(
        self,
        message: str,
        *,
        origin: str | None = None,
        stream_id: int | None = None,
        processed: bool | None = True,
    ) -> None:
        super().__init__(message, origin=origin, stream_id=stream_id, processed=processed)


class ClientClosed(TransportError):
    """The client was closed: before the request was sent (``processed`` False) or under it."""


class StatusError(DynamoH2Error):
    """The worker answered, with a status outside 200 to 299.

    Args:
        message: What happened, for a person; None makes it out of the status and the body.
        status: The status of the response (RFC 9110 §15).
        headers: Its header fields.
        body: Its body, whole.
    """

    processed = True

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        super().__init__(_status_message(status, body) if message is None else message)
        self.status = status
        self.headers = headers
        self.body = body


class Overloaded(StatusError):
    """The worker has no room: status 503, or a body that says so.

    Such a body begins with ``Server overloaded:`` or ``Server unavailable:``.
    """


def status_error(*, status: int, headers: Mapping[str, str], body: bytes) -> StatusError:
    """Make the error for a response outside 200 to 299: `Overloaded` or a plain `StatusError`.

    Args:
        status: The status of the response.
        headers: Its header fields.
        body: Its body, whole.
    """
    overloaded = status == 503 or body.startswith(_OVERLOAD_MARKS)
    return (Overloaded if overloaded else StatusError)(status=status, headers=headers, body=body)


def _status_message(status: int, body: bytes) -> str:
    """Tell the status and how the body begins."""
    if not body:
        return f"the peer answered with status {status} and no body"
    return f"the peer answered with status {status}: {_excerpt(body.decode('utf-8', 'replace'))}"


def _excerpt(value: object) -> str:
    """Show a value of any kind and size on one line of bounded length."""
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4,300 digits
        text = f"<{type(value).__name__} too long to print>"
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
