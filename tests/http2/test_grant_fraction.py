"""How much is owed before it is granted: what a larger part saves, and what it costs."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from tests.http2.bdp_rig import MIB, Link, World

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
SECONDS = 3.0

# A grant when this part is owed (one eighth, ...); the window in products of rate and round trip;
# the rate in percent of the link's; WINDOW_UPDATEs for each MiB, of both windows together.
MEASURED = [
    (8, 2.0, 100, 4.1),
    (4, 2.0, 100, 2.1),
    (2, 2.0, 100, 1.0),
    (8, 1.25, 100, 6.4),
    (4, 1.25, 93, 3.3),
    (2, 1.25, 62, 1.7),
    (8, 1.0, 87, 8.0),
    (4, 1.0, 75, 4.1),
    (2, 1.0, 50, 2.1),
]


@pytest.mark.parametrize(("fraction", "products", "percent", "updates"), MEASURED)
def test_the_page_tells_what_a_fraction_does(
    fraction: int, products: float, percent: int, updates: float
) -> None:
    link = Link(100e6, 0.01)
    size = int(link.product * products)
    world = World(link, initial=size, connection=size, ceiling=size, fraction=fraction)
    world.sender.supply(inf)
    world.run(1.0)
    begun, before = world.clock.now, world.receiver.grants
    world.run(SECONDS)
    rate = world.rate(begun, begun + SECONDS)
    grants = world.receiver.grants - before
    assert round(100 * rate / link.rate) == percent
    assert round(grants / (rate * SECONDS / MIB), 1) == updates
    row = f"| {products:g} | 1/{fraction} | {percent} % | {updates} |"
    assert row in PAGE.read_text(encoding="utf-8")
