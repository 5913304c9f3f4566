"""Bugs that are planted in the fast engine, to see that they are found."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import NamedTuple, cast
from unittest.mock import patch

from dynamo_h2.http2 import fast, fast_outbound
from dynamo_h2.http2.fast import FastEngine

__all__ = ["BUGS", "Bug", "plant"]


class Bug(NamedTuple):
    """A change of the fast engine's source.

    Args:
        name: What it is.
        right: Source that stands there once.
        wrong: What stands there instead.
    """

    name: str
    right: str
    wrong: str


BUGS = (
    Bug(
        "a wrong window: DATA is not held to that of the connection",
        "or length > connection_window.current_window_size",
        "or length > window.current_window_size",
    ),
    Bug(
        "a dropped flag: the end of a frame that came in parts",
        "self._data_end = bool(flags)",
        "self._data_end = False",
    ),
    Bug(
        "an off-by-one in a boundary: a frame that ends with the read is taken for a part",
        "if here < length:",
        "if here <= length:",
    ),
    Bug(
        "a stale cache entry: a head outlives a change of the table",
        "known = self._heads.get(block, self.decoder.generation)",
        """known = self._heads.heads.get(block)
        known = known or self._heads.get(block, self.decoder.generation)""",
    ),
    Bug(
        "a frame that is too long: a head of one byte more than the peer takes",
        "len(block) <= self.max_outbound_frame_size",
        "len(block) <= self.max_outbound_frame_size + 1",
    ),
    Bug(
        "a missing event: credit for a stream that is gone is not even counted",
        "if stream is None or stream.outbound_flow_control_window + increment > _MAX_WINDOW:",
        """if stream_id in self._closed_streams:
                return True
            if stream is None or stream.outbound_flow_control_window + increment > _MAX_WINDOW:""",
    ),
    Bug(
        "a late account: a request takes nothing of the connection's window until it is written",
        "flush()  # before",
        """self.outbound_flow_control_window += size
            flush()
            self.outbound_flow_control_window -= size  #""",
    ),
    Bug(
        "a wrong error code: any error of the receiver's is a PROTOCOL_ERROR",
        "self._fail(error)",
        "self._fail(ProtocolError(str(error)))",
    ),
)


def plant(bug: Bug) -> type[FastEngine]:
    """The fast engine with a bug, in one of its two modules."""
    sources = {module.__name__: inspect.getsource(module) for module in (fast_outbound, fast)}
    places = [name for name, source in sources.items() for _ in range(source.count(bug.right))]
    assert len(places) == 1, f"{bug.right!r} is there {len(places)} times"
    planted: dict[str, ModuleType] = {}
    with patch.dict(sys.modules):
        for name, source in sources.items():
            sys.modules[name] = planted[name] = ModuleType(name)
            code = compile(source.replace(bug.right, bug.wrong), bug.name, "exec")
            exec(code, planted[name].__dict__)
    return cast("type[FastEngine]", planted[fast.__name__].FastEngine)
