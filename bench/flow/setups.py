"""The clients and settings that a scenario compares."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from bench.adapter import Adapter
from dynamo_h2 import Http2Config

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALL: Final = 65_535
LARGEST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Setup:
    """A client as it is measured.

    Args:
        name: what tables call it.
        module: its module of ``bench.adapters``.
        library: what has to be installed for it.
        options: keywords of the module's ``open_client``.
    """

    name: str
    module: str = "dynamo"
    library: str = "dynamo_h2"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def adapter(self) -> Adapter:
        """The client, with the options that it knows."""
        return Adapter(
            name=self.name, module=self.module, library=self.library, options=dict(self.options)
        )

    @property
    def missing(self) -> str | None:
        """Returns why it cannot be measured, or None when it can."""
        if self.library == "dynamo_h2":
            unknown = self.options.keys() - {each.name for each in fields(Http2Config)}
            return f"there is no option {min(unknown)}" if unknown else None
        return self.adapter.missing

    def with_options(self, **options: object) -> Setup:
        """Returns the same with further options; other clients than ours have none of them."""
        if self.library != "dynamo_h2":
            return self
        return Setup(self.name, self.module, self.library, {**self.options, **options})


def _windows(size: int) -> dict[str, int]:
    return {"initial_stream_window": size, "initial_connection_window": size}


ADAPTIVE: Final = Setup("adaptive")
ADAPTIVE_SMALL: Final = Setup("adaptive from 64 KiB", options=_windows(SMALL))
FIXED: Final = Setup("fixed, 4 and 16 MiB", options={"adaptive_window": False})
FIXED_SMALL: Final = Setup("fixed, 64 KiB", options={"adaptive_window": False, **_windows(SMALL)})
UNLIMITED: Final = Setup(
    "unlimited",
    options={"adaptive_window": False, "memory_budget": LARGEST, **_windows(LARGEST // 2)},
)
PYREQWEST: Final = Setup(
    "pyreqwest, adaptive", "pyreqwest_", "pyreqwest", options={"adaptive": True}
)
PYREQWEST_FIXED: Final = Setup("pyreqwest", "pyreqwest_", "pyreqwest")
HTTPX: Final = Setup("httpx", "httpx_", "httpx")
GRPC: Final = Setup("grpc.aio", "grpc_aio", "grpc")
SETUPS: Final = {
    setup.name: setup
    for setup in (
        *(ADAPTIVE, ADAPTIVE_SMALL, FIXED, FIXED_SMALL, UNLIMITED),
        *(PYREQWEST, PYREQWEST_FIXED, HTTPX, GRPC),
    )
}
