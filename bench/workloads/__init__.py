"""The workloads, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.workloads.bulk import Download, upload
from bench.workloads.connect import Connect
from bench.workloads.echo import echo
from bench.workloads.hosts import Hosts
from bench.workloads.memory import IdleConnections, OpenStreams
from bench.workloads.mix import Mix
from bench.workloads.tokens import Tokens
from bench.workloads.unary import unary

if TYPE_CHECKING:
    from bench.workload import Workload

# What the targets are about, on granian.
QUICK: Final[tuple[Workload, ...]] = (
    unary(1),
    unary(32),
    unary(256),
    unary(1000),
    echo(64, 16),
    upload(16),
    Download(64),
    Tokens(64),
    Tokens(64, paced=True),
    Connect(),
)
WORKLOADS: Final[tuple[Workload, ...]] = (
    *QUICK,
    Tokens(512, paced=True),
    Hosts(),
    Mix(),
    IdleConnections(),
    OpenStreams(),
    unary(32, "nghttpd"),
    unary(256, "nghttpd"),
    Download(64, "nghttpd"),
)


def find_workloads(names: list[str]) -> tuple[Workload, ...]:
    """Returns the workloads of these names, or of these families.

    Args:
        names: full names such as ``unary-32``, or beginnings such as ``unary``.

    Raises:
        LookupError: a name fits nothing.
    """
    for name in names:
        if not any(_fits(workload, name) for workload in WORKLOADS):
            known = ", ".join(workload.name for workload in WORKLOADS)
            raise LookupError(f"unknown workload {name!r}; known are {known}")
    return tuple(w for w in WORKLOADS if any(_fits(w, name) for name in names))


def _fits(workload: Workload, name: str) -> bool:
    return workload.name == name or workload.name.startswith(f"{name}-")
