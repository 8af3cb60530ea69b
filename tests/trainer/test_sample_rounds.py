"""Samples drawn by somebody else: what the trainer hands over, and that the pictures are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.events import Event, PreviewEvent, SampleEvent, StepEvent, WarningEvent
from backend.runs.commands import Command, send
from backend.runs.stream import EventTail
from backend.trainer import inbox
from backend.trainer.__main__ import main
from backend.trainer.handover import request_file, weights_file
from tests.trainer.conftest import MakeRun, Run

SAMPLE: dict[str, Any] = {
    "prompts": ["zork in blue --w 96", "a dog --m 0.5"],
    "width": 64,
    "height": 64,
    "sample_steps": 2,
    "sample_every": 2,
    "format": "png",
    "seed": 11,
    "walk_seed": True,
}
DRAWS = {"disable_sampling": False, "steps": 4}


def make(make_run: MakeRun, name: str, **changes: Any) -> Run:
    run = make_run(name, sample=SAMPLE, train=DRAWS, first_sample=SAMPLE | {"prompts": ["before", "b"]})
    run.configure(**changes)
    return run


def pixels(run: Run, events: list[Event] | None = None) -> dict[tuple[int, int], tuple[int, str, bytes]]:
    """Seed, prompt and content of every picture, by step and number; the last of each counts."""
    found = {}
    for event in run.events(SampleEvent) if events is None else events:
        assert isinstance(event, SampleEvent)
        with Image.open(run.folder.path / event.path) as image:
            found[event.step, event.index] = (event.seed, event.prompt, image.tobytes())
    return found


def told(path: Path) -> list[Event]:
    return EventTail(path).read()


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"train": {"ema_config": {"use_ema": True, "ema_decay": 0.5}}},
    "scaled": {"network": {"linear": 3, "linear_alpha": 1, "respect_alpha": True, "dropout": 0.2}},
    "dora": {"network": {"type": "dora"}},
    "lokr": {"network": {"type": "lokr"}},
    "int8": {"model": {"quantize": True, "qtype": "int8"}},
    "ema on int8": {
        "train": {"ema_config": {"use_ema": True, "ema_decay": 0.5}},
        "model": {"quantize": True, "qtype": "int8"},
    },
}


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "ema on int8" else pytest.param(kind, marks=pytest.mark.thorough) for kind in KINDS],
)
def test_pictures_drawn_elsewhere_equal_those_drawn_in_training(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    inside = make(make_run, "inside", **KINDS[kind])
    assert inside.train() == 0
    drawn = pixels(inside)
    assert set(drawn) == {(step, index) for step in (0, 2, 4) for index in (0, 1)}
    assert drawn[2, 0] != drawn[4, 0]  # else any weights would do

    outside = make(make_run, "outside", sample={"where": "async"}, **KINDS[kind])
    monkeypatch.setenv("FLUXLORA_ASYNC_SAMPLING", "1")
    assert outside.train() == 0
    assert not outside.events(SampleEvent)
    left, right = load_file(inside.final), load_file(outside.final)
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    requests = sorted(outside.folder.sampling.glob("*.json"))
    assert [path.name for path in requests] == ["0.json", "2.json", "4.json"]
    assert [json.loads(path.read_text())["first"] for path in requests] == [True, False, False]
    assert len({json.loads(path.read_text())["id"] for path in requests}) == 3

    events = tmp_path / "sampler.jsonl"
    assert main([str(outside.folder.path), "--sample", "0", "2", "4", "--events", str(events)]) == 0
    assert pixels(outside, told(events)) == drawn
    assert [event.seq for event in told(events)] == [1, 2, 3, 4, 5, 6]
    assert not list(outside.folder.sampling.glob("*.json"))


def test_pictures_of_a_checkpoint_equal_those_of_its_step(make_run: MakeRun, tmp_path: Path) -> None:
    run = make(make_run, "run", save={"save_every": 2})
    assert run.train() == 0
    before = pixels(run)
    events = tmp_path / "new" / "folder" / "events.jsonl"
    assert main([str(run.folder.path), "--sample", "2", "--events", str(events)]) == 0  # the step's own file
    final = ["--checkpoint", str(run.final)]
    assert main([str(run.folder.path), "--sample", "4", *final, "--events", str(events)]) == 0
    drawn = pixels(run, told(events))
    assert drawn == {key: value for key, value in before.items() if key[0] in (2, 4)}
    assert not any(isinstance(event, PreviewEvent) for event in told(events))
    names = [Path(event.path).name for event in told(events) if isinstance(event, SampleEvent)]
    assert [name.partition("__")[2] for name in names] == [
        f"{step:09d}_{index}.png" for step in (2, 4) for index in (0, 1)
    ]


def test_what_is_drawn_is_not_drawn_again(make_run: MakeRun, tmp_path: Path) -> None:
    run = make(make_run, "run", save={"save_every": 2})
    assert run.train() == 0
    events = tmp_path / "events.jsonl"
    call = [str(run.folder.path), "--sample", "2", "--events", str(events)]
    assert main(call) == 0
    (first, second) = told(events)
    assert isinstance(second, SampleEvent)
    (run.folder.path / second.path).unlink()  # the sampler was killed before the second was committed
    assert main(call) == 0
    (_, _, third) = told(events)
    assert isinstance(third, SampleEvent)
    assert (third.step, third.index, third.seq) == (2, 1, first.seq + 2)


def test_training_does_not_load_the_decoder_it_does_not_need(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend.trainer.sampling import Sampler

    run = make(make_run, "run", sample={"where": "async"})
    monkeypatch.setenv("FLUXLORA_ASYNC_SAMPLING", "1")
    monkeypatch.setattr(Sampler, "sample", lambda *_, **__: pytest.fail("drew"))
    assert run.train() == 0
    assert len(run.events(StepEvent)) == 4


def test_without_somebody_to_hand_them_to_samples_are_drawn_here(make_run: MakeRun) -> None:
    run = make(make_run, "run", sample={"where": "async"})
    assert run.train() == 0
    assert len(run.events(SampleEvent)) == 6
    assert not run.folder.sampling.exists()


def test_weights_go_when_their_request_is_done(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(make_run, "run", sample={"where": "async"})
    monkeypatch.setenv("FLUXLORA_ASYNC_SAMPLING", "1")
    assert run.train_until(2, monkeypatch) == 0  # the request of step 2 is for the resumed run
    assert weights_file(run.folder, 0).is_file()
    request_file(run.folder, 0).unlink()
    assert run.train() == 0
    assert not weights_file(run.folder, 0).exists()
    assert weights_file(run.folder, 4).is_file()


def test_samples_that_somebody_asks_for_are_handed_over_too(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend.events import CommandEvent
    from backend.trainer.report import Reporter

    monkeypatch.setattr(inbox, "INTERVAL", 0.0)
    run = make(make_run, "run", sample={"where": "async", "sample_every": 100, "sample_start_step": 50})
    run.configure(train={"skip_first_sample": True})
    monkeypatch.setenv("FLUXLORA_ASYNC_SAMPLING", "1")
    step = Reporter.step

    def ask(reporter: Reporter, event: StepEvent) -> None:
        step(reporter, event)
        if event.step == 1:
            send(run.folder.control, Command(kind="sample"))

    monkeypatch.setattr(Reporter, "step", ask)
    assert run.train() == 0
    assert [path.name for path in run.folder.sampling.glob("*.json")] == ["1.json"]
    (answer,) = run.events(CommandEvent)
    assert (answer.ok, answer.detail) == (True, "the samples of step 1 are asked for")


def test_a_request_that_cannot_be_written_is_a_warning(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(make_run, "run", sample={"where": "async"})
    run.folder.create()
    run.folder.sampling.write_text("in the way")
    monkeypatch.setenv("FLUXLORA_ASYNC_SAMPLING", "1")
    assert run.train() == 0
    warned = [event for event in run.events(WarningEvent) if event.code == "sampling_failed"]
    assert len(warned) == 3
    assert "samples of step 0 cannot be asked for" in warned[0].message


# -- what goes wrong ---------------------------------------------------------------------------


def failed(run: Run, events: Path, *options: str) -> str:
    assert main([str(run.folder.path), "--sample", "2", "--events", str(events), *options]) in (1, 2)
    (warning,) = [event for event in told(events) if isinstance(event, WarningEvent)]
    assert warning.code == "sampling_failed"
    assert "Traceback" not in warning.message
    return warning.message


def test_missing_weights(make_run: MakeRun, tmp_path: Path) -> None:
    run = make(make_run, "run")
    message = failed(run, tmp_path / "events.jsonl")
    assert str(weights_file(run.folder, 2)) in message


def test_weights_of_another_network(make_run: MakeRun, tmp_path: Path) -> None:
    run = make(make_run, "run")
    other = tmp_path / "other.safetensors"
    save_file({"transformer.x.lora_A.weight": torch.zeros(2, 2)}, other)
    assert "another network" in failed(run, tmp_path / "one.jsonl", "--checkpoint", str(other))
    other.write_bytes(b"no tensors")
    assert "cannot be read" in failed(run, tmp_path / "two.jsonl", "--checkpoint", str(other))


def test_a_run_with_nothing_to_draw(make_run: MakeRun, tmp_path: Path) -> None:
    assert "nothing to draw" in failed(make_run(), tmp_path / "events.jsonl")


@pytest.mark.parametrize(
    "options",
    [["--sample", "2"], ["--events", "e"], ["--checkpoint", "c"], ["--sample", "-1", "--events", "e"]],
)
def test_options_go_together(
    make_run: MakeRun, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    with pytest.raises(SystemExit) as caught:
        main([str(run.folder.path), *options])
    assert caught.value.code == 2
    assert "--sample" in capsys.readouterr().err


def test_no_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--sample", "1", "--events", str(tmp_path / "e")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_program_draws_in_a_process_of_its_own(make_run: MakeRun, tmp_path: Path) -> None:
    run = make(make_run, "run", save={"save_every": 2, "dtype": "float32"})
    assert run.train() == 0
    events = tmp_path / "events.jsonl"
    program = [sys.executable, "-P", "-m", "backend.trainer"]
    done = subprocess.run(
        [*program, str(run.folder.path), "--sample", "2", "--events", str(events)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before = pixels(run)
    assert pixels(run, told(events)) == {key: before[key] for key in ((2, 0), (2, 1))}
    assert "sample 1 at step 2" in done.stdout
    assert load_file(run.folder.checkpoints / "tiny_000000002.safetensors")
