"""The validation loss: its value, when it is taken, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend.events import CheckpointEvent, Status, StatusEvent, StepEvent, ValidationEvent
from backend.trainer.buckets import Bucket
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.control import StopControl
from backend.trainer.errors import StopRequested
from backend.trainer.held_out import ValidationSample
from backend.trainer.step import FlowModel
from backend.trainer.validation import BestLoss, Validator
from config.schema import EarlyStopConfig, ValidationConfig
from tests.trainer.conftest import MakeRun, Run
from tests.trainer.test_step import Rig

CPU = torch.device("cpu")


@pytest.fixture
def caches(tmp_path: Path) -> TensorCache:
    return TensorCache(tmp_path / "cache", RamBudget.of_this_machine())


def validator(rig: Rig, cache: TensorCache, sigmas: list[float]) -> tuple[Validator, list[Any]]:
    samples, batches = [], []
    for index, shape in enumerate([(8, 8), (8, 12)]):
        batch = rig.batch(1, index)
        latent = torch.randn(16, *shape, generator=torch.Generator().manual_seed(20 + index))
        cache.store(f"{index:064x}", {"latent": latent})
        cache.store(f"{index + 16:064x}", {"t5": batch.t5[0], "clip": batch.clip[0]})
        samples.append(
            ValidationSample(f"{index:064x}", f"{index + 16:064x}", Bucket(shape[1] * 8, shape[0] * 8))
        )
        batches.append((latent[None], batch.t5, batch.clip))
    settings = ValidationConfig(validation_sigmas=sigmas)
    model = FlowModel(rig.transformer, 1.0)
    return Validator(model, rig.transformer, samples, cache, cache, settings, CPU, torch.float32), batches


def test_it_is_the_mean_over_pictures_and_levels(
    tiny_flux: Path, caches: TensorCache, never_stop: StopControl
) -> None:
    rig = Rig(tiny_flux)
    check, batches = validator(rig, caches, [1.0, 0.25])
    torch.manual_seed(1)
    state = torch.get_rng_state()
    loss = check.loss(never_stop)
    assert torch.equal(torch.get_rng_state(), state)
    assert rig.transformer.training
    expected = []
    for index, (latent, t5, clip) in enumerate(batches):
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(42 + index))
        for sigma in (1.0, 0.25):
            noisy = (1 - sigma) * latent + sigma * noise
            with torch.no_grad():
                answer = FlowModel(rig.transformer, 1.0).velocity(noisy, torch.tensor([sigma]), t5, clip)
            expected.append(((answer - (noise - latent)).double() ** 2).mean())
    assert loss == pytest.approx(torch.stack(expected).mean().item(), rel=1e-6)
    assert check.loss(never_stop) == loss
    assert check.count == 2


def test_dropout_is_off_while_validating(
    tiny_flux: Path, caches: TensorCache, never_stop: StopControl
) -> None:
    rig = Rig(tiny_flux)
    with torch.no_grad():
        for name, parameter in rig.lora.parameters.items():
            if "lora_B" in name:
                parameter.fill_(0.01)
    check, _ = validator(rig, caches, [0.5])
    loss = check.loss(never_stop)
    for layer in rig.lora.layers.values():
        layer.lora_A["default"].dropout = 0.5
    assert check.loss(never_stop) == loss


def test_a_stop_is_heard(tiny_flux: Path, caches: TensorCache, tmp_path: Path) -> None:
    rig = Rig(tiny_flux)
    check, _ = validator(rig, caches, [0.5])
    (tmp_path / "stop").touch()
    with pytest.raises(StopRequested):
        check.loss(StopControl(tmp_path / "stop", lambda: None))
    assert rig.transformer.training


# -- in runs -----------------------------------------------------------------------------------


def validating(make_run: MakeRun, name: str = "run", *, every: int = 1, **train: Any) -> Run:
    return make_run(
        name,
        train={
            "validation_split": 2,
            "validation_config": {"validate_every_n_steps": every, "resolution": 64},
            **train,
        },
    )


def test_it_is_taken_every_so_often_and_at_the_end(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = validating(make_run, every=2, steps=5)
    assert run.train() == 0
    events = run.events(ValidationEvent)
    assert [(event.step, event.count) for event in events] == [(2, 2), (4, 2), (5, 2)]
    assert events[0].best
    log = capsys.readouterr().out
    assert f"validation loss {events[0].loss:.4f} at step 2 (the lowest so far)" in log
    plain = make_run("plain", train={"steps": 5})
    plain.configure(train={"validation_split": 2, "validation_config": {"validate_every_n_steps": 100}})
    assert plain.train() == 0
    assert [e.loss for e in run.events(StepEvent)] == [e.loss for e in plain.events(StepEvent)]


def losses(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let validations have these losses."""
    given = iter(values)
    monkeypatch.setattr(Validator, "loss", lambda self, stop: next(given))


def test_the_best_checkpoint_is_kept(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = validating(make_run, steps=4)
    run.configure(save={"keep_best": True, "save_every": 1, "max_step_saves_to_keep": 0})
    losses(monkeypatch, [3.0, 1.0, 2.0, 1.5])
    assert run.train() == 0
    assert [event.best for event in run.events(ValidationEvent)] == [True, True, False, False]
    best = [event for event in run.events(CheckpointEvent) if event.best]
    assert [event.step for event in best] == [1, 2]
    assert {event.path for event in best} == {"checkpoints/tiny_best.safetensors"}
    left = load_file(run.folder.checkpoints / "tiny_best.safetensors")
    right = load_file(run.folder.checkpoints / "tiny_000000002.safetensors")
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert run.final.exists()


def test_a_run_ends_early_and_says_why(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = validating(make_run, steps=20, early_stop={"patience": 2, "min_delta": 0.1})
    with monkeypatch.context() as patch:
        losses(patch, [3.0, 2.0, 1.95, 1.92, 0.1])
        assert run.train() == 0
    status = run.events(StatusEvent)[-1]
    assert status.status is Status.FINISHED
    assert status.reason == "ended early after step 4 of 20: the validation loss has not fallen since step 2"
    assert run.events(StepEvent)[-1].step == 4
    assert run.events(CheckpointEvent)[-1].final
    # Taken up again, it has nothing to do, until it is given more patience.
    steps = len(run.events(StepEvent))
    assert run.train() == 0
    assert len(run.events(StepEvent)) == steps
    assert run.events(StatusEvent)[-1].reason == status.reason
    run.configure(train={"steps": 6, "early_stop": {"patience": 9}})
    assert run.train() == 0
    assert run.events(StepEvent)[-1].step == 6
    assert run.events(StatusEvent)[-1].reason is None


def test_patience_counts_on_after_a_resume(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = validating(make_run, steps=20, early_stop={"patience": 3})
    losses(monkeypatch, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert run.train_until(3, monkeypatch) == 0
    assert run.train() == 0
    assert run.events(StepEvent)[-1].step == 4
    assert [event.step for event in run.events(ValidationEvent)] == [1, 2, 3, 4]


def test_a_validation_missed_by_a_stop_is_made_up_for(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, stopped = (validating(make_run, name, every=2, steps=4) for name in ("straight", "stopped"))
    assert straight.train() == 0
    assert stopped.train_until(2, monkeypatch) == 0
    assert not stopped.events(ValidationEvent)  # asked to stop before it came to that
    assert stopped.train() == 0
    assert [(e.step, e.loss) for e in stopped.events(ValidationEvent)] == [
        (e.step, e.loss) for e in straight.events(ValidationEvent)
    ]


def test_best_and_patience() -> None:
    best = BestLoss(EarlyStopConfig(patience=2, min_delta=0.5))
    assert best.add(3.0, 10)
    assert not best.add(2.6, 20)
    assert not best.exhausted
    assert best.add(2.4, 30)
    assert not best.add(float("nan"), 40)
    assert not best.add(2.4, 50)
    assert best.exhausted
    again = BestLoss()
    again.load(best.state())
    assert (again.loss, again.step, again.since, again.exhausted) == (2.4, 30, 2, False)
