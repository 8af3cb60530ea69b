"""A ruined run goes back to its last good checkpoint once, at half the rate; then it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors.torch import load_file

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    ErrorEvent,
    Status,
    StatusEvent,
    StepEvent,
    WarningEvent,
)
from backend.runs.view import RunView, step_rows
from backend.trainer.guards import LossGuard, Rollback
from backend.trainer.sampling import Sampler
from backend.trainer.step import TrainStep
from tests.trainer.conftest import MakeRun, Run

if TYPE_CHECKING:
    import pytest


def spoil(patch: pytest.MonkeyPatch, when: Callable[[int], bool], factor: float) -> None:
    """Multiply the loss of chosen steps, counted over the whole test."""
    losses = TrainStep.losses
    calls = 0

    def spoilt(self: TrainStep, batch: Any, draws: Any = None) -> Iterator[torch.Tensor]:
        nonlocal calls
        calls += 1
        for part in losses(self, batch, draws):
            yield part * factor if when(calls) else part

    patch.setattr(TrainStep, "losses", spoilt)


def codes(run: Run) -> list[str]:
    return [event.code for event in run.events(WarningEvent)]


def test_one_bad_step_is_undone_and_the_run_finishes(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(train={"steps": 8}, save={"save_every": 2})
    with monkeypatch.context() as patch:
        spoil(patch, lambda call: call == 6, float("nan"))
        assert run.train() == 0
    assert [(e.attempt, e.step) for e in run.events(AttemptEvent)] == [(1, 0), (2, 4)]
    assert codes(run) == ["rolled_back"]
    (warning,) = run.events(WarningEvent)
    assert "step 6" in warning.message
    assert "back to the checkpoint of step 4" in warning.message
    rows = step_rows(run.events())
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["lr"] for row in rows] == [1e-2] * 4 + [5e-3] * 4
    view = RunView()
    view.apply(run.events())
    assert (view.status, view.step) == (Status.FINISHED, 8)


def test_the_run_goes_back_exactly(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows is what a run with half the rate from that step on does, to the bit; stops included."""
    straight = make_run("straight", train={"steps": 2}, save={"save_every": 2})
    assert straight.train() == 0
    straight.configure(train={"steps": 5, "lr": 5e-3})
    assert straight.train() == 0
    for name, stop_at in (("through", None), ("stopped", 4)):
        run = make_run(name, train={"steps": 5, "ema_config": {"use_ema": False}}, save={"save_every": 2})
        with monkeypatch.context() as patch:
            spoil(patch, lambda call: call == 3, float("inf"))
            assert (run.train() if stop_at is None else run.train_until(stop_at, monkeypatch)) == 0
        if stop_at is not None:
            assert run.train() == 0
        left, right = load_file(straight.final), load_file(run.final)
        assert not [key for key in left if not torch.equal(left[key], right[key])]


def test_the_second_time_it_fails_and_keeps_the_checkpoint(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(train={"steps": 8}, save={"save_every": 2})
    with monkeypatch.context() as patch:
        spoil(patch, lambda call: call >= 4, float("nan"))
        assert run.train() == 1
        error = run.events(ErrorEvent)[-1]
        assert error.code == "nan_loss"
        assert "half the learning rate did not help" in error.message
        assert "the checkpoint of step 2 is kept" in error.message
        assert run.train() == 1  # and again: its chance is used up
    assert codes(run) == ["rolled_back"]
    assert run.events(StatusEvent)[-1].status is Status.FAILED
    assert (run.folder.path / run.events(CheckpointEvent)[-1].path).exists()
    # A rate that the user chose is taken as it is, and gives the run its chance again.
    run.configure(train={"lr": 1e-3})
    assert run.train() == 0
    assert run.events(StepEvent)[-1].lr == 1e-3


def test_without_a_checkpoint_it_fails(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    with monkeypatch.context() as patch:
        spoil(patch, lambda call: call == 2, float("nan"))
        assert run.train() == 1
    assert "there is no checkpoint" in run.events(ErrorEvent)[-1].message
    assert not list(run.folder.checkpoints.iterdir())


def test_an_exploding_loss_is_noticed_and_not_saved(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(train={"steps": 30, "lr": 1e-6, "max_grad_norm": 1e-3}, save={"save_every": 3})
    with monkeypatch.context() as patch:
        spoil(patch, lambda call: 23 <= call < 28, 1000.0)
        assert run.train() == 0
    (warning,) = run.events(WarningEvent)
    assert warning.code == "rolled_back"
    assert "more than ten times" in warning.message
    # Step 24's save waited: the weights may have been ruined by then.
    assert [event.step for event in run.events(AttemptEvent)] == [0, 21]
    assert [row["step"] for row in step_rows(run.events())] == list(range(1, 31))


def test_the_guard_bears_single_values_and_slow_changes() -> None:
    guard = LossGuard()
    generator = torch.Generator().manual_seed(0)
    for step in range(500):
        loss = float(torch.exp(torch.randn((), generator=generator))) * (1 + step / 100)
        assert not guard.add(loss * (50 if step % 10 == 0 else 1))
    copy = LossGuard()
    copy.load(guard.state())
    for high in range(1, 5):
        assert not guard.add(1e4)
        assert not guard.calm
        assert guard.high == high
    assert guard.add(1e4)
    assert not copy.add(1.0)
    assert copy.calm


def test_the_guard_waits_until_it_knows_what_is_usual() -> None:
    guard = LossGuard()
    assert not any(guard.add(loss) for loss in [0.1] * 10 + [100.0] * 9)


def test_batches_of_two_kinds_are_no_explosion() -> None:
    """Batches that start at the base model's own answers (prior_reg) have next to no loss."""
    guard = LossGuard()
    generator = torch.Generator().manual_seed(0)
    for drawn in torch.rand(2000, generator=generator).tolist():
        assert not guard.add(1e-5 if drawn < 0.7 else 0.5)


def test_a_rollback_is_remembered_for_its_learning_rate() -> None:
    rollback = Rollback(4, 1e-3, "why")
    again, other = Rollback(), Rollback()
    again.load(rollback.state(), 1e-3)
    other.load(rollback.state(), 5e-4)
    assert (again.step, again.scale) == (4, 0.5)
    assert (other.step, other.scale) == (None, 1.0)


# -- black samples -----------------------------------------------------------------------------


def test_black_samples_send_the_run_back_behind_their_own_checkpoint(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(
        train={"steps": 8, "disable_sampling": False},
        save={"save_every": 2},
        sample={"prompts": ["a", "b"], "sample_every": 2, "sample_steps": 1, "width": 64, "height": 64},
    )
    decode = Sampler._decode
    rounds = iter([False, False, True])  # baseline, step 2, step 4

    def decode_or_black(self: Sampler, *args: Any) -> Image.Image:
        nonlocal black
        image = decode(self, *args)
        return Image.new("RGB", image.size) if black else image

    black = False
    sample = Sampler.sample

    def sample_next(self: Sampler, *args: Any, **kwargs: Any) -> bool:
        nonlocal black
        black = next(rounds, False)
        return sample(self, *args, **kwargs)

    monkeypatch.setattr(Sampler, "_decode", decode_or_black)
    monkeypatch.setattr(Sampler, "sample", sample_next)
    assert run.train() == 0
    assert codes(run) == ["black_sample", "black_sample", "rolled_back"]
    assert [event.step for event in run.events(AttemptEvent)] == [0, 2]
    assert [row["lr"] for row in step_rows(run.events())] == [1e-2] * 2 + [5e-3] * 6
