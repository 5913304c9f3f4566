"""One request and its response, as the engine sees them: h2's stream with its messages put right.

A *malformed message* (RFC 9113 §8.1.1) is an error of its stream and of no other: here it raises
`StreamError` before h2's state machine has moved. h2 would end the connection, accept a status of
``abc``, hold a 304 to its content-length, and forget the expected length when trailers come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes
from h2.exceptions import FlowControlError, InvalidBodyLengthError
from h2.stream import H2Stream, H2StreamStateMachine, StreamInputs, StreamState
from h2.utilities import guard_increment_window

from dynamo_h2.http2.flow import ReceiveWindow
from dynamo_h2.http2.frames import StreamError
from dynamo_h2.http2.headers import (
    Malformed,
    check_response_head,
    check_trailers,
    response_content_length,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h2.config import H2Configuration
    from hpack import Encoder
    from hpack.struct import HeaderWeaklyTyped
    from hyperframe.frame import ContinuationFrame, HeadersFrame, PushPromiseFrame

    from dynamo_h2.http2.headers import Field

__all__ = ["TRAILERS", "EngineStream", "begun_stream"]

_new = object.__new__

# What `EngineStream.take_fields` returns in place of a status.
TRAILERS: Final = 0

_NO_CONTENT: Final = frozenset({204, 304})


class EngineStream(H2Stream):
    """A stream that we opened.

    Args:
        stream_id: Odd (RFC 9113 §5.1.1).
        config: h2's, for the whole connection.
        inbound_window_size: What the peer may send at first, in bytes.
        outbound_window_size: What we may send at first, in bytes.

    Attributes:
        receive_window: What the peer may send.
    """

    # What each DATA frame needs, side by side: a processor that wakes up for a token has nothing
    # of this in its caches, and each line of memory that it fetches costs as much as a call.
    __slots__ = (
        "_actual_content_length",
        "_expected_content_length",
        "receive_window",
        "state_machine",
    )

    def __init__(
        self,
        stream_id: int,
        config: H2Configuration,
        inbound_window_size: int,
        outbound_window_size: int,
    ) -> None:
        super().__init__(stream_id, config, inbound_window_size, outbound_window_size)
        self.receive_window = ReceiveWindow(inbound_window_size)
        self._inbound_window_manager = self.receive_window

    @property
    def may_send(self) -> bool:
        """Whether our END_STREAM is still to come."""
        return self.state_machine.state in {StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE}

    def send_headers(
        self, headers: Iterable[HeaderWeaklyTyped], encoder: Encoder, end_stream: bool = False
    ) -> list[HeadersFrame | ContinuationFrame | PushPromiseFrame]:
        """Encode a header or trailer section; h2 would take the method from trailers, too."""
        method = self.request_method
        frames = super().send_headers(headers, encoder, end_stream)
        self.request_method = method or self.request_method
        return frames

    def take_data(self, data: bytes, end_stream: bool, flow_length: int) -> None:
        """Take a DATA frame (RFC 9113 §6.1).

        Args:
            data: The payload without padding.
            end_stream: Whether the response ends here.
            flow_length: Length of the payload with padding, in bytes.

        Raises:
            StreamError: Nothing of the frame is to be used.
        """
        self._check_receiving("DATA")
        if not self.state_machine.headers_received:
            raise StreamError("malformed message: DATA before the head of the response")
        try:
            self.receive_data(data, end_stream, flow_length)
        except FlowControlError as error:
            raise StreamError(str(error), ErrorCodes.FLOW_CONTROL_ERROR) from error
        except InvalidBodyLengthError as error:
            raise _wrong_length(error) from error

    def take_fields(self, fields: list[Field], end_stream: bool) -> int:
        """Take a header or trailer section (RFC 9113 §8.1).

        Args:
            fields: The decoded field block, in order.
            end_stream: Whether the response ends here.

        Returns:
            The status, 1xx included, or `TRAILERS`.

        Raises:
            StreamError: The message is malformed, or its end was received before.
        """
        self._check_receiving("HEADERS")
        try:
            if self.state_machine.headers_received:
                return self._take_trailers(fields, end_stream)
            return self._take_head(fields, end_stream)
        except Malformed as error:
            raise StreamError(f"malformed message: {error}") from error
        except InvalidBodyLengthError as error:
            raise _wrong_length(error) from error

    def _take_head(self, fields: list[Field], end_stream: bool) -> int:
        status = check_response_head(fields)
        if status < 200:
            if end_stream:
                raise Malformed(f"{status} with END_STREAM")
            self.state_machine.process_input(StreamInputs.RECV_INFORMATIONAL_HEADERS)
        else:
            self._expected_content_length = self._content_to_come(status, fields)
            self._end_section(end_stream)
        return status

    def _take_trailers(self, fields: list[Field], end_stream: bool) -> int:
        if not end_stream:
            raise Malformed("trailers without END_STREAM")
        check_trailers(fields)
        self._end_section(end_stream)
        return TRAILERS

    def _content_to_come(self, status: int, fields: list[Field]) -> int | None:
        """Return how many bytes of content must follow, None when any may (RFC 9113 §8.1.1)."""
        length = response_content_length(fields)
        return 0 if self.request_method == b"HEAD" or status in _NO_CONTENT else length

    def _end_section(self, end_stream: bool) -> None:
        self._track_content_length(0, end_stream)
        self.state_machine.process_input(StreamInputs.RECV_HEADERS)
        if end_stream:
            self.state_machine.process_input(StreamInputs.RECV_END_STREAM)

    def _check_receiving(self, name: str) -> None:
        """Refuse what comes after END_STREAM, while our side is still open (RFC 9113 §5.1)."""
        if self.state_machine.state is StreamState.HALF_CLOSED_REMOTE:
            raise StreamError(f"{name} after END_STREAM", ErrorCodes.STREAM_CLOSED)

    def raise_send_window(self, increment: int) -> None:
        """Take a WINDOW_UPDATE (RFC 9113 §6.9).

        Args:
            increment: In bytes.

        Raises:
            StreamError: It is 0, or the window would pass 2**31 - 1.
        """
        if not increment:
            raise StreamError("WINDOW_UPDATE of 0")
        try:
            self.outbound_flow_control_window = guard_increment_window(
                self.outbound_flow_control_window, increment
            )
        except FlowControlError as error:
            raise StreamError(str(error), ErrorCodes.FLOW_CONTROL_ERROR) from error


class _StateMachine(H2StreamStateMachine):
    """h2's state machine of a stream, born in the state after the request's head."""

    __slots__ = ("headers_received", "state")

    trailers_sent = None
    trailers_received = None
    stream_closed_by = None
    client = True
    headers_sent = True


class _Stream(EngineStream):
    """A stream that has at birth only what differs from stream to stream."""

    __slots__ = ()

    _authority = None


def begun_stream(
    stream_id: int,
    config: H2Configuration,
    windows: tuple[int, int],
    frame_size: int,
    method: bytes,
    state: StreamState,
) -> EngineStream:
    """Make a stream whose request's head is out; its parts are made without a call for each.

    Args:
        stream_id: As for `EngineStream`.
        config: As for `EngineStream`.
        windows: What the peer may send at first, and what we may, in bytes.
        frame_size: The peer's MAX_FRAME_SIZE.
        method: The request's.
        state: OPEN, or half-closed (local) where the end of the request is out, too.
    """
    # Saves 11 calls and 2.35 of 15.1 µs per request; A/A ±0.21.
    machine = _new(_StateMachine)
    machine.stream_id = stream_id
    machine.state = state
    machine.headers_received = None
    window = _new(ReceiveWindow)
    window.max_window_size = window.current_window_size = windows[0]
    window.owed = 0
    stream = _new(_Stream)
    stream._actual_content_length = 0  # noqa: SLF001 - its own
    stream._expected_content_length = None  # noqa: SLF001 - its own
    stream.state_machine = machine
    stream.stream_id = stream_id
    stream.config = config
    stream.max_outbound_frame_size = frame_size
    stream.request_method = method
    stream.receive_window = stream._inbound_window_manager = window  # noqa: SLF001 - its own
    stream.outbound_flow_control_window = windows[1]
    return stream


def _wrong_length(error: InvalidBodyLengthError) -> StreamError:
    return StreamError(
        f"malformed message: {error.actual_length} bytes of content"
        f" where {error.expected_length} were announced"
    )
