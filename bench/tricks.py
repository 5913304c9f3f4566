"""``python -m bench.tricks``: what the code that is written oddly for speed saves.

Each trick is taken out while the client runs, mostly without sockets: its source is replaced by the
plain one. A round measures three blocks in random order, two as the code is (A, A) and one without
the trick (B), each after a short block that is not measured. Told are the calls of one unit, of
Python and of C, without the trick and with it; the median over all rounds of what B costs more than
A, in CPU time of the thread, or for answers in the time that they are waited for; and the A/A
spread: the median difference of the two blocks that are the same. A gain that is no larger than
that spread counts as none.
"""

from __future__ import annotations

import argparse
import inspect
import random
import sys
import textwrap
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from statistics import median
from time import thread_time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from unittest.mock import patch

import uvloop
from h2.connection import H2Connection
from h2.stream import StreamInputs
from hpack.huffman_table import decode_huffman
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.environment import pick_cores
from bench.scenes import (
    ANSWER,
    ANSWER_ON_ONE_CORE,
    CONNECTION,
    DOWNLOAD,
    FIRST_ANSWER,
    LONE_REQUEST,
    LONE_TOKEN,
    MADE,
    REQUEST,
    REQUEST_WITH_FIELDS,
    REQUEST_WITH_THE_SAME_FIELDS,
    TOKEN_READ,
    UPLOADED,
)
from bench.servers import staying_on
from dynamo_h2 import client, exchange, routes
from dynamo_h2.http2 import (
    connection,
    fast,
    fast_outbound,
    headers,
    hpack_cache,
    outbound,
    stream,
)
from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.engine_stream import EngineStream
from dynamo_h2.transport import busy_poll, host_pool, protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType

    from h2.config import H2Configuration
    from h2.stream import StreamState

    from bench.scenes import Repeat, Scene
    from dynamo_h2.config import Http2Config

LEAST_ROUNDS: Final = 15
PIPED_WIDTH: Final = 140
WARM_UP: Final = 8  # that part of a block goes before it: the interpreter specialises anew
_ANNOTATIONS: Final = "from __future__ import annotations"


@dataclass(frozen=True, slots=True)
class Trick:
    """One way in which the code is written for speed.

    Args:
        name: What it does.
        scene: Where it is measured.
        off: Takes it out.
        saves_calls: Whether it does without a call of a function; if not, it may take some more.
    """

    name: str
    scene: Scene
    off: Callable[[], AbstractContextManager[object]]
    saves_calls: bool = True


class Gain(NamedTuple):
    """What a trick saves, per unit.

    Args:
        calls: Calls with it.
        calls_without: Calls without it.
        gain: Microseconds that it saves.
        spread: Microseconds between two blocks that are the same.
        whole: Microseconds with it.
    """

    calls: float
    calls_without: float
    gain: float
    spread: float
    whole: float

    @property
    def counts(self) -> bool:
        """Whether the gain stands out of the spread."""
        return self.gain > self.spread


def rewritten(
    module: ModuleType, name: str, *changes: tuple[str, str]
) -> Callable[[], AbstractContextManager[object]]:
    """Returns how to replace a function by the same with plainer source.

    Args:
        module: Where it stands.
        name: Its name there, ``Class.method`` for a method.
        changes: Source that stands there once, and what to put in its place.
    """

    def replace() -> AbstractContextManager[object]:
        where, _, attribute = name.rpartition(".")
        owner: Any = getattr(module, where) if where else module
        function = inspect.unwrap(getattr(owner, attribute))
        source = textwrap.dedent(inspect.getsource(function))
        for odd, plain in changes:
            if source.count(odd) != 1:
                raise LookupError(f"{name} has {odd!r} {source.count(odd)} times")
            source = source.replace(odd, plain)
        source = source.replace("super()", f"super({where}, self)")
        made: dict[str, Any] = {}
        exec(compile(f"{_ANNOTATIONS}\n{source}", name, "exec"), vars(module), made)
        return patch.object(owner, attribute, made[attribute])

    return replace


def replaced(
    owner: object, name: str, plain: object
) -> Callable[[], AbstractContextManager[object]]:
    """Returns how to replace an attribute."""
    return lambda: patch.object(owner, name, plain)


def together(
    *parts: Callable[[], AbstractContextManager[object]],
) -> Callable[[], AbstractContextManager[object]]:
    """Returns how to do several of these at once."""

    def enter() -> AbstractContextManager[object]:
        stack = ExitStack()
        for part in parts:
            stack.enter_context(part())
        return stack

    return enter


def _leave_it(*_frame: object) -> bool:
    """What a shortcut says of a frame that it leaves to `Engine`."""
    return False


def _stream_by_h2(
    stream_id: int,
    config: H2Configuration,
    windows: tuple[int, int],
    frame_size: int,
    method: bytes,
    state: StreamState,
) -> EngineStream:
    """Makes a stream as `Engine` does, and lets h2 move it to its state."""
    made = EngineStream(stream_id, config, *windows)
    made.max_outbound_frame_size = frame_size
    made.request_method = method
    made.state_machine.process_input(StreamInputs.SEND_HEADERS)
    if state is not made.state_machine.state:
        made.state_machine.process_input(StreamInputs.SEND_END_STREAM)
    return made


def _end_by_h2(engine: fast.FastEngine, stream: EngineStream) -> None:
    """Lets h2 note the peer's END_STREAM."""
    stream.state_machine.process_input(StreamInputs.RECV_END_STREAM)
    engine._forget_if_closed(stream)  # noqa: SLF001 - as the engine does


_begin = outbound.Outbound.__init__


def _begin_as_h2(engine: outbound.Outbound, config: Http2Config) -> None:
    """Lets h2 make everything first."""
    H2Connection.__init__(engine)
    _begin(engine, config)


_next_chunk = exchange.BodyStream.__anext__


async def _next_in_steps(body: exchange.BodyStream) -> bytes:
    """Reads a chunk through a chain of three coroutines."""

    async def step() -> bytes:
        return await _next_chunk(body)

    return await step()


_WINDOWS: Final = "(self.local_settings.stream_window, self.remote_settings.stream_window)"

_LOOKED_AT: Final = replaced(client.HttpRequestClient, "_plain_exchange", lambda *_: None)

TRICKS: Final[tuple[Trick, ...]] = (
    Trick(
        "a request that is alone is written at once",
        LONE_REQUEST,
        rewritten(
            connection,
            "Connection.open_stream",
            ("alone and not self._credit.watched", "False"),
        ),
        saves_calls=False,
    ),
    Trick(
        "a request is made of positional arguments",
        MADE,
        rewritten(
            client,
            "HttpRequestClient._plain_exchange",
            ("self.config.max_response_size,", "limit=self.config.max_response_size,"),
            ("now + times.timeout,", "deadline=now + times.timeout,"),
            ("None,  # head_budget", "head_budget=None,"),
            ("times.read_timeout,", "read_timeout=times.read_timeout,"),
            ("times.write_timeout,", "write_timeout=times.write_timeout,"),
        ),
        saves_calls=False,
    ),
    Trick(
        "a time limit that is watched stays watched",
        TOKEN_READ,
        rewritten(connection, "Connection.wait", ("if tick and (", "if False and (")),
    ),
    Trick(
        "members of enums have a name of their own where a chunk comes",
        TOKEN_READ,
        together(
            rewritten(stream, "ReceiveHalf.feed_data", ("_DATA", "Need.DATA")),
            rewritten(exchange, "BodyStream.__anext__", ("_DATA", "Need.DATA")),
        ),
        saves_calls=False,
    ),
    Trick(
        "a response head that is known is not decoded",
        REQUEST,
        replaced(fast.FastEngine, "_take_head", _leave_it),
    ),
    Trick(
        "a request's head is encoded once",
        REQUEST,
        rewritten(fast_outbound, "FastOutbound._block", ("head.blocks.get(self._huffman)", "None")),
    ),
    Trick(
        "how a literal begins that differs each time is encoded once",
        REQUEST,
        rewritten(hpack_cache, "StatelessEncoder.encode", ("self._prefixes.get(name)", "None")),
    ),
    Trick(
        "fields that the caller repeats are encoded once",
        REQUEST_WITH_THE_SAME_FIELDS,
        rewritten(hpack_cache, "StatelessEncoder.encode", ("self._kept.get(field)", "None")),
    ),
    Trick(
        "fields that the caller repeats are checked once",
        REQUEST_WITH_THE_SAME_FIELDS,
        rewritten(headers, "HeaderChecker.normalize", ("known.get(pair)", "None")),
    ),
    Trick("head and body are one buffer", REQUEST, replaced(fast_outbound, "JOIN_LIMIT", -1)),
    Trick(
        "a stream is born in its state",
        REQUEST,
        replaced(fast_outbound, "begun_stream", _stream_by_h2),
    ),
    Trick("END_STREAM sets the state", REQUEST, replaced(fast.FastEngine, "_end", _end_by_h2)),
    Trick(
        "the peer's stream limit is kept",
        REQUEST,
        rewritten(
            fast_outbound, "FastOutbound._block", ("self._stream_limit", "self.peer_stream_limit")
        ),
    ),
    Trick(
        "the first windows of a stream are kept",
        REQUEST,
        together(
            rewritten(fast_outbound, "FastOutbound._begin", ("self._windows", _WINDOWS)),
            rewritten(
                fast_outbound,
                "FastOutbound.send_request",
                ("self._windows[1]", "self.remote_settings.stream_window"),
            ),
        ),
    ),
    Trick(
        "routes are remembered",
        REQUEST,
        together(
            _LOOKED_AT,
            rewritten(routes, "Routes.find", ("self._routes.get(key)", "None")),
        ),
    ),
    Trick("bytes alone to a known address are not looked at", REQUEST, _LOOKED_AT),
    Trick(
        "bytes are taken as they are",
        REQUEST_WITH_FIELDS,
        rewritten(
            client, "HttpRequestClient._exchange", ("if isinstance(source, bytes):", "if False:")
        ),
    ),
    Trick(
        "of fields that differ only the values are checked",
        REQUEST_WITH_FIELDS,
        replaced(headers.HeaderChecker, "_differing", headers.HeaderChecker._check),  # noqa: SLF001 - as it does
    ),
    Trick(
        "far deadlines stay out of the wheel",
        REQUEST,
        rewritten(
            connection,
            "Connection.open_stream",
            (
                "if stream.deadline < self._look_at:\n            self._arm(stream)",
                "self._deadlines.set(stream, stream.deadline)",
            ),
        ),
    ),
    Trick(
        "a peer on the same machine is connected to in place",
        FIRST_ANSWER,
        replaced(host_pool.HostPool, "_open_in_place", lambda *_: None),
    ),
    Trick(
        "the ACK of the first SETTINGS waits for the response",
        FIRST_ANSWER,
        rewritten(
            protocol,
            "ClientProtocol.data_received",
            ("not ready and connection.streams and connection.only_answers", "False"),
        ),
        saves_calls=False,
    ),
    Trick(
        "the loop stays awake for an answer that is due",
        ANSWER,
        replaced(busy_poll.BusyPoll, "begin", lambda *_: None),
        saves_calls=False,
    ),
    Trick(
        "each turn of it offers the core to others",
        ANSWER_ON_ONE_CORE,
        replaced(busy_poll, "sched_yield", lambda: None),
        saves_calls=False,
    ),
    Trick(
        "a connection is made without h2's constructor",
        CONNECTION,
        replaced(outbound.Outbound, "__init__", _begin_as_h2),
    ),
    Trick(
        "the first head is encoded like all others",
        CONNECTION,
        replaced(fast.FastEngine, "_is_new", _leave_it),
    ),
    Trick(
        "SETTINGS are judged in place",
        CONNECTION,
        replaced(fast.FastEngine, "_take_settings", _leave_it),
    ),
    Trick(
        "settings are applied without a look at all others",
        CONNECTION,
        replaced(fast.FastEngine, "_apply_setting", Engine._apply_setting),  # noqa: SLF001 - as it does
    ),
    Trick(
        "a new response head is judged in place",
        CONNECTION,
        replaced(fast.FastEngine, "_take_new_head", _leave_it),
    ),
    Trick(
        "short Huffman codes are read once",
        CONNECTION,
        replaced(hpack_cache, "_decode_short", decode_huffman),
    ),
    Trick(
        "DATA is judged in place", TOKEN_READ, replaced(fast.FastEngine, "_take_data", _leave_it)
    ),
    Trick(
        "small payloads are copied",
        TOKEN_READ,
        together(replaced(fast, "COPY_LIMIT", 0), replaced(fast, "VIEW_PART", 2**31)),
    ),
    Trick(
        "one coroutine down to the future",
        TOKEN_READ,
        replaced(exchange.BodyStream, "__anext__", _next_in_steps),
    ),
    Trick(
        "between frames the reader is not asked",
        LONE_TOKEN,
        rewritten(
            fast,
            "FastEngine._read_frames",
            ("(data, 0) if self._between_frames else self._resume(data)", "self._resume(data)"),
        ),
    ),
    Trick(
        "DATA of 16 KiB is judged in place",
        DOWNLOAD,
        replaced(fast.FastEngine, "_take_data", _leave_it),
    ),
    Trick(
        "DATA is queued as header and body",
        UPLOADED,
        replaced(fast.FastEngine, "send_body", Engine.send_body),
    ),
    Trick(
        "WINDOW_UPDATE is applied in place",
        UPLOADED,
        replaced(fast.FastEngine, "_take_credit", _leave_it),
    ),
)


async def measure(trick: Trick, rounds: int, rng: random.Random) -> Gain:
    """Measures a trick in so many rounds, on a core that a scene's server is not on."""
    scene, core = trick.scene, pick_cores()[0]
    async with scene.open() as repeat:
        times: dict[str, list[float]] = {"A": [], "a": [], "B": []}
        with staying_on(core):
            await _cost(scene, repeat)
            for _ in range(rounds):
                for name in rng.sample(sorted(times), 3):
                    with trick.off() if name == "B" else nullcontext():
                        times[name].append(await _cost(scene, repeat))
        calls = await count_calls(scene, repeat)
        with trick.off():
            calls_without = await count_calls(scene, repeat)
    pairs = list(zip(times["A"], times["a"], times["B"], strict=True))
    return Gain(
        calls,
        calls_without,
        median(without - (first + second) / 2 for first, second, without in pairs),
        median(abs(first - second) for first, second, _ in pairs),
        median(times["A"] + times["a"]),
    )


async def _cost(scene: Scene, repeat: Repeat) -> float:
    """Returns the microseconds that one unit costs, once types are specialised."""
    await repeat(scene.block // WARM_UP)
    begun = thread_time()
    seconds = await repeat(scene.block)
    cpu = thread_time() - begun
    return (cpu if seconds is None else seconds) / scene.block * 1e6


async def count_calls(scene: Scene, repeat: Repeat) -> float:
    """Returns how many functions, of Python and of C, one unit calls."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    units = scene.block // WARM_UP
    sys.setprofile(count)
    try:
        await repeat(units)
    finally:
        sys.setprofile(None)
    return calls / units


def row(trick: Trick, found: Gain) -> tuple[str, ...]:
    """Returns the cells of one trick."""
    return (
        trick.name,
        trick.scene.unit,
        f"{found.calls_without:.1f} → {found.calls:.1f}",
        f"{found.whole + found.gain:.2f} → {found.whole:.2f}",
        f"{found.gain:.2f}",
        f"±{found.spread:.2f}",
        "" if found.counts else "none",
    )


def main(argv: list[str] | None = None) -> int:
    """Measures the tricks and prints a row for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.tricks", description="see the module")
    parser.add_argument("--only", default="", help="a part of the names")
    parser.add_argument("--rounds", type=int, default=41, help=f"at least {LEAST_ROUNDS}")
    parser.add_argument("--seed", type=int, default=1, help="of the order in a round")
    arguments = parser.parse_args(argv)
    if arguments.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS}")
    rng = random.Random(arguments.seed)
    table = Table(box=SIMPLE_HEAD)
    for name in ("trick", "unit"):
        table.add_column(name)
    for name in ("calls", "µs", "gain", "A/A", ""):
        table.add_column(name, justify="right")
    for trick in TRICKS:
        if arguments.only in trick.name:
            table.add_row(*row(trick, uvloop.run(measure(trick, arguments.rounds, rng))))
    (Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
