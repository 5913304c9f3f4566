"""What a single call may say for itself: time limits, whom it names, and how urgent it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict

from dynamo_h2.errors import InvalidRequest

if TYPE_CHECKING:
    from dynamo_h2.config import Http2Config

__all__ = [
    "DEFAULT_URGENCY",
    "UNSET",
    "CallOptions",
    "Timeout",
    "Times",
    "Unset",
    "urgency_of",
    "with_priority",
]


class Unset(Enum):
    """The type of ``UNSET``."""

    UNSET = "as configured"


UNSET: Final = Unset.UNSET
"""Stands for the config's value where None means "no limit"."""

Timeout: TypeAlias = float | timedelta | Unset | None
"""A time limit of a call: seconds or a timedelta, None for no limit, ``UNSET`` for the config's."""

# The longest limit, in seconds: the same bound as in the config.
_LONGEST = 86_400

# RFC 9218 §4.1: 0 is the most urgent.
DEFAULT_URGENCY: Final = 3
_LEAST_URGENT = 7


class CallOptions(TypedDict, total=False):
    """The keywords that every call takes.

    Attributes:
        timeout: For the whole of ``send_request`` and ``request``; for ``stream`` from the call to
            the response head, not running while the body is being produced or sent
            (``request_timeout``).
        read_timeout: The longest silence between chunks of the response.
        write_timeout: The longest time without progress of the body.
        pool_timeout: The longest wait for a slot.
        connect_timeout: The longest wait for a connection where the host has none. It can only
            shorten the config's, which the dial keeps to: others may wait for the same dial.
        authority: What ``:authority`` says, where it is not the address's own.
        server_hostname: The name in the TLS handshake, where it is not the host of the address.
        retryable: Whether it may be sent again when the peer provably did not process it.
        urgency: 0 for the most urgent to 7 for what can wait, 3 without it (RFC 9218 §4.1). On one
            connection, a body goes out before those that are less urgent; the peer is told in a
            ``priority`` field, unless it is 3 or ``headers`` have such a field.
        affinity: A key: requests with the same one go over the same connection while it lives and
            has room. It is a preference for a warm cache, no promise: where that connection is full
            or its peer silent, the request goes to another, and the next one comes back.
    """

    timeout: Timeout
    read_timeout: Timeout
    write_timeout: Timeout
    pool_timeout: Timeout
    connect_timeout: Timeout
    authority: str | None
    server_hostname: str | None
    retryable: bool
    urgency: int
    affinity: str | None


_OPTIONS = frozenset(CallOptions.__annotations__)


@dataclass(frozen=True, slots=True)
class Times:
    """The limits of one call: times in seconds, infinite for none, and whether to retry."""

    timeout: float
    read_timeout: float
    write_timeout: float
    pool_timeout: float
    connect_timeout: float | None
    """None leaves it to the dial, which knows the config's."""
    retryable: bool = True

    @classmethod
    def of(cls, config: Http2Config) -> Times:
        """Take the limits of a config."""
        return cls(
            _limit(config.request_timeout),
            _limit(config.read_timeout),
            _limit(config.write_timeout),
            _limit(config.pool_timeout),
            None,
        )

    def overridden(self, options: CallOptions) -> Times:
        """Put the limits of a call in the place of the config's.

        Raises:
            InvalidRequest: One is not a time from over 0 to 86,400 s, ``retryable`` no bool, or
                ``affinity`` no str.
            TypeError: There is no such keyword.
        """
        unknown = options.keys() - _OPTIONS
        if unknown:
            raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
        changes: dict[str, Any] = {
            name: _seconds(name, value)
            for name, value in options.items()
            if name.endswith("timeout") and value is not UNSET
        }
        affinity = options.get("affinity")
        if affinity is not None and not isinstance(affinity, str):
            raise InvalidRequest(f"affinity is {affinity!r}, allowed: a str, or None")
        if "retryable" in options:
            changes["retryable"] = _flag("retryable", options["retryable"])
        return replace(self, **changes) if changes else self


def _limit(seconds: float | None) -> float:
    return inf if seconds is None else seconds


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidRequest(f"{name} is {value!r}, allowed: True or False")


def _seconds(name: str, value: object) -> float:
    """Check one limit; infinite for None."""
    if value is None:
        return inf
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _LONGEST:
        return float(value)
    raise InvalidRequest(
        f"{name} is {value!r}, allowed: over 0 to {_LONGEST} seconds, a timedelta, or None"
    )


def urgency_of(options: CallOptions) -> int:
    """Take the urgency out of the options of a call.

    Raises:
        InvalidRequest: It is not a whole number from 0 to 7.
    """
    urgency: object = options.get("urgency", DEFAULT_URGENCY)
    if isinstance(urgency, int) and not isinstance(urgency, bool) and 0 <= urgency <= _LEAST_URGENT:
        return urgency
    raise InvalidRequest(f"urgency is {urgency!r}, allowed: 0 to {_LEAST_URGENT}")


def with_priority(
    fields: tuple[tuple[bytes, bytes], ...], urgency: int
) -> tuple[tuple[bytes, bytes], ...]:
    """Tell the peer about an urgency that is not the usual one (RFC 9218 §5).

    Args:
        fields: Those of the call; a ``priority`` among them stands.
        urgency: 0 to 7.
    """
    if urgency == DEFAULT_URGENCY or any(name == b"priority" for name, _ in fields):
        return fields
    return (*fields, (b"priority", b"u=%d" % urgency))
