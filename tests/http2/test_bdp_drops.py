"""A link whose rate drops to a tenth and comes back, whatever the estimator is at just then.

A drop may come while it squeezes, halfway through a sample, just after it has believed one, or when
what it knows of the round trip is old. So the moments are many, and the bound is narrow: twice the
product, with a tenth more for the samples.
"""

from __future__ import annotations

from math import inf

import pytest

from tests.http2.bdp_rig import KIB, MIB, Link, World

RATE = 20e6
FOLLOWS = 25.0
TOLERANCE = 1.1


def dropped(world: World, at: float) -> None:
    """Let a transfer go on until the rate drops, and for as long as the window has to follow."""
    world.sender.supply(inf)
    world.run(at)
    world.link.rate /= 10
    world.run(FOLLOWS)


@pytest.mark.parametrize("at", [6.13, 12.91, 14.04, 15.17, 21.95, 23.08])
@pytest.mark.parametrize(("jitter", "turn"), [(0.0, 0.0), (0.005, 0.0), (0.0, 0.003)])
@pytest.mark.parametrize("buffer", [256 * KIB, 64 * MIB])
@pytest.mark.parametrize("rtt", [0.05, 0.15])
def test_whatever_the_moment_the_window_is_twice_the_product_in_time(
    rtt: float, buffer: int, jitter: float, turn: float, at: float
) -> None:
    link = Link(RATE, rtt / 2, jitter, buffer, seed=int(at))
    world = World(link, turn=turn)
    dropped(world, at)
    longest = rtt + 2 * jitter + turn
    target = world.bdp.target
    assert 1.9 * link.product <= target <= 2 * link.rate * longest * TOLERANCE
    world.run(15)
    assert world.bdp.target <= 2 * link.rate * longest * TOLERANCE
    assert world.rate(at + 5, at + 40) >= 0.95 * link.rate

    link.rate *= 10
    back = world.clock.now
    world.run(40 * longest)
    assert world.rate(back + 10.5 * longest, back + 40 * longest) >= 0.9 * link.rate


@pytest.mark.parametrize("at", [6.13, 14.04, 23.08])
def test_a_path_whose_queue_is_short_is_measured_before_a_long_one_is_believed(at: float) -> None:
    """A sixth of the product stands in line until the rate drops, which brings no squeeze."""
    world = World(Link(RATE, 0.075, buffer=512 * KIB))
    dropped(world, at)
    assert not [when for when in world.receiver.squeezes if when < at]
    assert world.bdp._path.rtt <= 1.2 * world.link.rtt
    assert world.bdp.target <= 2 * world.link.product * TOLERANCE
