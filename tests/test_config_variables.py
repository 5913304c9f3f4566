"""The configuration in variables: those of the environment, and those that it prints."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config, UnknownVariableWarning, options
from dynamo_h2.errors import ConfigError
from tests.configs import CONFIGS, DEFAULTS, RANGES, SWITCHES, TIMES, VARIABLES, problems_of

pytestmark = pytest.mark.released_defaults


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
    assert getattr(Http2Config.from_env({VARIABLES[name]: "0.0025"}), name) == 0.0025


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
    for name, longest in TIMES.items():
        assert 0 < (getattr(config, name) or longest) <= longest
