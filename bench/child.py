"""One client's turn, in a process of its own: ``python -m bench.child '<order as JSON>'``.

The last line that it prints is its answer as JSON: ``{"figures": …}`` or ``{"failure": …}``.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass

import uvloop

from bench.adapter import find_adapters
from bench.workload import Run
from bench.workloads import find_workloads


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is asked to do.

    Args:
        client: the adapter's name.
        workload: the workload's full name.
        url: the server, as ``http://host:port``.
        seconds: how long to measure.
        seed: what payloads are made from.
        core: the CPU to stay on, or None.
    """

    client: str
    workload: str
    url: str
    seconds: float
    seed: int
    core: int | None

    def to_json(self) -> str:
        """Returns the child's argument."""
        return json.dumps(asdict(self))


def carry_out(order: Order) -> dict[str, object]:
    """Measures, and returns the answer; whatever a client raises disqualifies it."""
    pin(order.core)
    (adapter,) = find_adapters([order.client])
    workload = next(w for w in find_workloads([order.workload]) if w.name == order.workload)
    try:
        run = Run(adapter, order.url, order.seconds, order.seed)
        return {"figures": uvloop.run(workload.run(run))}
    except Exception as error:  # the libraries' own exceptions have no common base
        return {"failure": describe(error)}


def pin(core: int | None) -> None:
    """Keeps this process, and what it starts later, on one CPU where the platform can."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def describe(error: BaseException) -> str:
    """Returns the first real error inside groups, as ``Type: message``."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    print(json.dumps(carry_out(Order(**json.loads(sys.argv[1])))))
