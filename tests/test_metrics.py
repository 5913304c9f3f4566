"""Counters and their frozen snapshot."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.metrics import Counters, Stats

# What a counter is called in the snapshot, where the names differ.
RENAMED = {"requests": "requests_sent"}
COUNTED = sorted(set(Counters.__slots__) - {"latency_total", "latency_count"})


def snapshot(counters: Counters) -> Stats:
    return counters.snapshot(
        connections_active=1,
        connections_idle=2,
        streams_in_flight=3,
        keep_alive_intervals={"http://worker": 60.0},
    )


def test_a_new_client_has_counted_nothing() -> None:
    stats = Counters().snapshot(connections_active=0, connections_idle=0, streams_in_flight=0)
    assert not any(dataclasses.asdict(stats).values())


@pytest.mark.parametrize("name", COUNTED)
def test_each_counter_moves_its_own_figure_and_no_other(name: str) -> None:
    counters = Counters()
    before = dataclasses.asdict(snapshot(counters))
    setattr(counters, name, 7)
    after = dataclasses.asdict(snapshot(counters))
    assert after == before | {RENAMED.get(name, name): 7}


def test_what_the_pool_tells_goes_into_the_snapshot() -> None:
    stats = snapshot(Counters())
    assert stats.keep_alive_intervals == {"http://worker": 60.0}
    assert (stats.connections_active, stats.connections_idle, stats.streams_in_flight) == (1, 2, 3)


def test_every_figure_of_the_snapshot_has_a_source() -> None:
    told = {"connections_active", "connections_idle", "streams_in_flight", "average_latency"}
    told.add("keep_alive_intervals")
    counted = {RENAMED.get(name, name) for name in COUNTED}
    assert {each.name for each in dataclasses.fields(Stats)} == told | counted


def test_a_snapshot_stays_as_it_was() -> None:
    counters = Counters()
    stats = snapshot(counters)
    counters.requests += 1
    counters.add_latency(1.0)
    assert (stats.requests_sent, stats.average_latency) == (0, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.requests_sent = 1  # type: ignore[misc]


def test_counters_take_no_other_names() -> None:
    with pytest.raises(AttributeError):
        Counters().reqests = 1  # type: ignore[attr-defined]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 3600), min_size=1))
def test_the_average_latency_is_the_mean_of_all(latencies: list[float]) -> None:
    counters = Counters()
    for each in latencies:
        counters.add_latency(each)
    mean = sum(latencies) / len(latencies)
    assert snapshot(counters).average_latency == pytest.approx(mean)
