"""One client's turn, in a process of its own: ``python -m bench.child '<order as JSON>'``.

The last line that it prints is its answer as JSON: ``{"figures": …}`` or ``{"failure": …}``.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import uvloop

from bench.clients import find_clients
from bench.environment import pin
from bench.workload import Run
from bench.workloads import find_workloads

if TYPE_CHECKING:
    from bench.workload import Workload


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
    (adapter,) = find_clients([order.client])
    workload = next(w for w in find_workloads([order.workload]) if w.name == order.workload)
    try:
        run = Run(adapter, order.url, order.seconds, order.seed)
        return {"figures": measure(workload, run)}
    except Exception as error:  # the libraries' own exceptions have no common base
        return {"failure": describe(error)}


def measure(workload: Workload, run: Run) -> dict[str, float]:
    """Measures a client, or a load generator with what the workload comes down to."""
    if run.adapter.program and workload.load is not None:
        module = importlib.import_module(f"bench.adapters.{run.adapter.module}")
        return cast("dict[str, float]", module.measure_load(workload.load, run))
    return uvloop.run(workload.run(run))


def describe(error: BaseException) -> str:
    """Returns the first real error inside groups, as ``Type: message``."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    print(json.dumps(carry_out(Order(**json.loads(sys.argv[1])))))
