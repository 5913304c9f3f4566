"""Options: what is known of one field of the configuration, and how its values are read.

An `Option` stands in the metadata of its field. It checks what a program sets, reads what an
environment variable says, writes a value back as such a text, and tells the range in words. There
is one kind for each kind of value: `Whole`, `Duration` and `Switch`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

if TYPE_CHECKING:

    class Seconds:
        """A field that is set to seconds or a `timedelta`, and reads as float seconds."""

        def __get__(self, instance: object, owner: type | None = None) -> float: ...
        def __set__(self, instance: object, value: float | timedelta) -> None: ...

    class OptionalSeconds:
        """The same, where None stands for no limit."""

        def __get__(self, instance: object, owner: type | None = None) -> float | None: ...
        def __set__(self, instance: object, value: float | timedelta | None) -> None: ...

else:
    Seconds = float
    OptionalSeconds = float | None

__all__ = [
    "MAX_31",
    "METADATA_KEY",
    "Choice",
    "Duration",
    "Option",
    "OptionalSeconds",
    "Seconds",
    "Switch",
    "Value",
    "Whole",
    "choice",
    "limit",
    "seconds",
    "switch",
    "whole",
]

T = TypeVar("T")

Value: TypeAlias = float | str
"""What a field holds where it is not None."""

# Where a field's metadata holds its option.
METADATA_KEY = "option"

# The largest window and stream id of HTTP/2 (RFC 9113 §6.9.1, §5.1.1), and our bound for counts.
MAX_31 = 2**31 - 1
_DAY = 86_400

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Option(ABC):
    """What is known of one field of `Http2Config`.

    Attributes:
        variable: Its environment variable.
        doc: What it does, in one line.
        unit: What its number counts; empty where there is no number.
        optional: Whether None is allowed, which a variable spells ``none``.
    """

    variable: str
    doc: str
    unit: str = ""
    optional: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        return f"{self._range()}, or none" if self.optional else self._range()

    @property
    def spelling(self) -> str:
        """The same for the text of a variable."""
        return self.allowed

    def check(self, value: object) -> Value | None:
        """Bring a value to the type that the field holds.

        Args:
            value: What the caller set.

        Raises:
            TypeError: It is of a wrong type.
            ValueError: It is outside of what is allowed.
        """
        if value is None and self.optional:
            return None
        return self._convert(value)

    def parse(self, text: str) -> Value | None:
        """Read the text of an environment variable; space around it does not count.

        Args:
            text: The text; words in any case.

        Raises:
            ValueError: It says nothing that is allowed.
        """
        word = text.strip().lower()
        if word == "none" and self.optional:
            return None
        return self._convert(self._read(word))

    def show(self, value: Value | None) -> str:
        """Write a value so that `parse` reads the same one."""
        return str(value).lower()

    @abstractmethod
    def _range(self) -> str:
        """The range of a value that is not None, in words."""

    @abstractmethod
    def _convert(self, value: object) -> Value:
        """Check a value that is not None."""

    @abstractmethod
    def _read(self, word: str) -> object:
        """Turn a word into a value, which `_convert` then checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Option):
    """A whole number.

    Attributes:
        low: The least that is allowed.
        high: The most that is allowed.
    """

    low: int = 1
    high: int = MAX_31

    def _range(self) -> str:
        return f"{self.low} to {self.high} {self.unit}"

    def _convert(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"not a whole number: {type(value).__name__}")
        if not self.low <= value <= self.high:
            raise ValueError(f"out of range: {self.allowed}")
        return int(value)  # a subclass, such as an IntEnum, prints as something else

    def _read(self, word: str) -> int:
        return int(_plain(word))


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration(Option):
    """A time of more than nothing, in seconds.

    Attributes:
        high: The most that is allowed, in seconds.
    """

    unit: str = "s"
    high: float = _DAY

    def show(self, value: Value | None) -> str:
        """Write the fewest digits that read back the same; whole seconds without a point."""
        return str(value).lower().removesuffix(".0")

    def _range(self) -> str:
        return f"over 0 to {self.high:g} {self.unit}"

    def _convert(self, value: object) -> float:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"not a time: {type(value).__name__}")
        if not 0 < value <= self.high:  # false for NaN too
            raise ValueError(f"out of range: {self.allowed}")
        return float(value)

    def _read(self, word: str) -> float:
        return float(_plain(word))


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch(Option):
    """Something that is on or off."""

    @property
    def spelling(self) -> str:
        """The words that a variable may have, in any case."""
        return "true, yes, on, 1, false, no, off or 0"

    def _range(self) -> str:
        return "true or false"

    def _convert(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise TypeError(f"not a bool: {type(value).__name__}")
        return value

    def _read(self, word: str) -> bool:
        if word not in _TRUE | _FALSE:
            raise ValueError("not a word for true or false")
        return word in _TRUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Option):
    """One of a few words.

    Attributes:
        words: Those that are allowed, in lower case.
    """

    words: tuple[str, ...]

    def _range(self) -> str:
        return " or ".join(self.words)

    def _convert(self, value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(f"not a word: {type(value).__name__}")
        if value not in self.words:
            raise ValueError(f"not one of: {self.allowed}")
        return value

    def _read(self, word: str) -> str:
        return word


def _plain(word: str) -> str:
    """Refuse what Python reads as a number and nobody else does: ``1_000`` and ``٣``."""
    if "_" in word or not word.isascii():
        raise ValueError("not a plain number")
    return word


def _field(default: T, option: Option) -> T:
    """Make a dataclass field that carries its option."""
    return field(default=default, metadata={METADATA_KEY: option})


def whole(default: T, variable: str, unit: str, doc: str, *, low: int = 1, high: int = MAX_31) -> T:
    """Make a field for a whole number, or None where None is the default.

    Args:
        default: Its default.
        variable: Its environment variable.
        unit: What it counts.
        doc: What it does, in one line.
        low: The least that is allowed.
        high: The most that is allowed.
    """
    option = Whole(
        variable=variable, unit=unit, doc=doc, low=low, high=high, optional=default is None
    )
    return _field(default, option)


def seconds(default: float, variable: str, doc: str) -> Seconds:
    """Make a field for a time.

    Args:
        default: Its default, in seconds.
        variable: Its environment variable.
        doc: What it does, in one line.
    """
    return cast("Seconds", _field(default, Duration(variable=variable, doc=doc)))


def limit(default: float | None, variable: str, doc: str, *, high: float = _DAY) -> OptionalSeconds:
    """Make a field for a time that None takes away.

    Args:
        default: Its default, in seconds.
        variable: Its environment variable.
        doc: What it does, in one line.
        high: The most that is allowed, in seconds.
    """
    option = Duration(variable=variable, doc=doc, high=high, optional=True)
    return cast("OptionalSeconds", _field(default, option))


def switch(default: bool, variable: str, doc: str) -> bool:
    """Make a field for something that is on or off.

    Args:
        default: Its default.
        variable: Its environment variable.
        doc: What it does, in one line.
    """
    return _field(default, Switch(variable=variable, doc=doc))


def choice(default: str, variable: str, words: tuple[str, ...], doc: str) -> str:
    """Make a field for one of a few words.

    Args:
        default: Its default.
        variable: Its environment variable.
        words: Those that are allowed, in lower case.
        doc: What it does, in one line.
    """
    return _field(default, Choice(variable=variable, words=words, doc=doc))
