from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from backend.estimate import estimate, estimate_text, flux, known_speeds, what_would_change_it_most
from backend.estimate.speeds import SPEEDS, modal_name
from backend.estimate.timing import expected_step, fit
from backend.events import AttemptEvent, Status, StatusEvent, StepEvent
from backend.prices import PRICES
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.registry import Registry
from backend.runs.stream import EventWriter
from config.gpus import GPUS
from config.load import check_text
from config.presets import preset_text
from config.schema import RunConfig

TEXT = preset_text("character")


def config_of(text: str = TEXT, *overrides: str) -> RunConfig:
    loaded, problems = check_text(Path("c.yaml"), text, overrides, files=False, env={})
    assert loaded is not None, problems
    return loaded.config


def test_products_are_those_of_the_published_arithmetic() -> None:
    """About 45, 92 and 171 TFLOP a step without recomputation (issue 9, section 3.2 of the spec)."""
    found = [flux.step(flux.tokens(size, size), recompute=False).total for size in (512, 768, 1024)]
    assert found == [pytest.approx(45, abs=1), pytest.approx(92, abs=1), pytest.approx(171, abs=1)]
    again = flux.step(flux.tokens(1024, 1024), recompute=True).total
    assert again == pytest.approx(171 + flux.forward(4608).total, abs=1)


def test_the_adapter_s_size_is_that_of_the_layers() -> None:
    # to_q, to_k, to_v, their text twins, two outs, two feed-forwards, two norms; then the single blocks.
    width, double, single = 3072, 19, 38
    stream = 3 * 2 * width + 2 * width + 2 * (width + 4 * width) + (width + 6 * width)
    one = 3 * 2 * width + (width + 4 * width) + (5 * width + width) + (width + 3 * width)
    assert double * 2 * stream + single * one == flux.LORA_PER_RANK


def test_every_gpu_of_modal_s_has_a_speed_and_a_price() -> None:
    assert set(SPEEDS) == set(GPUS) == set(PRICES.gpu)


def test_memory_decides_what_fits() -> None:
    whole = config_of(TEXT, "train.gradient_checkpointing=true").process
    assert not fit(whole, "L4").fits
    assert fit(whole, "H100").fits
    small = config_of(TEXT, "model.quantize=true", "model.qtype=nf4", "datasets.0.resolution=[512]").process
    assert fit(small, "L4").fits
    auto = config_of(TEXT, "train.gradient_checkpointing=auto").process
    assert not fit(auto, "H100").recompute
    assert fit(auto, "A100-40GB").recompute
    assert fit(auto, "H100").memory > fit(whole, "H100").memory


def test_epochs_and_shares_follow_the_pictures(tmp_path: Path) -> None:
    for folder, count in (("a", 4), ("b", 2)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / folder / f"{index}.png")
    text = TEXT.replace("./pictures", str(tmp_path / "a")).replace(
        "          flip_x: false",
        f"          flip_x: false\n        - folder_path: {tmp_path / 'b'}\n          resolution: [512]\n"
        "          num_repeats: 3\n          flip_x: true\n        #",
    )
    found = estimate(config_of(text), prices=PRICES)
    assert found.pictures == 6
    # Four pictures at three sizes, two mirrored three times at one: 12 + 12 samples.
    assert [(share.resolution, share.samples) for share in found.samples] == [(512, 16), (768, 4), (1024, 4)]
    assert found.epochs == pytest.approx(2000 / 24)
    assert found.steps_per_picture == pytest.approx(2000 / 6)
    assert sum(share.steps for share in found.samples) == pytest.approx(2000)
    assert not any("epochs" in note for note in found.notes)


def test_without_the_pictures_it_says_so() -> None:
    found = estimate(config_of(), prices=PRICES)
    assert (found.pictures, found.epochs) == (None, None)
    assert any(note.startswith("the pictures in") and "are not here" in note for note in found.notes)


def test_counts_of_checkpoints_and_samples() -> None:
    found = estimate(config_of(), prices=PRICES)
    assert (found.saves, found.checkpoints) == (8, 5)  # every 250 of 2000; four kept, and the last
    assert found.samples_drawn == 9 * 3  # before the first step and eight times, three prompts
    none = estimate(config_of(TEXT, "train.disable_sampling=true", "save.save_every=0"), prices=PRICES)
    assert (none.samples_drawn, none.saves, none.checkpoints) == (0, 1, 1)
    late = estimate(config_of(TEXT, "sample.sample_start_step=1000"), prices=PRICES)
    assert late.samples_drawn == 5 * 3


def test_dollars_are_time_at_the_price_table_s_rate() -> None:
    found = estimate(config_of(), prices=PRICES).on("H100")
    assert found is not None
    hourly = PRICES.gpu["H100"] + 4 * PRICES.core + 32 * PRICES.memory
    assert found.dollars == pytest.approx(found.seconds / 3600 * hourly)
    assert found.seconds > 2000 * found.seconds_per_step
    assert not found.measured


def test_those_that_fit_come_first_and_the_config_s_choice_is_marked() -> None:
    found = estimate(config_of(), prices=PRICES)
    fits = [one.fits for one in found.gpus]
    assert fits == sorted(fits, reverse=True)
    costs = [one.dollars for one in found.gpus if one.fits]
    assert costs == sorted(costs, key=lambda cost: cost or 0)
    assert {one.gpu for one in found.gpus if one.chosen} == {"H100", "A100-80GB"}
    assert found.chosen is not None
    assert "needs about" in next(one.why for one in found.gpus if one.gpu == "T4")
    with pytest.raises(ValueError, match="is no GPU of Modal's"):
        estimate(config_of(), gpus=["H1000"], prices=PRICES)


def write_run(registry: Registry, seconds: float, device: str) -> None:
    folder = RunFolder(registry.runs_folder / "abc11111")
    folder.create()
    folder.config.write_text(TEXT, encoding="utf-8")
    record = RunRecord(id="abc11111", name="x", backend="modal", steps=20, created=1.0, path=folder.path)
    folder.write_record(record)
    registry.add(record)
    with EventWriter(folder.events) as writer:
        writer.write(AttemptEvent(attempt=1, step=0, steps=20, device=device))
        for step in range(1, 21):
            writer.write(StepEvent(step=step, loss=0.1, smoothed=0.1, lr=1e-4, seconds=seconds))
        writer.write(StatusEvent(status=Status.FINISHED))
    import dataclasses

    registry.save(dataclasses.replace(registry.all()[0], status=Status.FINISHED))


def test_the_user_s_own_runs_replace_the_assumption(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assumed = expected_step(config_of(), "H100")
    write_run(registry, assumed * 3, "NVIDIA H100 80GB HBM3")
    here = known_speeds(registry, root=tmp_path)
    assert [run.gpu for run in here.runs] == ["H100"]
    found = estimate(config_of(), here=here, prices=PRICES)
    h100, l40s = found.on("H100"), found.on("L40S")
    assert h100 is not None
    assert l40s is not None
    assert h100.seconds_per_step == pytest.approx(assumed * 3, rel=0.01)
    assert (h100.measured, h100.source) == (True, "1 of your runs")
    assert not l40s.measured


def test_the_benchmark_s_results_are_read_tolerantly(tmp_path: Path) -> None:
    entry = {"gpu": "L40S", "resolution": 1024, "batch": 1, "compute": "bf16", "checkpointing": "on"}
    results = [
        {**entry, "seconds_per_step": 1.5, "peak_bytes": 3e10},
        {"gpu": "Voodoo 2", "resolution": 1024, "seconds_per_step": 1},
        {"gpu": "L40S"},
        "rubbish",
        {**entry, "seconds_per_step": "nan"},
    ]
    (tmp_path / "bench.json").write_text(json.dumps(results), encoding="utf-8")
    here = known_speeds(Registry(tmp_path), root=tmp_path)
    assert [(result.gpu, result.seconds) for result in here.bench] == [("L40S", 1.5)]
    one = estimate(config_of(TEXT, "datasets.0.resolution=[1024]"), here=here, prices=PRICES).on("L40S")
    assert one is not None
    assert one.measured
    assert one.seconds_per_step == pytest.approx(1.5, rel=0.02)
    (tmp_path / "bench.json").write_text("{", encoding="utf-8")
    assert known_speeds(Registry(tmp_path), root=tmp_path).problems == ("bench.json is damaged and not used",)


def test_what_would_change_it_most_is_what_the_model_says_of_the_change() -> None:
    recomputing = config_of(TEXT, "train.gradient_checkpointing=true")
    levers = what_would_change_it_most(recomputing, "H100", prices=PRICES)
    by_key = {lever.key: lever for lever in levers}
    assert {"train.steps", "train.gradient_checkpointing", "datasets.resolution"} <= set(by_key)
    now = estimate(recomputing, gpus=["H100"], prices=PRICES).gpus[0]
    shorter = config_of(TEXT, "train.gradient_checkpointing=true", "train.steps=1000")
    half = estimate(shorter, gpus=["H100"], prices=PRICES).gpus[0]
    assert by_key["train.steps"].seconds == pytest.approx(half.seconds - now.seconds)
    assert by_key["train.steps"].sentence.startswith("train.steps: 1000 saves ")
    costs = [lever.dollars or 0 for lever in levers]
    assert costs == sorted(costs)
    # On a card where it would not fit, going without recomputation is no advice.
    small = {lever.key for lever in what_would_change_it_most(recomputing, "A100-40GB", prices=PRICES)}
    assert "train.gradient_checkpointing" not in small


def test_unsaved_text_and_sweeps() -> None:
    assert estimate_text(Path("c.yaml"), "config: [") is None
    assert estimate_text(Path("c.yaml"), TEXT.replace("lr: 1e-4", "lr: [1e-4, 2e-4]")) is not None


def test_names_of_devices() -> None:
    names = {
        "NVIDIA H100 80GB HBM3": "H100",
        "NVIDIA H200": "H200",
        "NVIDIA A100-SXM4-40GB": "A100-40GB",
        "NVIDIA A100 80GB PCIe": "A100-80GB",
        "NVIDIA L4": "L4",
        "NVIDIA L40S": "L40S",
        "NVIDIA A10G": "A10",
        "Tesla T4": "T4",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX-PRO-6000",
        "cpu": None,
    }
    assert {device: modal_name(device) for device in names} == names
