"""The page about the configuration: its tables and examples are true."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamo_h2.config import Http2Config, configuration_table, options

pytestmark = pytest.mark.released_defaults

PAGE = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_page_holds_the_table_of_the_fields() -> None:
    table = PAGE.partition("<!-- table -->\n")[2].partition("\n<!-- /table -->")[0]
    assert table == configuration_table(), (
        "put what dynamo_h2.config.configuration_table() returns into docs/configuration.md"
    )


def test_the_table_tells_each_field_once_with_all_that_is_known() -> None:
    rows = configuration_table().splitlines()[2:]
    printed = Http2Config().to_env()
    for row, (name, option) in zip(rows, options().items(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        default = printed[option.variable]
        assert cells == [f"`{name}`", default, option.allowed, f"`{option.variable}`", option.doc]
        assert all(cells)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("the default", Http2Config),
        ("`high_throughput()`", Http2Config.high_throughput),
        ("`low_latency()`", Http2Config.low_latency),
        ("`memory_constrained()`", Http2Config.memory_constrained),
    ],
)
def test_the_page_tells_the_numbers_of_each_preset(
    name: str, make: Callable[[], Http2Config]
) -> None:
    preset = make()
    row = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE, re.MULTILINE)
    assert row
    *sizes, more = [cell.strip() for cell in row[1].split("|")]
    told = dict(zip(list(preset.to_env())[:2], sizes, strict=False))
    told["DYN_HTTP2_POOL_MAX_IDLE_PER_HOST"] = sizes[2]
    if more:
        field, value = more.split()
        told[options()[field.strip("`")].variable] = value
    default = Http2Config().to_env()
    assert default | told == preset.to_env()


def test_the_examples_of_the_page_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 3
    for code in examples:
        exec(compile(code, "configuration.md", "exec"), {})
