"""What a LoRA file tells about itself, its preview, number formats, and the proof that it works."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backend.events import ErrorEvent, Status, StatusEvent, WarningEvent
from backend.trainer.lora_file import CONFIG_KEY, LoraFacts, count_tags, file_metadata, file_tensors
from backend.trainer.preview import newest_round, newest_sample, preview_uri
from backend.trainer.public_config import hide_secrets, public_config
from config.load import load_config
from config.schema import RunConfig
from tests.trainer.conftest import MakeRun, Run

SAMPLE = {"prompts": ["zork", "a dog"], "width": 320, "height": 64, "sample_steps": 1, "sample_every": 1}


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_flux: Path, shared_home: Path) -> Run:
    """A run with tags, regularisation pictures and samples, trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUXLORA_HOME", str(shared_home))
        root = tmp_path_factory.mktemp("metadata")
        for folder, caption in (("foxes", "zork, fox, snow, [trigger] runs"), ("others", "a plain dog")):
            (root / folder).mkdir()
            for index in range(3):
                Image.new("RGB", (64, 64), (index * 50, 90, 20)).save(root / folder / f"{index}.png")
                text = caption if index else "fox,  ice "
                (root / folder / f"{index}.txt").write_text(text, encoding="utf-8")
        run = Run(
            root / "run",
            {
                "type": "sd_trainer",
                "device": "cpu",
                "trigger_word": "zork",
                "training_seed": 7,
                "network": {"type": "lora", "linear": 4},
                "save": {"dtype": "float32", "save_every": 2},
                "datasets": [
                    {"folder_path": str(root / "foxes"), "resolution": [64], "num_repeats": 2},
                    {"folder_path": str(root / "others"), "resolution": [64], "is_reg": True},
                ],
                "train": {"steps": 3, "lr": 1e-2, "dtype": "fp32", "gradient_checkpointing": False},
                "model": {"name_or_path": str(tiny_flux), "is_flux": True},
                "sample": SAMPLE,
            },
        )
        assert run.train() == 0
    return run


def test_tags_are_counted_without_the_regularisation_pictures(trained: Run) -> None:
    metadata = metadata_of(trained.final)
    expected = {"1_zork": {"zork": 3, "fox": 3, "snow": 2, "[trigger] runs": 2, "ice": 1}}
    assert json.loads(metadata["ss_tag_frequency"]) == expected
    assert metadata["modelspec.tags"] == "zork, fox, snow, [trigger] runs"


def test_the_data_is_described_without_paths(trained: Run) -> None:
    metadata = metadata_of(trained.final)
    assert json.loads(metadata["ss_dataset_dirs"]) == {"foxes": {"n_repeats": 2}}
    assert json.loads(metadata["ss_reg_dataset_dirs"]) == {"others": {"n_repeats": 1}}
    buckets = json.loads(metadata["ss_bucket_info"])["buckets"]
    assert buckets["0"]["resolution"] == [64, 64]
    assert str(trained.folder.path.parent) not in json.dumps(metadata)


def test_the_whole_config_is_in_the_file(trained: Run) -> None:
    stored = json.loads(metadata_of(trained.final)[CONFIG_KEY])
    config = load_config(trained.folder.config).config
    assert stored["name"] == config.name
    process = stored["process"][0]
    assert process["datasets"][0]["folder_path"] == "foxes"
    assert process["train"] == config.process.train.model_dump(mode="json")
    assert RunConfig.model_validate({**stored, "process": process}).process.network == config.process.network


def test_the_newest_sample_is_the_preview(trained: Run) -> None:
    head, _, data = metadata_of(trained.final)["modelspec.thumbnail"].partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as preview:
        assert (preview.format, preview.size) == ("JPEG", (256, 51))
    names = [path.name for path in trained.folder.samples.iterdir()]
    assert newest_sample(trained.folder.samples).name == max(
        n for n in names if n.endswith("_000000003_0.jpg")
    )


def test_the_newest_round(tmp_path: Path) -> None:
    names = ("9__000000001_0.jpg", "1__000000010_1.png", "2__000000010_0.webp", "5__000000010_0.jpg", "x.jpg",
             ".9__000000011_0.jpg.tmp")  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
    assert [(i, p.name) for i, p in newest_round(tmp_path)] == [
        (0, "5__000000010_0.jpg"),
        (1, "1__000000010_1.png"),
    ]
    assert newest_sample(tmp_path / "nowhere") is None
    assert preview_uri(None) is None
    assert preview_uri(tmp_path / "x.jpg") is None


def config(**changes: Any) -> RunConfig:
    process = {"datasets": [{"folder_path": "/a"}], "model": {"name_or_path": "black-forest-labs/FLUX.1-dev"}}
    return RunConfig.model_validate({"name": "x", "process": process | changes, "meta": {"author": "me"}})


def test_secrets_and_paths_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "swordfish-1234")
    monkeypatch.setenv("SHORT_KEY", "black")
    private = {
        "log_dir": "/home/me/logs",
        "model": {
            "name_or_path": "black-forest-labs/FLUX.1-dev",
            "lora_path": "C:\\Users\\me\\a.safetensors",
        },
        "sample": {"prompts": ["swordfish-1234 and hf_" + "a" * 34]},
    }
    text = json.dumps(public_config(config(**private)))
    assert "/home/me" not in text
    assert "Users" not in text
    assert "swordfish" not in text
    assert "hf_aaa" not in text
    assert "black-forest-labs/FLUX.1-dev" in text
    assert hide_secrets("black") == "black"


def test_meta_is_written_and_known_names_are_shown_by_readers() -> None:
    facts = LoraFacts(config=config(), distilled_guidance=False, training_seed=1)
    metadata = file_metadata(facts, {"t.lora_A.weight": torch.ones(8, 2)}, step=1, epoch=1)
    assert metadata["author"] == metadata["modelspec.author"] == "me"
    assert metadata["modelspec.architecture"] == "flux-1-schnell/lora"
    assert (metadata["ss_network_dim"], metadata["ss_network_module"]) == ("8", "networks.lora_flux")
    lokr = file_metadata(facts, {"t.lokr_w1": torch.ones(8, 2)}, step=1, epoch=1)
    assert lokr["ss_network_module"] == "lycoris.kohya"
    assert json.loads(lokr["ss_network_args"]) == {"algo": "lokr"}


def test_tags_by_trigger() -> None:
    counted = count_tags([("a", "a, x,x"), ("", "x,"), ("a", "y")])
    assert counted == {"a": {"x": 2, "y": 1}, "": {"x": 1}}


# -- number formats ----------------------------------------------------------------------------


def test_float8_keeps_what_a_young_lora_knows() -> None:
    generator = torch.Generator().manual_seed(0)
    a = (torch.rand(8, 3072, generator=generator) - 0.5) * 2 / 3072**0.5
    b = torch.randn(64, 8, generator=generator)
    saved, dtype = file_tensors({"m.lora_A.weight": a, "m.lora_B.weight": b}, 1.0, torch.float8_e4m3fn)
    assert dtype is torch.float8_e4m3fn
    stored = {name.rpartition(".lora_")[2][0]: tensor.float() for name, tensor in saved.items()}
    error = (stored["B"] @ stored["A"] - b @ a).norm() / (b @ a).norm()
    assert float(error) < 0.06  # three bits of mantissa, twice


@pytest.mark.parametrize("size", [1e-8, 1e9])
def test_float8_is_not_used_where_it_would_destroy(size: float) -> None:
    weights = {"m.lora_A.weight": torch.full((2, 4), size), "m.lora_B.weight": torch.full((4, 2), size)}
    saved, dtype = file_tensors(weights, 1.0, torch.float8_e4m3fn)
    assert dtype is torch.bfloat16
    assert all(bool(torch.isfinite(tensor).all()) and bool(tensor.any()) for tensor in saved.values())


def test_a_run_saved_in_float8(make_run: MakeRun) -> None:
    run = make_run(save={"dtype": "float8"}, train={"lr": 0.1})
    assert run.train() == 0
    assert not run.events(WarningEvent)
    assert {tensor.dtype for tensor in load_file(run.final).values()} == {torch.float8_e4m3fn}


# -- the proof ---------------------------------------------------------------------------------


def test_a_file_that_fails_its_self_test_fails_the_run(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend.trainer import saving

    write = saving.write_lora

    def forget_a_tensor(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> int:
        return write(path, dict(list(tensors.items())[1:]), metadata)

    run = make_run()
    with monkeypatch.context() as patch:
        patch.setattr(saving, "write_lora", forget_a_tensor)
        assert run.train() == 1
    (error,) = run.events(ErrorEvent)
    assert error.code == "selftest_failed"
    assert run.final.is_file()
    assert run.events(StatusEvent)[-1].status is Status.FAILED
    assert run.train() == 1  # still, when it is resumed with nothing left to do


def test_weights_of_nothing_fail(make_run: MakeRun) -> None:
    run = make_run()
    assert run.train() == 0
    zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(run.final).items()}
    save_file(zeros, run.final, metadata_of(run.final))
    assert run.train() == 1
    assert run.events(ErrorEvent)[-1].code == "selftest_failed"


@pytest.mark.parametrize("kind", ["dora", "lokr"])
def test_other_kinds_pass_with_their_plain_lora(make_run: MakeRun, kind: str) -> None:
    run = make_run(network={"type": kind})
    assert run.train() == 0
    plain = run.final.with_name("tiny_as_lora.safetensors")
    assert metadata_of(plain)["ss_network_module"] == "networks.lora_flux"
    assert "use_dora" in metadata_of(run.final).get("ss_network_args", "") or kind == "lokr"
    save_file({name: tensor * 0 for name, tensor in load_file(plain).items()}, plain, metadata_of(plain))
    assert run.train() == 1
    assert "as_lora" in run.events(ErrorEvent)[-1].message
