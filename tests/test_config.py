"""The configuration: fields, ranges, presets, copies."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from dynamo_h2.config import Http2Config, options
from dynamo_h2.errors import ConfigError, Problem
from tests.configs import (
    BIGGEST,
    CHOICES,
    CONFIGS,
    DEFAULTS,
    NONE_ALLOWED,
    RANGES,
    SWITCHES,
    TIMES,
    VARIABLES,
    make,
    problems,
    problems_of,
)

pytestmark = pytest.mark.released_defaults

# Fields and defaults


def test_the_fields_and_their_defaults() -> None:
    assert dataclasses.asdict(Http2Config()) == DEFAULTS


def test_every_field_has_its_kind() -> None:
    assert sorted([*RANGES, *TIMES, *SWITCHES, *CHOICES]) == sorted(DEFAULTS)


def test_times_read_as_floats_by_default() -> None:
    config = Http2Config()
    assert {type(getattr(config, name)) for name in TIMES} == {float, type(None)}


def test_the_fields_are_keywords() -> None:
    with pytest.raises(TypeError):
        Http2Config(16_384)  # type: ignore[call-arg]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="max_frame_sice"):
        make(max_frame_sice=16_384)


def test_a_config_is_a_value() -> None:
    config = Http2Config(request_timeout=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.request_timeout = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(config)) == copy.copy(config) == copy.deepcopy(config)
    assert hash(config) == hash(Http2Config(request_timeout=timedelta(seconds=1)))
    assert config != Http2Config()


def test_the_windows_follow_the_frame_size() -> None:
    config = Http2Config(max_frame_size=65_536)
    assert (config.stream_window, config.connection_window) == (4 * 65_536, 16 * 65_536)


def test_the_default_windows_are_4_and_16_mebibytes() -> None:
    config = Http2Config()
    assert (config.stream_window, config.connection_window) == (4 * 2**20, 16 * 2**20)


def test_windows_that_are_set_stand() -> None:
    config = Http2Config(initial_stream_window=1, initial_connection_window=BIGGEST)
    assert (config.stream_window, config.connection_window) == (1, BIGGEST)


def test_the_windows_of_the_largest_frame_are_valid() -> None:
    config = Http2Config(max_frame_size=RANGES["max_frame_size"][1])
    assert config.stream_window <= config.connection_window <= BIGGEST


@pytest.mark.parametrize(
    ("limit", "idle", "expected"),
    [(None, 100, 100), (None, 1, 1), (None, 0, 1), (7, 100, 7), (1, 0, 1), (200, 100, 200)],
)
def test_connections_are_limited_by_the_pool_size_unless_set(
    limit: int | None, idle: int, expected: int
) -> None:
    config = Http2Config(max_connections_per_host=limit, pool_max_idle_per_host=idle)
    assert config.connection_limit == expected


# Checks


@pytest.mark.parametrize(("name", "bounds"), RANGES.items())
def test_a_number_is_taken_up_to_its_bounds_and_not_beyond(
    name: str, bounds: tuple[int, int]
) -> None:
    low, high = bounds
    assert getattr(make(**{name: low}), name) == low
    assert getattr(make(**{name: high}), name) == high
    for wrong in (low - 1, high + 1, 10**30, True, float(high), str(high)):
        (problem,) = problems(**{name: wrong})
        assert problem[:2] == (name, wrong)
        assert f"{low} to {high}" in problem.allowed


@pytest.mark.parametrize(("name", "longest"), TIMES.items())
def test_a_time_is_taken_in_any_form_up_to_the_longest(name: str, longest: float) -> None:
    for value in (longest, timedelta(seconds=longest)):
        kept = getattr(make(**{name: value}), name)
        assert (kept, type(kept)) == (longest, float)
    assert getattr(make(**{name: longest / 2}), name) == longest / 2
    for wrong in (0, -1, longest * 1.01, math.nan, math.inf, timedelta(days=2), True, "5"):
        (problem,) = problems(**{name: wrong})
        assert problem[:2] == (name, wrong)
        assert f"over 0 to {longest:g} s" in problem.allowed


@pytest.mark.parametrize("name", [name for name, longest in TIMES.items() if longest >= 1])
def test_a_time_of_whole_seconds_is_kept_as_a_float(name: str) -> None:
    kept = getattr(make(**{name: 5}), name)
    assert (kept, type(kept)) == (5.0, float)


@pytest.mark.parametrize(("name", "words"), CHOICES.items())
def test_a_choice_takes_its_words_and_nothing_else(name: str, words: tuple[str, ...]) -> None:
    for word in words:
        assert getattr(make(**{name: word}), name) == word
        assert getattr(Http2Config.from_env({VARIABLES[name]: f" {word.upper()} "}), name) == word
    for wrong in ("", "other", words[0].upper(), 1, True, None):
        assert problems(**{name: wrong}) == (Problem(name, wrong, " or ".join(words)),)
    assert problems_of({VARIABLES[name]: "other"})[0].field == VARIABLES[name]


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_a_bool(name: str) -> None:
    for value in (True, False):
        assert getattr(make(**{name: value}), name) is value
    for wrong in (1, 0, "true", None):
        assert problems(**{name: wrong}) == ((name, wrong, "true or false"),)


@pytest.mark.parametrize("name", DEFAULTS)
def test_none_is_allowed_only_where_it_means_something(name: str) -> None:
    if name in NONE_ALLOWED:
        assert getattr(make(**{name: None}), name) is None
        assert getattr(Http2Config.from_env({VARIABLES[name]: "none"}), name) is None
        assert options()[name].allowed.endswith(", or none")
    else:
        assert [each.field for each in problems(**{name: None})] == [name]
        assert [each.field for each in problems_of({VARIABLES[name]: "none"})] == [VARIABLES[name]]
        assert "none" not in options()[name].allowed


def test_all_wrong_fields_are_told_at_once() -> None:
    found = problems(
        max_frame_size=16_383, adaptive_window=1, request_timeout=math.inf, max_retries=None
    )
    assert found == (
        ("max_frame_size", 16_383, "16384 to 16777215 bytes"),
        ("adaptive_window", 1, "true or false"),
        ("request_timeout", math.inf, "over 0 to 86400 s, or none"),
        ("max_retries", None, "0 to 2147483647 attempts"),
    )


def test_the_message_names_field_value_and_range() -> None:
    with pytest.raises(ConfigError) as caught:
        make(send_quantum=1)
    assert str(caught.value) == "send_quantum is 1, allowed: 1024 to 16777215 bytes"
    with pytest.raises(ValueError, match="send_quantum"):
        make(send_quantum=1)


# Presets and copies


@pytest.mark.parametrize(
    ("preset", "changed"),
    [
        (
            Http2Config.high_throughput,
            {
                "max_frame_size": 2 * 1024 * 1024,
                "max_concurrent_streams": 2000,
                "pool_max_idle_per_host": 200,
                "pool_idle_timeout": 120.0,
            },
        ),
        (
            Http2Config.low_latency,
            {
                "max_frame_size": 256 * 1024,
                "max_concurrent_streams": 500,
                "pool_max_idle_per_host": 50,
                "keep_alive_interval": 15.0,
            },
        ),
        (
            Http2Config.memory_constrained,
            {
                "max_frame_size": 512 * 1024,
                "max_concurrent_streams": 200,
                "pool_max_idle_per_host": 25,
                "pool_idle_timeout": 60.0,
            },
        ),
    ],
    ids=["high throughput", "low latency", "memory constrained"],
)
def test_a_preset_has_the_numbers_of_the_guide_and_takes_overrides(
    preset: Any,  # noqa: ANN401 - a bound class method with free keywords
    changed: dict[str, object],
) -> None:
    assert dataclasses.asdict(preset()) == DEFAULTS | changed
    override = {"max_frame_size": 20_000, "connect_timeout": None}
    assert dataclasses.asdict(preset(**override)) == DEFAULTS | changed | override
    with pytest.raises(ConfigError, match="max_retries is -1"):
        preset(max_retries=-1)
    with pytest.raises(TypeError, match="no_such_field"):
        preset(no_such_field=1)


def test_replace_changes_a_copy_and_checks_it() -> None:
    config = Http2Config(max_retries=7)
    other = config.replace(request_timeout=timedelta(seconds=3), max_frame_size=16_384)
    assert other == Http2Config(max_retries=7, request_timeout=3, max_frame_size=16_384)
    assert config == Http2Config(max_retries=7)
    with pytest.raises(ConfigError) as caught:
        config.replace(max_frame_size=1, max_retries=-1)
    assert [each.field for each in caught.value.problems] == ["max_frame_size", "max_retries"]


def test_a_subclass_makes_its_own_kind() -> None:
    class Special(Http2Config):
        pass

    assert type(Special.from_env({})) is Special
    assert type(Special.low_latency(max_retries=1)) is Special


@settings(max_examples=200, deadline=None)
@given(CONFIGS)
def test_a_config_is_read_back_from_its_repr_and_its_fields(config: Http2Config) -> None:
    assert eval(repr(config), {"Http2Config": Http2Config}) == config
    assert make(**dataclasses.asdict(config)) == config
    assert config.replace() == config
