"""The page on conformance names every hostile scenario, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "conformance.md").read_text()
SCENARIOS = sorted(set(Path(__file__).parent.glob("test_*.py")) - {Path(__file__)})

_NAMED = re.compile(r"`(test_\w+)`")
_DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def section_of(file: Path) -> str:
    """The part of the page that is about one file of scenarios."""
    (section,) = (part for part in PAGE.split("\n## ") if f"`tests/hostile/{file.name}`" in part)
    return section


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_the_page_names_every_scenario_once_and_nothing_else(file: Path) -> None:
    named = _NAMED.findall(section_of(file))
    assert sorted(named) == sorted(_DEFINED.findall(file.read_text()))


def test_every_test_that_the_page_names_is_there() -> None:
    defined = {
        name for file in TESTS.rglob("test_*.py") for name in _DEFINED.findall(file.read_text())
    }
    assert set(_NAMED.findall(PAGE)) <= defined


def test_the_page_covers_all_cases_of_h2spec() -> None:
    table = PAGE.partition("### h2spec")[2].partition("\n### ")[0]
    assert sum(map(int, re.findall(r"\| (\d+) \|", table))) == 57
