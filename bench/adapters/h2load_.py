"""h2load, a load generator in C: not a client to use, but what one that keeps nothing gets.

It is no bound: where large frames or few writes count, a client can get more.
"""

from __future__ import annotations

import math
import resource
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.adapter import WrongReply
from bench.measure import WARM_UP_SHARE, percentiles_ms
from bench.payloads import payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.workload import Load, Run

WINDOW_BITS: Final = ("-w", "22", "-W", "24")  # 4 MiB and 16 MiB, as its rivals


class Logged(NamedTuple):
    """One finished request: its start since the epoch, and what it took, in microseconds."""

    start: int
    took: int


def measure_load(load: Load, run: Run) -> dict[str, float]:
    """Runs h2load on one connection and reads its log.

    Told a time, h2load drops what is in flight when it is over, which is a good part of what it did
    where requests are large. So it is asked for as many requests as it gets done in that time,
    judged by a warm-up as long as that of its rivals, and all of them are counted, as theirs are.

    Raises:
        WrongReply: a status was not 2xx.
    """
    warm_up = run.seconds * WARM_UP_SHARE
    with tempfile.TemporaryDirectory() as directory:
        finished, _ = generate(load, run, Path(directory), "-D", f"{warm_up * 1000:.0f}ms")
        asked = requests_in(run.seconds / warm_up, len(finished), load.in_flight)
        finished, cpu = generate(load, run, Path(directory), "-n", str(asked))
    if len(finished) < asked:
        raise WrongReply(f"{len(finished)} of {asked} requests were answered")
    return figures_of(finished, load.units, cpu)


def requests_in(times: float, finished: int, in_flight: int) -> int:
    """Returns how many requests fit into so many times what finished them with others begun."""
    return math.ceil((finished + in_flight) * times)


def generate(load: Load, run: Run, folder: Path, *limit: str) -> tuple[list[Logged], float]:
    """Runs h2load up to a limit; returns what it logged and its CPU seconds."""
    log, body = folder / "log", folder / "body"
    log.unlink(missing_ok=True)  # it would be added to
    command = ["h2load", "-c", "1", "-t", "1", "-m", str(load.in_flight), *WINDOW_BITS]
    command += [*limit, f"--log-file={log}"]
    if load.body:
        body.write_bytes(payload(run.seed, load.body))
        command += ["-d", str(body), "-H", "content-type: application/octet-stream"]
    cpu = children_cpu()
    subprocess.run([*command, f"{run.url}{load.path}"], stdout=subprocess.DEVNULL, check=True)
    cpu = children_cpu() - cpu
    return read_log(log.read_text(encoding="ascii")), cpu


def read_log(log: str) -> list[Logged]:
    """Returns the requests of a log of (start, status, microseconds) lines.

    Raises:
        WrongReply: a status was not 2xx.
    """
    lines = [line.split("\t") for line in log.splitlines()]
    bad = [status for _, status, *_ in lines if not status.startswith("2")]
    if bad:
        raise WrongReply(f"{len(bad)} of {len(lines)} statuses are not 2xx")
    return [Logged(int(start), int(took)) for start, _, took, *_ in lines]


def figures_of(finished: Sequence[Logged], units: float, cpu: float) -> dict[str, float]:
    """Returns the figures of requests from the start of the first to the end of the last."""
    begun = min(request.start for request in finished)
    wall = (max(request.start + request.took for request in finished) - begun) / 1e6
    done = len(finished) * units
    rates = {"rate": done / wall, "cpu_us": cpu / done * 1e6}
    return rates | percentiles_ms([request.took / 1e6 for request in finished])


def children_cpu() -> float:
    """Returns the user and system time of the children that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
