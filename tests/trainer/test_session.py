"""Whole runs on the tiny model: what they say, and what they leave behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    PhaseEvent,
    SampleEvent,
    Status,
    StatusEvent,
    StepEvent,
    WarningEvent,
)
from backend.trainer.latents import encode_picture
from backend.trainer.loading import BaseModel
from tests.trainer.conftest import MakeRun, Run


def story(run: Run) -> list[str]:
    """Statuses and phases in order, repeats left out."""
    told: list[str] = []
    for event in run.events():
        if isinstance(event, StatusEvent):
            told.append(f"[{event.status}]")
        elif isinstance(event, AttemptEvent):
            told.append("attempt")
        elif isinstance(event, PhaseEvent) and (not told or told[-1] != event.phase):
            told.append(event.phase)
        elif isinstance(event, StepEvent) and told[-1] != "step":
            told.append("step")
    return told


@pytest.fixture
def busy_run(make_run: MakeRun) -> Run:
    run = make_run(
        save={"dtype": "float16", "save_every": 2},
        train={"steps": 4, "disable_sampling": False},
        sample={
            "prompts": ["[trigger] in blue", "a cat"],
            "sample_every": 2,
            "sample_steps": 2,
            "width": 72,
            "height": 64,
            "seed": 5,
            "walk_seed": True,
        },
    )
    assert run.train() == 0
    return run


def test_events_come_in_order(busy_run: Run) -> None:
    assert story(busy_run) == [
        "[starting]",
        "attempt",
        "loading",
        "caching text",
        "caching latents",
        "loading",
        "sampling",
        "[training]",
        "training",
        "step",
        "saving",
        "sampling",
        "training",
        "step",
        "saving",
        "sampling",
        "[finished]",
    ]
    training = [event for event in busy_run.events(PhaseEvent) if event.phase == "training"]
    assert [(event.done, event.total) for event in training] == [(0, 4), (2, 4)]
    for name in ("caching text", "caching latents", "sampling", "saving"):
        last = [event for event in busy_run.events(PhaseEvent) if event.phase == name][-1]
        assert last.done == last.total > 0


def test_steps_are_reported_whole(busy_run: Run) -> None:
    steps = busy_run.events(StepEvent)
    assert [event.step for event in steps] == [1, 2, 3, 4]
    assert steps[0].smoothed == pytest.approx(steps[0].loss)
    for event in steps:
        assert event.loss > 0
        assert event.grad_norm is not None
        assert event.grad_norm > 0
        assert event.lr == 1e-2
        assert 0 < event.seconds < 60
        assert event.memory > 50 << 20  # torch alone takes more
        assert event.epoch == 1
    attempt = busy_run.events(AttemptEvent)[0]
    assert (attempt.step, attempt.steps, attempt.device) == (0, 4, "cpu")
    assert attempt.versions["torch"] == torch.__version__.partition("+")[0] or attempt.versions["torch"]


def test_files_have_ai_toolkits_names(busy_run: Run) -> None:
    names = sorted(path.name for path in busy_run.folder.checkpoints.iterdir())
    assert names == ["tiny.safetensors", "tiny_000000002.safetensors"]
    assert [(e.step, e.path, e.final) for e in busy_run.events(CheckpointEvent)] == [
        (2, "checkpoints/tiny_000000002.safetensors", False),
        (4, "checkpoints/tiny.safetensors", True),
    ]
    tensors = load_file(busy_run.final)
    assert all(re.fullmatch(r"transformer\.\S+\.lora_[AB]\.weight", name) for name in tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    with safe_open(busy_run.final, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["training_info"])["step"] == 4
    assert metadata["ss_num_train_images"] == "5"
    assert str(busy_run.folder.path.parent) not in json.dumps(metadata)


def test_samples_are_drawn(busy_run: Run) -> None:
    samples = busy_run.events(SampleEvent)
    assert [(event.step, event.index, event.seed) for event in samples] == [
        (0, 0, 5), (0, 1, 6), (2, 0, 5), (2, 1, 6), (4, 0, 5), (4, 1, 6),
    ]  # fmt: skip
    assert {event.prompt for event in samples} == {"zork in blue", "a cat"}
    for event in samples:
        assert re.fullmatch(rf"samples/\d{{13}}__{event.step:09d}_{event.index}\.jpg", event.path)
        with Image.open(busy_run.folder.path / event.path) as image:
            assert image.size == (64, 64)  # 72 is no multiple of 16
    pixels = [
        Image.open(busy_run.folder.path / event.path).tobytes() for event in samples if event.index == 0
    ]
    assert pixels[0] != pixels[-1]  # the LoRA shows


def test_the_log_is_readable(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_run().train() == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d (INFO|WARNING|ERROR|DEBUG) +\S", line) for line in lines), lines
    assert sum("step " in line for line in lines if "/3 " in line) == 3
    assert lines[-1].endswith("finished")


def test_caches_are_used_and_do_not_change_the_result(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "fresh"))
    first = make_run("first")
    assert first.train() == 0

    def unexpected(*args: object) -> None:
        raise AssertionError("the caches are complete; nothing has to be loaded")

    with monkeypatch.context() as patch:
        patch.setattr(BaseModel, "text_encoders", unexpected)
        patch.setattr(BaseModel, "vae", unexpected)
        second = make_run("second")
        assert second.train() == 0
    entries = sorted((tmp_path / "fresh" / "cache" / "latents").rglob("*.safetensors"))
    assert len(entries) == 5
    entries[0].write_bytes(entries[0].read_bytes()[:50])  # a damaged entry is computed again
    third = make_run("third")
    assert third.train() == 0
    tensors = [load_file(run.final) for run in (first, second, third)]
    for other in tensors[1:]:
        assert all(torch.equal(tensors[0][name], other[name]) for name in other)
    assert not [path for path in (tmp_path / "fresh").rglob("*") if path.suffix == ".tmp"]


def test_latents_are_scaled_and_reproducible(tiny_flux: Path) -> None:
    vae = BaseModel(tiny_flux, "tiny", torch.device("cpu"), torch.float32).vae()
    pixels = torch.rand(3, 64, 96) * 2 - 1
    latent = encode_picture(vae, pixels, seed=3)
    assert latent.shape == (vae.config.latent_channels, 8, 12)
    assert torch.equal(latent, encode_picture(vae, pixels, seed=3))
    assert not torch.equal(latent, encode_picture(vae, pixels, seed=4))
    with torch.no_grad():
        posterior = vae.encode(pixels[None]).latent_dist
    drawn = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(3))
    expected = (posterior.mean + posterior.std * drawn - vae.config.shift_factor) * vae.config.scaling_factor
    assert torch.allclose(latent, expected[0], atol=1e-5)


def test_a_stop_before_training_saves_nothing_and_can_be_resumed(make_run: MakeRun) -> None:
    run = make_run()
    run.folder.create()
    run.folder.stop_file.touch()
    assert run.train() == 0
    assert [event.status for event in run.events(StatusEvent)] == [
        Status.STARTING,
        Status.STOPPING,
        Status.STOPPED,
    ]
    assert not list(run.folder.checkpoints.iterdir())
    assert not run.folder.stop_file.exists()
    assert run.train() == 0
    assert run.final.exists()


def test_ema_is_what_is_saved(make_run: MakeRun) -> None:
    plain = make_run("plain", train={"steps": 3})
    averaged = make_run("averaged", train={"steps": 3, "ema_config": {"use_ema": True, "ema_decay": 0.9}})
    assert plain.train() == averaged.train() == 0
    name = "transformer.transformer_blocks.0.attn.to_q.lora_B.weight"
    # B starts at 0, so after three updates its average is a small share of it.
    ratio = load_file(averaged.final)[name].norm() / load_file(plain.final)[name].norm()
    assert 0.01 < ratio < 0.5
    # The numbers on the way are those of the raw weights.
    assert [e.loss for e in plain.events(StepEvent)] == [e.loss for e in averaged.events(StepEvent)]


def test_caption_dropout_trains_on_the_trigger_alone(make_run: MakeRun, pictures: Path) -> None:
    """Always dropping the captions is the same as having none."""
    data = {"folder_path": str(pictures), "resolution": [64]}
    dropped = make_run("dropped", datasets=[{**data, "caption_dropout_rate": 1.0}])
    bare = make_run("bare", datasets=[{**data, "caption_ext": "nothing"}])
    assert dropped.train() == bare.train() == 0
    assert [e.loss for e in dropped.events(StepEvent)] == [e.loss for e in bare.events(StepEvent)]
    assert [event.code for event in bare.events(WarningEvent)] == ["no_caption"]
    kept = make_run("kept", datasets=[data])
    assert kept.train() == 0
    assert [e.loss for e in dropped.events(StepEvent)] != [e.loss for e in kept.events(StepEvent)]
