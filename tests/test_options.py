"""The kinds of options: what each takes, refuses, reads from a text and writes back."""

from __future__ import annotations

import math
from datetime import timedelta
from enum import IntEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.options import Duration, Option, Switch, Whole

COUNT = Whole(variable="COUNT", doc="How many", unit="things", low=2, high=20_000)
COUNT_OR_NONE = Whole(variable="COUNT", doc="How many", unit="things", optional=True)
TIME = Duration(variable="TIME_SECS", doc="How long")
TIME_OR_NONE = Duration(variable="TIME_SECS", doc="How long", optional=True)
SWITCH = Switch(variable="SWITCH", doc="Whether")

NO_NUMBERS = ["", " ", "abc", "nan", "NaN", "inf", "-inf", "Infinity", "-1", "1e400", "0x10", "-"]
NO_NUMBERS += ["1_000", "20 000", "20,000", "20000 bytes", "5s", "nil", "null", "None.", "1\x00"]
NO_NUMBERS += ["\u0665", "\uff15", "9" * 5000]

NO_TIMES: list[object] = [0, 0.0, -0.0, -1, -0.5, math.nan, math.inf, -math.inf, 86_401, 86_400.001]
NO_TIMES += [timedelta(0), timedelta(seconds=-1), timedelta(days=1, microseconds=1), timedelta.max]
NO_TIMES += [True, False, None, "5", b"5", 1j, [], 10**400]


def test_each_kind_tells_its_range() -> None:
    assert COUNT.allowed == COUNT.spelling == "2 to 20000 things"
    assert COUNT_OR_NONE.allowed == "1 to 2147483647 things, or none"
    assert TIME.allowed == TIME.spelling == "over 0 to 86400 s"
    assert TIME_OR_NONE.allowed == "over 0 to 86400 s, or none"
    assert SWITCH.allowed == "true or false"
    assert SWITCH.spelling == "true, yes, on, 1, false, no, off or 0"


@pytest.mark.parametrize("option", [COUNT_OR_NONE, TIME_OR_NONE], ids=["number", "time"])
@pytest.mark.parametrize("text", ["none", "None", "NONE", " none "])
def test_an_optional_one_takes_none(option: Option, text: str) -> None:
    assert option.check(None) is None
    assert option.parse(text) is None
    assert option.show(None) == "none"


@pytest.mark.parametrize("option", [COUNT, TIME, SWITCH], ids=["number", "time", "switch"])
def test_none_is_refused_where_it_is_not_optional(option: Option) -> None:
    with pytest.raises(TypeError):
        option.check(None)
    with pytest.raises(ValueError, match=r"none|number|word"):
        option.parse("none")


@pytest.mark.parametrize("wrong", [True, False, 5.0, math.nan, "5", b"5", [], timedelta(5)])
def test_a_number_is_an_int(wrong: object) -> None:
    with pytest.raises(TypeError):
        COUNT.check(wrong)


@pytest.mark.parametrize(
    "wrong", [1, 0, -5, 20_001, 10**5000], ids=["below", "zero", "negative", "above", "huge"]
)
def test_a_number_is_in_its_range(wrong: int) -> None:
    with pytest.raises(ValueError, match="2 to 20000 things"):
        COUNT.check(wrong)


def test_an_int_of_a_subclass_becomes_a_plain_one() -> None:
    class Size(IntEnum):
        SMALL = 16_384

    kept = COUNT.check(Size.SMALL)
    assert (kept, type(kept)) == (16_384, int)


@pytest.mark.parametrize("text", ["5", " 5\t", "+5", "05", "5\n"])
def test_a_number_is_read_with_space_around_it(text: str) -> None:
    value = COUNT.parse(text)
    assert (value, type(value)) == (5, int)


@pytest.mark.parametrize(
    "text", [*NO_NUMBERS, "5.0", "1e3", "5.5"], ids=lambda text: ascii(text[:9])
)
def test_a_number_is_not_read_from_anything_else(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller sees the range, not this message
        COUNT.parse(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (0.25, 0.25),
        (5e-324, 5e-324),
        (86_400, 86_400.0),
        (86_400.0, 86_400.0),
        (timedelta(days=1), 86_400.0),
        (timedelta(microseconds=1), 1e-6),
        (timedelta(milliseconds=1500), 1.5),
    ],
)
def test_a_time_is_kept_as_float_seconds(value: object, expected: float) -> None:
    kept = TIME.check(value)
    assert (kept, type(kept)) == (expected, float)


@pytest.mark.parametrize("wrong", NO_TIMES, ids=lambda value: str(type(value)))
def test_a_time_is_over_0_and_at_most_a_day(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"86400|not a time"):
        TIME.check(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5.0), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), (" 5 ", 5.0)],
)
def test_a_time_is_read_from_any_plain_number(text: str, expected: float) -> None:
    assert TIME.parse(text) == expected


@pytest.mark.parametrize("text", NO_NUMBERS, ids=lambda text: ascii(text[:9]))
def test_a_time_is_not_read_from_anything_else(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller sees the range, not this message
        TIME.parse(text)


@pytest.mark.parametrize(
    ("value", "text"), [(5.0, "5"), (0.5, "0.5"), (1e-7, "1e-07"), (86_400.0, "86400")]
)
def test_a_time_is_written_in_few_digits(value: float, text: str) -> None:
    assert TIME.show(value) == text


@pytest.mark.parametrize("wrong", [0, 1, 1.0, "true", "", []])
def test_a_switch_is_a_bool(wrong: object) -> None:
    with pytest.raises(TypeError):
        SWITCH.check(wrong)


@pytest.mark.parametrize("word", ["true", "TRUE", "True", "1", "yes", "Yes", "on", "ON", " on\n"])
def test_words_that_mean_true(word: str) -> None:
    assert SWITCH.parse(word) is True


@pytest.mark.parametrize("word", ["false", "FALSE", "0", "no", "No", "off", "Off", " off "])
def test_words_that_mean_false(word: str) -> None:
    assert SWITCH.parse(word) is False


@pytest.mark.parametrize("word", ["", " ", "2", "10", "y", "t", "enabled", "nope", "true false"])
def test_other_words_mean_nothing(word: str) -> None:
    with pytest.raises(ValueError, match="not a word"):
        SWITCH.parse(word)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 20_000))
def test_a_written_number_is_read_back(value: int) -> None:
    assert COUNT.check(value) == COUNT.parse(COUNT.show(value)) == value


@settings(max_examples=300, deadline=None)
@given(st.floats(0, 86_400, exclude_min=True))
def test_a_written_time_is_read_back_exactly(value: float) -> None:
    assert TIME.check(value) == TIME.parse(TIME.show(value)) == value


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=10) | st.floats().map(repr) | st.integers().map(str))
def test_any_text_is_refused_or_read_into_the_range(text: str) -> None:
    for option in (COUNT, TIME, SWITCH, COUNT_OR_NONE, TIME_OR_NONE):
        try:
            value = option.parse(text)
        except ValueError:
            continue
        assert option.check(value) == value
        assert option.parse(option.show(value)) == value
