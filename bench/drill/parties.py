"""Which clients take part, and with what."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from bench.drill.party import Names, Ours, Party
from bench.drill.rivals import Aiohttp, Httpx, Pyreqwest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.drill.run import Drill

OURS: Final = "dynamo_h2"


@dataclass(frozen=True, slots=True)
class Entry:
    """A client that can be drilled.

    Args:
        package: its distribution.
        scripted: whether it speaks HTTP/2, as scripted workers do.
    """

    package: str
    scripted: bool = True

    @property
    def missing(self) -> bool:
        """Whether it is not installed."""
        return importlib.util.find_spec(self.package) is None

    def fit(self, drill: Drill) -> Drill:
        """Returns the drill without the workers that it cannot speak to."""
        if self.scripted:
            return drill
        return replace(drill, specs=tuple(spec for spec in drill.specs if not spec.scripted))


PARTIES: Final[Mapping[str, Entry]] = {
    OURS: Entry("dynamo_h2"),
    "httpx2": Entry("httpx2"),
    "httpx": Entry("httpx"),
    "pyreqwest": Entry("pyreqwest"),
    "aiohttp": Entry("aiohttp", scripted=False),
}


def open_party(client: str, names: Names, config: Mapping[str, Any]) -> Party:
    """Makes the client of that name."""
    if client == OURS:
        return Ours(names, config)
    if client == "pyreqwest":
        return Pyreqwest()
    if client == "aiohttp":
        return Aiohttp()
    return Httpx(importlib.import_module(client))
