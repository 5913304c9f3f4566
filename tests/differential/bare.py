"""The stock engine held against bare h2, which lives the same life frame by frame.

They are equal but for the corrections, each of which is allowed by its name in `CORRECTIONS`: what
bare h2 does, and what the engine does instead. A correction changes what comes after it, so a
sequence ends with the first. Three are smaller than that and left out of the comparison: the last
stream and the debug data of our GOAWAY, and which of a request's fields no proxy may index.

What bare h2 is given by hand, because nothing could be compared otherwise: the settings of the
configuration with the limits that follow from them, and the connection window of the first flight.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from h2 import events as h2_events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack.exceptions import HPACKError

from dynamo_h2.http2.engine import Engine
from tests.differential.chooser import Chooser
from tests.differential.corrections import (
    CALL_CORRECTIONS,
    CORRECTIONS,
    NO_CODE,
    TABLE_SIZE,
    Before,
    Case,
    Corrected,
    Frame,
    Outcome,
)
from tests.differential.pair import Difference
from tests.differential.pools import CONFIGS, FIELDS, FIRST_WINDOWS, HEADS, TRAILERS
from tests.differential.steps import (
    Call,
    Change,
    Grant,
    Open,
    Ping,
    Receive,
    Request,
    Reset,
    SendBody,
    SendData,
    SendTrailers,
    Step,
    body,
)
from tests.differential.watcher import Event, Watcher
from tests.differential.wire import Inbound, Outbound
from tests.http2 import frame_factory as ff

__all__ = ["Beside", "explore_beside"]

_HOSTILE: Final = 0.2
# How often a step is taken of which it is known where it will end.
_RARELY: Final = 0.02


def explore_beside(seed: int, number: int) -> str | None:
    """Make and run a sequence.

    Returns:
        The name of the correction that ended it, None when there was none.

    Raises:
        Difference: It does otherwise, and nobody said so.
    """
    random = Random(f"bare:{seed}:{number}")
    config = random.randrange(len(CONFIGS))
    hostile = random.random() < _HOSTILE
    chooser = Chooser(random, hostile=hostile, cutting="whole", huffman=True)
    beside = Beside(config)
    left = random.randint(12, 28)
    try:
        while left and not beside.engine.failed:
            step = chooser.step(beside.engine, None)
            if random.random() < _RARELY or not _is_refused(step, beside.engine):
                beside.run(step)
            left -= 1
        if not beside.engine.failed:
            beside.run(chooser.ending(beside.engine))
    except Corrected as corrected:
        return corrected.name
    return None


def _is_refused(step: Step, engine: Engine) -> bool:
    """Whether it is known what will come of a step: a correction, and the same one every time."""
    match step:
        case SendBody(stream) | SendData(stream) | SendTrailers(stream):
            live = engine._stream(stream)
            return live is None or not live.may_send
        case Reset(stream) | Grant(stream):
            return stream != 0 and stream not in engine.streams
        case Change():
            return engine._settings_in_flight
    return False


def _bare(config: int) -> H2Connection:
    """Bare h2 with the configuration that the engine has."""
    ours = CONFIGS[config]
    bare = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    bare.local_settings = Settings(
        client=True,
        initial_values={
            SettingCodes.HEADER_TABLE_SIZE: ours.header_table_size,
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.MAX_CONCURRENT_STREAMS: ours.max_concurrent_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: FIRST_WINDOWS.get(config, ours.stream_window),
            SettingCodes.MAX_FRAME_SIZE: ours.max_frame_size,
            SettingCodes.MAX_HEADER_LIST_SIZE: ours.max_header_list_size,
        },
    )
    bare.max_inbound_frame_size = ours.max_frame_size
    bare.decoder.max_header_list_size = ours.max_header_list_size
    bare.decoder.max_allowed_table_size = ours.header_table_size
    bare.initiate_connection()
    if (increment := ours.connection_window - 65_535) > 0:
        bare.increment_flow_control_window(increment)
    return bare


class Beside:
    """The engine and bare h2.

    Args:
        config: A number in `CONFIGS`.

    Attributes:
        inbound: Where the input stands.
        engine: The engine.
    """

    def __init__(self, config: int) -> None:
        self.inbound = Inbound()
        self._watcher = Watcher(self.inbound.data_ends)
        self.engine = self._watcher.engine = Engine(CONFIGS[config], self._watcher)
        if config in FIRST_WINDOWS:
            self.engine.begin_with_stream_window(FIRST_WINDOWS[config])
        self.engine.initiate()
        self._bare = _bare(config)
        self._outbound = Outbound(self.inbound.settings)
        self._bare_outbound = Outbound(self.inbound.settings)
        self._outbound.read(self._sent())
        self._bare_outbound.read(self._bare.data_to_send())

    def _sent(self) -> bytes:
        return b"".join(self.engine.take_output())

    def run(self, step: Step) -> None:
        """Do a step with both.

        Raises:
            Corrected: The engine does otherwise, by name.
            Difference: It does otherwise, and nobody said so.
        """
        if isinstance(step, Receive):
            for frame in _whole_frames(step.data):
                if not self.engine.failed:
                    self._receive(frame)
        elif isinstance(step, _COMPARED):
            self._call(step)

    def _receive(self, data: bytes) -> None:
        frame = Frame(data[3], data[4], int.from_bytes(data[5:9], "big") & 0x7FFF_FFFF, data[9:])
        before = self._before(frame.stream)
        self.inbound.feed(data)
        bare, ours = self._bare_receives(data), self._ours_receives(data)
        states = _state(self._bare), _state(self.engine)
        if bare == ours and (states[0] == states[1] or self.engine.failed):
            return
        case = Case(frame, before, bare, ours)
        for name, applies in CORRECTIONS.items():
            if applies(case):
                raise Corrected(name)
        what = f"{frame} after {before}"
        raise Difference(what, (bare, states[0]), (ours, states[1]))

    def _before(self, stream_id: int) -> Before:
        engine = self.engine
        stream = engine._stream(stream_id)
        connection = engine.settings_received, engine._settings_in_flight
        if stream is None:
            closed_by = engine._closed_streams.get(stream_id)
            return Before(None, False, closed_by, None, None, connection)
        machine = stream.state_machine
        return Before(
            machine.state,
            bool(machine.headers_received),
            None,
            stream._expected_content_length,
            stream.request_method,
            connection,
        )

    def _ours_receives(self, data: bytes) -> Outcome:
        self._watcher.calls = []
        error = None
        try:
            self.engine.receive(data)
        except ProtocolError as raised:
            error = int(raised.error_code)
        sent = self._outbound.read(self._sent())
        # Bare h2 says nothing of frames that change nothing.
        told = [_plain(call) for call in self._watcher.calls if call[0] != "late"]
        return Outcome(told, error, _plain_frames(sent))

    def _bare_receives(self, data: bytes) -> Outcome:
        events: list[h2_events.Event] = []
        error = None
        try:
            events = self._bare.receive_data(data)
        except ProtocolError as raised:
            error = int(raised.error_code)
        sent = self._bare_outbound.read(self._bare.data_to_send())
        told = [_event(event, data[3]) for event in events]
        return Outcome([event for event in told if event], error, _plain_frames(sent))

    def _call(self, step: Call) -> None:
        ours, bare = self._ours_does(step), self._bare_does(step)
        states = _state(self._bare), _state(self.engine)
        if bare == ours and states[0] == states[1]:
            return
        for name, applies in CALL_CORRECTIONS.items():
            if applies(step, bare, ours):
                raise Corrected(name)
        raise Difference(repr(step), (bare, states[0]), (ours, states[1]))

    def _ours_does(self, step: Call) -> Outcome:
        error = None
        try:
            step.run(self.engine)
        except ProtocolError as raised:
            error = int(raised.error_code)
        return Outcome([], error, _plain_frames(self._outbound.read(self._sent())))

    def _bare_does(self, step: Call) -> Outcome:
        error = None
        try:
            _do(self._bare, step)
        except KeyError:
            error = NO_CODE
        except ProtocolError as raised:
            error = int(raised.error_code)
        try:
            sent = self._bare_outbound.read(self._bare.data_to_send())
        except (AssertionError, HPACKError) as wrong:
            raise Corrected(TABLE_SIZE) from wrong
        return Outcome([], error, _plain_frames(sent))


def _state(connection: H2Connection) -> dict[str, object]:
    return {
        "connection": connection.state_machine.state,
        "streams": {
            number: (
                stream.state_machine.state,
                stream.outbound_flow_control_window,
                stream.inbound_flow_control_window,
                stream.state_machine.headers_received,
                stream._actual_content_length,
            )
            for number, stream in connection.streams.items()
            if not stream.closed
        },
        "send window": connection.outbound_flow_control_window,
        "receive window": connection.inbound_flow_control_window,
        "frame sizes": (connection.max_inbound_frame_size, connection.max_outbound_frame_size),
        "decoder": list(connection.decoder.header_table.dynamic_entries),
    }


def _whole_frames(data: bytes) -> list[bytes]:
    frames, at = [], 0
    while len(data) - at >= 9:
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            break
        frames.append(data[at:end])
        at = end
    return frames


def _send_pieces(
    bare: H2Connection, stream: int, data: bytes | memoryview, end_stream: bool
) -> None:
    """Cut a body into frames, which h2 leaves to its user."""
    limit = bare.max_outbound_frame_size
    while len(data) > limit:
        bare.send_data(stream, data[:limit])
        data = data[limit:]
    bare.send_data(stream, data, end_stream)


def _do(bare: H2Connection, step: Call) -> None:
    """Make a call of bare h2."""
    match step:
        case Open(head, fields, end_stream):
            stream = bare.get_next_available_stream_id()
            bare.send_headers(stream, [*HEADS[head].fields, *FIELDS[fields]], end_stream)
        case Request(head, fields, size, view, flush):
            stream = bare.get_next_available_stream_id()
            bare.send_headers(stream, [*HEADS[head].fields, *FIELDS[fields]])
            _send_pieces(bare, stream, body(size, view), end_stream=True)
            if flush == "ping":
                bare.ping(b"flushing")
        case SendBody(stream, size, end_stream, view):
            _send_pieces(bare, stream, body(size, view), end_stream)
        case SendData(stream, size, end_stream, pad, view):
            bare.send_data(stream, body(size, view), end_stream, pad)
        case SendTrailers(stream, 0):
            bare.end_stream(stream)
        case SendTrailers(stream, fields):
            bare.send_headers(stream, TRAILERS[fields], end_stream=True)
        case Reset(stream, code):
            bare.reset_stream(stream, code)
        case Grant(stream, increment):
            bare.increment_flow_control_window(increment, stream or None)
        case Ping():
            bare.ping(b"sequence")
        case Change(pairs):
            bare.update_settings({SettingCodes(code): value for code, value in pairs})


_COMPARED: Final = (Open, Request, SendBody, SendData, SendTrailers, Reset, Grant, Ping, Change)


def _plain(call: Event) -> Event:
    """An event without what bare h2 does not tell: words, and the window before SETTINGS."""
    if call[0] == "stream_error":
        return call[:3]
    return call[:1] if call[0] == "settings" else call


def _plain_frames(frames: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Frames without what is left out of the comparison."""
    return [_plain_frame(*frame) for frame in frames]


def _plain_frame(kind: object, flags: object, stream: object, payload: object) -> Event:
    if kind == ff.GOAWAY and isinstance(payload, bytes):
        payload = payload[4:8]
    elif isinstance(payload, list):
        payload = [field[:2] for field in payload]
    return kind, flags, stream, payload


def _event(event: h2_events.Event, kind: int) -> Event | None:
    """An event of bare h2 in the words of `Watcher`; None for what those say elsewhere."""
    if isinstance(event, h2_events.PriorityUpdated | h2_events.UnknownFrameReceived):
        return None if kind == ff.HEADERS else ("other", kind)
    tell = _WORDS.get(type(event))
    return None if tell is None else tell(event)


def _head(event: h2_events.ResponseReceived) -> Event:
    return "head", *_status(event), event.stream_ended is not None


def _status(
    event: h2_events.ResponseReceived | h2_events.InformationalResponseReceived,
) -> tuple[object, ...]:
    (_, status), *fields = event.headers
    number = int(status) if status.isdigit() else status
    return event.stream_id, number, [tuple(field) for field in fields]


def _data(event: h2_events.DataReceived) -> Event:
    ended = event.stream_ended is not None
    return "data", event.stream_id, event.data, event.flow_controlled_length, ended


def _reset(event: h2_events.StreamReset) -> Event:
    name = "reset" if event.remote_reset else "stream_error"
    return name, event.stream_id, int(event.error_code)


def _goaway(event: h2_events.ConnectionTerminated) -> Event:
    code, debug = int(event.error_code or 0), event.additional_data or b""
    return "goaway", event.last_stream_id, code, debug


_WORDS: Final[dict[type[h2_events.Event], Callable[[Any], Event]]] = {
    h2_events.ResponseReceived: _head,
    h2_events.InformationalResponseReceived: lambda event: ("informational", *_status(event)),
    h2_events.TrailersReceived: lambda event: (
        *("trailers", event.stream_id),
        [tuple(field) for field in event.headers],
    ),
    h2_events.DataReceived: _data,
    h2_events.StreamReset: _reset,
    h2_events.WindowUpdated: lambda event: ("window_update", event.stream_id),
    h2_events.RemoteSettingsChanged: lambda _: ("settings",),
    h2_events.SettingsAcknowledged: lambda _: ("settings_ack",),
    h2_events.PingReceived: lambda _: ("ping",),
    h2_events.PingAckReceived: lambda event: ("ping_ack", event.ping_data),
    h2_events.ConnectionTerminated: _goaway,
}
