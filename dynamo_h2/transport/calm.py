"""Origins that want to be asked less often whether they are there (RFC 9113 §7, §10.5).

A server may count PINGs that come while it has nothing to say, and end the connection with GOAWAY
(ENHANCE_YOUR_CALM): gRPC servers do with the third that comes within five minutes of the one before
it, and put "too_many_pings" into the debug data. Each time the interval is doubled for the
connections that are made to that origin from then on, until the origin is not used any more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dynamo_h2.config import Http2Config

# The longest interval that a configuration may have, seconds.
_LONGEST: Final = 86_400.0
# Origins that are remembered; past it the oldest is forgotten, and may have to ask again.
_MAX_ORIGINS: Final = 1_000

_logger = logging.getLogger("dynamo_h2")


class KeepAliveIntervals:
    """The intervals of those origins for which the one of the configuration was too short.

    Args:
        config: What holds for all others.
    """

    __slots__ = ("_config", "_intervals")

    def __init__(self, config: Http2Config) -> None:
        self._config = config
        self._intervals: dict[str, float] = {}

    def config_for(self, origin: str) -> Http2Config:
        """The configuration of a new connection to ``origin``."""
        interval = self._intervals.get(origin)
        if interval is None:
            return self._config
        return self._config.replace(keep_alive_interval=interval)

    def lengthen(self, origin: str, interval: float | None) -> None:
        """Double the interval of an origin that asked for calm.

        Args:
            origin: Who asked.
            interval: That of the connection on which it did, in seconds: where several of the same
                age are told at once, it is doubled once. None when it was never asked anything.
        """
        if interval is None:
            return
        longer = min(2 * interval, _LONGEST)
        known = self._intervals.get(origin)
        if known is None:
            _logger.warning(
                "%s asked for calm (GOAWAY, ENHANCE_YOUR_CALM): its later connections get a "
                "keep-alive PING after %g s of silence instead of %g s, and twice that each time "
                "it asks again",
                origin,
                longer,
                interval,
            )
            if len(self._intervals) >= _MAX_ORIGINS:
                del self._intervals[next(iter(self._intervals))]
        self._intervals[origin] = max(longer, known or 0.0)

    def forget(self, origin: str) -> None:
        """Remember nothing of an origin that is not used any more."""
        self._intervals.pop(origin, None)

    def snapshot(self) -> dict[str, float]:
        """The intervals in seconds, by origin."""
        return dict(self._intervals)
