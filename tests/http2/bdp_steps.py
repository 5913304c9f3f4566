"""What is played to an estimator step by step: plain numbers for bytes and for the clock."""

from __future__ import annotations

from dynamo_h2.http2.bdp import BdpEstimator

MIB = 1 << 20
NOW = 7000.0
PLENTY = 1 << 40


def estimator(
    initial: int = MIB, ceiling: int = 64 * MIB, rtt: float | None = 0.05
) -> BdpEstimator:
    bdp = BdpEstimator(initial=initial, ceiling=ceiling, now=NOW)
    if rtt is not None:
        bdp.round_trip(NOW, rtt)
    return bdp


def use_up(bdp: BdpEstimator, now: float, share: float = 1.0, *, unread: int = 0) -> bool:
    """Play a round in which one stream receives a share of its whole window; True for growth."""
    size = bdp.target
    bdp.begin_round(now, 0)
    came, rose = int(size * share), False
    for part in range(1, 5):
        step = came * part // 4 - came * (part - 1) // 4
        bdp.received(step)
        left = size - step
        rose |= bdp.granted(now, 1, size=size, left=left, increment=step, unread=unread)
    return rose


def sample(bdp: BdpEstimator, now: float, size: int, rtt: float, *, unread: int = 0) -> bool:
    """Let a PING and its ACK enclose so many bytes."""
    bdp.ping_written(now, 0)
    bdp.received(size)
    return bdp.ping_acknowledged(now + rtt, unread)


def grown(bdp: BdpEstimator, rounds: int = 3) -> float:
    """Let the target double a few times; gives the time after that."""
    now = NOW + 1
    for _ in range(rounds):
        assert use_up(bdp, now)
        now += 0.05
    return now
