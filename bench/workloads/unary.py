"""A small request, and an answer that says no more than that it was accepted."""

from __future__ import annotations

from typing import Final

from bench.workloads.posts import Posts

PATH: Final = "/v1/rpc/generate"
SIZE: Final = 1024


def unary(in_flight: int, server: str = "granian") -> Posts:
    """Returns 1 KiB POST → 202 without a body (200 from a server of files)."""
    prefix, status = ("", 202) if server == "granian" else (f"{server}-", 200)
    title = f"1 KiB POST → {status}, {in_flight:,} in flight"
    if prefix:
        title += f", {server}"
    return Posts(f"{prefix}unary-{in_flight}", title, PATH, SIZE, in_flight, server=server)
