"""Which clients take part, and with what."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from bench.drill.party import Names, Ours, Party

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.drill.run import Drill


@dataclass(frozen=True, slots=True)
class Entry:
    """A client that can be drilled.

    Args:
        package: its distribution.
        module: the module of this package that has it; empty for ours.
        http1: whether it speaks HTTP/1.1, which scripted workers do not.
    """

    package: str
    module: str = ""
    http1: bool = False

    @property
    def missing(self) -> bool:
        """Whether it is not installed."""
        return bool(self.module) and importlib.util.find_spec(self.package) is None

    def fit(self, drill: Drill) -> Drill:
        """Returns the drill without the workers that it cannot speak to."""
        if not self.http1:
            return drill
        return replace(drill, specs=tuple(spec for spec in drill.specs if not spec.scripted))


PARTIES: Final[Mapping[str, Entry]] = {
    "dynamo_h2": Entry("dynamo-h2"),
    "httpx2": Entry("httpx2", "httpx2_"),
    "httpx": Entry("httpx", "httpx_"),
    "pyreqwest": Entry("pyreqwest", "pyreqwest_"),
    "aiohttp": Entry("aiohttp", "aiohttp_", http1=True),
}


def open_party(client: str, names: Names, config: Mapping[str, Any]) -> Party:
    """Makes the client of that name."""
    if client == "dynamo_h2":
        return Ours(names, config)
    module = importlib.import_module(f"bench.drill.{PARTIES[client].module}")
    return cast("Callable[[], Party]", module.open_party)()
