"""Learning signals on synthetic curves, the time left, the watchdog, the timeline."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from backend.events import (
    CONTAINER_STRIDE,
    AttemptEvent,
    CheckpointEvent,
    CommandEvent,
    Event,
    PhaseEvent,
    SampleEvent,
    Status,
    StatusEvent,
    StepEvent,
    ValidationEvent,
    WarningEvent,
)
from backend.runs.eta import EtaEstimate
from backend.runs.signals import LearningSignals
from backend.runs.timeline import Timeline
from backend.runs.view import RunView
from backend.runs.watchdog import alarms


def steps(losses: list[float], first: int = 1, seconds: float = 1.0) -> list[Event]:
    return [
        StepEvent(step=n, loss=loss, smoothed=loss, lr=1e-4, seconds=seconds, t=1000 + n * seconds)
        for n, loss in enumerate(losses, first)
    ]


def kinds(*events: Event) -> list[str]:
    signals = LearningSignals()
    signals.take(events)
    return [signal.kind for signal in signals.found()]


def noisy(course, count: int, seed: int, spread: float = 0.4) -> list[float]:
    """A curve as flow matching has it: the noise is as large as the loss."""
    dice = random.Random(seed)
    return [max(1e-3, course(n / count) * (1 + spread * dice.gauss(0, 1))) for n in range(count)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [60, 300, 3000])
def test_a_healthy_noisy_curve_raises_no_alarm(seed: int, count: int) -> None:
    losses = noisy(lambda x: 0.2 + 0.8 * math.exp(-1.5 * x), count, seed)
    signals = LearningSignals()
    for end in range(30, count, max(30, count // 20)):
        signals = LearningSignals()
        signals.take(steps(losses[:end]))
        assert signals.found() == [], f"after {end} steps"


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_that_stays_where_it_is_is_a_plateau(seed: int) -> None:
    losses = noisy(lambda x: 0.3 + 0.7 * math.exp(-40 * x), 8000, seed, spread=0.15)
    assert kinds(*steps(losses)) == ["plateau"]


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_that_explodes_diverges(seed: int) -> None:
    losses = noisy(lambda x: 0.3 if x < 0.85 else 0.3 + 12 * (x - 0.85), 1000, seed)
    signals = LearningSignals()
    signals.take(steps(losses))
    (signal,) = signals.found()
    assert signal.kind == "divergence"
    assert signal.is_urgent
    assert 850 <= signal.step <= 1000


def test_a_loss_that_is_no_number_is_told_with_its_first_step() -> None:
    signals = LearningSignals()
    signals.take(steps([0.5, 0.4, math.nan, math.inf]))
    assert [(signal.kind, signal.step) for signal in signals.found()] == [("nan", 3)]
    signals.take(steps([0.4], first=5))
    assert signals.found() == []


def validations(*losses: float) -> list[Event]:
    return [ValidationEvent(step=100 * n, loss=loss) for n, loss in enumerate(losses, 1)]


def test_a_validation_loss_that_rises_again_is_overfitting_since_its_lowest_point() -> None:
    signals = LearningSignals()
    signals.take(validations(0.5, 0.4, 0.35, 0.36, 0.38, 0.41, 0.45))
    (signal,) = signals.found()
    assert (signal.kind, signal.step) == ("overfitting", 300)
    assert "300" in signal.hint


@pytest.mark.parametrize(
    "losses",
    [
        (0.5, 0.4, 0.35, 0.34, 0.33),  # it falls
        (0.5, 0.4, 0.35, 0.352, 0.351, 0.353),  # it stays
        (0.5, 0.35, 0.5, 0.45, 0.4, 0.37),  # it is on its way down again
        (0.35, 0.5, 0.6),  # too few to tell
    ],
)
def test_a_validation_loss_that_does_not_rise_is_none(losses: tuple[float, ...]) -> None:
    assert kinds(*validations(*losses)) == []


def test_a_resume_takes_back_what_came_after_it() -> None:
    bad = [0.3] * 300 + [5.0] * 60
    assert kinds(*steps(bad)) == ["divergence"]
    assert "divergence" not in kinds(*steps(bad), AttemptEvent(attempt=2, step=300, steps=900))


def test_memory_is_bounded_over_a_million_steps() -> None:
    signals = LearningSignals()
    signals.take(steps([0.3] * 100_000))
    assert len(signals._blocks) <= 256
    assert signals._steps == 100_000


# The time left


def test_the_time_left_counts_what_happens_between_steps() -> None:
    eta = EtaEstimate()
    eta.take(StepEvent(step=n, loss=1, smoothed=1, lr=1, seconds=1, t=2.0 * n) for n in range(1, 101))
    left = eta.left(200)
    assert left is not None
    assert left.seconds == pytest.approx(200)
    assert left.plus_minus == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_the_range_mostly_holds_the_truth(seed: int) -> None:
    hits = 0
    for trial in range(25):
        dice = random.Random(100 * seed + trial)
        t, times = 0.0, []
        for _ in range(600):
            t += dice.expovariate(1.0) + 0.5
            times.append(t)
        eta = EtaEstimate()
        eta.take(StepEvent(step=n, loss=1, smoothed=1, lr=1, t=t) for n, t in enumerate(times[:200], 1))
        left = eta.left(600)
        assert left is not None
        hits += left.low <= times[-1] - times[199] <= left.high
    assert hits >= 20


def test_nothing_is_said_before_there_are_steps_enough() -> None:
    eta = EtaEstimate()
    assert eta.left(100) is None
    eta.take(steps([0.1] * 50))
    assert eta.left(100) is not None
    assert eta.left(0) is None
    eta.take([AttemptEvent(attempt=2, step=50, steps=100)])
    assert eta.left(100) is None


# The watchdog


def view(*events: Event) -> RunView:
    found = RunView()
    found.apply(events)
    return found


def training(*losses: float) -> RunView:
    return view(PhaseEvent(phase="training", t=1000), *steps(list(losses)))


def barks(found: RunView, now: float, status: str = "training", **money: float) -> list[str]:
    return [alarm.kind for alarm in alarms(found, status, now, **money)]


def test_a_run_that_goes_on_is_left_alone() -> None:
    assert barks(training(0.5, 0.4), 1030) == []


def test_no_step_for_long_is_a_stall_and_no_number_is_told() -> None:
    assert barks(training(0.5, 0.4), 1100) == ["stall"]
    assert barks(training(math.nan), 1002) == ["nan"]
    assert barks(training(math.nan), 1_000_000, "finished") == []


def test_no_word_for_long_is_silence_unless_it_may_take_long() -> None:
    assert barks(view(PhaseEvent(phase="loading", t=1000)), 1700) == ["silence"]
    assert barks(view(PhaseEvent(phase="waiting for a GPU", t=1000)), 9000) == []


def test_a_budget_that_is_nearly_spent_is_told() -> None:
    assert barks(training(0.5), 1002, dollars=4.6, budget=5.0) == ["budget"]
    assert barks(training(0.5), 1002, dollars=1.0, budget=5.0) == []


# The timeline


def test_the_timeline_tells_what_happened_in_few_lines() -> None:
    timeline = Timeline()
    first, second = CONTAINER_STRIDE, 2 * CONTAINER_STRIDE
    timeline.take(
        [
            StatusEvent(status=Status.STARTING, t=1, seq=first + 1),
            AttemptEvent(attempt=1, step=0, steps=9, device="H100", t=2, seq=first + 2),
            *steps([0.5] * 4),
            SampleEvent(step=4, index=0, prompt="a", seed=1, path="a", t=3),
            SampleEvent(step=4, index=1, prompt="b", seed=1, path="b", t=3),
            CheckpointEvent(step=4, path="checkpoints/x.safetensors", best=True, t=4),
            AttemptEvent(attempt=2, step=4, steps=9, t=5, seq=second + 1),
            CommandEvent(id="x", kind="save", ok=True, t=6),
            WarningEvent(message="the disk is full", t=7),
        ]
    )
    assert [(entry.kind, entry.step, entry.text) for entry in timeline.entries] == [
        ("status", 0, "starting"),
        ("attempt", 0, "began at step 0 of 9 on H100"),
        ("samples", 4, "2 pictures of step 4"),
        ("checkpoint", 4, "x.safetensors (best)"),
        ("moved", 4, "preempted: container 2 takes over"),
        ("attempt", 4, "resumed (attempt 2) at step 4 of 9"),
        ("asked", 4, "save: done"),
        ("warning", 4, "the disk is full"),
    ]


def test_checksums_tell_copies_apart(tmp_path: Path) -> None:
    from backend.runs.files import checksum, is_same

    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"abc")
    b.write_bytes(b"abd")
    assert checksum(a) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert not is_same(a, b)
    b.write_bytes(b"abc")
    assert is_same(a, b)
