"""The sending half of the engine: what goes on the wire, and the windows and limits around it.

Everything is checked before h2's encoder is touched, because a field block that was encoded and not
sent would leave the peer's table behind ours for good. What is queued is taken by `take_output`, as
buffers and in order.

A stream leaves ``streams`` in the moment in which it is closed, so that their number is the number
of open streams. Of closed streams is remembered only how the last ones ended, at least a thousand
and at most two.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from h2.config import H2Configuration
from h2.connection import (
    AllowedStreamIDs,
    ConnectionInputs,
    ConnectionState,
    H2Connection,
    H2ConnectionStateMachine,
)
from h2.exceptions import (
    NoAvailableStreamIDError,
    ProtocolError,
    StreamClosedError,
    TooManyStreamsError,
)
from h2.frame_buffer import FrameBuffer
from h2.settings import ChangedSetting, SettingCodes, Settings
from h2.stream import StreamInputs, StreamState

from dynamo_h2.http2 import frames
from dynamo_h2.http2.engine_stream import EngineStream
from dynamo_h2.http2.flow import ReceiveWindow
from dynamo_h2.http2.hpack_cache import BlockDecoder, RequestEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from h2.stream import StreamClosedBy
    from hyperframe.frame import Frame

    from dynamo_h2.config import Http2Config
    from dynamo_h2.http2.headers import Field, RequestHead

__all__ = ["NO_RFC7540_PRIORITIES", "Outbound"]

# What a peer allows before its SETTINGS have arrived; RFC 9113 §6.5.2 recommends no fewer than 100.
INITIAL_STREAM_LIMIT: Final = 100
UNLIMITED: Final = 2**31 - 1

# RFC 9218 §2.1; h2 does not know it.
NO_RFC7540_PRIORITIES: Final = 0x9
INITIAL_CONNECTION_WINDOW: Final = 65_535

_H2_CONFIG: Final = H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
)

# What holds until SETTINGS say otherwise (RFC 9113 §6.5.2).
_INITIAL_SETTINGS: Final[dict[SettingCodes, int]] = {
    SettingCodes.HEADER_TABLE_SIZE: 4096,
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.INITIAL_WINDOW_SIZE: 65_535,
    SettingCodes.MAX_FRAME_SIZE: 16_384,
    SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
}


class _SettingsInForce(Settings):
    """Settings that are known to be right, and hold from the start.

    A value that holds stands alone in a tuple, and in h2's deque only once another one is to
    follow: a deque takes 600 bytes, and a connection has a dozen of them.

    Args:
        values: All of them.
        client: Whose they are.
    """

    _settings: dict[SettingCodes | int, Any]

    def __init__(self, values: dict[SettingCodes, int], *, client: bool) -> None:
        self._client = client
        self._settings = {code: (value,) for code, value in values.items()}

    def __setitem__(self, code: SettingCodes | int, value: int) -> None:
        """Note what is to follow a value."""
        values = self._settings.get(code)
        if isinstance(values, tuple):
            self._settings[code] = deque(values)
        super().__setitem__(code, value)

    def acknowledge(self) -> dict[SettingCodes | int, ChangedSetting]:
        """Put those in force that follow."""
        changed = super().acknowledge()
        for code in changed:
            values = self._settings[code]
            if len(values) == 1:
                self._settings[code] = tuple(values)
        return changed

    def current(self, code: SettingCodes) -> int | None:
        """What is in force of one of them, None where it was never said; h2 takes four calls."""
        values = self._settings.get(code)
        return values[0] if values else None

    @property
    def stream_window(self) -> int:
        """INITIAL_WINDOW_SIZE as it is in force; h2 takes three calls for it."""
        window: int = self._settings[SettingCodes.INITIAL_WINDOW_SIZE][0]
        return window

    def in_force(self) -> dict[int, int]:
        """All of them, without those that are not acknowledged yet."""
        return {code: values[0] for code, values in self._settings.items()}


class Outbound(H2Connection):
    """The client side of one HTTP/2 connection, as far as it sends.

    Args:
        config: Sizes and limits of our side.

    Attributes:
        settings_received: Whether the peer's first SETTINGS have been applied.
        output: Bytes that are queued, in order; always the same list.
        queued_control: Answers (ACKs, RST_STREAM) that are queued and not yet taken.
        connection_receive_window: What the peer may send on all streams together.
        peer_last_stream_id: The lowest ``last_stream_id`` of the peer's GOAWAYs, None without one.
    """

    # With what is h2's in one dict, that would be too long to share its keys with others.
    __slots__ = (
        "_settings_in_flight",
        "connection_receive_window",
        "output",
        "peer_last_stream_id",
        "queued_control",
        "settings_received",
    )

    MAX_CLOSED_STREAMS = 1000

    def __init__(self, config: Http2Config) -> None:
        # What h2's constructor makes, but for what would be replaced at once; a test holds the
        # names against it. Saves 57 calls and 45 of 427 µs per connection; A/A ±8.2.
        self.config = _H2_CONFIG
        self.state_machine = H2ConnectionStateMachine()
        self.streams = {}
        self.highest_inbound_stream_id = 0
        self.highest_outbound_stream_id = 0
        self.local_settings: _SettingsInForce = _SettingsInForce(
            {
                SettingCodes.HEADER_TABLE_SIZE: config.header_table_size,
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: config.stream_window,
                SettingCodes.MAX_FRAME_SIZE: config.max_frame_size,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: config.max_concurrent_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: config.max_header_list_size,
            },
            client=True,
        )
        self.remote_settings: _SettingsInForce = _SettingsInForce(_INITIAL_SETTINGS, client=False)
        self.outbound_flow_control_window = INITIAL_CONNECTION_WINDOW
        self.max_outbound_frame_size = _INITIAL_SETTINGS[SettingCodes.MAX_FRAME_SIZE]
        self.max_inbound_frame_size = config.max_frame_size
        self.encoder = RequestEncoder(config.header_table_size, huffman=config.huffman)
        self.decoder: BlockDecoder = BlockDecoder(config.max_header_list_size)
        self.decoder.max_allowed_table_size = config.header_table_size
        self.connection_receive_window = ReceiveWindow(INITIAL_CONNECTION_WINDOW)
        self.connection_receive_window.max_window_size = config.connection_window
        self._inbound_flow_control_window_manager = self.connection_receive_window
        # h2's own dict of limited size looks at its limit in Python for each entry.
        self._closed_streams = {}
        # Where h2 would read and write; nothing of ours does.
        self.incoming_buffer = FrameBuffer(server=False)
        self._header_frames = []
        self._data_to_send = bytearray()
        # h2's table of bound methods would make every connection a reference cycle.
        self._frame_dispatch_table = {}
        self.output: list[bytes | memoryview] = []
        self._settings_in_flight = False
        self.settings_received = False
        self.queued_control = 0
        self.peer_last_stream_id: int | None = None

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
        limit = self.remote_settings.current(SettingCodes.MAX_CONCURRENT_STREAMS)
        return UNLIMITED if limit is None else min(limit, UNLIMITED)

    @property
    def peer_max_header_list_size(self) -> int | None:
        """The longest header list that the peer takes, in bytes; None if it does not say."""
        return self.remote_settings.max_header_list_size

    def send_window(self, stream_id: int) -> int:
        """Return how many bytes may be sent on a stream; it may be negative (RFC 9113 §6.9.2)."""
        stream = self._stream(stream_id)
        if stream is None:
            return 0
        return min(self.outbound_flow_control_window, stream.outbound_flow_control_window)

    def stream_window(self, stream_id: int) -> ReceiveWindow | None:
        """Return what the peer may send on a stream, None when the stream is closed."""
        stream = self._stream(stream_id)
        return None if stream is None else stream.receive_window

    # Sending

    def initiate(self) -> None:
        """Queue the first flight: preface, SETTINGS, and the connection's WINDOW_UPDATE."""
        self._settings_in_flight = True
        window = self.connection_receive_window
        increment = max(0, window.max_window_size - window.current_window_size)
        if increment:
            window.window_opened(increment)
        # A connection's window may not begin below 65,535 bytes (RFC 9113 §6.9.2).
        window.max_window_size = window.current_window_size
        settings = self.local_settings.in_force()
        # Not a setting of RFC 9113, and not meant for a server.
        del settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]
        settings[NO_RFC7540_PRIORITIES] = 1
        flight = frames.PREFACE + frames.pack_settings(settings)
        if increment:
            flight += frames.pack_window_update(0, increment)
        self.output.append(flight)

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

    def send_request(
        self,
        head: RequestHead,
        fields: Sequence[Field],
        data: bytes | memoryview,
        flush: Callable[[], None] | None = None,
    ) -> int:
        """Send a request whose body fits the windows of a new stream.

        Args:
            head: As for `open_stream`.
            fields: As for `open_stream`.
            data: The whole body, not empty.
            flush: Called once all of it is queued, where it is to be written at once.

        Returns:
            The new stream's identifier.

        Raises:
            ProtocolError: As for `open_stream` and `send_data`.
        """
        stream_id = self.open_stream(head, fields, end_stream=False)
        self.send_body(stream_id, data, end_stream=True)
        if flush is not None:
            flush()
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

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> EngineStream:
        stream = EngineStream(
            stream_id,
            self.config,
            self.local_settings.stream_window,
            self.remote_settings.stream_window,
        )
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        self.streams[stream_id] = stream
        self.highest_outbound_stream_id = stream_id
        return stream

    def _send_fields(self, stream: EngineStream, fields: list[Field], end_stream: bool) -> None:
        self._prepare_for_sending(list(stream.send_headers(fields, self.encoder, end_stream)))
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

    def send_body(self, stream_id: int, data: bytes | memoryview, end_stream: bool = False) -> None:
        """Send a piece of a body, in frames as long as the peer takes them.

        Args:
            stream_id: An open stream whose END_STREAM was not sent yet.
            data: At most `send_window` bytes.
            end_stream: Whether this is the end of the body.

        Raises:
            ProtocolError: The stream or the connection takes no data, or not as much.
        """
        view, limit = memoryview(data), self.max_outbound_frame_size
        while len(view) > limit:
            self.send_data(stream_id, view[:limit])
            view = view[limit:]
        self.send_data(stream_id, view, end_stream)

    def send_trailers(self, stream_id: int, fields: Sequence[Field]) -> None:
        """Send the trailer section, and with it END_STREAM; without fields, only END_STREAM.

        Args:
            stream_id: An open stream whose END_STREAM was not sent yet.
            fields: Checked.

        Raises:
            ProtocolError: The stream or the connection takes no trailers.
        """
        if not fields:
            self.send_body(stream_id, b"", end_stream=True)
            return
        self._send_fields(self._sending_stream(stream_id), list(fields), end_stream=True)

    def _sending_stream(self, stream_id: int) -> EngineStream:
        self._check_alive()
        stream = self._stream(stream_id)
        if stream is None or not stream.may_send:
            raise StreamClosedError(stream_id)
        return stream

    def _check_alive(self) -> None:
        if self.failed:
            raise ProtocolError("the connection has failed")

    def reset(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM, once; a stream that is closed or unknown is left alone."""
        stream = self._stream(stream_id)
        if stream is not None and not self.failed:
            self.output.append(self._close_by_reset(stream, code))

    def forget(self, stream_id: int) -> None:
        """Close a stream without a word to the peer, which never saw it (RFC 9113 §6.8)."""
        stream = self._stream(stream_id)
        if stream is not None:
            stream.state_machine.process_input(StreamInputs.RECV_RST_STREAM)
            self._forget_if_closed(stream)

    def _close_by_reset(self, stream: EngineStream, code: int) -> bytes:
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
            self.output.append(frames.pack_window_update(stream_id, increment))

    def goaway(self, code: int, debug: bytes = b"") -> None:
        """Send GOAWAY; streams go on. A server opens none here, so the last of them is 0."""
        if not self.failed:
            self.output.append(frames.pack_goaway(0, code, debug))

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
        output = self.output.copy()
        self.output.clear()
        self.queued_control = 0
        return output

    def data_to_send(self, amount: int | None = None) -> bytes:
        """Return queued bytes in one piece, under h2's name.

        Args:
            amount: At most that many, None for all.
        """
        data = b"".join(self.take_output())
        if amount is not None and amount < len(data):
            self.output.append(data[amount:])
        return data[:amount]

    def _prepare_for_sending(self, frames: list[Frame]) -> None:
        self.output += [frame.serialize() for frame in frames]

    # Streams

    def _stream(self, stream_id: int) -> EngineStream | None:
        """Return an open stream; h2's type is wider than what `_begin_new_stream` puts in."""
        return cast("EngineStream | None", self.streams.get(stream_id))

    def _forget_if_closed(self, stream: EngineStream) -> None:
        if stream.state_machine.state is StreamState.CLOSED:
            del self.streams[stream.stream_id]
            self._remember(stream.stream_id, stream.closed_by)

    def _remember(self, stream_id: int, by: StreamClosedBy | None) -> None:
        """Remember how a stream ended, and forget the oldest half where that becomes too many."""
        closed = self._closed_streams
        closed[stream_id] = by
        if len(closed) > 2 * self.MAX_CLOSED_STREAMS:
            for oldest in list(closed)[: self.MAX_CLOSED_STREAMS]:
                del closed[oldest]
