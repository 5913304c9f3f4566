"""The configuration: fields, ranges, environment, presets, copies."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config, UnknownVariableWarning, options
from dynamo_h2.errors import ConfigError, Problem

pytestmark = pytest.mark.released_defaults

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

TIMES = [
    "pool_idle_timeout",
    "max_connection_age",
    "keep_alive_interval",
    "keep_alive_timeout",
    "request_timeout",
    "connect_timeout",
    "read_timeout",
    "write_timeout",
    "pool_timeout",
    "dns_refresh",
]

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
        some = st.floats(0, DAY, exclude_min=True) | st.integers(1, DAY)
        some |= st.timedeltas(timedelta(microseconds=1), timedelta(days=1))
    else:
        some = st.integers(*RANGES[name])
    return st.none() | some if name in NONE_ALLOWED else some


CONFIGS = st.fixed_dictionaries({}, optional={name: values_of(name) for name in DEFAULTS}).map(
    lambda values: make(**values)
)


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


@pytest.mark.parametrize("name", TIMES)
def test_a_time_is_taken_in_any_form_up_to_a_day(name: str) -> None:
    for value in (5, 5.0, timedelta(seconds=5)):
        kept = getattr(make(**{name: value}), name)
        assert (kept, type(kept)) == (5.0, float)
    assert getattr(make(**{name: DAY}), name) == DAY
    for wrong in (0, -1, DAY + 1, math.nan, math.inf, timedelta(days=2), True, "5"):
        (problem,) = problems(**{name: wrong})
        assert problem[:2] == (name, wrong)
        assert "over 0 to 86400 s" in problem.allowed


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


# Environment


def test_the_variables_follow_the_rule() -> None:
    assert {name: option.variable for name, option in options().items()} == VARIABLES


def test_the_variables_of_the_guide_are_read() -> None:
    config = Http2Config.from_env(
        {
            "DYN_HTTP2_MAX_FRAME_SIZE": "524288",
            "DYN_HTTP2_MAX_CONCURRENT_STREAMS": "7",
            "DYN_HTTP2_POOL_MAX_IDLE_PER_HOST": "8",
            "DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS": "9",
            "DYN_HTTP2_KEEP_ALIVE_INTERVAL_SECS": "10",
            "DYN_HTTP2_KEEP_ALIVE_TIMEOUT_SECS": "11.5",
            "DYN_HTTP2_ADAPTIVE_WINDOW": "false",
            "DYN_HTTP_REQUEST_TIMEOUT": "12",
        }
    )
    assert config == Http2Config(
        max_frame_size=524_288,
        max_concurrent_streams=7,
        pool_max_idle_per_host=8,
        pool_idle_timeout=9,
        keep_alive_interval=10,
        keep_alive_timeout=11.5,
        adaptive_window=False,
        request_timeout=12,
    )


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Http2Config.from_env({}) == Http2Config()
    assert Http2Config.from_env({"PATH": "/bin", "DYN_HTTP_PORT": "x"}) == Http2Config()


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [each for each in os.environ if each.startswith("DYN_HTTP")]:
        monkeypatch.delenv(variable)
    assert Http2Config.from_env() == Http2Config()
    monkeypatch.setenv("DYN_HTTP2_MAX_RETRIES", "5")
    assert Http2Config.from_env() == Http2Config(max_retries=5)


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("text", ["", "perhaps", "nan", "-inf", "-1"])
def test_a_variable_with_a_wrong_text_is_told_with_its_range(name: str, text: str) -> None:
    assert problems_of({VARIABLES[name]: text}) == (
        (VARIABLES[name], text, options()[name].spelling),
    )


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_read_from_words(name: str) -> None:
    assert getattr(Http2Config.from_env({VARIABLES[name]: "Yes"}), name) is True
    assert getattr(Http2Config.from_env({VARIABLES[name]: "off"}), name) is False


@pytest.mark.parametrize("name", TIMES)
def test_a_time_is_read_as_seconds(name: str) -> None:
    assert getattr(Http2Config.from_env({VARIABLES[name]: "0.25"}), name) == 0.25


@pytest.mark.parametrize(("name", "bounds"), RANGES.items())
def test_a_variable_has_the_bounds_of_its_field(name: str, bounds: tuple[int, int]) -> None:
    for fits in bounds:
        assert getattr(Http2Config.from_env({VARIABLES[name]: str(fits)}), name) == fits
    for wrong in (bounds[0] - 1, bounds[1] + 1):
        assert [each.value for each in problems_of({VARIABLES[name]: str(wrong)})] == [str(wrong)]


def test_all_wrong_variables_are_told_at_once() -> None:
    found = problems_of(
        {
            "DYN_HTTP_REQUEST_TIMEOUT": "",
            "DYN_HTTP2_MAX_RETRIES": "3",
            "DYN_HTTP2_MAX_FRAME_SIZE": "12",
            "DYN_HTTP2_ADAPTIVE_WINDOW": "maybe",
        }
    )
    assert {(each.field, each.value) for each in found} == {
        ("DYN_HTTP_REQUEST_TIMEOUT", ""),
        ("DYN_HTTP2_MAX_FRAME_SIZE", "12"),
        ("DYN_HTTP2_ADAPTIVE_WINDOW", "maybe"),
    }


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("DYN_HTTP2_MAX_FRAMESIZE", "DYN_HTTP2_MAX_FRAME_SIZE"),
        ("DYN_HTTP2_MAX_FRAME_SIZE_BYTES", "DYN_HTTP2_MAX_FRAME_SIZE"),
        ("DYN_HTTP2_max_frame_size", "DYN_HTTP2_MAX_FRAME_SIZE"),
        ("DYN_HTTP2_KEEP_ALIVE_INTERVAL", "DYN_HTTP2_KEEP_ALIVE_INTERVAL_SECS"),
        ("DYN_HTTP2_KEEPALIVE_TIMEOUT_SECS", "DYN_HTTP2_KEEP_ALIVE_TIMEOUT_SECS"),
        ("DYN_HTTP2_REQUEST_TIMEOUT", "DYN_HTTP_REQUEST_TIMEOUT"),
        ("DYN_HTTP2_REQUEST_TIMEOUT_SECS", "DYN_HTTP_REQUEST_TIMEOUT"),
        ("DYN_HTTP2_MAX_STREAMS", "DYN_HTTP2_MAX_CONCURRENT_STREAMS"),
        ("DYN_HTTP2_IDLE_TIMEOUT", "DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS"),
    ],
)
def test_an_unknown_variable_is_a_warning_that_proposes_the_nearest(
    variable: str, nearest: str
) -> None:
    with pytest.warns(UnknownVariableWarning) as caught:
        config = Http2Config.from_env({variable: "secret"})
    assert config == Http2Config()
    (warning,) = caught
    text = f"{variable} is not a variable of dynamo_h2; is {nearest} meant?"
    assert str(warning.message) == text
    assert warning.filename == __file__


@pytest.mark.parametrize("variable", ["DYN_HTTP2_", "DYN_HTTP2_X", "DYN_HTTP2_123", "DYN_HTTP2_é"])
def test_a_variable_like_no_other_is_warned_of_too(variable: str) -> None:
    with pytest.warns(UnknownVariableWarning, match=rf"{variable} .* is DYN_HTTP\w+ meant\?"):
        Http2Config.from_env({variable: ""})


def test_each_unknown_variable_has_its_warning_beside_an_error() -> None:
    environ = {"DYN_HTTP2_B": "1", "DYN_HTTP2_A": "1", "DYN_HTTP2_MAX_RETRIES": "x"}
    with pytest.warns(UnknownVariableWarning) as caught, pytest.raises(ConfigError):
        Http2Config.from_env(environ)
    assert [str(each.message).split()[0] for each in caught] == ["DYN_HTTP2_A", "DYN_HTTP2_B"]


def test_an_unknown_variable_is_a_user_warning() -> None:
    assert issubclass(UnknownVariableWarning, UserWarning)


@settings(max_examples=300, deadline=None)
@given(CONFIGS)
@example(Http2Config())
@example(Http2Config.low_latency())
def test_a_config_is_read_back_from_the_variables_it_prints(config: Http2Config) -> None:
    printed = config.to_env()
    assert sorted(printed) == sorted(VARIABLES.values())
    assert Http2Config.from_env(printed) == config


@settings(max_examples=200, deadline=None)
@given(CONFIGS)
def test_a_config_is_read_back_from_its_repr_and_its_fields(config: Http2Config) -> None:
    assert eval(repr(config), {"Http2Config": Http2Config}) == config
    assert make(**dataclasses.asdict(config)) == config
    assert config.replace() == config


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(VARIABLES.values())),
        st.text(max_size=8)
        | st.integers().map(str)
        | st.floats().map(repr)
        | st.sampled_from(["none", "true", "off", " 1 "]),
    )
)
def test_any_text_is_refused_by_name_or_gives_a_valid_config(environ: dict[str, str]) -> None:
    try:
        config = Http2Config.from_env(environ)
    except ConfigError as error:
        told = {each.field: each.value for each in error.problems}
        good = {name: text for name, text in environ.items() if name not in told}
        assert told == {name: environ[name] for name in told}
        config = Http2Config.from_env(good)
    for name, bounds in RANGES.items():
        value = getattr(config, name)
        assert value is None or bounds[0] <= value <= bounds[1]
    assert all(0 < (getattr(config, name) or 1) <= DAY for name in TIMES)


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
