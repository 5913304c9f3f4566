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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.connection import ConnectionInputs
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from h2.stream import StreamInputs
from h2.utilities import guard_increment_window

from dynamo_h2.http2 import frames
from dynamo_h2.http2.engine_stream import TRAILERS
from dynamo_h2.http2.frames import FrameReader, FrameType, NotHttp2, PeerError, StreamError
from dynamo_h2.http2.outbound import NO_RFC7540_PRIORITIES, Outbound

if TYPE_CHECKING:
    from h2._typing import Buffer
    from h2.events import Event

    from dynamo_h2.config import Http2Config
    from dynamo_h2.http2.engine_stream import EngineStream
    from dynamo_h2.http2.frames import FrameHeader
    from dynamo_h2.http2.headers import Field
    from dynamo_h2.http2.receiver import Receiver

__all__ = ["Engine", "NotHttp2", "PeerError"]

# A peer that does not read makes our answers pile up (CVE-2019-9512, CVE-2019-9515). A live peer
# takes them within a round trip, and no sane one asks a thousand times in one.
MAX_QUEUED_CONTROL: Final = 1000

# nghttp2's bound on the entries of one SETTINGS frame; each may touch every stream.
MAX_SETTINGS: Final = 32


class Engine(Outbound):
    """The client side of one HTTP/2 connection, sans I/O.

    Args:
        config: Sizes and limits of our side.
        receiver: Is told what arrives.
    """

    __slots__ = ("_no_priorities", "_reader", "_receiver")

    def __init__(self, config: Http2Config, receiver: Receiver) -> None:
        super().__init__(config)
        self._receiver = receiver
        # The peer's; its first SETTINGS decide it for good (RFC 9218 §2.1).
        self._no_priorities = 0
        self._reader = FrameReader(config.max_frame_size, config.max_header_list_size)

    @property
    def data_to_come(self) -> int:
        """Bytes of a DATA frame that left the windows, and were not delivered yet."""
        return 0

    def begin_with_stream_window(self, size: int) -> None:
        """Let the first SETTINGS say another INITIAL_WINDOW_SIZE than the config, in bytes."""
        self.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = size
        self.local_settings.acknowledge()
        self._settings_changed()

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

    def _reply(self, frame: bytes) -> None:
        """Queue an answer, as long as the peer takes them."""
        self.output.append(frame)
        self.queued_control += 1
        if self.queued_control > MAX_QUEUED_CONTROL:
            raise PeerError(
                f"{self.queued_control} answers that are not read", ErrorCodes.ENHANCE_YOUR_CALM
            )

    def _receive_complete(self, header: FrameHeader, body: bytes) -> None:
        """Handle a frame that is right by itself; turn a stream error into RST_STREAM."""
        try:
            self._dispatch(header, body)
        except StreamError as error:
            self._refuse(header.stream_id, error)

    def _refuse(self, stream_id: int, error: StreamError) -> None:
        """Reset a stream on which the peer broke a rule."""
        stream = self._stream(stream_id)
        if stream is not None:
            self._reply(self._close_by_reset(stream, error.code))
            self._receiver.on_stream_error(stream_id, error.code, str(error))

    def _dispatch(self, header: FrameHeader, body: bytes) -> None:
        match header.type:
            case FrameType.DATA:
                self._on_data(header, body)
            case FrameType.HEADERS:
                self._on_headers(header, body)
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

    def _stream_of(self, header: FrameHeader) -> EngineStream | None:
        """Return the stream of a frame, None when it is closed.

        Raises:
            PeerError: The stream is idle; a server's own always are (RFC 9113 §5.1).
        """
        stream_id = header.stream_id
        if stream_id % 2 == 0 or stream_id > self.highest_outbound_stream_id:
            raise PeerError(f"{header.name} on idle stream {stream_id}")
        return self._stream(stream_id)

    def _check_not_ended(self, header: FrameHeader) -> None:
        """Refuse a frame on a closed stream, unless a reset crossed it (RFC 9113 §5.1).

        A stream that is no longer remembered counts as one that we reset.
        """
        if self._stream_is_closed_by_end(header.stream_id):
            raise PeerError(
                f"{header.name} on stream {header.stream_id}, which has ended",
                ErrorCodes.STREAM_CLOSED,
            )

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
            stream.take_data(data, end_stream, header.length)
        except StreamError:
            self._receiver.on_late_data(header.length)
            raise
        self._forget_if_closed(stream)
        self._receiver.on_data(header.stream_id, data, header.length, end_stream)

    def _on_headers(self, header: FrameHeader, block: bytes) -> None:
        """Handle HEADERS (RFC 9113 §6.2): decode the block, whatever becomes of it, then judge."""
        self._on_fields(header, self.decoder.decode_block(block))

    def _on_fields(self, header: FrameHeader, fields: list[Field] | None) -> None:
        """Handle the fields of HEADERS; None for a list that is too long."""
        stream = self._stream_of(header)
        if stream is None:
            self._check_not_ended(header)
            self._receiver.on_late(header.type)
            return
        if fields is None:
            raise StreamError(f"header list of over {self.decoder.max_header_list_size} bytes")
        end_stream = bool(header.flags & frames.END_STREAM)
        status = stream.take_fields(fields, end_stream)
        self._forget_if_closed(stream)
        if status == TRAILERS:
            self._receiver.on_trailers(header.stream_id, fields)
        elif status < 200:
            self._receiver.on_informational(header.stream_id, status, fields[1:])
        else:
            self._receiver.on_head(header.stream_id, status, fields[1:], end_stream)

    def _on_rst_stream(self, header: FrameHeader, body: bytes) -> None:
        """Handle RST_STREAM (RFC 9113 §6.4); on a closed stream it says nothing new."""
        stream = self._stream_of(header)
        if stream is None:
            self._receiver.on_late(header.type)
            return
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
        previous_initial_window = self.remote_settings.stream_window
        for code, value in settings:
            self._apply_setting(code, value)
        self.settings_received = True
        self._settings_changed()
        self._reply(frames.pack_frame(FrameType.SETTINGS, frames.ACK, 0))
        self._receiver.on_settings(previous_initial_window)

    def _settings_changed(self) -> None:
        """Settings of either side came into force; nothing to do here."""

    def _apply_setting(self, code: int, value: int) -> None:
        if code == NO_RFC7540_PRIORITIES:
            if value > 1 or (self.settings_received and value != self._no_priorities):
                raise PeerError(f"NO_RFC7540_PRIORITIES = {value}, after {self._no_priorities}")
            self._no_priorities = value
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
        self._settings_changed()
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
                self._receiver.on_late(header.type)
                return
            stream.raise_send_window(increment)
        elif increment:
            self.outbound_flow_control_window = guard_increment_window(
                self.outbound_flow_control_window, increment
            )
        else:
            raise PeerError("WINDOW_UPDATE of 0 on the connection")
        self._receiver.on_window_update(header.stream_id)

    def _on_other(self, header: FrameHeader) -> None:
        """Handle PRIORITY, which RFC 9113 §5.3 deprecates, and what we do not know (§5.5)."""
        if (
            header.type == FrameType.PRIORITY
            and header.length != frames.PRIORITY_LENGTH
            and header.stream_id in self.streams
        ):
            raise StreamError(f"PRIORITY of {header.length} bytes", ErrorCodes.FRAME_SIZE_ERROR)
        self._receiver.on_other(header.type)
