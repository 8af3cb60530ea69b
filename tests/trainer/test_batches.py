"""From cached pictures and texts to batches, and whole runs on every kind of dataset."""

from __future__ import annotations

import functools
import io
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from backend.events import StepEvent, WarningEvent
from backend.trainer.batches import Batch, BatchMaker
from backend.trainer.buckets import Bucket
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.captions import CaptionRules
from backend.trainer.control import StopControl
from backend.trainer.dataset import Picture
from backend.trainer.encode import Progress
from backend.trainer.held_out import cache_held_out
from backend.trainer.latents import cache_pictures, encode_picture
from backend.trainer.loading import BaseModel
from backend.trainer.masks import Mask
from backend.trainer.order import DataOrder, Draw, Sample
from backend.trainer.pictures import Framing, open_picture
from backend.trainer.pixels import framed_pixels
from backend.trainer.report import Reporter
from backend.trainer.rng import Randomness
from backend.trainer.texts import Texts, Wording
from tests.trainer.conftest import MakeRun, Run, draw_picture

CPU = torch.device("cpu")
WORDING = Wording(CaptionRules())


class Rig:
    """Caches with embeddings of a few texts, and latents that a test puts in."""

    def __init__(self, folder: Path) -> None:
        self.latents = TensorCache(folder / "latents", RamBudget(1 << 28))
        self.texts = TensorCache(folder / "texts", RamBudget(1 << 28))
        for number, key in enumerate("abcd"):
            self.texts.store(key, {"t5": torch.full((3, 4), float(number)), "clip": torch.full((2,), number)})
        self.make = BatchMaker(self.latents, self.texts, Randomness(1, CPU), CPU, torch.float32)

    def sample(self, name: str, mask: torch.Tensor | None = None, **settings: Any) -> Sample:
        settings = {"bucket": Bucket(32, 16), "texts": (Texts("a"),)} | settings
        columns, rows = settings.get("slack", (0, 0))
        generator = torch.Generator().manual_seed(len(name))
        self.latents.store(name, {"latent": torch.randn(4, 2 + rows, 4 + columns, generator=generator)})
        if mask is not None:
            self.latents.store(f"{name} mask", {"mask": mask})
            settings["mask"] = f"{name} mask"
        return Sample(latent=name, **settings)

    def batch(self, *samples: Sample) -> Batch:
        return self.make([Draw(sample, sample.texts[0]) for sample in samples])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_plain_batches_carry_nothing_extra(rig: Rig) -> None:
    batch = rig.batch(rig.sample("x"), rig.sample("yy", texts=(Texts("b"),)))
    assert batch.latents.shape == (2, 4, 2, 4)
    assert batch.t5[:, 0, 0].tolist() == batch.clip[:, 0].tolist() == [0.0, 1.0]
    assert (batch.mask, batch.loss_weight, batch.preserved_t5, batch.preserved_clip) == (None,) * 4
    assert (batch.network_weight, batch.is_reg, batch.prior_reg) == (1.0, False, False)


def test_masks_have_mean_one_over_the_batch(rig: Rig) -> None:
    mask = torch.tensor([[[0.0, 0.5, 1.0, 0.0], [0.0, 0.0, 0.25, 0.0]]])
    batch = rig.batch(rig.sample("x", mask), rig.sample("yy"))
    assert batch.mask is not None
    both = torch.stack([mask, torch.ones(1, 2, 4)])
    assert torch.allclose(batch.mask, both * 16 / (1.75 + 8))
    assert float(batch.mask.mean()) == pytest.approx(1.0)
    black = rig.batch(rig.sample("zzz", torch.zeros(1, 2, 4)))
    assert black.mask is not None
    assert torch.equal(black.mask, torch.zeros(1, 1, 2, 4))  # not NaN


def test_latent_and_mask_are_cropped_alike(rig: Rig) -> None:
    mask = torch.rand(1, 5, 9, generator=torch.Generator().manual_seed(1))
    sample = rig.sample("x", mask, slack=(5, 3))
    whole = rig.latents["x"]["latent"]
    order = DataOrder([sample], 1, seed=1)
    places = set()
    for _ in range(60):
        (draw,) = order.next_batch()
        batch = rig.make([draw])
        assert batch.mask is not None
        view = (slice(None), slice(draw.top, draw.top + 2), slice(draw.left, draw.left + 4))
        assert torch.equal(batch.latents[0], whole[view])
        assert torch.allclose(batch.mask[0], mask[view] / mask[view].mean())
        places.add((draw.left, draw.top))
    assert len(places) > 12


def test_weights_flags_and_preserved_texts(rig: Rig) -> None:
    settings: dict[str, Any] = {"network_weight": 0.5, "is_reg": True, "prior_reg": True}
    batch = rig.batch(
        rig.sample("x", texts=(Texts("a", "c"),), loss_multiplier=0.25, **settings),
        rig.sample("yy", texts=(Texts("b", "d"),), **settings),
    )
    assert batch.loss_weight is not None
    assert batch.loss_weight.tolist() == [0.25, 1.0]
    assert (batch.network_weight, batch.is_reg, batch.prior_reg) == (0.5, True, True)
    assert batch.preserved_t5 is not None
    assert batch.preserved_clip is not None
    assert batch.preserved_t5[:, 0, 0].tolist() == batch.preserved_clip[:, 0].tolist() == [2.0, 3.0]


def test_dropping_a_caption_changes_what_is_preserved_too(rig: Rig) -> None:
    sample = rig.sample("x", texts=(Texts("a", "b"),), dropped=Texts("c", "d"), dropout=0.5)
    seen = set()
    for _ in range(50):
        batch = rig.batch(sample)
        assert batch.preserved_clip is not None
        seen.add((float(batch.clip[0, 0]), float(batch.preserved_clip[0, 0])))
    assert seen == {(0.0, 1.0), (2.0, 3.0)}


def test_a_batch_is_made_in_well_under_five_milliseconds(rig: Rig) -> None:
    samples = [
        rig.sample("x" * n, torch.ones(1, 34, 36), slack=(32, 32), dropped=Texts("b"), dropout=0.5)
        for n in range(1, 5)
    ]
    order = DataOrder(samples, 4, seed=1)
    taken = []
    for _ in range(40):
        began = time.perf_counter()
        rig.make(order.next_batch())
        taken.append(time.perf_counter() - began)
    assert statistics.median(taken) < 0.005


# -- the cache of pictures ---------------------------------------------------------------------


def test_each_copy_has_its_own_latent_and_mask(
    tiny_flux: Path, tmp_path: Path, never_stop: StopControl
) -> None:
    path, mask = tmp_path / "p.png", tmp_path / "mask.png"
    draw_picture(path, (150, 100), 3)
    half = Image.new("L", (150, 100), 0)
    half.paste(255, (0, 0, 50, 100))
    half.save(mask)
    base = BaseModel(tiny_flux, "tiny", CPU, torch.float32)
    cache = TensorCache(tmp_path / "cache", RamBudget(1 << 28))
    picture = Picture(
        path, (Bucket(96, 64),), "x", WORDING, (Texts("x"),), repeats=2, flips=("", "x"),
        random_crop=True, mask=Mask(mask), network_weight=0.5, loss_multiplier=2.0,
    )  # fmt: skip
    vae = functools.cache(base.vae)
    progress = Progress(Reporter(None, io.StringIO()), never_stop)
    samples = cache_pictures([picture], base, vae, {"x": "key"}, cache, progress)
    assert [sample.turn for sample in samples] == [0, 1, 2, 3]
    assert {sample.turns for sample in samples} == {4}
    assert [sample.latent for sample in samples[:2]] == [sample.latent for sample in samples[2:]]
    plain, mirrored = samples[:2]
    assert plain.texts == (Texts("key"),)
    assert (plain.network_weight, plain.loss_multiplier) == (0.5, 2.0)
    assert plain.slack == (0, 0)  # 96 x 64 covers it exactly
    assert plain.mask is not None
    assert mirrored.mask is not None
    seen = cache[plain.mask]["mask"]
    assert torch.equal(seen.flip(-1)[0, :, :7], torch.zeros(8, 7))
    assert seen[0, :, :3].min() > 0.99
    assert cache[mirrored.mask]["mask"][0, :, -3:].min() > 0.99

    wide = cache_pictures(
        [replace(picture, buckets=(Bucket(64, 64),))], base, vae, {"x": "key"}, cache, progress
    )
    assert wide[0].slack == (4, 0)
    latent = cache[wide[0].latent]["latent"]
    framing = Framing(Bucket(64, 64), whole=True)
    pixels = framed_pixels(open_picture(path), framing)
    expected = encode_picture(base.vae(), pixels, seed=int(wide[0].latent[:15], 16))
    assert torch.equal(latent, expected)
    assert latent.shape[1:] == (8, 12)


def test_held_out_pictures_are_cached_in_one_shape_and_damaged_ones_left_out(
    tiny_flux: Path, tmp_path: Path, never_stop: StopControl
) -> None:
    draw_picture(tmp_path / "p.png", (150, 100), 3)
    cut = tmp_path / "cut.png"
    cut.write_bytes((tmp_path / "p.png").read_bytes()[:200])
    held = [
        Picture(path, (Bucket(96, 64),), "x", WORDING, (Texts("x"),), flips=("", "x"), repeats=3)
        for path in (cut, tmp_path / "p.png")
    ]
    base = BaseModel(tiny_flux, "tiny", CPU, torch.float32)
    cache = TensorCache(tmp_path / "cache", RamBudget(1 << 28))
    out = io.StringIO()
    progress = Progress(Reporter(None, out), never_stop)
    vae = functools.cache(base.vae)
    (sample,) = cache_held_out(held, base, vae, {"x": "key"}, cache, progress)
    assert (sample.text_key, sample.bucket) == ("key", (96, 64))
    pixels = framed_pixels(open_picture(tmp_path / "p.png"), Framing(Bucket(96, 64)))
    expected = encode_picture(base.vae(), pixels, seed=int(sample.latent_key[:15], 16))
    assert torch.equal(cache[sample.latent_key]["latent"], expected)
    assert "cut.png is truncated: its end is missing; it does not validate" in out.getvalue()


# -- whole runs --------------------------------------------------------------------------------


@pytest.fixture
def rich(make_run: MakeRun, pictures: Path, tmp_path: Path) -> Any:
    """Makes runs whose datasets use everything at once."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in pictures.glob("*.png"):
        with Image.open(path) as picture:
            Image.linear_gradient("L").resize(picture.size).save(masks / path.name)
    common = {"folder_path": str(pictures), "resolution": [64]}
    datasets = [
        common | {"shuffle_tokens": True, "token_dropout_rate": 0.3, "keep_tokens": 1, "flip_x": True,
                  "caption_dropout_rate": 0.3, "random_crop": True, "mask_path": str(masks)},
        common | {"buckets": False, "random_crop": True, "loss_multiplier": 0.5, "network_weight": 0.8,
                  "random_triggers": ["at night", "in rain"], "random_triggers_max": 2},
        common | {"is_reg": True, "bucket_algorithm": "sdxl", "flip_y": True, "caption_dropout_rate": 0.3},
        common | {"prior_reg": True},
    ]  # fmt: skip

    def make(name: str) -> Run:
        preserve = {"diff_output_preservation": True, "diff_output_preservation_class": "thing"}
        train = {"steps": 8, "batch_size": 2, "reg_weight": 0.5, "validation_split": 1}
        run = make_run(name, train=train | preserve)
        run.configure(datasets=datasets, save={"save_every": 4})
        return run

    return make


def test_a_run_with_every_kind_of_dataset_resumes_to_the_bit(
    rich: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, stopped = rich("straight"), rich("stopped")
    assert straight.train() == 0
    for step in (1, 2, 5):
        assert stopped.train_until(step, monkeypatch) == 0
    assert stopped.train() == 0
    assert not stopped.events(WarningEvent)
    losses = [[event.loss for event in run.events(StepEvent)] for run in (straight, stopped)]
    assert len(losses[0]) == 8
    assert losses[0] == losses[1]
    left, right = load_file(straight.final), load_file(stopped.final)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_longer_run_begins_like_a_shorter_one(rich: Any) -> None:
    short, long = rich("short"), rich("long")
    long.configure(train={"steps": 14})
    assert short.train() == 0
    assert long.train() == 0
    losses = [[event.loss for event in run.events(StepEvent)][:8] for run in (short, long)]
    assert losses[0] == losses[1]
    short.configure(train={"steps": 14})
    assert short.train() == 0
    left, right = load_file(short.final), load_file(long.final)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert "data_changed" not in [event.code for event in short.events(WarningEvent)]
