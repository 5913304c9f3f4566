"""Where the engine does otherwise than bare h2, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from h2.stream import StreamClosedBy, StreamState

from tests.differential.steps import Call, Change, Grant, Reset, SendBody, SendData, SendTrailers
from tests.differential.unusual import PRIORITY_UPDATE
from tests.differential.watcher import Event
from tests.http2 import frame_factory as ff

__all__ = [
    "CALL_CORRECTIONS",
    "CORRECTIONS",
    "NO_CODE",
    "TABLE_SIZE",
    "Before",
    "Case",
    "Corrected",
    "Frame",
    "Outcome",
]


class Corrected(Exception):
    """The engine does otherwise, and that is meant.

    Args:
        name: A name in `CORRECTIONS` or `CALL_CORRECTIONS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Frame(NamedTuple):
    """A frame of the peer."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Before(NamedTuple):
    """What the engine knew of a frame's stream before the frame came.

    Args:
        state: None when it is not open.
        headed: Whether the response had begun.
        closed_by: How it was closed.
        length: The content-length of its response.
        method: Of its request.
        connection: Whether SETTINGS had been received, and whether ours were in flight.
    """

    state: StreamState | None
    headed: bool
    closed_by: StreamClosedBy | None
    length: int | None
    method: bytes | None
    connection: tuple[bool, bool]


class Outcome(NamedTuple):
    """What became of a frame or a call.

    Args:
        events: In the words of `Watcher`, without reasons.
        error: The code of an exception, None without.
        sent: Frames, with field blocks decoded.
    """

    events: list[Event]
    error: int | None
    sent: list[tuple[object, ...]]


class Case(NamedTuple):
    """A frame on which both differ."""

    frame: Frame
    before: Before
    bare: Outcome
    ours: Outcome


NO_CODE: Final = -1
"""In place of a code where bare h2 lets a KeyError out."""

TABLE_SIZE: Final = "a change of table size is signalled, however often it is announced"

_BLOCKS: Final = frozenset({ff.HEADERS, ff.CONTINUATION})
_THREE_UPDATES: Final = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){3}")
_ENDED: Final = frozenset({StreamClosedBy.SEND_END_STREAM, StreamClosedBy.RECV_END_STREAM})
_RESET: Final = frozenset({StreamClosedBy.SEND_RST_STREAM, StreamClosedBy.RECV_RST_STREAM})


def _is_stream_error(case: Case, *codes: int) -> bool:
    """Whether the engine gave up the stream and nothing else."""
    if case.ours.error is not None or not case.ours.events or len(case.ours.sent) != 1:
        return False
    told, stream = case.ours.events[-1], case.frame.stream
    return any(
        told == ("stream_error", stream, code)
        and case.ours.sent == [(ff.RST_STREAM, 0, stream, code.to_bytes(4, "big"))]
        for code in codes
    )


def _is_passed_over(case: Case) -> bool:
    """Whether the engine counted the frame, and did nothing else."""
    return (
        case.ours.error is None
        and case.ours.events in ([("other", case.frame.kind)], [("late", case.frame.kind)])
        and not case.ours.sent
    )


def _told(outcome: Outcome) -> str:
    """The first event's name."""
    return str(outcome.events[0][0]) if outcome.events else ""


def _malformed(case: Case) -> bool:
    """RFC 9113 §8.1.1: a stream error; bare h2 gives up the connection."""
    return (
        (case.frame.kind in _BLOCKS or case.frame.kind == ff.DATA)
        and case.bare.error == ff.PROTOCOL_ERROR
        and case.before.state is not None
        and _is_stream_error(case, ff.PROTOCOL_ERROR)
    )


def _unchecked(case: Case) -> bool:
    """A status that is none, 101, a content-length with END_STREAM: bare h2 takes them."""
    return (
        case.frame.kind in _BLOCKS
        and not case.before.headed
        and _told(case.bare) in {"head", "informational"}
        and _is_stream_error(case, ff.PROTOCOL_ERROR)
    )


def _forgotten_length(case: Case) -> bool:
    """Trailers make bare h2 forget the length that the head announced."""
    return (
        case.frame.kind in _BLOCKS
        and case.before.headed
        and case.before.length is not None
        and _told(case.bare) == "trailers"
        and _is_stream_error(case, ff.PROTOCOL_ERROR)
    )


def _content_of_none(case: Case) -> bool:
    """204 and 304 have no content, whatever their content-length (RFC 9110 §8.6)."""
    if case.frame.kind == ff.DATA and case.before.length == 0:
        refused = _told(case.bare) == "data" and _is_stream_error(case, ff.PROTOCOL_ERROR)
        return refused or (case.bare.error == ff.PROTOCOL_ERROR and _told(case.ours) == "data")
    return False


def _other_length(case: Case) -> bool:
    """A 1xx and trailers announce no content (RFC 9110 §8.6), whatever their content-length."""
    return (
        case.frame.kind in _BLOCKS
        and case.bare.error == ff.PROTOCOL_ERROR
        and _told(case.ours) in {"informational", "trailers"}
        and "content-length" in str(case.ours.events[0][-1])
    )


def _compression(case: Case) -> bool:
    """RFC 9113 §4.3: COMPRESSION_ERROR."""
    return (
        case.frame.kind in _BLOCKS
        and case.bare.error == ff.PROTOCOL_ERROR
        and case.ours.error == ff.COMPRESSION_ERROR
    )


def _size_updates(case: Case) -> bool:
    """RFC 7541 §4.2: two updates say all there is to say."""
    three = _THREE_UPDATES.search(case.frame.payload)
    seen = three is not None or case.frame.kind == ff.CONTINUATION
    return seen and case.ours.error == ff.COMPRESSION_ERROR != case.bare.error


def _continues_nothing(case: Case) -> bool:
    """RFC 9113 §6.10: an error of the connection, whatever has become of the stream."""
    return case.frame.kind == ff.CONTINUATION and case.ours.error == ff.PROTOCOL_ERROR


def _padding(case: Case) -> bool:
    """RFC 9113 §6.2: padding may take up all of HEADERS but its own length."""
    return (
        case.frame.kind == ff.HEADERS
        and bool(case.frame.flags & ff.PADDED)
        and case.bare.error == ff.PROTOCOL_ERROR
        and case.frame.payload[0] + 1 == len(case.frame.payload)
    )


def _push(case: Case) -> bool:
    """PUSH_PROMISE is refused for what it is, before anybody looks into it."""
    return case.frame.kind == ff.PUSH_PROMISE and case.ours.error == ff.PROTOCOL_ERROR


def _priority_update(case: Case) -> bool:
    """RFC 9218 §7.1: no server sends it."""
    return case.frame.kind == PRIORITY_UPDATE and case.ours.error == ff.PROTOCOL_ERROR


def _long_list(case: Case) -> bool:
    """A header list that is too long is read on, for the table's sake, and ends its stream."""
    return (
        case.frame.kind in _BLOCKS
        and case.bare.error == ff.ENHANCE_YOUR_CALM
        and (
            _is_stream_error(case, ff.PROTOCOL_ERROR, ff.STREAM_CLOSED)
            or case.ours.error in {ff.COMPRESSION_ERROR, ff.PROTOCOL_ERROR}
        )
    )


def _unasked_ack(case: Case) -> bool:
    return (
        case.frame.kind == ff.SETTINGS
        and bool(case.frame.flags & ff.ACK)
        and not case.before.connection[1]
        and _told(case.bare) == "settings_ack"
        and case.ours.error == ff.PROTOCOL_ERROR
    )


def _late(case: Case) -> bool:
    """What crosses a reset is decoded and counted, and not answered again."""
    return (
        case.before.state is None
        and case.before.closed_by in _RESET
        and case.ours.error is None
        and not case.ours.sent
        and _told(case.ours) in {"", "late_data"}
    )


def _credit_told(case: Case) -> bool:
    """The connection credit of DATA that is refused is owed all the same."""
    return (
        case.frame.kind == ff.DATA
        and _told(case.ours) == "late_data"
        and case.ours.events[1:] == case.bare.events
    )


def _after_the_end(case: Case) -> bool:
    """RFC 9113 §5.1: STREAM_CLOSED, for the connection once both sides have ended."""
    if case.before.state is StreamState.HALF_CLOSED_REMOTE:
        return _is_stream_error(case, ff.STREAM_CLOSED)
    return case.before.closed_by in _ENDED and case.ours.error == ff.STREAM_CLOSED


def _stream_window(case: Case) -> bool:
    """A stream that is sent too much is in error, and no other."""
    return case.bare.error == ff.FLOW_CONTROL_ERROR and _is_stream_error(
        case, ff.FLOW_CONTROL_ERROR
    )


def _priorities(case: Case) -> bool:
    """RFC 9113 §5.3: deprecated, so that a stream may even depend on itself."""
    if case.bare.error != ff.PROTOCOL_ERROR or case.ours.error is not None:
        return False
    if case.frame.kind == ff.PRIORITY:
        return _is_passed_over(case)
    at = bool(case.frame.flags & ff.PADDED)
    other = int.from_bytes(case.frame.payload[at : at + 4], "big") & 0x7FFF_FFFF
    return bool(case.frame.flags & ff.PRIORITY_FLAG) and other == case.frame.stream


def _codes(payload: bytes) -> list[bytes]:
    """The identifiers of all values of SETTINGS."""
    return [payload[at : at + 2] for at in range(0, len(payload), 6)]


def _no_priorities(case: Case) -> bool:
    """RFC 9218 §2.1: 0 or 1, and the same ever after the first SETTINGS."""
    if case.frame.kind != ff.SETTINGS or case.ours.error != ff.PROTOCOL_ERROR:
        return False
    payload = case.frame.payload
    values = {
        int.from_bytes(payload[at + 2 : at + 6])
        for at in range(0, len(payload), 6)
        if payload[at : at + 2] == b"\x00\x09"
    }
    return bool(values) and (case.before.connection[0] or max(values) > 1)


def _first_frame(case: Case) -> bool:
    """RFC 9113 §3.4: SETTINGS come first."""
    return not case.before.connection[0] and case.ours.error == ff.PROTOCOL_ERROR


def _one_by_one(case: Case) -> bool:
    """Each value of SETTINGS counts (RFC 9113 §6.5.3); bare h2 reads the last of a kind."""
    codes = _codes(case.frame.payload)
    if case.frame.kind != ff.SETTINGS or len(set(codes)) == len(codes):
        return False
    if case.ours.error is None:
        return _told(case.ours) == "settings" and case.ours.sent == [(ff.SETTINGS, ff.ACK, 0, b"")]
    return case.ours.error in {ff.PROTOCOL_ERROR, ff.FLOW_CONTROL_ERROR}


def _closed_window(case: Case) -> bool:
    """Bare h2 keeps closed streams for a while, and their windows may overflow."""
    return (
        case.frame.kind == ff.SETTINGS
        and case.bare.error == ff.FLOW_CONTROL_ERROR
        and _told(case.ours) == "settings"
    )


def _frame_size(case: Case) -> bool:
    """A length that cannot be is a FRAME_SIZE_ERROR (RFC 9113 §4.2), of the stream for PRIORITY."""
    if case.frame.kind == ff.PRIORITY and len(case.frame.payload) != 5:
        if not case.frame.stream:
            return case.ours.error in {ff.PROTOCOL_ERROR, ff.FRAME_SIZE_ERROR}
        return _is_passed_over(case) or _is_stream_error(case, ff.FRAME_SIZE_ERROR)
    return {case.bare.error, case.ours.error} == {ff.PROTOCOL_ERROR, ff.FRAME_SIZE_ERROR}


def _reserved_bit(case: Case) -> bool:
    """RFC 9113 §6.9: the top bit of an increment is ignored."""
    return (
        case.frame.kind == ff.WINDOW_UPDATE
        and case.frame.payload[0] >= 0x80
        and case.bare.error == ff.PROTOCOL_ERROR
    )


def _alternative(case: Case) -> bool:
    """ALTSVC is for others (RFC 7838 §4), right or wrong."""
    return case.frame.kind == ff.ALTSVC and case.ours.events == [("other", ff.ALTSVC)]


def _idle_reset(case: Case) -> bool:
    """RFC 9113 §6.4: no stream is reset before it is opened."""
    idle = case.before.state is None and case.before.closed_by is None
    return case.frame.kind == ff.RST_STREAM and idle and case.ours.error == ff.PROTOCOL_ERROR


def _no_increment(case: Case) -> bool:
    """RFC 9113 §6.9: on a stream an increment of 0 is an error of that stream."""
    return (
        case.frame.kind == ff.WINDOW_UPDATE
        and not int.from_bytes(case.frame.payload, "big") & 0x7FFF_FFFF
        and (
            _is_stream_error(case, ff.PROTOCOL_ERROR)
            or case.ours.error == ff.PROTOCOL_ERROR
            or _is_passed_over(case)
        )
    )


def _goaway(case: Case) -> bool:
    """Streams live on after GOAWAY; bare h2 closes the connection and drops its output."""
    return case.frame.kind == ff.GOAWAY and _told(case.ours) == "goaway"


CORRECTIONS: Final[Mapping[str, Callable[[Case], bool]]] = {
    "malformed messages end their stream only": _malformed,
    "heads are checked": _unchecked,
    "trailers do not undo the content-length": _forgotten_length,
    "204 and 304 have no content": _content_of_none,
    "HPACK has its own error code": _compression,
    "an ACK must have been asked for": _unasked_ack,
    "late frames are not answered": _late,
    "credit is told of": _credit_told,
    "after the end it is STREAM_CLOSED": _after_the_end,
    "a stream's window is no other's": _stream_window,
    "priorities are ignored": _priorities,
    "NO_RFC7540_PRIORITIES stays": _no_priorities,
    "the first frame is SETTINGS": _first_frame,
    "only a head announces content": _other_length,
    "two table size updates are enough": _size_updates,
    "CONTINUATION continues a field block": _continues_nothing,
    "padding may fill HEADERS": _padding,
    "PUSH_PROMISE is refused at once": _push,
    "PRIORITY_UPDATE is the client's to send": _priority_update,
    "a header list too long ends its stream": _long_list,
    "settings are taken one by one": _one_by_one,
    "closed streams have no window": _closed_window,
    "lengths have their own error code": _frame_size,
    "an increment of 0 is an error of its stream": _no_increment,
    "reserved bits are ignored": _reserved_bit,
    "alternative services are ignored": _alternative,
    "no stream is reset before it is opened": _idle_reset,
    "streams live on after GOAWAY": _goaway,
}


def _refused(step: Call, bare: Outcome, ours: Outcome) -> bool:
    """A stream that takes nothing more says so, with one code, and stays as it is."""
    return (
        isinstance(step, SendBody | SendData | SendTrailers)
        and bare.error is not None
        and ours == Outcome([], ff.STREAM_CLOSED, [])
    )


def _quiet(step: Call, bare: Outcome, ours: Outcome) -> bool:
    """What concerns a stream that is closed already does nothing."""
    return (
        isinstance(step, Reset | Grant) and bare.error is not None and ours == Outcome([], None, [])
    )


def _in_flight(step: Call, bare: Outcome, ours: Outcome) -> bool:
    """One SETTINGS is in flight at a time: an ACK would apply the values of a later one, too."""
    return isinstance(step, Change) and ours == Outcome([], None, [])


CALL_CORRECTIONS: Final[Mapping[str, Callable[[Call, Outcome, Outcome], bool]]] = {
    "a refused call does no harm": _refused,
    "closed streams are left alone": _quiet,
    "one SETTINGS in flight": _in_flight,
}
