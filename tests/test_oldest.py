"""The second pass of the tests has the oldest versions that are allowed, and not others."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = {"h2", "hpack", "hyperframe"}


def _version(text: str) -> tuple[int, ...]:
    """A version with three numbers at least: 4.2 is 4.2.0."""
    numbers = [int(number) for number in text.split(".")]
    return (*numbers, *[0] * (3 - len(numbers)))


def _lower_bounds() -> dict[str, tuple[int, ...]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [re.match(r"([\w-]+)>=([\d.]+)", text) for text in project["dependencies"]]
    return {each[1]: _version(each[2]) for each in found if each and each[1] in NAMES}


def _installed_as_oldest() -> dict[str, tuple[int, ...]]:
    (recipe,) = re.findall(
        r"^\$\(OLDEST\):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    return {name: _version(version) for name, version in re.findall(r"'(.+?)==([\d.]+)'", recipe)}


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_allowed() -> None:
    assert _lower_bounds().keys() == NAMES
    assert _installed_as_oldest() == _lower_bounds()
