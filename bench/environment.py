"""Where the figures come from: the machine, the versions, and the source of the baseline."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.adapter import version_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.adapter import Adapter

BASELINE_SOURCE: Final = Path(__file__).with_name("adapters") / "bare_h2.py"


def environment(adapters: Iterable[Adapter]) -> dict[str, object]:
    """Returns what a reader needs to judge the figures, and to repeat them."""
    versions = {"granian": version_of("granian")}
    for adapter in adapters:
        versions |= adapter.versions()
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": dict(sorted(versions.items())),
        "baseline_sha256": baseline_digest(),
    }


def baseline_digest() -> str:
    """Returns the SHA-256 of the baseline's source."""
    return hashlib.sha256(BASELINE_SOURCE.read_bytes()).hexdigest()


def cpu_model() -> str:
    """Returns the name of the CPU as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def pin(core: int | None) -> None:
    """Keeps this thread, and what it starts later, on one CPU where the platform can."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def pick_cores() -> tuple[int | None, int | None]:
    """Returns the cores for the clients and for the servers; None where nothing can be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]
