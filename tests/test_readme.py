"""README and docs are true: their examples run, and what they list is what there is."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import dynamo_h2
from dynamo_h2 import errors
from dynamo_h2.config import configuration_table
from dynamo_h2.errors import DynamoH2Error, TransportError
from tests.peers.process import Address, running
from tests.peers.servers import Peer
from tests.test_layers import INSIDE, ORDER

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
}
README = PAGES["README.md"]
LANGUAGES = {"python", "text", "sh", ""}
"""Programs, what the program before prints, commands, and drawings."""

ACTIVATE = ". .venv/bin/activate"
USE = "python ask.py http://127.0.0.1:8000"
ERRORS = {
    name
    for name in errors.__all__
    if inspect.isclass(each := getattr(errors, name)) and issubclass(each, DynamoH2Error)
}


class Block(NamedTuple):
    """A fenced block: its page, the line of its fence, its language, its text."""

    page: str
    line: int
    language: str
    text: str


class Example(NamedTuple):
    """A program in a page, and what the page says that it prints."""

    code: Block
    output: str

    def run(self, directory: Path, worker: str) -> None:
        """Run it as a reader would, with the address of a worker as its argument."""
        program = directory / "ask.py"
        program.write_text(self.code.text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program), worker],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == self.output


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    found = []
    fence: tuple[int, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(PAGES[page].splitlines(), 1):
        if not line.startswith("```"):
            inside.append(line)
        elif fence is None:
            fence, inside = (number, line[3:]), []
        else:
            found.append(Block(page, *fence, "".join(f"{each}\n" for each in inside)))
            fence = None
    assert fence is None, f"{page}: the block of line {fence} never ends"
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]


def examples() -> Iterator[Example]:
    """Every program; the block after it is its output when it is a text."""
    for block, after in zip(BLOCKS, [*BLOCKS[1:], None], strict=True):
        if block.language == "python":
            prints = after is not None and after.page == block.page and after.language == "text"
            yield Example(block, after.text if after and prints else "")


EXAMPLES = list(examples())
COMMANDS = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]


def table_rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = PAGES[page].partition(f"\n{heading}\n")[2]
    lines = [line for line in section.partition("\n#")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in BLOCKS} <= LANGUAGES
    outputs = [example.output for example in EXAMPLES if example.output]
    assert outputs == [block.text for block in BLOCKS if block.language == "text"]


@pytest.mark.parametrize(
    "example", [pytest.param(each, id=f"{each.code.page}:{each.code.line}") for each in EXAMPLES]
)
def test_an_example_runs_as_it_stands(example: Example, granian: Peer, tmp_path: Path) -> None:
    example.run(tmp_path, granian.base)


def test_the_readme_sends_a_request_and_reads_a_stream() -> None:
    send, stream = [example.code.text for example in EXAMPLES if example.code.page == "README.md"]
    assert ".send_request(" in send
    assert ".stream(" in stream


def test_a_worker_started_as_the_readme_says_answers_its_first_example(tmp_path: Path) -> None:
    words = next(line for line in COMMANDS if line.startswith("granian ")).split()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def command(address: Address) -> list[str]:
        return ["env", f"PATH={path}", f"GRANIAN_PORT={address.port}", *words]

    with running(command, tmp_path) as (_, address):
        EXAMPLES[0].run(tmp_path, f"http://127.0.0.1:{address.port}")


def test_every_other_command_is_a_target_of_make_or_runs_the_example() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {f"make {name}" for name in re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)}
    others = {line for line in COMMANDS if not line.startswith("granian ")}
    assert {"make demo", "make test"} <= others
    assert others - targets == {ACTIVATE, USE}
    assert set(re.findall(r"`(make [a-z]+)`", "".join(PAGES.values()))) <= targets


@pytest.mark.released_defaults
def test_the_readme_holds_the_table_of_the_configuration() -> None:
    table = README.partition("<!-- configuration -->\n")[2]
    assert table.partition("\n<!-- /configuration -->")[0] == configuration_table(), (
        "put what dynamo_h2.config.configuration_table() returns into README.md"
    )


def test_the_readme_tells_of_every_error_once_and_what_it_says_of_processing() -> None:
    told = {
        names(error)[0]: processed for error, _, processed in table_rows("README.md", "## Errors")
    }
    assert set(told) == ERRORS - {"DynamoH2Error", "TransportError"}
    assert len(told) == len(table_rows("README.md", "## Errors"))
    for name, processed in told.items():
        error = getattr(errors, name)
        assert set(names(processed)) <= {"True", "False", "None"}
        if not issubclass(error, TransportError):
            assert names(processed)[0] == str(error.processed)


def test_the_page_about_errors_draws_the_tree_of_the_module() -> None:
    drawing = textwrap.dedent((errors.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0])
    assert [block.text for block in blocks("docs/errors.md") if not block.language] == [
        f"{drawing}\n"
    ]


def test_the_page_about_errors_says_what_leads_to_each() -> None:
    rows = table_rows("docs/errors.md", "## What leads to which")
    told = {name for *_, what in rows for name in names(what)}
    # No request gets as far as these.
    never_sent = {"ConfigError", "WrongEventLoop", "LocalProtocolError"}
    assert told & ERRORS == ERRORS - never_sent - {"DynamoH2Error", "TransportError"}


def test_the_page_about_the_architecture_lists_every_module_in_its_order() -> None:
    listed = []
    for room, modules, _ in table_rows("docs/architecture.md", "## The house"):
        prefix = "" if room == "–" else f"{room}."
        listed += [f"{prefix}{name}" for name in names(modules)]
    assert listed == [name for name in ORDER if name in INSIDE]


def test_the_layout_names_what_there_is_in_ten_lines() -> None:
    layout = [block.text for block in blocks("README.md") if not block.language]
    assert len(layout) == 1
    lines = layout[0].splitlines()
    assert len(lines) == 10
    top = ROOT
    for line in lines:
        place = line.partition("   ")[0]
        inner = place.startswith(" ")
        where = top if inner else ROOT
        top = top if inner else ROOT / place
        assert all((where / name).exists() for name in place.split()), line


@pytest.mark.parametrize("page", PAGES)
def test_every_link_into_the_repository_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGES[page])
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_index_leads_to_every_page() -> None:
    links = set(re.findall(r"\]\(([a-z-]+\.md)\)", PAGES["docs/index.md"]))
    assert {f"docs/{link}" for link in links} == {
        page for page in PAGES if page.startswith("docs/") and page != "docs/index.md"
    }


def test_the_changelog_tells_of_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\] - (\S+)$", PAGES["CHANGELOG.md"], re.MULTILINE)
    assert versions[0][0] == dynamo_h2.__version__
