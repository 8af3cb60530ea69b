from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from backend.events import PhaseEvent, Status, StatusEvent
from backend.trainer.early_load import begin_reading
from backend.trainer.errors import TrainingError
from backend.trainer.fast_load import TransformerReading, load_transformer, weight_files
from backend.trainer.loading import BaseModel
from config.schema import ModelConfig
from tests.trainer.conftest import MakeRun

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_flux: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_flux / "transformer", tmp_path / "transformer"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_those_that_diffusers_loads(folder: Path, dtype: torch.dtype) -> None:
    known = FluxTransformer2DModel.from_pretrained(folder, dtype=dtype).state_dict()
    model = load_transformer(folder, CPU, dtype)
    assert model is not None
    assert dict(model.config).items() >= {"num_layers": 1, "num_single_layers": 2}.items()
    mine = model.state_dict()
    assert mine.keys() == known.keys()
    assert all(torch.equal(mine[name], known[name]) and mine[name].dtype == dtype for name in known)
    next(iter(folder.glob("*.safetensors"))).unlink()  # nothing is a view of the file
    assert all(torch.equal(mine[name], known[name]) for name in known)


def test_shards_are_read_and_put_together(folder: Path) -> None:
    (whole,) = weight_files(folder)
    tensors = load_file(whole)
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    whole.unlink()
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / f"{whole.name}.index.json").write_text(json.dumps(index), encoding="utf-8")
    model = load_transformer(folder, CPU, torch.float32)
    assert model is not None
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())


def test_other_files_are_left_to_diffusers(folder: Path) -> None:
    (whole,) = weight_files(folder)
    tensors = load_file(whole)
    tensors.popitem()
    save_file(tensors, whole)
    assert load_transformer(folder, CPU, torch.float32) is None
    whole.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    assert load_transformer(folder, CPU, torch.float32) is None


# -- read ahead ------------------------------------------------------------------------------------


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_the_transformer_is_read_while_texts_and_pictures_are_encoded(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Encoding waits here until all is read, which it could not if reading waited for it."""
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "fresh"))
    readings: list[TransformerReading] = []
    start, encode = TransformerReading.start, BaseModel.text_encoders

    def started(reading: TransformerReading) -> None:
        start(reading)
        readings.append(reading)

    def encoders(base: BaseModel) -> Any:
        for part in readings[0]._parts:
            part.result(30)
        return encode(base)

    monkeypatch.setattr(TransformerReading, "start", started)
    monkeypatch.setattr(BaseModel, "text_encoders", encoders)
    ahead = make_run("ahead")
    assert ahead.train() == 0
    said = lines(capsys)
    assert "the transformer was read in" in said
    assert "training waited" in said
    phases = [(e.phase, e.done, e.total) for e in ahead.events(PhaseEvent) if e.detail == "transformer"]
    assert phases == [("loading", 0, 1), ("loading", 1, 1)]
    with monkeypatch.context() as patch:
        patch.setattr("backend.trainer.early_load.free_memory_here", lambda: 5 << 30)
        alone = make_run("alone")
        assert alone.train() == 0
    said = lines(capsys)
    assert "is loaded after the encoders: it and the encoders need 6 GiB together, 5 are free" in said
    assert "the transformer was loaded in" in said
    one, other = load_file(ahead.final), load_file(alone.final)
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("weights")]


@pytest.mark.parametrize("model", [{"quantize": True, "qtype": "int8"}, {"offload": 1}])
def test_what_goes_through_the_computers_memory_is_not_read_ahead(tiny_flux: Path, model: Any) -> None:
    settings = ModelConfig.model_validate({"name_or_path": "tiny", **model})
    base = BaseModel(tiny_flux, "tiny", CPU, torch.float32, settings=settings)
    assert begin_reading(base, CPU) == (
        None,
        "what is quantised, swapped or one file goes through the computer's memory",
    )


def test_a_damaged_file_is_told_of_when_its_turn_comes(folder: Path, tiny_flux: Path) -> None:
    (whole,) = weight_files(folder)
    whole.write_bytes(whole.read_bytes()[:-100])
    base = BaseModel(tiny_flux, "tiny", CPU, torch.float32, parts={"transformer": folder})
    reading, why = begin_reading(base, CPU)
    assert reading is None
    assert why == "its files cannot be read ahead"
    with pytest.raises(TrainingError, match="the transformer of tiny cannot be loaded from"):
        base.transformer()


def test_a_stop_while_encoding_ends_the_reading(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "fresh"))
    run = make_run()
    closed = []
    start, close = TransformerReading.start, TransformerReading.close

    def stopped(reading: TransformerReading) -> None:
        start(reading)
        run.folder.stop_file.touch()

    monkeypatch.setattr(TransformerReading, "start", stopped)
    monkeypatch.setattr(TransformerReading, "close", lambda self: (closed.append(1), close(self))[1])
    assert run.train() == 0
    assert closed
    assert run.events(StatusEvent)[-1].status is Status.STOPPED
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("weights")]


def test_memory_that_is_short_beside_the_encoders_is_tried_again_without(
    tiny_flux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = BaseModel(tiny_flux, "tiny", CPU, torch.float32)
    known = base.transformer().state_dict()
    reading, _ = begin_reading(base, CPU)
    assert reading is not None

    def full() -> Any:
        reading.close()
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(reading, "model", full)
    found = base.transformer(reading=reading).state_dict()
    assert all(torch.equal(weight, found[name]) for name, weight in known.items())
