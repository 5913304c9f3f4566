"""Runs the clients in turn: A B C, A B C, …, each time in a process of its own.

Interleaving spreads whatever else happens on the machine over all clients, and a ratio is always
taken between two that ran in the same round.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.child import Order
from bench.environment import environment
from bench.results import Outcome, Results, Table
from bench.servers import missing, serving
from examples.local_worker import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.adapter import Adapter
    from bench.workload import Workload

PATIENCE: Final = 30.0  # seconds beyond the measured ones, until a child counts as stuck


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Args:
        seconds: how long each client is measured in each round.
        rounds: how many times each client gets its turn.
        seed: what payloads are made from.
        client_core: the CPU for the clients, or None.
        server_core: the CPU for the servers, or None.
    """

    seconds: float
    rounds: int
    seed: int
    client_core: int | None
    server_core: int | None


class Runner:
    """Measures clients at workloads.

    Args:
        adapters: the clients, in the order of their turns.
        workloads: what they are asked to do.
        settings: for how long, how often, and where.
        on_turn: called before each client's turn with the workload and the client.
    """

    def __init__(
        self,
        adapters: tuple[Adapter, ...],
        workloads: tuple[Workload, ...],
        settings: Settings,
        on_turn: Callable[[str, str], None],
    ) -> None:
        self._adapters = tuple(adapter for adapter in adapters if adapter.missing is None)
        self._workloads = tuple(w for w in workloads if missing(w.server) is None)
        self._settings = settings
        self._on_turn = on_turn
        reasons = {adapter.name: adapter.missing for adapter in adapters}
        reasons |= {workload.name: missing(workload.server) for workload in workloads}
        self._left_out = {name: reason for name, reason in reasons.items() if reason}

    @property
    def turns(self) -> int:
        """How many times a client will be measured."""
        pairs = sum(len(self._able(workload)) for workload in self._workloads)
        return pairs * self._settings.rounds

    def run(self) -> Results:
        """Measures everything."""
        results = Results(environment(self._adapters), asdict(self._settings))
        results.left_out.update(self._left_out)
        results.takes_no_part.update(self.takes_no_part)
        results.tables.extend(self._measure(workload) for workload in self._workloads)
        return results

    def _able(self, workload: Workload) -> dict[str, str]:
        """Returns the clients that can take part, each with its kind of server."""
        servers = {adapter.name: adapter.server_for(workload) for adapter in self._adapters}
        return {name: server for name, server in servers.items() if server is not None}

    @property
    def takes_no_part(self) -> dict[str, dict[str, list[str]]]:
        """For each client why it has no part in some workloads, and in which."""
        found: dict[str, dict[str, list[str]]] = {}
        for adapter in self._adapters:
            for workload in filter(adapter.is_for, self._workloads):
                if reason := adapter.why_not(workload):
                    why = found.setdefault(adapter.name, {})
                    why.setdefault(reason, []).append(workload.name)
        return found

    def _measure(self, workload: Workload) -> Table:
        servers = self._able(workload)
        outcomes = [Outcome(name) for name in servers]
        with contextlib.ExitStack() as stack:
            urls = {
                server: stack.enter_context(serving(server, self._settings.server_core))
                for server in sorted(set(servers.values()))
            }
            for _ in range(self._settings.rounds):
                for outcome in outcomes:
                    self._on_turn(workload.name, outcome.client)
                    if outcome.failure is None:
                        self._turn(workload, outcome, urls[servers[outcome.client]])
        return Table(workload.name, workload.title, workload.unit, outcomes)

    def _turn(self, workload: Workload, outcome: Outcome, url: str) -> None:
        settings = self._settings
        order = Order(
            client=outcome.client,
            workload=workload.name,
            url=url,
            seconds=settings.seconds,
            seed=settings.seed,
            core=settings.client_core,
        )
        answer = run_child(order)
        if "failure" in answer:
            outcome.failure = answer["failure"]
        else:
            outcome.rounds.append(answer["figures"])


def run_child(order: Order) -> dict[str, Any]:
    """Runs a child to its end and returns its answer."""
    command = [sys.executable, "-m", "bench.child", order.to_json()]
    timeout = order.seconds * 2 + PATIENCE
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"failure": f"did not end within {timeout:.0f} s"}
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return {"failure": f"ended with exit code {done.returncode}: {last}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
