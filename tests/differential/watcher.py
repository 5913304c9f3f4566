"""A receiver that writes down what it is told, and calls the engine back when it is armed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from dynamo_h2.http2.engine import Engine, PeerError
from dynamo_h2.http2.headers import Field
from tests.differential.pools import FIELDS, HEADS, TRAILERS

__all__ = ["ACTIONS", "EVENTS", "Event", "Watcher", "joined"]

Event: TypeAlias = tuple[object, ...]


def _raise(engine: Engine, stream: int) -> None:
    raise PeerError("the receiver has had enough", ErrorCodes.ENHANCE_YOUR_CALM)


ACTIONS: Final[Mapping[str, Callable[[Engine, int], object]]] = {
    "reset": lambda engine, stream: engine.reset(stream, 8),
    "forget": lambda engine, stream: engine.forget(stream),
    "raise": _raise,
    "open": lambda engine, _: engine.open_stream(HEADS[0], FIELDS[1], end_stream=False),
    "request": lambda engine, _: engine.send_request(HEADS[0], FIELDS[1], b"12345"),
    "data": lambda engine, stream: engine.send_body(stream, b"12345"),
    "finish": lambda engine, stream: engine.send_body(stream, b"", end_stream=True),
    "trailers": lambda engine, stream: engine.send_trailers(stream, TRAILERS[1]),
    "grant": lambda engine, stream: engine.grant(stream, 100),
    "credit": lambda engine, _: engine.grant(0, 100),
    "settings": lambda engine, _: engine.change_settings({SettingCodes.INITIAL_WINDOW_SIZE: 60}),
    "goaway": lambda engine, _: engine.goaway(0),
}
"""What may be done in a callback, by the name in `Arm`; it gets the event's stream."""

EVENTS: Final = (
    *("settings", "settings_ack", "head", "informational", "data", "late_data", "late"),
    *("trailers", "reset", "stream_error", "window_update", "ping", "ping_ack", "goaway", "other"),
)


class Watcher:
    """A receiver.

    DATA may come to it in parts. It is called to action only at the end of a DATA frame, because
    what it would do earlier is done at another time than with an engine that waits for the whole
    frame: an allowed difference.

    Args:
        frame_ends: The sums of flow-controlled bytes at which a DATA frame ends.

    Attributes:
        calls: What was told since `calls` was last emptied.
        armed: Actions that wait for an event.
    """

    __slots__ = ("_flow", "_frame_ends", "armed", "calls", "engine")

    def __init__(self, frame_ends: set[int]) -> None:
        self.engine: Engine
        self.calls: list[Event] = []
        self.armed: dict[str, str] = {}
        self._flow = 0
        self._frame_ends = frame_ends

    def _note(self, event: Event, stream: int = 0) -> None:
        self.calls.append(event)
        if self.armed:
            self._act(event[0], stream)

    def _note_flow(self, event: Event, stream: int, length: int) -> None:
        self.calls.append(event)
        self._flow += length
        if self.armed and self._flow in self._frame_ends:
            self._act(event[0], stream)

    def _act(self, event: object, stream: int) -> None:
        assert isinstance(event, str)
        action = self.armed.pop(event, None)
        if action is None:
            return
        if action == "raise":
            _raise(self.engine, stream)
        try:
            result = ACTIONS[action](self.engine, stream)
        except ProtocolError as error:
            result = (type(error), error.error_code, str(error))
        self.calls.append((action, result))

    def on_settings(self, previous_initial_window: int) -> None:
        self._note(("settings", previous_initial_window))

    def on_settings_ack(self) -> None:
        self._note(("settings_ack",))

    def on_head(self, stream_id: int, status: int, fields: list[Field], end_stream: bool) -> None:
        self._note(("head", stream_id, status, fields, end_stream), stream_id)

    def on_informational(self, stream_id: int, status: int, fields: list[Field]) -> None:
        self._note(("informational", stream_id, status, fields), stream_id)

    def on_data(
        self, stream_id: int, data: bytes | memoryview, flow_length: int, end_stream: bool
    ) -> None:
        event = ("data", stream_id, bytes(data), flow_length, end_stream)
        self._note_flow(event, stream_id, flow_length)

    def on_late_data(self, flow_length: int) -> None:
        self._note_flow(("late_data", flow_length), 0, flow_length)

    def on_late(self, frame_type: int) -> None:
        self._note(("late", frame_type))

    def on_trailers(self, stream_id: int, fields: list[Field]) -> None:
        self._note(("trailers", stream_id, fields), stream_id)

    def on_reset(self, stream_id: int, code: int) -> None:
        self._note(("reset", stream_id, code), stream_id)

    def on_stream_error(self, stream_id: int, code: int, reason: str) -> None:
        self._note(("stream_error", stream_id, code, reason), stream_id)

    def on_window_update(self, stream_id: int) -> None:
        self._note(("window_update", stream_id), stream_id)

    def on_ping(self) -> None:
        self._note(("ping",))

    def on_ping_ack(self, payload: bytes) -> None:
        self._note(("ping_ack", payload))

    def on_goaway(self, last_stream_id: int, code: int, debug: bytes) -> None:
        self._note(("goaway", last_stream_id, code, debug))

    def on_other(self, frame_type: int) -> None:
        self._note(("other", frame_type))


def joined(calls: list[Event]) -> list[Event]:
    """Join adjacent DATA of one stream, and adjacent DATA that nobody wants.

    DATA of no length is a frame by itself: no part of a frame is empty.
    """
    out: list[Event] = []
    for call in calls:
        last = out[-1] if out else ("",)
        if call[:2] == last[:2] and call[0] == "data" and call[3] and last[3] and not last[4]:
            both = _sum(last[2], call[2]), _sum(last[3], call[3])
            out[-1] = ("data", call[1], *both, call[4])
        elif call[0] == last[0] == "late_data" and call[1] and last[1]:
            out[-1] = ("late_data", _sum(last[1], call[1]))
        else:
            out.append(call)
    return out


def _sum(one: object, other: object) -> object:
    if isinstance(one, bytes) and isinstance(other, bytes):
        return one + other
    assert isinstance(one, int)
    assert isinstance(other, int)
    return one + other
