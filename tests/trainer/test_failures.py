"""Every way a run can fail has its own sentence, code and outcome."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend.events import ErrorEvent, Status, StatusEvent, StepEvent, WarningEvent
from backend.trainer.checkpoint import STATE_FILE
from backend.trainer.step import TrainStep
from tests.trainer.conftest import MakeRun, Run, draw_picture


def failure(run: Run) -> ErrorEvent:
    """The error of a failed run, after checking that its status says the same."""
    error: ErrorEvent = run.events(ErrorEvent)[-1]
    status = run.events(StatusEvent)[-1]
    assert (status.status, status.reason) == (Status.FAILED, error.message)
    assert "Traceback" not in error.message
    assert "\n" not in error.message
    return error


def warnings(run: Run) -> list[tuple[str, str]]:
    return [(event.code, event.message) for event in run.events(WarningEvent)]


# -- data --------------------------------------------------------------------------------------


def test_damaged_pictures_are_left_out(make_run: MakeRun, pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    cut = data / "cut.png"
    cut.write_bytes((data / "picture0.png").read_bytes()[:300])
    (data / "text.jpg").write_text("no picture", encoding="utf-8")
    (data / ".hidden").mkdir()
    (data / ".hidden" / "ignored.png").write_text("", encoding="utf-8")
    (data / "._picture0.png").write_text("", encoding="utf-8")
    run = make_run(datasets=[{"folder_path": str(data), "resolution": [64]}])
    assert run.train() == 0
    bad = [message for code, message in warnings(run) if code == "bad_picture"]
    assert len(bad) == 2
    assert any(str(cut) in message and "truncated" in message for message in bad)
    assert any("text.jpg is not a picture" in message for message in bad)


def test_nothing_but_damaged_pictures_fails(make_run: MakeRun, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    draw_picture(data / "whole.png", (64, 64))
    (data / "a.png").write_bytes((data / "whole.png").read_bytes()[:150])
    (data / "whole.png").unlink()
    run = make_run(datasets=[{"folder_path": str(data), "resolution": [64], "default_caption": "x"}])
    assert run.train() == 1
    assert failure(run).code == "no_pictures"


@pytest.mark.parametrize("default", [None, "a thing"])
def test_unreadable_captions(make_run: MakeRun, pictures: Path, tmp_path: Path, default: str | None) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    (data / "picture2.txt").write_bytes("Häuschen".encode("latin-1"))
    run = make_run(datasets=[{"folder_path": str(data), "resolution": [64], "default_caption": default}])
    assert run.train() == 0
    ((code, message),) = warnings(run)
    assert code == "bad_caption"
    assert "picture2.txt is not UTF-8" in message
    assert message.endswith("default_caption is used" if default else "its picture is left out")


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_no_dataset(make_run: MakeRun, tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    if kind == "empty":
        data.mkdir()
    run = make_run(datasets=[{"folder_path": str(data)}])
    assert run.train() == 2
    assert str(data) in failure(run).message


# -- model -------------------------------------------------------------------------------------


@pytest.fixture
def broken_model(tiny_flux: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_flux, folder)
    return folder


def test_a_missing_model_folder(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(model={"name_or_path": str(tmp_path / "nowhere")})
    assert run.train() == 2
    assert "nowhere" in failure(run).message


@pytest.mark.parametrize("part", ["vae", "text_encoder_2", "tokenizer"])
def test_a_missing_part(make_run: MakeRun, broken_model: Path, part: str) -> None:
    shutil.rmtree(broken_model / part)
    run = make_run(model={"name_or_path": str(broken_model)})
    assert run.train() == 2
    assert str(broken_model / part) in failure(run).message


def test_another_architecture(make_run: MakeRun, broken_model: Path) -> None:
    config = broken_model / "transformer" / "config.json"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("FluxTransformer2DModel", "SD3Transformer2DModel"), encoding="utf-8")
    run = make_run(model={"name_or_path": str(broken_model)})
    assert run.train() == 2
    assert failure(run).code == "unsupported_model"
    assert "SD3Transformer2DModel" in failure(run).message


@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_damaged_weights(make_run: MakeRun, broken_model: Path, part: str) -> None:
    weights = next((broken_model / part).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    run = make_run(model={"name_or_path": str(broken_model)})
    assert run.train() == 1
    error = failure(run)
    assert error.code == "model_damaged"
    assert str(broken_model / part) in error.message


def test_missing_weights(make_run: MakeRun, broken_model: Path) -> None:
    next((broken_model / "transformer").glob("*.safetensors")).unlink()
    run = make_run(model={"name_or_path": str(broken_model)})
    assert run.train() == 1
    assert failure(run).code == "model_damaged"
    assert str(broken_model / "transformer") in failure(run).message


# -- config and surroundings -------------------------------------------------------------------


def test_a_bad_config(make_run: MakeRun) -> None:
    run = make_run(train={"steps": -1})
    assert run.train() == 2
    error = failure(run)
    assert error.code == "bad_config"
    assert "train.steps" in error.message


def test_bad_optimizer_params(make_run: MakeRun) -> None:
    run = make_run(train={"optimizer_params": {"wight_decay": 1}})
    assert run.train() == 2
    assert "wight_decay" in failure(run).message


def test_no_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from backend.trainer.__main__ import main

    assert main([str(tmp_path / "nothing")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_without_the_train_extra(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    for name in [name for name in sys.modules if name.startswith("backend.trainer.")]:
        if "tiny" not in name and name.rpartition(".")[2] not in ("attempt", "errors", "report", "control"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run.train() == 1
    error = failure(run)
    assert error.code == "missing_train_extra"
    assert "pip install 'fluxlora-tui[train]'" in error.message


def test_a_device_that_is_not_there_is_a_warning(make_run: MakeRun) -> None:
    run = make_run(device="cuda:99")
    assert run.train() == 0
    assert [code for code, _ in warnings(run)] == ["device_fallback"]
    assert "cuda:99" in warnings(run)[0][1]


def test_a_device_that_is_none_is_refused(make_run: MakeRun) -> None:
    run = make_run(device="toaster")
    assert run.train() == 2
    assert failure(run).code == "no_device"


# -- while training ----------------------------------------------------------------------------


def test_nan_keeps_the_last_good_checkpoint(make_run: MakeRun) -> None:
    """float16 and a huge learning rate overflow for real."""
    run = make_run(
        train={"steps": 30, "lr": 10.0, "dtype": "fp16", "max_grad_norm": 0},
        save={"save_every": 1, "dtype": "float32"},
    )
    assert run.train() == 1
    error = failure(run)
    assert error.code == "nan_loss"
    good = run.events(StepEvent)[-1].step
    assert 1 <= good < 29
    newest = sorted(run.folder.checkpoints.iterdir())[-1]
    assert newest.name == f"tiny_{good:09d}.safetensors"
    assert all(bool(torch.isfinite(tensor).all()) for tensor in load_file(newest).values())
    state = load_file(run.folder.state / STATE_FILE)
    assert all(bool(torch.isfinite(t).all()) for name, t in state.items() if name.startswith("/lora"))


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
def test_a_full_disk_keeps_the_last_state(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on file sizes stops the writes where a full disk would, with a real OSError."""
    straight = make_run("straight", train={"steps": 3})
    assert straight.train() == 0
    run = make_run(train={"steps": 3})
    assert run.train_until(1, monkeypatch) == 0
    state = (run.folder.state / STATE_FILE).read_bytes()
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY));"
        "from backend.trainer.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, str(run.folder.path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    error = failure(run)
    assert error.code == "disk_full"
    assert "tiny.safetensors" in error.message
    assert "MiB" in error.message
    assert (run.folder.state / STATE_FILE).read_bytes() == state
    assert not list(run.folder.checkpoints.glob(".*"))
    assert run.train() == 0
    left, right = load_file(straight.final), load_file(run.final)
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("surprise\nwith details"), "internal"),
    ],
)
def test_a_failing_step_loses_no_finished_one(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    straight = make_run("straight", train={"steps": 4})
    assert straight.train() == 0
    run = make_run(train={"steps": 4})
    losses = TrainStep.losses
    calls = 0

    def failing_losses(self: TrainStep, batch: Any, draws: Any = None) -> Iterator[torch.Tensor]:
        nonlocal calls
        calls += 1
        parts = list(losses(self, batch, draws))  # the random numbers are drawn before it fails
        if calls == 3:
            raise error
        yield from parts

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "losses", failing_losses)
        assert run.train() == 1
    assert failure(run).code == code
    assert (run.folder.state / "crash.txt").exists() == (code == "internal")
    assert (run.folder.checkpoints / "tiny_000000002.safetensors").exists()
    assert run.train() == 0
    assert [event.step for event in run.events(StepEvent)] == [1, 2, 3, 4]
    left, right = load_file(straight.final), load_file(run.final)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_failing_sample_is_a_warning(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from backend.trainer.sampling import Sampler

    def broken(*args: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Sampler, "_decode", broken)
    run = make_run(
        train={"disable_sampling": False},
        sample={"prompts": ["x"], "sample_every": 1, "sample_steps": 1, "width": 64, "height": 64},
    )
    assert run.train() == 0
    assert [code for code, _ in warnings(run)] == ["sampling_failed"] * 4
    assert "out of memory" in warnings(run)[0][1]


def test_a_damaged_state_says_so(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    assert run.train_until(1, monkeypatch) == 0
    state = run.folder.state / STATE_FILE
    state.write_bytes(state.read_bytes()[:-10])
    assert run.train() == 1
    assert failure(run).code == "state_damaged"
    assert str(state) in failure(run).message


def test_leftovers_of_a_killed_save_are_removed(make_run: MakeRun) -> None:
    run = make_run()
    run.folder.create()
    leftovers = [
        run.folder.checkpoints / ".tiny_000000001.safetensors.abc.tmp",
        run.folder.state / f".{STATE_FILE}.abc.tmp",
    ]
    for path in leftovers:
        path.write_bytes(b"half")
    assert run.train() == 0
    assert not any(path.exists() for path in leftovers)
