"""The configuration of a client: one frozen value, checked whole when it is made.

What is known of a field (its unit, its range, its environment variable, what it does) stands in
the field's metadata as an `Option`. The checks, `Http2Config.from_env`, the table of the
documentation and the help of the command line all come from there.
"""

# The fields are made by helpers, once for the class; what they return is immutable.
# ruff: noqa: RUF009

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self, cast

from dynamo_h2.errors import ConfigError, Problem
from dynamo_h2.options import (
    METADATA_KEY,
    Option,
    OptionalSeconds,
    Seconds,
    choice,
    limit,
    seconds,
    switch,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Http2Config", "UnknownVariableWarning", "configuration_table", "options"]

_PREFIX = "DYN_HTTP2_"

# SETTINGS_MAX_FRAME_SIZE may not be set outside of these (RFC 9113 §6.5.2).
_MIN_FRAME = 2**14
_MAX_FRAME = 2**24 - 1


class UnknownVariableWarning(UserWarning):
    """An environment variable looks like one of ours and is none: most likely misspelt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Config:
    """The configuration of a client.

    Sizes are in bytes, times in seconds; a time may be set as an int, a float or a `timedelta`, and
    always reads as a float. Each argument's default, range and meaning stand in its field's
    metadata and in the table that `configuration_table` makes.

    Raises:
        ConfigError: Some values are wrong; the error names all of them.
    """

    max_frame_size: int = whole(
        1_048_576,
        "DYN_HTTP2_MAX_FRAME_SIZE",
        "bytes",
        "The largest frame that the peer may send (SETTINGS_MAX_FRAME_SIZE)",
        low=_MIN_FRAME,
        high=_MAX_FRAME,
    )
    max_concurrent_streams: int = whole(
        1000,
        "DYN_HTTP2_MAX_CONCURRENT_STREAMS",
        "streams",
        "Requests in flight on one connection, as far as the peer allows them",
    )
    initial_stream_window: int | None = whole(
        None,
        "DYN_HTTP2_INITIAL_STREAM_WINDOW",
        "bytes",
        "What a peer may send on a stream before it is read; none is 4 × `max_frame_size`",
    )
    initial_connection_window: int | None = whole(
        None,
        "DYN_HTTP2_INITIAL_CONNECTION_WINDOW",
        "bytes",
        "The same for all streams of a connection together; none is 16 × `max_frame_size`",
    )
    adaptive_window: bool = switch(
        True,
        "DYN_HTTP2_ADAPTIVE_WINDOW",
        "Let the windows follow the bandwidth and the round-trip time of the connection",
    )
    max_window: int = whole(
        67_108_864,
        "DYN_HTTP2_MAX_WINDOW",
        "bytes",
        "The most that a window grows to; one that is larger from the start stays as it is",
        low=65_535,
    )
    memory_budget: int = whole(
        268_435_456,
        "DYN_HTTP2_MEMORY_BUDGET",
        "bytes",
        "What peers may send before it is read, over all connections of a client together",
        low=1_048_576,
    )
    pool_max_idle_per_host: int = whole(
        100,
        "DYN_HTTP2_POOL_MAX_IDLE_PER_HOST",
        "connections",
        "Connections without a request that are kept open to one origin",
        low=0,
    )
    pool_idle_timeout: Seconds = seconds(
        90.0,
        "DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS",
        "How long a connection without a request is kept open",
    )
    max_connections_per_host: int | None = whole(
        None,
        "DYN_HTTP2_MAX_CONNECTIONS_PER_HOST",
        "connections",
        "Connections to one origin; none is `pool_max_idle_per_host`, and at least one",
    )
    max_connection_age: OptionalSeconds = limit(
        None,
        "DYN_HTTP2_MAX_CONNECTION_AGE_SECS",
        "The age, give or take 10 %, at which a connection finishes its requests and is replaced",
    )
    keep_alive_interval: OptionalSeconds = limit(
        30.0,
        "DYN_HTTP2_KEEP_ALIVE_INTERVAL_SECS",
        "The silence after which a PING asks whether the peer is there; none never asks",
    )
    keep_alive_timeout: Seconds = seconds(
        10.0,
        "DYN_HTTP2_KEEP_ALIVE_TIMEOUT_SECS",
        "The silence after such a PING that means that the connection is dead",
    )
    keep_alive_while_idle: bool = switch(
        True,
        "DYN_HTTP2_KEEP_ALIVE_WHILE_IDLE",
        "Send such PINGs on connections without a request too",
    )
    request_timeout: OptionalSeconds = limit(
        5.0,
        "DYN_HTTP_REQUEST_TIMEOUT",
        "The longest time to the whole response, or to the head of a streamed one",
    )
    connect_timeout: OptionalSeconds = limit(
        2.0,
        "DYN_HTTP2_CONNECT_TIMEOUT_SECS",
        "The longest time for TCP, TLS and the peer's SETTINGS together",
    )
    read_timeout: OptionalSeconds = limit(
        60.0,
        "DYN_HTTP2_READ_TIMEOUT_SECS",
        "The longest silence between two chunks of a response",
    )
    write_timeout: OptionalSeconds = limit(
        60.0,
        "DYN_HTTP2_WRITE_TIMEOUT_SECS",
        "The longest time in which the peer takes nothing of a request's body",
    )
    pool_timeout: OptionalSeconds = limit(
        None,
        "DYN_HTTP2_POOL_TIMEOUT_SECS",
        "The longest wait for a connection with room for the request",
    )
    busy_poll: OptionalSeconds = limit(
        0.0003,
        "DYN_HTTP2_BUSY_POLL_SECS",
        "How long the loop stays awake for the answer to a lone request, where that is likely to "
        "come in time; none lets it sleep",
        high=0.01,
    )
    connect_retries: int = whole(
        1,
        "DYN_HTTP2_CONNECT_RETRIES",
        "dials",
        "Further dials after one that failed",
        low=0,
    )
    dns_refresh: OptionalSeconds = limit(
        30.0,
        "DYN_HTTP2_DNS_REFRESH_SECS",
        "How often the addresses of a name that is in use are asked for; none asks at dials only",
    )
    max_retries: int = whole(
        2,
        "DYN_HTTP2_MAX_RETRIES",
        "attempts",
        "Further attempts of a request that the peer provably did not process",
        low=0,
    )
    max_resets: int = whole(
        200,
        "DYN_HTTP2_MAX_RESETS",
        "resets",
        "Streams that are reset on one connection before it drains; ten more each second",
    )
    max_header_list_size: int = whole(
        65_536,
        "DYN_HTTP2_MAX_HEADER_LIST_SIZE",
        "bytes",
        "The largest header list that is taken from the peer (SETTINGS_MAX_HEADER_LIST_SIZE)",
    )
    header_table_size: int = whole(
        4096,
        "DYN_HTTP2_HEADER_TABLE_SIZE",
        "bytes",
        "The HPACK table, in either direction at most (SETTINGS_HEADER_TABLE_SIZE)",
        low=0,
        high=65_536,
    )
    max_response_size: int = whole(
        67_108_864,
        "DYN_HTTP2_MAX_RESPONSE_SIZE",
        "bytes",
        "The longest body that is collected in memory; streamed bodies have no such limit",
    )
    engine: str = choice(
        "fast",
        "DYN_HTTP2_ENGINE",
        ("fast", "stock"),
        "The protocol engine: with shortcuts for the common case, or all by h2's own code",
    )
    huffman: bool = switch(
        False,
        "DYN_HTTP2_HUFFMAN",
        "Huffman-code the header fields that are sent: fewer bytes, more CPU",
    )
    send_quantum: int = whole(
        65_536,
        "DYN_HTTP2_SEND_QUANTUM",
        "bytes",
        "What one stream sends before it is another one's turn; the longest DATA frame too",
        low=1024,
        high=_MAX_FRAME,
    )

    def __post_init__(self) -> None:
        problems = []
        for name, option in options().items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, option.check(value))
            except (TypeError, ValueError):
                problems.append(Problem(name, value, option.allowed))
        if problems:
            raise ConfigError(problems)

    @property
    def stream_window(self) -> int:
        """The initial window of a stream in bytes, with None resolved (RFC 9113 §6.9.2).

        4 × the largest frame is 67,108,860, so what is derived is always a valid window.
        """
        return self.initial_stream_window or 4 * self.max_frame_size

    @property
    def connection_window(self) -> int:
        """The initial window of a connection in bytes, with None resolved.

        16 × the largest frame is 268,435,440, so what is derived is always a valid window.
        """
        return self.initial_connection_window or 16 * self.max_frame_size

    @property
    def connection_limit(self) -> int:
        """Connections that one origin may have, with None resolved; at least one."""
        return self.max_connections_per_host or max(1, self.pool_max_idle_per_host)

    def replace(self, **changes: object) -> Self:
        """Make a copy with some fields changed.

        Args:
            changes: Fields and their new values.

        Raises:
            ConfigError: Some of the new values are wrong.
            TypeError: There is no such field.
        """
        return replace(self, **cast("dict[str, Any]", changes))

    @classmethod
    def high_throughput(cls, **overrides: object) -> Self:
        """The preset for large payloads and many requests at once.

        Args:
            overrides: Fields that are to differ from the preset.

        Raises:
            ConfigError: Some of the overrides are wrong.
        """
        preset = cls(
            max_frame_size=2 * 1024 * 1024,
            max_concurrent_streams=2000,
            pool_max_idle_per_host=200,
            pool_idle_timeout=120,
        )
        return preset.replace(**overrides)

    @classmethod
    def low_latency(cls, **overrides: object) -> Self:
        """The preset for small payloads that must not wait behind others.

        Args:
            overrides: Fields that are to differ from the preset.

        Raises:
            ConfigError: Some of the overrides are wrong.
        """
        preset = cls(
            max_frame_size=256 * 1024,
            max_concurrent_streams=500,
            pool_max_idle_per_host=50,
            keep_alive_interval=15,
        )
        return preset.replace(**overrides)

    @classmethod
    def memory_constrained(cls, **overrides: object) -> Self:
        """The preset for little memory: smaller windows, fewer connections.

        Args:
            overrides: Fields that are to differ from the preset.

        Raises:
            ConfigError: Some of the overrides are wrong.
        """
        preset = cls(
            max_frame_size=512 * 1024,
            max_concurrent_streams=200,
            pool_max_idle_per_host=25,
            pool_idle_timeout=60,
        )
        return preset.replace(**overrides)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Make a configuration from the environment; what is not set there has its default.

        Args:
            environ: The variables.

        Raises:
            ConfigError: Some variables are wrong; the error names all of them.

        Warns:
            UnknownVariableWarning: A variable begins with ``DYN_HTTP2_`` and is none of ours.
        """
        known = options()
        _warn_of_unknown(environ, known)
        values: dict[str, Any] = {}
        problems = []
        for name, option in known.items():
            text = environ.get(option.variable)
            if text is None:
                continue
            try:
                values[name] = option.parse(text)
            except ValueError:
                problems.append(Problem(option.variable, text, option.spelling))
        if problems:
            raise ConfigError(problems)
        return cls(**values)

    def to_env(self) -> dict[str, str]:
        """Write all fields as the variables from which `from_env` makes an equal configuration."""
        return {
            option.variable: option.show(getattr(self, name)) for name, option in options().items()
        }


def options() -> dict[str, Option]:
    """Give the option of each field of `Http2Config`, in the order of the fields."""
    return {each.name: each.metadata[METADATA_KEY] for each in fields(Http2Config)}


def configuration_table() -> str:
    """Write the fields of `Http2Config` as a table in Markdown, without a newline at its end."""
    rows = [
        "| field | default | allowed | variable | what it does |",
        "| --- | --- | --- | --- | --- |",
    ]
    default = Http2Config()
    for name, option in options().items():
        shown = option.show(getattr(default, name))
        rows.append(
            f"| `{name}` | {shown} | {option.allowed} | `{option.variable}` | {option.doc} |"
        )
    return "\n".join(rows)


def _warn_of_unknown(environ: Mapping[str, str], known: Mapping[str, Option]) -> None:
    """Warn of each variable that has our prefix and no field, and propose the nearest one."""
    variables = {option.variable for option in known.values()}
    for variable in sorted(environ):
        if variable.startswith(_PREFIX) and variable not in variables:
            nearest = known[_nearest(variable, known)].variable
            warnings.warn(
                f"{variable} is not a variable of dynamo_h2; is {nearest} meant?",
                UnknownVariableWarning,
                stacklevel=3,
            )


def _nearest(variable: str, names: Mapping[str, Option]) -> str:
    """Find the field whose name is most like the variable's, prefix and unit left aside.

    Those that have most of its words come first: `max_streams` is like `max_resets`, but it means
    `max_concurrent_streams`.
    """
    bare = variable.removeprefix(_PREFIX).lower().removesuffix("_secs")
    words = set(bare.split("_"))
    shared = {name: len(words.intersection(name.split("_"))) for name in names}
    most = max(shared.values())
    likely = [name for name, count in shared.items() if count == most]
    return get_close_matches(bare, likely, n=1, cutoff=0.0)[0]
