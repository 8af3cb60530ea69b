"""A run stopped and resumed ends with the same bits as one never stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    Status,
    StatusEvent,
    StepEvent,
    ValidationEvent,
    WarningEvent,
)
from backend.runs.view import step_rows
from backend.trainer import saving
from backend.trainer.checkpoint import STATE_FILE, CheckpointStore
from backend.trainer.report import Reporter
from tests.trainer.conftest import MakeRun, Run

EVERYTHING: dict[str, Any] = {
    "network": {"dropout": 0.2},
    "train": {
        "steps": 6,
        "batch_size": 2,
        "gradient_accumulation": 2,
        "gradient_checkpointing": True,
        "lr_scheduler": "cosine",
        "noise_offset": 0.05,
        "ema_config": {"use_ema": True, "ema_decay": 0.8},
    },
}


def everything(make_run: MakeRun, pictures: Path, name: str, **train: Any) -> Run:
    run = make_run(name, **EVERYTHING)
    run.configure(
        datasets=[{"folder_path": str(pictures), "resolution": [64, 96], "caption_dropout_rate": 0.4}],
        train=train,
    )
    return run


def assert_same(one: Path, other: Path) -> None:
    left, right = load_file(one), load_file(other)
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different
    assert any(tensor.abs().max() > 0 for name, tensor in left.items() if ".lora_B." in name)


def test_a_run_stopped_after_every_step_ends_like_one_never_stopped(
    make_run: MakeRun, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = everything(make_run, pictures, "straight")
    assert straight.train() == 0
    stopped = everything(make_run, pictures, "stopped")
    for step in range(1, 6):
        assert stopped.train_until(step, monkeypatch) == 0
        assert stopped.events(StatusEvent)[-1].status is Status.STOPPED
        assert (stopped.folder.checkpoints / f"tiny_{step:09d}.safetensors").exists()
    assert stopped.train() == 0
    assert stopped.events(StatusEvent)[-1].status is Status.FINISHED
    assert_same(straight.final, stopped.final)

    assert [event.step for event in stopped.events(AttemptEvent)] == [0, 1, 2, 3, 4, 5]
    assert [event.attempt for event in stopped.events(AttemptEvent)] == [1, 2, 3, 4, 5, 6]
    numbers = [(e.step, e.loss, e.smoothed, e.lr, e.grad_norm, e.epoch) for e in straight.events(StepEvent)]
    assert numbers == [
        (e.step, e.loss, e.smoothed, e.lr, e.grad_norm, e.epoch) for e in stopped.events(StepEvent)
    ]


def test_sampling_and_saving_do_not_disturb_training(make_run: MakeRun, pictures: Path) -> None:
    quiet = everything(make_run, pictures, "quiet")
    assert quiet.train() == 0
    busy = everything(make_run, pictures, "busy", disable_sampling=False)
    busy.configure(
        save={"save_every": 2},
        sample={
            "prompts": ["[trigger] in blue"],
            "sample_every": 1,
            "sample_steps": 2,
            "width": 64,
            "height": 64,
        },
    )
    assert busy.train() == 0
    assert len(list(busy.folder.samples.iterdir())) == 7  # baseline and one a step
    assert_same(quiet.final, busy.final)


def test_sigkill_at_a_random_moment_loses_at_most_the_steps_since_the_last_save(
    make_run: MakeRun, pictures: Path
) -> None:
    straight = everything(make_run, pictures, "straight", steps=24)
    assert straight.train() == 0
    killed = everything(make_run, pictures, "killed", steps=24)
    killed.configure(save={"save_every": 2, "max_step_saves_to_keep": 2})
    victim_step = random.randint(3, 20)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.trainer", str(killed.folder.path)],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not any(event.step >= victim_step for event in killed.events(StepEvent)):
        assert process.poll() is None, "the trainer ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(random.uniform(0.001, 0.05))
    process.kill()
    process.wait(timeout=30)

    reached = killed.events(StepEvent)[-1].step
    assert killed.events(StatusEvent)[-1].status is Status.TRAINING
    assert killed.train() == 0
    begun = killed.events(AttemptEvent)[-1].step
    assert max(0, reached - 2) <= begun <= reached, (victim_step, reached, begun)
    assert [row["step"] for row in step_rows(killed.events())] == list(range(1, 25))
    assert_same(straight.final, killed.final)


class PowerCut(BaseException):
    """Nothing in the trainer catches this, as nothing catches a power cut."""


@pytest.fixture(scope="module")
def never_crashed_files() -> dict[str, Path]:
    return {}


@pytest.fixture
def never_crashed(make_run: MakeRun, never_crashed_files: dict[str, Path]) -> Path:
    """The LoRA of four undisturbed steps; trained for the first who asks."""
    if "lora" not in never_crashed_files:
        straight = make_run("straight", train={"steps": 4})
        assert straight.train() == 0
        never_crashed_files["lora"] = straight.final
    return never_crashed_files["lora"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (saving, "write_lora"),
        (CheckpointStore, "save_state"),
        (Reporter, "checkpoint"),
        (CheckpointStore, "prune"),
    ],
)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_crash_between_any_two_writes_of_a_save_can_be_resumed(
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    before: bool,
    never_crashed: Path,
) -> None:
    run = make_run(train={"steps": 4}, save={"save_every": 1})
    write = getattr(owner, name)
    calls = 0

    def crash(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 and before:
            raise PowerCut
        result = write(*args, **kwargs)
        if calls == 2:
            raise PowerCut
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, crash)
        with pytest.raises(PowerCut):
            run.train()
    assert run.train() == 0
    assert run.events(AttemptEvent)[-1].step in (1, 2)
    assert_same(never_crashed, run.final)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_sigterm_saves_and_stops(make_run: MakeRun) -> None:
    run = make_run(train={"steps": 10_000})
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.trainer", str(run.folder.path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not run.events(StepEvent):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    statuses = [event.status for event in run.events(StatusEvent)]
    assert statuses == [Status.STARTING, Status.TRAINING, Status.STOPPING, Status.STOPPED]
    last = run.events(StepEvent)[-1].step
    checkpoint = run.events(CheckpointEvent)[-1]
    assert (checkpoint.step, checkpoint.final) == (last, False)
    assert (run.folder.path / checkpoint.path).stat().st_size == checkpoint.bytes
    assert f"stopped after step {last}" in output


def test_without_a_seed_the_drawn_one_is_kept(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(training_seed=None, train={"steps": 2})
    assert run.train_until(1, monkeypatch) == 0
    first = load_file(run.folder.checkpoints / "tiny_000000001.safetensors")
    (run.folder.state / STATE_FILE).unlink()  # as if it was killed before the first save
    assert run.train_until(1, monkeypatch) == 0
    second = load_file(run.folder.checkpoints / "tiny_000000001.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_more_steps_continue_a_finished_run(make_run: MakeRun) -> None:
    longer = make_run("longer", train={"steps": 4})
    assert longer.train() == 0
    extended = make_run("extended", train={"steps": 2})
    assert extended.train() == 0
    extended.configure(train={"steps": 4})
    assert extended.train() == 0
    assert_same(longer.final, extended.final)
    count = len(extended.events(StepEvent))
    assert extended.train() == 0  # nothing left to do
    assert len(extended.events(StepEvent)) == count
    assert extended.events(StatusEvent)[-1].status is Status.FINISHED


def test_changed_data_begins_a_new_epoch_with_a_warning(
    make_run: MakeRun, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    assert run.train_until(1, monkeypatch) == 0
    run.configure(datasets=[{"folder_path": str(pictures), "resolution": [64], "num_repeats": 2}])
    assert run.train() == 0
    assert "data_changed" in [event.code for event in run.events(WarningEvent)]
    assert [event.epoch for event in run.events(StepEvent)] == [1, 2, 2]


def test_a_changed_rank_keeps_what_was_learned(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(train={"ema_config": {"use_ema": True}})
    assert run.train_until(1, monkeypatch) == 0
    run.configure(network={"linear": 8})
    assert run.train_until(2, monkeypatch) == 0
    assert [event.code for event in run.events(WarningEvent)] == ["rank_changed"]
    run.configure(network={"linear": 2})
    assert run.train() == 0
    assert [event.step for event in run.events(StepEvent)] == [1, 2, 3]
    assert {tensor.shape[0] for name, tensor in load_file(run.final).items() if "lora_A" in name} == {2}


def test_other_layers_are_refused(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    assert run.train_until(1, monkeypatch) == 0
    run.configure(network={"network_kwargs": {"only_if_contains": ["attn"]}})
    assert run.train() == 1
    assert "another network" in run.events(StatusEvent)[-1].reason


@pytest.mark.parametrize(
    "changes",
    [
        {
            "network": {"type": "dora"},
            "train": {
                "optimizer": "adafactor",
                "timestep_type": "lognorm_blend",
                "content_or_style": "style",
                "loss_type": "mae",
            },
        },
        {"network": {"type": "lokr"}, "train": {"optimizer": "prodigy", "lr": 1.0}},
        {"network": {"network_kwargs": {"rank_dropout": 0.3, "module_dropout": 0.3}}},
        {
            "train": {
                "validation_split": 1,
                "validation_config": {"validate_every_n_steps": 2, "resolution": 64},
                "diff_output_preservation": True,
                "diff_output_preservation_class": "dog",
            },
            "save": {"keep_best": True},
        },
    ],
    ids=["dora-adafactor-levels", "lokr-prodigy", "dropouts", "validation"],
)
def test_all_of_it_can_be_resumed(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    straight, stopped = make_run("straight", **changes), make_run("stopped", **changes)
    for run in (straight, stopped):
        run.configure(train={"steps": 4})
    assert straight.train() == 0
    assert stopped.train_until(2, monkeypatch) == 0
    assert stopped.train() == 0
    left, right = load_file(straight.final), load_file(stopped.final)
    assert left.keys() == right.keys()
    assert not [name for name in left if not torch.equal(left[name], right[name])]
    numbers = [
        [(e.step, e.loss) for e in run.events() if isinstance(e, StepEvent | ValidationEvent)]
        for run in (straight, stopped)
    ]
    assert numbers[0] == numbers[1]


def test_a_changed_learning_rate_takes_effect(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    assert run.train_until(1, monkeypatch) == 0
    run.configure(train={"lr": 1e-3})
    assert run.train() == 0
    assert [event.lr for event in run.events(StepEvent)] == [1e-2, 1e-3, 1e-3]


def test_only_the_newest_checkpoints_are_kept(make_run: MakeRun) -> None:
    run = make_run(train={"steps": 5}, save={"save_every": 1, "max_step_saves_to_keep": 2})
    assert run.train() == 0
    names = sorted(path.name for path in run.folder.checkpoints.iterdir())
    # Step 5 is the final file; it is not saved twice.
    assert names == ["tiny.safetensors", "tiny_000000003.safetensors", "tiny_000000004.safetensors"]
