"""What the caller and the workers each wrote down, as files and as values."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CALLS: Final = "calls.tsv"
"""The caller's file, in the folder of a run."""
FAULTS: Final = "faults.jsonl"
"""What was done and when: one file for each of the two who do it, with their name before this."""

OK, STATUS, ERROR, LEFT, WRONG, UNTYPED = "ok", "status", "error", "left", "wrong", "untyped"
"""How a call ends: with the right answer, with another status, with an error of the client's, left
by the caller, with an answer that cannot be right, with an exception that no caller can expect."""


class Tried(NamedTuple):
    """An attempt that failed.

    Args:
        error: the name of its error's class.
        processed: what that says.
        code: the error code of HTTP/2, or None.
        stream_id: its stream, or None when it never got one.
        cause: the name of the class of what caused it, or an empty string.
    """

    error: str
    processed: bool | None
    code: int | None
    stream_id: int | None
    cause: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the caller; a request that it sends again by itself is another call.

    Args:
        request_id: what stands in the logs of the workers.
        worker: the index of the worker that is meant.
        kind: what kind of request it is.
        begin: when it began, in seconds since the drill did.
        end: when it ended.
        late: seconds that it ended after its time was up; below 0 before that.
        outcome: how it ended.
        tried: the attempts that failed, the one whose error the caller got last.
        attempts: all that were made.
        replayable: whether its body can be sent again.
        words: what the error says.
        hurried: whether the caller gave it less time than any work takes.
    """

    request_id: int
    worker: int
    kind: str
    begin: float
    end: float
    late: float
    outcome: str
    tried: tuple[Tried, ...] = ()
    attempts: int = 1
    replayable: bool = True
    words: str = ""
    hurried: bool = False

    @property
    def final(self) -> Tried | None:
        """The error that the caller got."""
        return self.tried[-1] if self.outcome in {ERROR, UNTYPED} and self.tried else None

    def to_line(self) -> str:
        """Returns its line: short where nothing happened, which is nearly always."""
        line = (
            f"{self.request_id}\t{self.worker}\t{self.kind}\t{self.begin:.4f}\t{self.end:.4f}\t"
            f"{self.late:.4f}\t{self.outcome}"
        )
        if self.outcome == OK and not self.tried:
            return line + "\n"
        more = [self.tried, self.attempts, self.replayable, self.words, self.hurried]
        return f"{line}\t{json.dumps(more)}\n"

    @classmethod
    def from_line(cls, line: str) -> Call:
        """Reads what ``to_line`` wrote."""
        request_id, worker, kind, begin, end, late, outcome, *more = line.rstrip("\n").split("\t")
        call = (int(request_id), int(worker), kind, float(begin), float(end), float(late), outcome)
        if not more:
            return cls(*call)
        tried, *rest = json.loads(more[0])
        return cls(*call, tuple(Tried(*each) for each in tried), *rest)


class Occurrence(NamedTuple):
    """A fault that took place.

    Args:
        kind: the name of its kind.
        worker: the index of the worker.
        begin: when it began, in seconds since the drill did.
        end: when it was over.
    """

    kind: str
    worker: int
    begin: float
    end: float


class Journal:
    """A file of lines as JSON, which is there however the writer ends.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8", buffering=1)

    def write(self, row: Iterable[Any]) -> None:
        """Appends one line."""
        self._file.write(json.dumps(list(row)) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_calls(folder: Path) -> Iterator[Call]:
    """Reads the calls in the order of their ends."""
    with (folder / CALLS).open(encoding="utf-8") as lines:
        for line in lines:
            yield Call.from_line(line)


def read_faults(folder: Path) -> list[Occurrence]:
    """Reads what took place, in the order of its beginning."""
    found = [
        Occurrence(*json.loads(line))
        for path in folder.glob(f"*-{FAULTS}")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return sorted(found, key=lambda each: each.begin)


@dataclass(slots=True)
class WorkersView:
    """What all workers wrote down together; identifiers are small numbers.

    Args:
        executed: how often each identifier was executed.
        refused: how often each was refused before a byte of a response.
        refused_late: how often each was refused after one.
        broken: rules that the client broke.
    """

    executed: array[int] = field(default_factory=lambda: array("B"))
    refused: Counter[int] = field(default_factory=Counter)
    refused_late: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> WorkersView:
        """Reads the logs of all workers."""
        view = cls()
        for path in sorted(folder.glob("*.log")):
            with path.open(encoding="ascii") as lines:
                for line in lines:
                    view.add(line.rstrip("\n"))
        return view

    def add(self, line: str) -> None:
        """Takes one line of a log."""
        if line.startswith("!"):
            self.broken.append(line[1:])
        elif line.startswith("-"):
            self.refused[int(line[1:])] += 1
        elif line.startswith("~"):
            self.refused_late[int(line[1:])] += 1
        else:
            number = int(line)
            if number >= len(self.executed):
                self.executed.frombytes(bytes(max(1024, number + 1 - len(self.executed))))
            self.executed[number] += 1

    def times(self, request_id: int) -> int:
        """Returns how often a request was executed."""
        return self.executed[request_id] if request_id < len(self.executed) else 0
