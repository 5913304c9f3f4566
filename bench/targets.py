"""What the client is meant to reach, as ratios within one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bench.adapter import BASELINE
from bench.results import Outcome, Spread

if TYPE_CHECKING:
    from bench.results import Results, Table

OURS: Final = "dynamo_h2"
PEERS: Final = ("pycurl", "pyreqwest", "aiohttp-h1")
EVERY_PEER: Final[tuple[str, ...]] = ()
LOAD_GENERATOR: Final = "h2load"
# What they speak has a server of its own: what that can do says nothing of the others'.
OTHER_SERVER: Final = frozenset({"grpc.aio", "grpclib"})
# A peer within a tenth of the load generator, which keeps nothing, waits for the server.
NEAR_THE_LOAD_GENERATOR: Final = 1.1
NAMES: Final = {"rate": "rate", "cpu_us": "CPU", "p50_ms": "p50"}


@dataclass(frozen=True, slots=True)
class Target:
    """One ratio, and its bound.

    Args:
        workload: where it is measured.
        figure: what is divided.
        bound: what the median of the ratios over all rounds may be at most, or has to be at least.
        peers: divided by the best of these in each round, or by the best of all that were measured.
        compared_with: divided by our own figure at this workload instead.
        relaxed: the bound where the best peer shows that the server is the limit.
    """

    workload: str
    figure: Literal["rate", "cpu_us", "p50_ms"]
    bound: float
    peers: tuple[str, ...] = (BASELINE,)
    compared_with: str | None = None
    relaxed: float | None = None

    @property
    def text(self) -> str:
        """The target in words."""
        other = self.compared_with or ", ".join(self.peers) or "the best peer"
        if len(self.peers) > 1:
            other = f"best of {other}"
        sign = "≥" if self.more_is_better else "≤"
        return f"{NAMES[self.figure]} {sign} {self.bound:g} × {other}"

    @property
    def more_is_better(self) -> bool:
        """Whether the bound is the least that is wanted."""
        return self.figure == "rate"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, the ratio that was measured, and whether it holds.

    Args:
        target: what was to be reached.
        ratio: what was measured.
        bound: the one that counts here.
    """

    target: Target
    ratio: Spread
    bound: float

    @property
    def word(self) -> str:
        """What is said of it in a table."""
        return "holds" if self.holds else "MISSED"

    @property
    def holds(self) -> bool:
        """Whether the median is on the right side of the bound."""
        if self.target.more_is_better:
            return self.ratio.median >= self.bound
        return self.ratio.median <= self.bound


TARGETS: Final = (
    Target("unary-32", "cpu_us", 0.25),
    Target("unary-32", "rate", 1.1, PEERS),
    Target("unary-256", "cpu_us", 0.20),
    Target("unary-256", "rate", 1.1, EVERY_PEER),
    Target("unary-1000", "cpu_us", 0.20),
    Target("unary-1000", "rate", 1.1, EVERY_PEER),
    Target("unary-1000", "cpu_us", 1.2, compared_with="unary-32"),
    Target("unary-1", "p50_ms", 0.45),
    Target("unary-1", "p50_ms", 1.0, ("pyreqwest",)),
    Target("echo-64k-16", "cpu_us", 0.30),
    Target("echo-64k-16", "rate", 1.0, ("pyreqwest",), relaxed=0.95),
    Target("download-64", "cpu_us", 0.30),
    Target("download-64", "rate", 1.0, ("pyreqwest",)),
    Target("upload-16", "cpu_us", 0.50),
    Target("upload-16", "rate", 1.0, ("pycurl",)),
    Target("tokens-64", "cpu_us", 0.25),
    Target("tokens-64", "cpu_us", 1.1, ("pyreqwest",)),
    Target("tokens-paced-64", "cpu_us", 0.45),
    Target("tokens-paced-64", "cpu_us", 1.0, ("pycurl",)),
    Target("connect", "p50_ms", 1.5),
    Target("connect", "p50_ms", 1.0, ("pyreqwest",)),
)


def is_ours(client: str) -> bool:
    """Whether a client is this one, be it with other settings."""
    return client == OURS or client.startswith(f"{OURS}, ")


def is_peer(client: str) -> bool:
    """Whether a client could be used in place of ours, and has the same server."""
    return not is_ours(client) and client not in {BASELINE, LOAD_GENERATOR, *OTHER_SERVER}


def judge(results: Results) -> list[Verdict]:
    """Returns a verdict on each target for which everything was measured."""
    tables = {table.workload: table for table in results.tables}
    return [v for target in TARGETS if (v := _judge_one(target, tables)) is not None]


def _judge_one(target: Target, tables: dict[str, Table]) -> Verdict | None:
    table = tables.get(target.workload)
    ours = table.outcome(OURS) if table else None
    if table is None or ours is None:
        return None
    if target.compared_with is not None:
        other = tables.get(target.compared_with)
        base = other.outcome(OURS) if other else None
    else:
        base = _best(target, table)
    ratio = ours.ratio(target.figure, base) if base else None
    if ratio is None:
        return None
    return Verdict(target, ratio, _bound(target, table))


def _best(target: Target, table: Table) -> Outcome | None:
    """Returns the best peer of each round, as if it were one client.

    One that failed in any round counts in none: it has no figures.
    """
    names = target.peers or [o.client for o in table.outcomes if is_peer(o.client)]
    peers = [table.outcome(name) for name in names]
    finished = [peer for peer in peers if peer is not None and peer.spread(target.figure)]
    if not finished:
        return None
    figure: str = target.figure
    choose = max if target.more_is_better else min
    rounds = zip(*(peer.rounds for peer in finished), strict=True)
    best = [{figure: choose(one[figure] for one in turn)} for turn in rounds]
    return Outcome("the best peer", best)


def _bound(target: Target, table: Table) -> float:
    """Returns the bound, or the relaxed one where the server was the limit."""
    if target.relaxed is None:
        return target.bound
    generator, peer = table.outcome(LOAD_GENERATOR), _best(target, table)
    ratio = generator.ratio(target.figure, peer) if generator and peer else None
    server_is_limit = ratio is not None and ratio.median <= NEAR_THE_LOAD_GENERATOR
    return target.relaxed if server_is_limit else target.bound
