"""The direction of imports: nobody looks down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dynamo_h2"

# From the top of the house to its bottom: a module imports only from those before it. Where a room
# is named instead of its modules, they know nothing of each other.
ORDER = (
    # values that every room shares
    *("errors", "origin", "options", "config", "metrics", "call"),
    # the protocol, sans I/O
    *("http2.frames", "http2.headers", "http2.hpack_cache", "http2.body", "http2.flow"),
    *(
        "http2.path",
        "http2.bdp",
        "http2.memory",
        "http2.scheduler",
        "http2.keepalive",
        "http2.resets",
    ),
    *("http2.flood", "http2.deadline"),
    *("http2.receiver", "http2.engine_stream", "http2.outbound", "http2.engine"),
    *("http2.fast_outbound", "http2.fast"),
    *("http2.request", "http2.stream", "http2.failures", "http2.uploads", "http2.rations"),
    *("http2.credit", "http2.silence", "http2.lifecycle", "http2.events", "http2.connection"),
    # asyncio
    *("transport.sockets", "transport.retry", "transport.early", "transport.busy_poll"),
    "transport.protocol",
    *(
        "transport.connect",
        "transport.calm",
        "transport.resources",
        "transport.waiting",
        "transport.choice",
    ),
    *("transport.addresses", "transport.names", "transport.dialling"),
    *("transport.pins", "transport.host_pool", "transport.affinity", "transport.pool"),
    # the front door
    *("sse", "response", "routes", "exchange", "streaming", "client"),
    # what stands on the client
    *("tuning.advisor", "tuning.tuner", "integrations", "cli", "__main__"),
)

# http2/ takes bytes and the time as arguments.
OUTSIDE_WORLD = {"asyncio", "selectors", "socket", "ssl", "threading", "time", "uvloop"}


def name_of(path: Path) -> str:
    """`http2.frames` for dynamo_h2/http2/frames.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROOMS = {name.removesuffix(".__init__") for name in MODULES if name.endswith(".__init__")}
INSIDE = [name for name in MODULES if not name.endswith("__init__")]


def imports(source: str, module: str) -> Iterator[str]:
    """The full names that a module imports, wherever in it: in functions and under `if` too.

    Args:
        source: Its source.
        module: Its name below dynamo_h2, for relative imports.
    """
    package = ("dynamo_h2", *module.split("."))[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            # What is imported may be a module or a name in one: `own` sorts that out.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own(names: Iterator[str]) -> set[str]:
    """Those of our modules that the names stand for or in."""
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] != "dynamo_h2":
            continue
        below = ".".join(parts[1:])
        outer = ".".join(parts[1:-1])
        found.add(below if below in MODULES or below in ROOMS else outer or "__init__")
    return found


def place(module: str) -> int:
    """The place of a module, or of its room, in the order; below everything without one."""
    room = module.rpartition(".")[0]
    found = [ORDER.index(name) for name in (module, room) if name in ORDER]
    return min(found, default=len(ORDER))


def test_every_module_has_its_place() -> None:
    assert [module for module in INSIDE if place(module) == len(ORDER)] == []


@pytest.mark.parametrize("module", INSIDE)
def test_a_module_imports_only_from_modules_above_it(module: str) -> None:
    used = own(imports(MODULES[module].read_text(encoding="utf-8"), module))
    assert [name for name in sorted(used) if place(name) >= place(module)] == []


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        ("errors", "origin"),
        ("call", "http2.frames"),
        ("http2.engine", "http2.fast"),
        ("transport.pool", "response"),
        ("client", "integrations.any"),
        ("integrations.any", "cli.any"),
        ("cli.any", "__main__"),
        ("__main__", "http2.unheard_of"),
        ("__main__", "http2"),
    ],
)
def test_the_order_is_that_of_the_house(upper: str, lower: str) -> None:
    assert place(upper) < place(lower)


def test_integrations_do_not_know_each_other() -> None:
    assert place("integrations.one") == place("integrations.another")


@pytest.mark.parametrize("room", sorted(ROOMS - {"__init__"}))
def test_a_room_has_no_contents_of_its_own(room: str) -> None:
    assert (
        own(imports(MODULES[f"{room}.__init__"].read_text(encoding="utf-8"), f"{room}.__init__"))
        == set()
    )


@pytest.mark.parametrize("module", [name for name in INSIDE if name.startswith("http2.")])
def test_the_protocol_knows_nothing_of_the_outside_world(module: str) -> None:
    roots = {
        name.split(".")[0] for name in imports(MODULES[module].read_text(encoding="utf-8"), module)
    }
    assert roots.isdisjoint(OUTSIDE_WORLD)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import dynamo_h2.errors", {"errors"}),
        ("from dynamo_h2 import errors", {"errors"}),
        ("from dynamo_h2.errors import ConfigError as E", {"errors"}),
        ("from dynamo_h2.http2 import frames", {"http2.frames"}),
        ("from dynamo_h2.http2.frames import FrameType", {"http2.frames"}),
        ("from . import frames", {"http2.frames"}),
        ("from .frames import FrameType", {"http2.frames"}),
        ("from .. import errors", {"errors"}),
        ("from ..errors import ConfigError", {"errors"}),
        ("from dynamo_h2 import Http2Config", {"__init__"}),
        ("if TYPE_CHECKING:\n    from dynamo_h2.client import X", {"client"}),
        ("def f():\n    from dynamo_h2.client import X", {"client"}),
        ("import asyncio\nfrom h2.connection import H2Connection", set()),
    ],
)
def test_an_import_is_found_in_every_form(source: str, found: set[str]) -> None:
    assert own(imports(source, "http2.flow")) == found
