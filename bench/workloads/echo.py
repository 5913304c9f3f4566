"""A body that comes back: both directions at once."""

from __future__ import annotations

from bench.workloads.posts import Posts


def echo(kibibytes: int, in_flight: int) -> Posts:
    """Returns a POST whose answer is its own body."""
    return Posts(
        name=f"echo-{kibibytes}k-{in_flight}",
        title=f"echo of {kibibytes} KiB, {in_flight} in flight",
        path="/echo",
        size=kibibytes * 1024,
        in_flight=in_flight,
        unit="MiB",
        units=kibibytes / 1024,
    )
