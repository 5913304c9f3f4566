"""The steps of a sequence: what a client calls, and what it receives. All can be kept as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from h2.settings import SettingCodes

from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.headers import build_head
from tests.differential.pools import BODY, FIELDS, HEADS, TRAILERS

__all__ = [
    "FLUSHES",
    "Arm",
    "Burst",
    "Call",
    "Change",
    "End",
    "Exhaust",
    "Forget",
    "GoAway",
    "Grant",
    "Narrow",
    "Open",
    "Ping",
    "Receive",
    "Remember",
    "Request",
    "Reset",
    "SendBody",
    "SendData",
    "SendTrailers",
    "Sequence",
    "Step",
    "body",
    "from_json",
    "to_json",
]


def body(size: int, view: bool) -> bytes | memoryview:
    """A body of that many bytes, as bytes or as a view of more."""
    return memoryview(BODY)[:size] if view else BODY[:size]


class Open(NamedTuple):
    head: int
    fields: int
    end_stream: bool

    def run(self, engine: Engine) -> object:
        return engine.open_stream(HEADS[self.head], FIELDS[self.fields], self.end_stream)


FLUSHES: Final = ("", "look", "write", "ping", "raise")
"""What is done when a request is to be written at once; nothing when it may wait.

It is what `ClientProtocol.flush` does through `Connection.data_to_send`: it takes the output, which
a PING may be added to, and notes the highest identifier; the transport may raise then. It sends on
no other stream, because only a request that is alone is flushed, and no GOAWAY, because a
connection that drains waits for the stream that is being opened.
"""


class _WriteFailed(Exception):
    """The transport raised."""


class Request(NamedTuple):
    head: int
    fields: int
    size: int
    view: bool
    flush: str = ""

    def run(self, engine: Engine) -> object:
        data = body(self.size, self.view)
        seen: list[object] = []
        written: list[bytes | memoryview] = []

        def flush() -> None:
            sent, window = bool(engine.output), engine.outbound_flow_control_window
            seen.append((engine.highest_outbound_stream_id, sent, window, engine.queued_control))
            if self.flush == "ping":
                engine.ping(b"flushing")
            if self.flush != "look":
                written.extend(engine.take_output())
            if self.flush == "raise":
                raise _WriteFailed

        asked = flush if self.flush else None
        try:
            return engine.send_request(HEADS[self.head], FIELDS[self.fields], data, asked), seen
        except _WriteFailed:
            return "write failed", seen
        finally:
            # It was written first, and whoever compares the output is yet to see it.
            engine.output[:0] = written


class SendData(NamedTuple):
    stream: int
    size: int
    end_stream: bool
    pad: int | None
    view: bool

    def run(self, engine: Engine) -> None:
        data = body(self.size, self.view)
        engine.send_data(self.stream, data, self.end_stream, self.pad)


class SendBody(NamedTuple):
    stream: int
    size: int
    end_stream: bool
    view: bool

    def run(self, engine: Engine) -> None:
        engine.send_body(self.stream, body(self.size, self.view), self.end_stream)


class SendTrailers(NamedTuple):
    stream: int
    fields: int

    def run(self, engine: Engine) -> None:
        engine.send_trailers(self.stream, TRAILERS[self.fields])


class Reset(NamedTuple):
    stream: int
    code: int

    def run(self, engine: Engine) -> None:
        engine.reset(self.stream, self.code)


class Forget(NamedTuple):
    stream: int

    def run(self, engine: Engine) -> None:
        engine.forget(self.stream)


class Grant(NamedTuple):
    stream: int
    increment: int

    def run(self, engine: Engine) -> None:
        engine.grant(self.stream, self.increment)


class Ping(NamedTuple):
    def run(self, engine: Engine) -> None:
        engine.ping(b"sequence")


class GoAway(NamedTuple):
    code: int

    def run(self, engine: Engine) -> None:
        engine.goaway(self.code, b"enough")


class Change(NamedTuple):
    """New SETTINGS of ours, as (identifier, value)."""

    pairs: tuple[tuple[int, int], ...]

    def run(self, engine: Engine) -> object:
        return engine.change_settings({SettingCodes(code): value for code, value in self.pairs})


class End(NamedTuple):
    """The peer has closed the connection; what comes after it is nonsense, and harmless."""

    def run(self, engine: Engine) -> None:
        engine.receive_eof()


class Exhaust(NamedTuple):
    """As if so many streams had been opened that only ``left`` identifiers are left."""

    left: int

    def run(self, engine: Engine) -> object:
        highest = engine.HIGHEST_ALLOWED_STREAM_ID - 2 * self.left
        engine.highest_outbound_stream_id = max(engine.highest_outbound_stream_id, highest)
        return engine.highest_outbound_stream_id


class Burst(NamedTuple):
    """Requests with heads that were never sent before, each given up at once."""

    number: int

    def run(self, engine: Engine) -> object:
        streams = []
        for number in range(self.number):
            head = build_head("GET", "http", "worker", f"/{number}", ())
            streams.append(engine.open_stream(head, (), end_stream=True))
            engine.reset(streams[-1], 8)
        return streams


class Narrow(NamedTuple):
    """As if so much had crossed the connection that one of its windows is down to ``size``."""

    sending: bool
    size: int

    def run(self, engine: Engine) -> None:
        if self.sending:
            engine.outbound_flow_control_window = self.size
        else:
            engine.connection_receive_window.current_window_size = self.size


class Remember(NamedTuple):
    """From here on the engine remembers about that many closed streams."""

    number: int

    def run(self, engine: Engine) -> None:
        engine.MAX_CLOSED_STREAMS = self.number


Call: TypeAlias = (
    Open
    | Request
    | SendBody
    | SendData
    | SendTrailers
    | Reset
    | Forget
    | Grant
    | Ping
    | GoAway
    | Change
    | End
    | Exhaust
    | Burst
    | Narrow
    | Remember
)


class Arm(NamedTuple):
    """The receiver calls back on the next such event: see `tests.differential.watcher`."""

    event: str
    action: str


class Receive(NamedTuple):
    """Bytes of the peer.

    Args:
        data: Any number of frames, the last of them perhaps not whole.
        cuts: Where the reads end in them; empty for one read. Two at one place make an empty read.
        view: Whether they come as a memoryview.
    """

    data: bytes
    cuts: tuple[int, ...] = ()
    view: bool = False

    def pieces(self) -> Iterator[bytes]:
        if not self.cuts:
            yield self.data
            return
        size = len(self.data)
        marks = [0, *sorted([min(cut, size) for cut in self.cuts]), size]
        for start, end in itertools.pairwise(marks):
            yield self.data[start:end]


Step: TypeAlias = Call | Arm | Receive


class Sequence(NamedTuple):
    """A configuration, by number, and what happens."""

    config: int
    steps: list[Step]


_KINDS: dict[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        *(Open, Request, SendBody, SendData, SendTrailers, Reset, Forget, Grant),
        *(Ping, GoAway, Change, End, Exhaust, Burst, Narrow, Remember, Arm, Receive),
    )
}


def to_json(sequence: Sequence) -> dict[str, object]:
    """What `json.dumps` takes and `from_json` gives back."""
    steps = [
        [
            type(step).__name__,
            *[value.hex() if isinstance(value, bytes) else value for value in step],
        ]
        for step in sequence.steps
    ]
    return {"config": sequence.config, "steps": steps}


def from_json(kept: dict[str, object]) -> Sequence:
    """Read what `to_json` wrote."""
    config, steps = kept["config"], kept["steps"]
    assert isinstance(config, int)
    assert isinstance(steps, list)
    return Sequence(config, [_step(*step) for step in steps])


def _step(name: str, *values: object) -> Step:
    if name == "Receive":
        data, cuts, view = values
        assert isinstance(data, str)
        assert isinstance(cuts, list)
        return Receive(bytes.fromhex(data), tuple(cuts), bool(view))
    if name == "Request" and len(values) == 4:
        # It was kept when the size said whether it is written at once.
        size = values[2]
        assert isinstance(size, int)
        values += ("look" if size % 2 else "",)
    if name == "Change":
        (pairs,) = values
        assert isinstance(pairs, list)
        return Change(tuple([(code, value) for code, value in pairs]))
    made: Step = _KINDS[name](*values)  # type: ignore[arg-type]
    return made
