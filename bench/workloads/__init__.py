"""The workloads, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.workloads.bulk import Download, Upload
from bench.workloads.tokens import Tokens
from bench.workloads.unary import Unary

if TYPE_CHECKING:
    from bench.workload import Workload

WORKLOADS: Final[tuple[Workload, ...]] = (
    Unary(1),
    Unary(32),
    Unary(256),
    Tokens(64),
    Tokens(64, paced=True),
    Upload(16),
    Download(64),
)


def find_workloads(names: list[str] | None) -> tuple[Workload, ...]:
    """Returns the workloads of these names, or of these families; all of them for None.

    Args:
        names: full names such as ``unary-32``, or beginnings such as ``unary``.

    Raises:
        LookupError: a name fits nothing.
    """
    if names is None:
        return WORKLOADS
    for name in names:
        if not any(_fits(workload, name) for workload in WORKLOADS):
            known = ", ".join(workload.name for workload in WORKLOADS)
            raise LookupError(f"unknown workload {name!r}; known are {known}")
    return tuple(w for w in WORKLOADS if any(_fits(w, name) for name in names))


def _fits(workload: Workload, name: str) -> bool:
    return workload.name == name or workload.name.startswith(f"{name}-")
