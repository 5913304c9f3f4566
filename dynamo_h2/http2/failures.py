"""What callers are told when a stream or a connection fails: the events of HTTP/2 as typed errors.

Whether the peer can have processed a request is decided here for the streams that it ended itself,
and by the connection, which knows what was written, where a whole connection fails.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

from dynamo_h2.errors import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    KeepAliveTimeout,
    ReadTimeout,
    RemoteProtocolError,
    RequestTimeout,
    ResponseTooLarge,
    StreamReset,
    TransportError,
    WriteTimeout,
    code_name,
)
from dynamo_h2.http2.stream import Expired

if TYPE_CHECKING:
    from collections.abc import Callable

    from h2.exceptions import ProtocolError

    from dynamo_h2.http2.frames import NotHttp2
    from dynamo_h2.http2.stream import Stream

    MakeError = Callable[..., TransportError]
    """Makes the error of one stream; takes ``origin``, ``stream_id`` and ``processed``."""

# How much of a GOAWAY's debug data is repeated, in bytes.
_EXCERPT: Final = 128

_TIMEOUTS: Final[dict[Expired, tuple[type[TransportError], str]]] = {
    Expired.REQUEST: (RequestTimeout, "request timed out"),
    Expired.READ: (ReadTimeout, "no bytes of the response within read_timeout"),
    Expired.WRITE: (WriteTimeout, "no progress of the body within write_timeout"),
}


# One stream


def no_more_streams(origin: str) -> ConnectionLost:
    """The connection takes no new stream; nothing was written."""
    message = f"connection to {origin} takes no more streams"
    return ConnectionLost(message, origin=origin, processed=False)


def reset_by_peer(origin: str, stream: Stream, code: int) -> StreamReset:
    """The peer sent RST_STREAM before the response was complete.

    Only REFUSED_STREAM says that it did nothing, and only where nothing of a response had arrived
    (RFC 9113 §8.7).
    """
    refused = code == ErrorCodes.REFUSED_STREAM and not stream.got_response
    return StreamReset(
        f"{origin} reset stream {stream.stream_id}: {code_name(code)}",
        code=code,
        by_peer=True,
        origin=origin,
        stream_id=stream.stream_id,
        processed=False if refused else None,
    )


def goaway_text(code: int, debug: bytes) -> str:
    """Tell what a GOAWAY says: its code, and the beginning of its debug data."""
    text = debug[:_EXCERPT].decode("utf-8", "replace")
    return f"GOAWAY {code_name(code)}" + (f" {text!r}" if text else "")


def refused_by_goaway(origin: str, stream: Stream, goaway: str) -> StreamReset:
    """The peer's GOAWAY names a last stream below this one (RFC 9113 §6.8)."""
    return StreamReset(
        f"{origin} refused stream {stream.stream_id}: {goaway}",
        code=ErrorCodes.REFUSED_STREAM,
        by_peer=True,
        origin=origin,
        stream_id=stream.stream_id,
        processed=None if stream.got_response else False,
    )


def broken_stream(origin: str, stream: Stream, code: int, reason: str) -> RemoteProtocolError:
    """The peer broke a rule of one stream (RFC 9113 §5.4.2)."""
    return RemoteProtocolError(
        f"{origin} broke the protocol on stream {stream.stream_id}: {reason}",
        code=code,
        origin=origin,
        stream_id=stream.stream_id,
    )


def too_large(origin: str, stream: Stream, limit: int) -> ResponseTooLarge:
    """A buffered response is longer than allowed."""
    message = f"response of {origin} exceeds {limit} bytes"
    return ResponseTooLarge(message, origin=origin, stream_id=stream.stream_id, processed=True)


def timed_out(origin: str, stream: Stream, expired: Expired) -> TransportError:
    """One of a stream's time limits has passed.

    Even where the request was not written yet nobody can know whether it will be acted on: its
    HEADERS stay queued, since a later block may build on theirs (RFC 7541 §2.2).
    """
    kind, what = _TIMEOUTS[expired]
    message = f"{what}: stream {stream.stream_id} of {origin}"
    return kind(message, origin=origin, stream_id=stream.stream_id)


# All streams of a connection


def lost(origin: str, cause: BaseException | None, goaway: str) -> MakeError:
    """The transport is gone; ``goaway`` is what the peer said before, if anything."""
    reason = "closed by the peer" if cause is None else _in_words(cause)
    if goaway:
        reason += f" after {goaway}"
    return partial(ConnectionLost, f"connection to {origin} lost: {reason}")


def _in_words(cause: BaseException) -> str:
    """What an error says of itself, without the number of the system's."""
    strerror = getattr(cause, "strerror", None)
    return strerror or str(cause) or type(cause).__name__


def silent(origin: str, timeout: float) -> MakeError:
    """Nothing came within ``timeout`` seconds after a PING."""
    return partial(KeepAliveTimeout, f"{origin} did not answer a PING within {timeout:g} s")


def no_settings(origin: str) -> MakeError:
    """The peer's SETTINGS did not come in time."""
    return partial(ConnectTimeout, f"{origin} sent no SETTINGS within connect_timeout")


def not_http2(origin: str, error: NotHttp2) -> MakeError:
    """The peer answered in HTTP/1.x."""
    return partial(
        ConnectError,
        f"{origin}: peer speaks HTTP/1.1 (first line {error.first_line!r}), "
        "HTTP/2 with prior knowledge was expected",
    )


def broken_connection(origin: str, error: ProtocolError) -> MakeError:
    """The peer broke a rule of the whole connection (RFC 9113 §5.4.1)."""
    message = f"{origin} broke the protocol: {error}"
    return partial(RemoteProtocolError, message, code=int(error.error_code))
