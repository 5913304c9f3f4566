"""The wheel of deadlines: never early, at most a tick late, and as small as what stands in it."""

from __future__ import annotations

from math import inf, nextafter

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dynamo_h2.http2.deadline import TICKS_PER_SECOND, Deadlines

TICK = 1 / TICKS_PER_SECOND


class Entry:
    def __init__(self) -> None:
        self.tick = 0


def wheel(*deadlines: float) -> tuple[Deadlines[Entry], list[Entry]]:
    """A wheel with an entry for each deadline."""
    deadlines_ = Deadlines[Entry]()
    entries = [Entry() for _ in deadlines]
    for entry, when in zip(entries, deadlines, strict=True):
        deadlines_.set(entry, when)
    return deadlines_, entries


def test_an_empty_wheel_never_fires() -> None:
    deadlines, _ = wheel()
    assert deadlines.next() == inf
    assert deadlines.expired(1e9) == []


def test_an_entry_fires_after_its_deadline_and_within_a_tick() -> None:
    deadlines, (entry,) = wheel(12.3456)
    assert 12.3456 < deadlines.next() <= 12.3456 + TICK
    assert deadlines.expired(12.3456) == []
    assert deadlines.expired(deadlines.next()) == [entry]
    assert (entry.tick, deadlines.next()) == (0, inf)


def test_setting_returns_the_time_at_which_it_fires() -> None:
    deadlines = Deadlines[Entry]()
    assert deadlines.set(Entry(), 7.0) == deadlines.next() > 7.0


def test_entries_of_one_tick_fire_together_and_the_others_later() -> None:
    deadlines, entries = wheel(5.0, 9.0, 5.0, 7.0)
    assert deadlines.expired(6.0) == [entries[0], entries[2]]
    assert deadlines.expired(8.0) == [entries[3]]
    assert deadlines.expired(10.0) == [entries[1]]


def test_setting_again_moves_an_entry() -> None:
    deadlines, (entry,) = wheel(5.0)
    deadlines.set(entry, 9.0)
    assert deadlines.expired(8.0) == []
    deadlines.set(entry, 8.5)
    assert deadlines.expired(8.6) == [entry]
    assert deadlines.expired(10.0) == []


def test_setting_again_within_the_same_tick_keeps_one_entry() -> None:
    deadlines, (entry,) = wheel(5.0)
    assert deadlines.set(entry, 5.0) == deadlines.next()
    assert deadlines.expired(6.0) == [entry]


def test_a_discarded_entry_never_fires_and_may_be_set_again() -> None:
    deadlines, (entry, other) = wheel(5.0, 5.0)
    deadlines.discard(entry)
    deadlines.discard(entry)
    assert deadlines.expired(6.0) == [other]
    deadlines.set(entry, 7.0)
    assert deadlines.expired(8.0) == [entry]


def test_the_wheel_forgets_ticks_whose_entries_are_gone() -> None:
    deadlines, entries = wheel(1.0, 2.0, 3.0)
    deadlines.discard(entries[0])
    deadlines.discard(entries[1])
    assert deadlines.next() > 3.0
    deadlines.discard(entries[2])
    assert deadlines.next() == inf


def test_a_deadline_that_has_passed_fires_at_once() -> None:
    deadlines, (entry,) = wheel(5.0)
    deadlines.set(entry, 1.0)
    assert deadlines.next() <= 1.0 + TICK
    assert deadlines.expired(5.0) == [entry]


@given(st.floats(0, 1e7))
@example(0.28)  # 29 / 100 * 100 is less than 29: ticks of 10 ms would not have ended
@example(nextafter(0.29, 1))  # and here they would end too early
def test_what_is_asked_at_the_time_of_the_next_tick_always_fires(when: float) -> None:
    deadlines, (entry,) = wheel(when)
    fires = deadlines.next()
    assert when < fires <= when + 1.01 * TICK
    assert deadlines.expired(nextafter(fires, -inf)) == []
    assert deadlines.expired(fires) == [entry]


def test_a_wheel_whose_entries_come_and_go_stays_small() -> None:
    # A request per tick for ten minutes, each with a deadline in an hour and done at once.
    deadlines = Deadlines[Entry]()
    for tick in range(600 * TICKS_PER_SECOND):
        entry = Entry()
        deadlines.set(entry, 3600 + tick * TICK)
        deadlines.discard(entry)
    assert len(deadlines._heap) == len(deadlines._ticks) <= 1024


class Counting(Deadlines[Entry]):
    """A wheel that counts its looks for empty ticks."""

    __slots__ = ("sweeps",)

    def __init__(self) -> None:
        super().__init__()
        self.sweeps = 0

    def _sweep(self) -> None:
        self.sweeps += 1
        super()._sweep()


def test_looking_for_empty_ticks_is_rare_however_many_stand_in_the_wheel() -> None:
    deadlines = Counting()
    for tick in range(1024):
        deadlines.set(Entry(), tick * TICK)
    assert deadlines.sweeps == 0
    for tick in range(1024, 20_000):
        deadlines.set(Entry(), tick * TICK)
    # At 1,024 and at each doubling.
    assert deadlines.sweeps == 5
    assert len(deadlines.expired(20_000 * TICK)) == 20_000


class Wheel(RuleBasedStateMachine):
    """The wheel beside a dict from entry to deadline."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines[Entry]()
        self.model: dict[Entry, float] = {}
        self.now = 0.0

    @initialize(start=st.floats(0, 1e6))
    def begin(self, start: float) -> None:
        self.now = start
        self.entries = [Entry() for _ in range(6)]

    @rule(which=st.integers(0, 5), delay=st.floats(-0.1, 30))
    def set(self, which: int, delay: float) -> None:
        when = max(self.now + delay, 0.0)
        self.model[self.entries[which]] = when
        assert when < self.deadlines.set(self.entries[which], when) <= when + 1.01 * TICK

    @rule(which=st.integers(0, 5))
    def discard(self, which: int) -> None:
        self.model.pop(self.entries[which], None)
        self.deadlines.discard(self.entries[which])

    @rule(seconds=st.floats(0, 10))
    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.expire()

    @rule()
    def advance_to_the_next(self) -> None:
        due = self.deadlines.next()
        if due != inf:
            self.now = max(self.now, due)
            assert self.expire()

    def expire(self) -> list[Entry]:
        fired = self.deadlines.expired(self.now)
        assert len(set(fired)) == len(fired)
        for entry in fired:
            assert self.model.pop(entry) < self.now
        return fired

    @invariant()
    def nothing_is_forgotten_or_late(self) -> None:
        earliest = min(self.model.values(), default=inf)
        assert earliest <= self.deadlines.next() <= earliest + 1.01 * TICK
        for entry in self.entries if self.model else ():
            assert bool(entry.tick) == (entry in self.model)


TestWheel = Wheel.TestCase
