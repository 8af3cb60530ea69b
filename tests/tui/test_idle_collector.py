"""Full garbage collections come in pauses, not between keys."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tui import idle_collector
from tui.idle_collector import DUE, LATE, QUIET, IdleCollector


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def collector(clock: Clock) -> Iterator[IdleCollector]:
    collector = IdleCollector(clock)
    collector.start()
    yield collector
    collector.stop()


def made_due(monkeypatch: pytest.MonkeyPatch, count: int = DUE) -> None:
    monkeypatch.setattr(idle_collector.gc, "get_count", lambda: (0, 0, count))


def test_python_begins_full_collections_late_while_it_runs() -> None:
    before = gc.get_threshold()
    collector = IdleCollector()
    collector.start()
    collector.start()
    assert gc.get_threshold() == (*before[:2], LATE)
    collector.stop()
    collector.stop()
    assert gc.get_threshold() == before


def test_it_waits_for_a_pause(
    collector: IdleCollector, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_due(monkeypatch)
    collector.touch()
    assert not collector.look()
    clock.now += 1.1 * QUIET
    collector.touch()
    assert not collector.look()
    clock.now += 1.1 * QUIET
    assert collector.look()


def test_what_is_not_due_is_not_done(
    collector: IdleCollector, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_due(monkeypatch, DUE - 1)
    clock.now += 100
    assert not collector.look()


def test_slow_collections_are_rare(
    collector: IdleCollector, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_due(monkeypatch)

    def collect() -> None:
        clock.now += 0.1

    monkeypatch.setattr(idle_collector.gc, "collect", collect)
    clock.now += 1.1 * QUIET
    assert collector.look()
    clock.now += 4.9
    assert not collector.look()
    clock.now += 0.2
    assert collector.look()


def test_somebody_types_until_a_key_is_a_moment_ago() -> None:
    clock = Clock()
    collector = IdleCollector(clock)
    clock.now += 5
    assert collector.rest == 5
    collector.touch()
    clock.now += 0.25
    assert collector.rest == 0.25
