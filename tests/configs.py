"""Every field of a configuration: its default, its values, its variable, and problems with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import ConfigError, Problem

BIGGEST = 2**31 - 1
DAY = 86_400

DEFAULTS: dict[str, object] = {
    "max_frame_size": 1_048_576,
    "max_concurrent_streams": 1000,
    "initial_stream_window": None,
    "initial_connection_window": None,
    "adaptive_window": True,
    "max_window": 67_108_864,
    "memory_budget": 268_435_456,
    "pool_max_idle_per_host": 100,
    "pool_idle_timeout": 90.0,
    "max_connections_per_host": None,
    "max_connection_age": None,
    "keep_alive_interval": 30.0,
    "keep_alive_timeout": 10.0,
    "keep_alive_while_idle": True,
    "request_timeout": 5.0,
    "connect_timeout": 2.0,
    "read_timeout": 60.0,
    "write_timeout": 60.0,
    "pool_timeout": None,
    "busy_poll": 0.0003,
    "connect_retries": 1,
    "dns_refresh": 30.0,
    "max_retries": 2,
    "max_resets": 200,
    "max_header_list_size": 64 * 1024,
    "header_table_size": 4096,
    "max_response_size": 64 * 1024 * 1024,
    "engine": "fast",
    "huffman": False,
    "send_quantum": 64 * 1024,
}

RANGES = {
    "max_window": (65_535, BIGGEST),
    "memory_budget": (1_048_576, BIGGEST),
    "max_frame_size": (16_384, 16_777_215),
    "max_concurrent_streams": (1, BIGGEST),
    "initial_stream_window": (1, BIGGEST),
    "initial_connection_window": (1, BIGGEST),
    "pool_max_idle_per_host": (0, BIGGEST),
    "max_connections_per_host": (1, BIGGEST),
    "connect_retries": (0, BIGGEST),
    "max_retries": (0, BIGGEST),
    "max_resets": (1, BIGGEST),
    "max_header_list_size": (1, BIGGEST),
    "header_table_size": (0, 65_536),
    "max_response_size": (1, BIGGEST),
    "send_quantum": (1024, 16_777_215),
}

# The longest that is allowed, in seconds.
TIMES = {
    "pool_idle_timeout": DAY,
    "max_connection_age": DAY,
    "keep_alive_interval": DAY,
    "keep_alive_timeout": DAY,
    "request_timeout": DAY,
    "connect_timeout": DAY,
    "read_timeout": DAY,
    "write_timeout": DAY,
    "pool_timeout": DAY,
    "busy_poll": 0.01,
    "dns_refresh": DAY,
}

SWITCHES = ["adaptive_window", "keep_alive_while_idle", "huffman"]

CHOICES = {"engine": ("fast", "stock")}

NONE_ALLOWED = {
    "initial_stream_window",
    "initial_connection_window",
    "max_connections_per_host",
    "max_connection_age",
    "keep_alive_interval",
    "request_timeout",
    "connect_timeout",
    "read_timeout",
    "write_timeout",
    "pool_timeout",
    "busy_poll",
    "dns_refresh",
}

VARIABLES = {
    name: "DYN_HTTP_REQUEST_TIMEOUT"
    if name == "request_timeout"
    else f"DYN_HTTP2_{name.upper()}{'_SECS' if name in TIMES else ''}"
    for name in DEFAULTS
}


def make(**values: Any) -> Http2Config:  # noqa: ANN401 - the point is to pass what is wrong
    return Http2Config(**values)


def problems(**values: object) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        make(**values)
    return caught.value.problems


def problems_of(environ: dict[str, str]) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        Http2Config.from_env(environ)
    return caught.value.problems


def values_of(name: str) -> st.SearchStrategy[Any]:
    if name in SWITCHES:
        return st.booleans()
    if name in CHOICES:
        return st.sampled_from(CHOICES[name])
    some: st.SearchStrategy[Any]
    if name in TIMES:
        longest = TIMES[name]
        some = st.floats(0, longest, exclude_min=True)
        some |= st.timedeltas(timedelta(microseconds=1), timedelta(seconds=longest))
        if longest >= 1:
            some |= st.integers(1, int(longest))
    else:
        some = st.integers(*RANGES[name])
    return st.none() | some if name in NONE_ALLOWED else some


CONFIGS = st.fixed_dictionaries({}, optional={name: values_of(name) for name in DEFAULTS}).map(
    lambda values: make(**values)
)
