"""All that can be seen of an engine, as one value to be compared at once and not kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from dynamo_h2.http2.engine_stream import EngineStream
from tests.differential.wire import Partial

if TYPE_CHECKING:
    from dynamo_h2.http2.engine import Engine

__all__ = ["State", "differences", "state_of"]

State: TypeAlias = dict[str, object]


def state_of(engine: Engine, judged: Partial | None = None) -> State:
    """Look at everything but the events, the output and the encoder's table.

    Args:
        engine: Any.
        judged: A DATA frame that the engine keeps and another has judged at its header: the windows
            and the content received are shown as that one has them.
    """
    stream, length = (judged.stream, judged.length) if judged else (0, 0)
    window, reader = engine.connection_receive_window, engine._reader
    table = engine.decoder.header_table
    state: State = {
        "connection": engine.state_machine.state,
        "highest stream": engine.highest_outbound_stream_id,
        "streams": {
            number: _stream_state(live, length if number == stream else 0)
            for number, live in engine.streams.items()
        },
        "closed streams": engine._closed_streams,
        "send window": engine.outbound_flow_control_window,
        "receive window": window.current_window_size - length,
        "receive window's target": (window.max_window_size, window.owed),
        "our settings": engine.local_settings._settings,
        "peer's settings": engine.remote_settings._settings,
        "settings": (engine._settings_in_flight, engine.settings_received),
        "frame sizes": (engine.max_outbound_frame_size, engine.max_inbound_frame_size),
        "reader": (reader.started, reader.max_frame_size, reader.max_header_list_size),
        "last stream": engine.peer_last_stream_id,
        "queued control": engine.queued_control,
        "decoder": (
            table.maxsize,
            table.dynamic_entries,
            engine.decoder.max_allowed_table_size,
            engine.decoder.max_header_list_size,
        ),
        "encoder": (
            engine.encoder.header_table_size,
            engine.encoder.header_table.resized,
            engine.encoder.table_size_changes,
        ),
    }
    if not engine.failed:
        # SETTINGS that end the connection may be half applied: nobody asks for these after it.
        local, remote = engine.local_settings, engine.remote_settings
        windows = (local.initial_window_size, remote.initial_window_size)
        state["limits"] = engine.peer_stream_limit, getattr(engine, "_windows", windows)
        # A DATA frame that is judged is not kept.
        state["reader keeps"] = not (reader.at_boundary or judged)
    return state


def _stream_state(stream: object, length: int) -> tuple[object, ...]:
    assert isinstance(stream, EngineStream)
    machine, window = stream.state_machine, stream.receive_window
    assert stream._inbound_window_manager is window
    return (
        machine.state,
        machine.client,
        machine.headers_sent,
        machine.trailers_sent,
        machine.headers_received,
        machine.trailers_received,
        machine.stream_closed_by,
        machine.stream_id,
        stream.stream_id,
        stream.request_method,
        stream.max_outbound_frame_size,
        stream.outbound_flow_control_window,
        window.current_window_size - length,
        window.max_window_size,
        window.owed,
        stream._expected_content_length,
        stream._actual_content_length + length,
    )


def differences(one: State, other: State) -> tuple[State, State]:
    """What of two states differs."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return {name: one.get(name) for name in names}, {name: other.get(name) for name in names}
