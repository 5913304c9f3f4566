"""h2load, a load generator in C: not a client to use, but the limit of what the server can do."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.adapter import WrongReply
from bench.measure import percentiles_ms
from bench.payloads import payload

if TYPE_CHECKING:
    from bench.workload import Load, Run

WINDOW_BITS: Final = ("-w", "22", "-W", "24")  # 4 MiB and 16 MiB, as its rivals


def measure_load(load: Load, run: Run) -> dict[str, float]:
    """Runs h2load on one connection and reads its log.

    Raises:
        WrongReply: a status was not 2xx.
    """
    with tempfile.TemporaryDirectory() as directory:
        log, body = Path(directory, "log"), Path(directory, "body")
        command = ["h2load", "-c", "1", "-t", "1", "-m", str(load.in_flight), *WINDOW_BITS]
        command += ["-D", f"{run.seconds * 1000:.0f}ms", f"--log-file={log}"]
        if load.body:
            body.write_bytes(payload(run.seed, load.body))
            command += ["-d", str(body), "-H", "content-type: application/octet-stream"]
        cpu = children_cpu()
        command.append(f"{run.url}{load.path}")
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        cpu = children_cpu() - cpu
        return read_log(log.read_text(encoding="ascii"), load.units, run.seconds, cpu)


def read_log(log: str, units: float, seconds: float, cpu: float) -> dict[str, float]:
    """Returns the figures of a log of (start, status, microseconds) lines.

    Raises:
        WrongReply: a status was not 2xx.
        RuntimeError: nothing was finished in time.
    """
    lines = [line.split("\t") for line in log.splitlines()]
    bad = [status for _, status, _ in lines if not status.startswith("2")]
    if bad:
        raise WrongReply(f"{len(bad)} of {len(lines)} statuses are not 2xx")
    if not lines:
        raise RuntimeError("nothing was finished in time")
    done = len(lines) * units
    rates = {"rate": done / seconds, "cpu_us": cpu / done * 1e6}
    return rates | percentiles_ms([int(duration) / 1e6 for _, _, duration in lines])


def children_cpu() -> float:
    """Returns the user and system time of the children that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
