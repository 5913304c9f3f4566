"""The stock engine is h2 with corrections: each of them has a name, and there are no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from tests.differential.bare import Beside, explore_beside
from tests.differential.corrections import CALL_CORRECTIONS, CORRECTIONS, TABLE_SIZE, Corrected
from tests.differential.driver import DEFAULT_SEED
from tests.differential.steps import Open, Receive, Reset
from tests.http2 import frame_factory as ff

SEQUENCES = 3_000

# What the generator comes to seldom, on a connection with stream 1 open; between two byte strings
# another stream is opened.
SELDOM: Mapping[str, tuple[bytes, ...]] = {
    "padding may fill HEADERS": (
        ff.headers(1, ff.OK)
        + ff.frame(ff.HEADERS, ff.END_HEADERS | ff.PADDED | ff.END_STREAM, 1, b"\x02\0\0"),
    ),
    "CONTINUATION continues a field block": (ff.rst(1), ff.continuation(1, b"")),
    "settings are taken one by one": (ff.settings((ff.MAX_FRAME, 1), (ff.MAX_FRAME, 16_384)),),
    "only a head announces content": (
        ff.headers(1, (b":status", b"103"), (b"content-length", b"1"), (b"content-length", b"2")),
    ),
    "no stream is reset before it is opened": (ff.rst(5),),
    "an increment of 0 is an error of its stream": (ff.window_update(1, 0),),
    "reserved bits are ignored": (ff.window_update(1, 2**31 + 1),),
    "two table size updates are enough": (
        ff.frame(ff.HEADERS, ff.END_HEADERS, 1, b"\x20\x20\x20\x88"),
    ),
    "closed streams have no window": (
        ff.window_update(1, 1)
        + ff.headers(1, ff.OK, end_stream=True)
        + ff.settings((ff.INITIAL_WINDOW, 2**31 - 1)),
    ),
}


def test_random_sequences_differ_from_bare_h2_in_what_has_a_name_only(
    say: Callable[[str], None], seed: int
) -> None:
    names = Counter(explore_beside(seed, number) for number in range(SEQUENCES))
    corrected = SEQUENCES - names.pop(None)
    say(
        f"{SEQUENCES:,} sequences beside bare h2 from seed {seed}: {corrected:,} end in one of"
        f" {len(names)} corrections"
    )
    if seed == DEFAULT_SEED:
        unused = {*CORRECTIONS, *CALL_CORRECTIONS, TABLE_SIZE} - names.keys() - SELDOM.keys()
        assert not unused, "a name that allows nothing"


@pytest.mark.parametrize("name", SELDOM)
def test_a_correction_is_what_its_name_says(name: str) -> None:
    beside = Beside(0)
    beside.run(Receive(ff.settings()))
    beside.run(Open(1, 0, end_stream=True))
    *before, last = SELDOM[name]
    for received in before:
        beside.run(Receive(received))
        beside.run(Open(1, 0, end_stream=True))
    with pytest.raises(Corrected) as caught:
        beside.run(Receive(last))
    assert caught.value.name == name


def test_what_needs_no_correction_is_the_same_with_bare_h2() -> None:
    beside = Beside(0)
    beside.run(Receive(ff.settings((ff.INITIAL_WINDOW, 100)) + ff.settings_ack()))
    beside.run(Open(0, 1, end_stream=False))
    beside.run(Receive(ff.headers(1, ff.OK) + ff.padded_data(1, b"12345", 3) + ff.ping()))
    beside.run(Reset(1, ff.CANCEL))
    assert not beside.engine.streams
    assert not beside.engine.failed
