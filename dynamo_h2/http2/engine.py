"""The protocol engine: h2's state machines, with what h2 leaves to its user put right.

`Engine` is the client side of one connection. It is slow and obviously right. Bytes go in through
`Engine.receive`, which reads them frame by frame and calls one method of a `Receiver` per event,
before it looks at the next frame; bytes come out of `Engine.take_output`.

What happens to a frame:

1. `FrameReader` judges it by itself, most of it from its nine-byte header alone.
2. When it is complete, with its whole field block, the method for its type judges it against the
   state of h2's stream. A rule of the whole connection raises `PeerError`, a rule of one stream
   `StreamError`.
3. A `StreamError` becomes RST_STREAM and ``on_stream_error``. A `PeerError` becomes one GOAWAY,
   closes the state machine, and is raised; nothing is read after it.

A stream leaves ``streams`` in the moment in which it is closed, so that their number is the number
of open streams. Of closed streams is remembered only how the last thousand ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionInputs, ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import (
    FlowControlError,
    InvalidBodyLengthError,
    NoAvailableStreamIDError,
    ProtocolError,
    StreamClosedError,
    TooManyStreamsError,
)
from h2.settings import SettingCodes, Settings
from h2.stream import StreamInputs, StreamState
from h2.utilities import guard_increment_window

from dynamo_h2.http2 import frames
from dynamo_h2.http2.flow import ReceiveWindow
from dynamo_h2.http2.frames import FrameReader, FrameType, NotHttp2, PeerError, StreamError
from dynamo_h2.http2.headers import (
    Malformed,
    check_response_head,
    check_trailers,
    response_content_length,
)
from dynamo_h2.http2.hpack_cache import BlockDecoder, RequestEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h2._typing import Buffer
    from h2.events import Event
    from h2.stream import H2Stream
    from hyperframe.frame import Frame

    from dynamo_h2.config import Http2Config
    from dynamo_h2.http2.frames import FrameHeader
    from dynamo_h2.http2.headers import Field, RequestHead

__all__ = ["Engine", "NotHttp2", "PeerError", "Receiver"]

# What a peer allows before its SETTINGS have arrived; RFC 9113 §6.5.2 recommends no fewer than 100.
INITIAL_STREAM_LIMIT: Final = 100
UNLIMITED: Final = 2**31 - 1

# A peer that does not read makes our answers pile up (CVE-2019-9512, CVE-2019-9515). A live peer
# takes them within a round trip, and no sane one asks a thousand times in one.
MAX_QUEUED_CONTROL: Final = 1000

# nghttp2's bound on the entries of one SETTINGS frame; each may touch every stream.
MAX_SETTINGS: Final = 32

# RFC 9218 §2.1; h2 does not know it.
NO_RFC7540_PRIORITIES: Final = 0x9
INITIAL_CONNECTION_WINDOW: Final = 65_535

_NO_CONTENT: Final = frozenset({204, 304})


class Receiver(Protocol):
    """What an engine tells: one call per event, in the order of the frames.

    A method may call the engine back, except for ``receive``. When it raises a `ProtocolError`,
    that is a connection error, as if the engine had found it. Lists of fields must not be changed.
    """

    def on_settings(self, previous_initial_window: int) -> None:
        """The peer's SETTINGS were applied; its INITIAL_WINDOW_SIZE was that many bytes before."""

    def on_settings_ack(self) -> None:
        """Our last SETTINGS were acknowledged and applied."""

    def on_head(self, stream_id: int, status: int, fields: list[Field], end_stream: bool) -> None:
        """A final response began; ``fields`` are without ``:status``."""

    def on_informational(self, stream_id: int, status: int, fields: list[Field]) -> None:
        """A 1xx response arrived."""

    def on_data(
        self, stream_id: int, data: bytes | memoryview, flow_length: int, end_stream: bool
    ) -> None:
        """DATA arrived; ``flow_length`` bytes of credit, padding included, are owed for it."""

    def on_late_data(self, flow_length: int) -> None:
        """DATA arrived that nobody wants: that many bytes of connection credit are owed."""

    def on_trailers(self, stream_id: int, fields: list[Field]) -> None:
        """Trailers arrived, and with them the end of the response."""

    def on_reset(self, stream_id: int, code: int) -> None:
        """The peer reset a stream that was open on at least one side."""

    def on_stream_error(self, stream_id: int, code: int, reason: str) -> None:
        """The peer broke a rule on this stream; it is closed, and its RST_STREAM is queued."""

    def on_window_update(self, stream_id: int) -> None:
        """The peer raised the send window of a stream, or of the connection (0)."""

    def on_ping(self) -> None:
        """A PING arrived; its ACK is queued."""

    def on_ping_ack(self, payload: bytes) -> None:
        """The ACK of a PING arrived, asked for or not."""

    def on_goaway(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """GOAWAY arrived; ``last_stream_id`` is the lowest of all so far."""

    def on_other(self, frame_type: int) -> None:
        """A frame arrived that changes nothing: PRIORITY, or of an unknown type."""


class Engine(H2Connection):
    """The client side of one HTTP/2 connection, sans I/O.

    Args:
        config: Sizes and limits of our side.
        receiver: Is told what arrives.

    Attributes:
        settings_received: Whether the peer's first SETTINGS have been applied.
        queued_control: Answers (ACKs, RST_STREAM) that are queued and not yet taken.
        connection_receive_window: What the peer may send on all streams together.
        peer_last_stream_id: The lowest ``last_stream_id`` of the peer's GOAWAYs, None without one.
    """

    MAX_CLOSED_STREAMS = 1000

    def __init__(self, config: Http2Config, receiver: Receiver) -> None:
        super().__init__(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        # h2's table of bound methods would make every connection a reference cycle.
        self._frame_dispatch_table = {}
        self._receiver = receiver
        self._output: list[bytes | memoryview] = []
        self._settings_in_flight = False
        self.settings_received = False
        self.queued_control = 0
        self.peer_last_stream_id: int | None = None
        self._adopt(config)

    def _adopt(self, config: Http2Config) -> None:
        """Put our own settings into force, with the limits that h2 would leave as they were."""
        self.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.HEADER_TABLE_SIZE: config.header_table_size,
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: config.max_concurrent_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: config.stream_window,
                SettingCodes.MAX_FRAME_SIZE: config.max_frame_size,
                SettingCodes.MAX_HEADER_LIST_SIZE: config.max_header_list_size,
            },
        )
        self.max_inbound_frame_size = config.max_frame_size
        self._reader = FrameReader(config.max_frame_size, config.max_header_list_size)
        self.decoder: BlockDecoder = BlockDecoder(config.max_header_list_size)
        self.decoder.max_allowed_table_size = config.header_table_size
        self.encoder = RequestEncoder(config.header_table_size)
        self.connection_receive_window = ReceiveWindow(INITIAL_CONNECTION_WINDOW)
        self.connection_receive_window.max_window_size = config.connection_window
        self._inbound_flow_control_window_manager = self.connection_receive_window

    # Facts

    @property
    def failed(self) -> bool:
        """Whether the connection ended in a connection error; nothing is read or sent after it."""
        return self.state_machine.state is ConnectionState.CLOSED

    @property
    def open_streams(self) -> int:
        """The number of streams that are open on at least one side."""
        return len(self.streams)

    @property
    def open_outbound_streams(self) -> int:
        """The same, under h2's name; h2 scans all its streams for it."""
        return len(self.streams)

    @property
    def peer_stream_limit(self) -> int:
        """How many streams the peer allows at once (RFC 9113 §5.1.2)."""
        if not self.settings_received:
            return INITIAL_STREAM_LIMIT
        return min(self.remote_settings.max_concurrent_streams, UNLIMITED)

    @property
    def peer_max_header_list_size(self) -> int | None:
        """The longest header list that the peer takes, in bytes; None if it does not say."""
        return self.remote_settings.max_header_list_size

    def send_window(self, stream_id: int) -> int:
        """Return how many bytes may be sent on a stream; it may be negative (RFC 9113 §6.9.2)."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return 0
        return min(self.outbound_flow_control_window, stream.outbound_flow_control_window)

    def stream_window(self, stream_id: int) -> ReceiveWindow | None:
        """Return what the peer may send on a stream, None when the stream is closed."""
        stream = self.streams.get(stream_id)
        return None if stream is None else cast("ReceiveWindow", stream._inbound_window_manager)

    # Sending

    def initiate(self) -> None:
        """Queue the first flight: preface, SETTINGS, and the connection's WINDOW_UPDATE."""
        self._settings_in_flight = True
        settings = dict(self.local_settings)
        # Not a setting of RFC 9113, and not meant for a server.
        settings.pop(SettingCodes.ENABLE_CONNECT_PROTOCOL, None)
        settings[NO_RFC7540_PRIORITIES] = 1
        flight = frames.PREFACE + frames.pack_settings(settings)
        window = self.connection_receive_window
        increment = window.max_window_size - window.current_window_size
        if increment > 0:
            window.window_opened(increment)
            flight += frames.pack_window_update(0, increment)
        self._output.append(flight)

    initiate_connection = initiate

    def open_stream(self, head: RequestHead, fields: Sequence[Field], end_stream: bool) -> int:
        """Send a request's header section.

        Everything is checked before the encoder is touched: a block that was encoded and not sent
        would leave the peer's table behind ours for good.

        Args:
            head: The part that repeats; checked.
            fields: The part that does not; checked.
            end_stream: Whether no body and no trailers follow.

        Returns:
            The new stream's identifier.

        Raises:
            ProtocolError: The connection has failed, GOAWAY was received, the peer's stream limit
                is reached (RFC 9113 §5.1.2), or no identifier is left (§5.1.1).
        """
        stream_id = self._next_stream_id()
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        stream = self._begin_new_stream(stream_id, AllowedStreamIDs.ODD)
        self._send_fields(stream, [*head.fields, *fields], end_stream)
        return stream_id

    def _next_stream_id(self) -> int:
        self._check_alive()
        if self.peer_last_stream_id is not None:
            raise ProtocolError("the peer takes no new streams: it sent GOAWAY")
        if len(self.streams) >= self.peer_stream_limit:
            raise TooManyStreamsError(f"the peer allows {self.peer_stream_limit} streams")
        stream_id = self.highest_outbound_stream_id + 2 if self.highest_outbound_stream_id else 1
        if stream_id > self.HIGHEST_ALLOWED_STREAM_ID:
            raise NoAvailableStreamIDError("no stream identifier is left")
        return stream_id

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> H2Stream:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        window = ReceiveWindow(self.local_settings.initial_window_size)
        stream._inbound_window_manager = window
        return stream

    def _send_fields(self, stream: H2Stream, fields: list[Field], end_stream: bool) -> None:
        method = stream.request_method
        self._prepare_for_sending(list(stream.send_headers(fields, self.encoder, end_stream)))
        # h2 reads it from each block that is sent, and trailers have none.
        stream.request_method = method or stream.request_method
        self._forget_if_closed(stream)

    def send_data(
        self,
        stream_id: int,
        data: bytes | memoryview,
        end_stream: bool = False,
        pad_length: int | None = None,
    ) -> None:
        """Send one DATA frame.

        Args:
            stream_id: An open stream whose END_STREAM was not sent yet.
            data: At most `send_window` and at most ``max_outbound_frame_size`` bytes.
            end_stream: Whether this is the end of the body.
            pad_length: Bytes of padding.

        Raises:
            ProtocolError: The stream or the connection takes no data, or not as much.
        """
        stream = self._sending_stream(stream_id)
        super().send_data(stream_id, data, end_stream, pad_length)
        self._forget_if_closed(stream)

    def send_trailers(self, stream_id: int, fields: Sequence[Field]) -> None:
        """Send the trailer section, and with it END_STREAM; without fields, only END_STREAM.

        Args:
            stream_id: An open stream whose END_STREAM was not sent yet.
            fields: Checked.

        Raises:
            ProtocolError: The stream or the connection takes no trailers.
        """
        if not fields:
            self.send_data(stream_id, b"", end_stream=True)
            return
        self._send_fields(self._sending_stream(stream_id), list(fields), end_stream=True)

    def _sending_stream(self, stream_id: int) -> H2Stream:
        self._check_alive()
        stream = self.streams.get(stream_id)
        if stream is None or stream.state_machine.state is StreamState.HALF_CLOSED_LOCAL:
            raise StreamClosedError(stream_id)
        return stream

    def _check_alive(self) -> None:
        if self.failed:
            raise ProtocolError("the connection has failed")

    def reset(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM, once; a stream that is closed or unknown is left alone."""
        stream = self.streams.get(stream_id)
        if stream is not None and not self.failed:
            self._output.append(self._close_by_reset(stream, code))

    def _close_by_reset(self, stream: H2Stream, code: int) -> bytes:
        stream.state_machine.process_input(StreamInputs.SEND_RST_STREAM)
        self._forget_if_closed(stream)
        return frames.pack_rst_stream(stream.stream_id, code)

    def grant(self, stream_id: int, increment: int) -> None:
        """Send WINDOW_UPDATE and raise our receive window by as much.

        Args:
            stream_id: A stream, which is left alone when it is closed; 0 for the connection.
            increment: More than 0, in bytes.
        """
        window = self.stream_window(stream_id) if stream_id else self.connection_receive_window
        if window is not None and not self.failed:
            window.window_opened(increment)
            self._output.append(frames.pack_window_update(stream_id, increment))

    def goaway(self, code: int, debug: bytes = b"") -> None:
        """Send GOAWAY; streams go on. A server opens none here, so the last of them is 0."""
        if not self.failed:
            self._output.append(frames.pack_goaway(0, code, debug))

    def change_settings(self, settings: dict[int, int]) -> bool:
        """Send SETTINGS, in force from their ACK on.

        One ACK applies one pending value of every setting in h2, whichever frame it was sent in:
        so only one SETTINGS frame is ever in flight.

        Returns:
            False, and nothing is sent, while the last SETTINGS are not acknowledged.

        Raises:
            ProtocolError: A value is not allowed, or the connection has failed.
        """
        self._check_alive()
        if self._settings_in_flight:
            return False
        self.update_settings(settings)
        self._settings_in_flight = True
        return True

    def take_output(self) -> list[bytes | memoryview]:
        """Return everything that is queued, in order, and leave the queue empty."""
        output, self._output = self._output, []
        self.queued_control = 0
        return output

    def data_to_send(self, amount: int | None = None) -> bytes:
        """Return queued bytes in one piece, under h2's name.

        Args:
            amount: At most that many, None for all.
        """
        data = b"".join(self.take_output())
        if amount is not None and amount < len(data):
            self._output.append(data[amount:])
        return data[:amount]

    def _prepare_for_sending(self, frames: list[Frame]) -> None:
        self._output += [frame.serialize() for frame in frames]

    def _reply(self, frame: bytes) -> None:
        """Queue an answer, as long as the peer takes them."""
        self._output.append(frame)
        self.queued_control += 1
        if self.queued_control > MAX_QUEUED_CONTROL:
            raise PeerError("it asks and does not read", ErrorCodes.ENHANCE_YOUR_CALM)

    # Receiving

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer; after a connection error they are ignored.

        Raises:
            ProtocolError: The connection has failed. Its ``error_code`` is in the GOAWAY that is
                queued, and every event before the bad frame was delivered. `NotHttp2` when the peer
                answered in HTTP/1.
        """
        if self.failed:
            return
        self._reader.feed(data)
        try:
            for header, body in self._reader.frames():
                self._receive_complete(header, body)
        except ProtocolError as error:
            self._fail(error)
            raise

    def receive_data(self, data: Buffer) -> list[Event]:
        """Do what `receive` does, under h2's name: events go to the receiver, the list is empty."""
        self.receive(bytes(data))
        return []

    def receive_eof(self) -> None:
        """Judge what is there when the connection ends.

        Raises:
            NotHttp2: It is the beginning of an answer in HTTP/1, shorter than a line.
        """
        if not self.failed:
            self._reader.finish()

    def _fail(self, error: ProtocolError) -> None:
        """Say why the connection ends (RFC 9113 §5.4.1)."""
        self.goaway(error.error_code, str(error).encode())
        self.state_machine.process_input(ConnectionInputs.SEND_GOAWAY)
        self._reader.clear()

    def _receive_complete(self, header: FrameHeader, body: bytes) -> None:
        """Handle a frame that is right by itself; turn a stream error into RST_STREAM."""
        try:
            self._dispatch(header, body)
        except StreamError as error:
            stream = self.streams.get(header.stream_id)
            if stream is not None:
                self._reply(self._close_by_reset(stream, error.code))
                self._receiver.on_stream_error(header.stream_id, error.code, str(error))

    def _dispatch(self, header: FrameHeader, body: bytes) -> None:
        match header.type:
            case FrameType.DATA:
                self._on_data(header, body)
            case FrameType.HEADERS:
                self._on_headers(header, body)
            case FrameType.PUSH_PROMISE:
                raise PeerError("PUSH_PROMISE, where push was never allowed")
            case FrameType.RST_STREAM:
                self._on_rst_stream(header, body)
            case FrameType.SETTINGS:
                self._on_settings(header, body)
            case FrameType.PING:
                self._on_ping(header, body)
            case FrameType.GOAWAY:
                self._on_goaway(body)
            case FrameType.WINDOW_UPDATE:
                self._on_window_update(header, body)
            case _:
                self._on_other(header)

    # Streams, as far as a frame that arrives is concerned

    def _stream_of(self, header: FrameHeader) -> H2Stream | None:
        """Return the stream of a frame, None when it is closed.

        Raises:
            PeerError: The stream is idle; a server's own always are (RFC 9113 §5.1).
        """
        stream_id = header.stream_id
        if stream_id % 2 == 0 or stream_id > self.highest_outbound_stream_id:
            raise PeerError(f"{header.name} on idle stream {stream_id}")
        return self.streams.get(stream_id)

    def _check_not_ended(self, header: FrameHeader) -> None:
        """Refuse a frame on a closed stream, unless a reset crossed it (RFC 9113 §5.1).

        A stream that is no longer remembered counts as one that we reset.
        """
        if self._stream_is_closed_by_end(header.stream_id):
            raise PeerError(
                f"{header.name} on stream {header.stream_id}, which has ended",
                ErrorCodes.STREAM_CLOSED,
            )

    def _forget_if_closed(self, stream: H2Stream) -> None:
        if stream.state_machine.state is StreamState.CLOSED:
            del self.streams[stream.stream_id]
            self._closed_streams[stream.stream_id] = stream.closed_by

    # One method per type of frame

    def _on_data(self, header: FrameHeader, data: bytes) -> None:
        """Handle DATA (RFC 9113 §6.1); the connection window counts it, wanted or not (§6.9)."""
        stream = self._stream_of(header)
        if stream is None:
            self._check_not_ended(header)
        self.connection_receive_window.window_consumed(header.length)
        if stream is None:
            self._receiver.on_late_data(header.length)
            return
        end_stream = bool(header.flags & frames.END_STREAM)
        try:
            self._accept_data(stream, data, header.length, end_stream)
        except StreamError:
            self._receiver.on_late_data(header.length)
            raise
        self._forget_if_closed(stream)
        self._receiver.on_data(header.stream_id, data, header.length, end_stream)

    def _accept_data(
        self, stream: H2Stream, data: bytes, flow_length: int, end_stream: bool
    ) -> None:
        _check_receiving(stream, "DATA")
        if not stream.state_machine.headers_received:
            raise StreamError("DATA before the response head")
        try:
            stream.receive_data(data, end_stream, flow_length)
        except FlowControlError as error:
            raise StreamError(str(error), ErrorCodes.FLOW_CONTROL_ERROR) from error
        except InvalidBodyLengthError as error:
            raise _wrong_length(error) from error

    def _on_headers(self, header: FrameHeader, block: bytes) -> None:
        """Handle HEADERS (RFC 9113 §6.2): decode the block, whatever becomes of it, then judge."""
        fields = self.decoder.decode_block(block)
        stream = self._stream_of(header)
        if stream is None:
            self._check_not_ended(header)
            return
        _check_receiving(stream, "HEADERS")
        end_stream = bool(header.flags & frames.END_STREAM)
        if fields is None:
            raise StreamError(f"header list of more than {self.decoder.max_header_list_size} bytes")
        try:
            if stream.state_machine.headers_received:
                self._on_trailers(stream, fields, end_stream)
            else:
                self._on_response(stream, fields, end_stream)
        except Malformed as error:
            raise StreamError(f"malformed message: {error}") from error
        except InvalidBodyLengthError as error:
            raise _wrong_length(error) from error

    def _on_response(self, stream: H2Stream, fields: list[Field], end_stream: bool) -> None:
        """Handle a header section, interim or final (RFC 9113 §8.1)."""
        status = check_response_head(fields)
        if status < 200:
            if end_stream:
                raise Malformed(f"{status} with END_STREAM")
            stream.state_machine.process_input(StreamInputs.RECV_INFORMATIONAL_HEADERS)
            self._receiver.on_informational(stream.stream_id, status, fields[1:])
            return
        stream._expected_content_length = _expected_length(stream, status, fields)
        stream._track_content_length(0, end_stream)
        self._receive_fields(stream, end_stream)
        self._receiver.on_head(stream.stream_id, status, fields[1:], end_stream)

    def _on_trailers(self, stream: H2Stream, fields: list[Field], end_stream: bool) -> None:
        """Handle a trailer section (RFC 9113 §8.1)."""
        if not end_stream:
            raise Malformed("trailers without END_STREAM")
        check_trailers(fields)
        stream._track_content_length(0, end_stream)
        self._receive_fields(stream, end_stream)
        self._receiver.on_trailers(stream.stream_id, fields)

    def _receive_fields(self, stream: H2Stream, end_stream: bool) -> None:
        stream.state_machine.process_input(StreamInputs.RECV_HEADERS)
        if end_stream:
            stream.state_machine.process_input(StreamInputs.RECV_END_STREAM)
            self._forget_if_closed(stream)

    def _on_rst_stream(self, header: FrameHeader, body: bytes) -> None:
        """Handle RST_STREAM (RFC 9113 §6.4); on a closed stream it says nothing new."""
        stream = self._stream_of(header)
        if stream is not None:
            stream.state_machine.process_input(StreamInputs.RECV_RST_STREAM)
            self._forget_if_closed(stream)
            self._receiver.on_reset(header.stream_id, frames.parse_u32(body))

    def _on_settings(self, header: FrameHeader, body: bytes) -> None:
        """Handle SETTINGS (RFC 9113 §6.5): apply the values in order, one by one, and say so."""
        if header.flags & frames.ACK:
            self._on_settings_ack()
            return
        settings = frames.parse_settings(body)
        if len(settings) > MAX_SETTINGS:
            raise PeerError(f"{len(settings)} settings at once", ErrorCodes.ENHANCE_YOUR_CALM)
        previous_initial_window = self.remote_settings.initial_window_size
        for code, value in settings:
            self._apply_setting(code, value)
        self.settings_received = True
        self._reply(frames.pack_frame(FrameType.SETTINGS, frames.ACK, 0))
        self._receiver.on_settings(previous_initial_window)

    def _apply_setting(self, code: int, value: int) -> None:
        if code == NO_RFC7540_PRIORITIES and value > 1:
            raise PeerError(f"NO_RFC7540_PRIORITIES = {value}")
        if code not in SettingCodes._value2member_map_:
            return
        self.remote_settings.validate_received_setting(code, value)
        self.remote_settings[SettingCodes(code)] = value
        self._acknowledge_settings()

    def _on_settings_ack(self) -> None:
        if not self._settings_in_flight:
            raise PeerError("ACK of SETTINGS that were not sent")
        self._settings_in_flight = False
        self._local_settings_acked()
        self._reader.max_frame_size = self.max_inbound_frame_size
        self._reader.max_header_list_size = self.decoder.max_header_list_size
        self._receiver.on_settings_ack()

    def _on_ping(self, header: FrameHeader, body: bytes) -> None:
        """Handle PING (RFC 9113 §6.7)."""
        if header.flags & frames.ACK:
            self._receiver.on_ping_ack(body)
            return
        self._reply(frames.pack_frame(FrameType.PING, frames.ACK, 0, body))
        self._receiver.on_ping()

    def _on_goaway(self, body: bytes) -> None:
        """Handle GOAWAY (RFC 9113 §6.8): streams up to the last identifier go on."""
        last_stream_id, code, debug = frames.parse_goaway(body)
        if self.peer_last_stream_id is not None:
            last_stream_id = min(last_stream_id, self.peer_last_stream_id)
        self.peer_last_stream_id = last_stream_id
        self._receiver.on_goaway(last_stream_id, code, debug)

    def _on_window_update(self, header: FrameHeader, body: bytes) -> None:
        """Handle WINDOW_UPDATE (RFC 9113 §6.9)."""
        increment = frames.parse_u31(body)
        if header.stream_id:
            stream = self._stream_of(header)
            if stream is None:
                return
            self._raise_stream_window(stream, increment)
        elif increment:
            self.outbound_flow_control_window = guard_increment_window(
                self.outbound_flow_control_window, increment
            )
        else:
            raise PeerError("WINDOW_UPDATE of 0 on the connection")
        self._receiver.on_window_update(header.stream_id)

    def _raise_stream_window(self, stream: H2Stream, increment: int) -> None:
        if not increment:
            raise StreamError("WINDOW_UPDATE of 0")
        try:
            stream.outbound_flow_control_window = guard_increment_window(
                stream.outbound_flow_control_window, increment
            )
        except FlowControlError as error:
            raise StreamError(str(error), ErrorCodes.FLOW_CONTROL_ERROR) from error

    def _on_other(self, header: FrameHeader) -> None:
        """Handle PRIORITY, which RFC 9113 §5.3 deprecates, and what we do not know (§5.5)."""
        if (
            header.type == FrameType.PRIORITY
            and header.length != frames.PRIORITY_LENGTH
            and header.stream_id in self.streams
        ):
            raise StreamError(f"PRIORITY of {header.length} bytes", ErrorCodes.FRAME_SIZE_ERROR)
        self._receiver.on_other(header.type)


def _check_receiving(stream: H2Stream, name: str) -> None:
    if stream.state_machine.state is StreamState.HALF_CLOSED_REMOTE:
        raise StreamError(f"{name} after END_STREAM", ErrorCodes.STREAM_CLOSED)


def _expected_length(stream: H2Stream, status: int, fields: list[Field]) -> int | None:
    """Return how many bytes of content must follow, None when that is open (RFC 9113 §8.1.1)."""
    length = response_content_length(fields)
    return 0 if stream.request_method == b"HEAD" or status in _NO_CONTENT else length


def _wrong_length(error: InvalidBodyLengthError) -> StreamError:
    return StreamError(
        f"malformed message: {error.actual_length} bytes of content"
        f" where {error.expected_length} were announced"
    )
