from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from backend.datasets.sidecar import SIDECAR
from backend.estimate import estimate, estimate_text, flux, known_speeds, what_would_change_it_most
from backend.estimate.epochs import plan_of
from backend.estimate.levers import _lever
from backend.estimate.speeds import SPEEDS, STEP_OVERHEAD, modal_name
from backend.estimate.timing import compute_of, expected_step, fit, pass_seconds
from backend.events import AttemptEvent, Status, StatusEvent, StepEvent
from backend.prices import PRICES
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.registry import Registry
from backend.runs.stream import EventWriter
from backend.trainer.buckets import bucket_for, square_bucket
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
    assert double * 2 * stream + single * one == flux.FLUX.lora_per_rank


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
            Image.new("1", (1100, 1100)).save(tmp_path / folder / f"{index}.png")
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


def folder_of(folder: Path, *sizes: tuple[int, int]) -> str:
    folder.mkdir()
    for index, size in enumerate(sizes):
        Image.new("1", size).save(folder / f"{index}.png")
    return f"datasets.0.folder_path={folder}"


def test_pictures_are_trained_in_their_own_shapes(tmp_path: Path) -> None:
    pictures = folder_of(tmp_path / "a", (2048, 1024), (2048, 1024), (600, 800))
    config = config_of(TEXT, pictures, "datasets.0.resolution=[512,1024]", "datasets.0.bucket_algorithm=new")
    plan = plan_of(config.process)
    # The small picture is trained once more, at its own size: 1024 would not enlarge it.
    assert [(part.resolution, part.bucket, part.samples) for part in plan.parts] == [
        (512, bucket_for(600, 800, 512), 1),
        (512, bucket_for(2048, 1024, 512), 2),
        (1024, bucket_for(600, 800, 1024), 1),
        (1024, bucket_for(2048, 1024, 1024), 2),
    ]
    assert sum(part.share for part in plan.parts) == pytest.approx(1)
    found = estimate(config, prices=PRICES)
    assert [(share.resolution, share.samples) for share in found.samples] == [(512, 3), (1024, 3)]
    small = bucket_for(600, 800, 1024)
    lengths = [flux.tokens(small.width, small.height), *[flux.tokens(*bucket_for(2048, 1024, 1024))] * 2]
    seconds = [pass_seconds(flux.step(length, recompute=False), "H100") + STEP_OVERHEAD for length in lengths]
    assert found.samples[1].seconds == pytest.approx(sum(seconds) / 3)
    assert found.epochs == pytest.approx(2000 / 6)

    (tmp_path / "a" / SIDECAR).write_text(
        json.dumps({"version": 1, "pictures": {"0.png": {"excluded": True}}}), encoding="utf-8"
    )
    assert estimate(config, prices=PRICES).pictures == 2
    squares = plan_of(config_of(TEXT, pictures, "datasets.0.buckets=false").process)
    assert {part.bucket for part in squares.parts} == {square_bucket(size) for size in (512, 768, 1024)}


def test_a_manifest_s_pictures_have_shapes_too(tmp_path: Path) -> None:
    folder_of(tmp_path / "a", (600, 800), (900, 600))
    manifest = tmp_path / "data.json"
    manifest.write_text(json.dumps({"a/0.png": "x", "a/1.png": "y", "a/gone.png": "z"}), encoding="utf-8")
    plan = plan_of(
        config_of(TEXT, f"datasets.0.folder_path={manifest}", "datasets.0.resolution=[512]").process
    )
    assert plan.pictures == 2
    assert {part.bucket for part in plan.parts} == {bucket_for(600, 800, 512), bucket_for(900, 600, 512)}


def test_a_budget_of_tokens_fills_batches_of_small_pictures(tmp_path: Path) -> None:
    pictures = folder_of(tmp_path / "a", *[(1100, 1100)] * 6)
    config = config_of(TEXT, pictures, "datasets.0.resolution=[512,1024]", "train.token_budget=auto")
    plan = plan_of(config.process)
    # Three of 512 cost what one of 1024 does: 2 batches beside 6.
    assert [(part.pictures, part.share) for part in plan.parts] == [(3, 0.25), (1, 0.75)]
    assert plan.largest == 4608
    found = estimate(config, prices=PRICES)
    assert found.epochs == pytest.approx(2000 / 8)
    assert found.steps_per_picture == pytest.approx(2000 * 1.5 / 6)
    one = pass_seconds(flux.step(1536, recompute=False), "H100")
    assert found.samples[0].seconds == pytest.approx(3 * one + STEP_OVERHEAD)


def test_regularisation_pictures_take_every_other_step(tmp_path: Path) -> None:
    folder_of(tmp_path / "b", *[(600, 600)] * 8)
    text = TEXT.replace(
        "          flip_x: false",
        f"          flip_x: false\n        - folder_path: {tmp_path / 'b'}\n          resolution: [512]\n"
        "          is_reg: true\n        #",
    )
    pictures = folder_of(tmp_path / "a", *[(600, 600)] * 4)
    found = estimate(config_of(text, pictures, "datasets.0.resolution=[256]"), prices=PRICES)
    assert [(share.resolution, share.share) for share in found.samples] == [(256, 0.5), (512, 0.5)]
    assert found.epochs == pytest.approx(2000 / 2 / 4)


@pytest.mark.parametrize(
    ("compute", "measured"),
    [("bf16", (0.115, 0.207, 0.374)), ("fp8", (0.103, 0.176, 0.314)), ("auto", (0.103, 0.176, 0.314))],
)
def test_an_h100_s_steps_are_those_that_were_measured(compute: str, measured: tuple[float, ...]) -> None:
    """benchmarks/RESULTS.md: seconds at 512, 768 and 1024, compiled, with graphs, nothing recomputed."""
    config = config_of(TEXT, f"model.compute={compute}", "train.gradient_checkpointing=false")
    found = estimate(config, gpus=["H100"], prices=PRICES)
    assert [share.seconds for share in found.samples] == [pytest.approx(one, rel=0.03) for one in measured]
    assert found.gpus[0].seconds_per_step == pytest.approx(sum(measured) / 3, rel=0.03)


def test_float8_is_foretold_only_where_the_trainer_uses_it() -> None:
    for override, gpu, used in (
        ("train.dtype=bf16", "H100", "fp8"),
        ("train.dtype=bf16", "A100-80GB", "bf16"),
        ("train.dtype=float32", "H100", "bf16"),
        ("train.compile=false", "H100", "bf16"),
        ("model.quantize=true", "H100", "bf16"),
        ("network.dropout=0.1", "H100", "bf16"),
        ("model.assistant_lora_path=x", "H100", "bf16"),
    ):
        assert compute_of(config_of(TEXT, "model.compute=fp8", override).process, gpu) == used, override
    assert compute_of(config_of().process, "H100") == "bf16"


def test_several_gpus_share_the_work_and_each_costs(tmp_path: Path) -> None:
    pictures = folder_of(tmp_path / "a", *[(1100, 1100)] * 5)
    one = estimate(config_of(TEXT, pictures, "modal.gpu=[H100]"), prices=PRICES)
    two = estimate(config_of(TEXT, pictures, 'modal.gpu=["H100:2", "H100!"]'), prices=PRICES)
    assert {gpu.gpu for gpu in two.gpus if gpu.chosen} == {"H100:2", "H100"}
    assert two.chosen is not None
    alone, pair = two.on("H100"), two.on("H100:2")
    assert alone is not None
    assert pair is not None
    assert one.epochs is not None
    assert two.epochs == pytest.approx(2 * one.epochs)
    exchange = 86e6 * 8 / 100e9  # rank 16: weights there, gradients back
    assert pair.seconds_per_step == pytest.approx(alone.seconds_per_step + exchange, rel=0.001)
    hourly = 2 * PRICES.gpu["H100"] + 4 * PRICES.core + 32 * PRICES.memory
    assert pair.dollars == pytest.approx(pair.seconds / 3600 * hourly)
    assert any(note.startswith("2 GPUs train 2 batches an update") for note in two.notes)
    lazy = estimate(config_of(TEXT, pictures, "modal.gpu=[H100:2]", "train.gpus=1"), prices=PRICES)
    assert lazy.epochs == one.epochs
    asked = estimate(config_of(TEXT, pictures, "modal.gpu=[H100]"), gpus=["H100:2"], prices=PRICES)
    assert asked.epochs == two.epochs
    assert any("1 of H100:2 would do nothing" in note for note in lazy.notes)


def test_a_local_model_s_size_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "transformer"
    folder.mkdir(parents=True)
    data = {"num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 4}
    (folder / "config.json").write_text(json.dumps(data), encoding="utf-8")
    assert flux.shape_of(str(tmp_path / "tiny")) == flux.Shape(1, 2, 64)
    tiny = estimate(config_of(TEXT, f"model.name_or_path={tmp_path / 'tiny'}"), prices=PRICES).on("T4")
    assert tiny is not None
    assert tiny.fits
    assert tiny.memory_bytes < 2**31
    assert tiny.seconds_per_step < 0.03
    assert flux.shape_of("black-forest-labs/FLUX.1-dev") == flux.FLUX
    for rubbish in ("{", "[]", '{"num_single_layers": 1}', '{"num_single_layers": "x", "num_layers": 1}'):
        (folder / "config.json").write_text(rubbish, encoding="utf-8")
        assert flux.shape_of(str(tmp_path / "tiny")) == flux.FLUX


def test_flux_s_weights_are_the_published_numbers() -> None:
    assert flux.FLUX.weights == pytest.approx(11.9e9, rel=0.001)
    assert flux.FLUX.per_token == pytest.approx(6.45e9, rel=0.001)


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
    assert "GiB, has 16" in next(one.why for one in found.gpus if one.gpu == "T4")
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


def test_a_change_that_takes_longer_and_saves_money_says_which_is_which() -> None:
    assert _lever("modal.gpu", "T4", 120, 0.05, 0.12).sentence == "modal.gpu: T4 adds 2 min and saves $0.07"
    faster = _lever("modal.gpu", "B200", -30, 0.23, 0.12).sentence
    assert faster == "modal.gpu: B200 saves 30 s and costs $0.11"
    assert _lever("train.steps", 9, -30, 0.1, 0.12).sentence == "train.steps: 9 saves 30 s and $0.02"


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
