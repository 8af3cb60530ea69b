"""Which pictures a config's datasets mean, and how they are trained."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.trainer.control import StopControl
from backend.trainer.dataset import Picture, read_datasets, with_variants
from backend.trainer.errors import TrainingError
from backend.trainer.held_out import hold_out
from backend.trainer.report import Reporter
from backend.trainer.texts import MOST_VARIANTS, Texts
from config.schema import ProcessConfig
from tests.trainer.conftest import draw_picture


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(4):
        draw_picture(folder / f"p{index}.png", (96, 64), index)
        (folder / f"p{index}.txt").write_text(f"a cat, number {index}, outdoors", encoding="utf-8")
    return folder


def configured(*datasets: dict[str, Any], train: dict[str, Any] | None = None) -> ProcessConfig:
    return ProcessConfig.model_validate(
        {
            "datasets": [{"resolution": 64} | dataset for dataset in datasets],
            "model": {"name_or_path": "x"},
            "trigger_word": "zork",
            "train": train or {},
        }
    )


class Reading:
    """What is read for a config, and what is said."""

    def __init__(self, process: ProcessConfig, stop: StopControl) -> None:
        self.out = io.StringIO()
        self.pictures = read_datasets(process, Reporter(None, self.out), stop)

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.out.getvalue().splitlines() if "WARNING" in line]

    def names(self) -> list[str]:
        return [picture.path.name for picture in self.pictures]


def test_several_datasets_each_with_their_own_settings(
    data: Path, tmp_path: Path, never_stop: StopControl
) -> None:
    other = tmp_path / "other"
    draw_picture_in(other, "q.png")
    process = configured(
        {"folder_path": str(data), "num_repeats": 3, "flip_x": True, "loss_multiplier": 0.5},
        {"folder_path": str(other), "trigger_word": "blob", "default_caption": "[trigger] here",
         "network_weight": 0.7, "random_crop": True, "flip_x": True, "flip_y": True},
        {"folder_path": str(other), "is_reg": True, "default_caption": "a [trigger] thing",
         "caption_dropout_rate": 0.5},
        {"folder_path": str(other), "prior_reg": True, "default_caption": "thing", "flip_y": True},
    )  # fmt: skip
    pictures = Reading(process, never_stop).pictures
    assert len(pictures) == 7
    cat, own, reg, prior = pictures[0], pictures[4], pictures[5], pictures[6]
    assert cat.texts == (Texts("zork a cat,  number 0,  outdoors"),)
    assert (cat.repeats, cat.flips, cat.samples, cat.loss_multiplier) == (3, ("", "x"), 6, 0.5)
    assert (own.text, own.network_weight, own.random_crop) == ("blob here", 0.7, True)
    assert own.flips == ("", "x", "y", "xy")
    assert (reg.text, reg.is_reg, reg.dropped, reg.dropout) == ("a  thing", True, Texts(""), 0.5)
    assert (prior.text, prior.prior_reg, prior.flips) == ("zork thing", True, ("", "y"))


def draw_picture_in(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        draw_picture(folder / name, (64, 64))


def test_regularisation_alone_teaches_nothing(data: Path, never_stop: StopControl) -> None:
    (data / "p0.png").write_text("broken", encoding="utf-8")
    with pytest.raises(TrainingError) as caught:
        Reading(configured({"folder_path": str(data), "is_reg": True}), never_stop)
    assert caught.value.code == "no_pictures"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"bucket_algorithm": "sdxl"}, [(64, 64)]),
        ({"buckets": False}, [(64, 64), (128, 128)]),
        ({}, [(64, 64), (96, 64)]),
    ],
)
def test_buckets_by_each_algorithm(
    data: Path, never_stop: StopControl, settings: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    process = configured({"folder_path": str(data), "resolution": [64, 128]} | settings)
    assert list(Reading(process, never_stop).pictures[0].buckets) == expected


# -- manifests ---------------------------------------------------------------------------------


def write_manifest(data: Path, content: object) -> Path:
    path = data / "captions.json"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_gives_pictures_and_captions(data: Path, never_stop: StopControl) -> None:
    manifest = write_manifest(
        data,
        {
            "p2.png": {"caption": "the second", "caption_short": "2"},
            str(data / "p0.png"): "the first",
            "p3.png": {"caption_short": "no long one"},
            "gone.png": "not there",
        },
    )
    reading = Reading(configured({"folder_path": str(manifest)}), never_stop)
    assert [(p.path.name, p.text) for p in reading.pictures] == [
        ("p0.png", "zork the first"),
        ("p2.png", "zork the second"),
        ("p3.png", "zork "),
    ]
    missing, uncaptioned = reading.warnings
    assert "gone.png cannot be read (No such file or directory); it is left out" in missing
    assert "1 picture in" in uncaptioned
    assert "without a caption" in uncaptioned


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        (["p0.png"], "must map picture paths to captions"),
        ({"p0.png": 3}, "has no caption text for 'p0.png'"),
        ({}, "holds no pictures"),
    ],
)
def test_manifests_that_are_none(data: Path, never_stop: StopControl, content: object, message: str) -> None:
    manifest = write_manifest(data, content)
    with pytest.raises(TrainingError, match=message) as caught:
        Reading(configured({"folder_path": str(manifest)}), never_stop)
    assert caught.value.bad_input
    assert str(manifest) in str(caught.value)


def test_a_missing_manifest(tmp_path: Path, never_stop: StopControl) -> None:
    with pytest.raises(TrainingError, match="does not exist; correct datasets"):
        Reading(configured({"folder_path": str(tmp_path / "none.json")}), never_stop)


# -- pictures and masks ------------------------------------------------------------------------


def test_an_animation_is_used_with_a_warning(data: Path, never_stop: StopControl) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(data / "p0.webp", save_all=True, append_images=frames[1:], lossless=True)
    reading = Reading(configured({"folder_path": str(data)}), never_stop)
    assert len(reading.pictures) == 5
    assert [line for line in reading.warnings if "p0.webp is animated; only its first frame" in line]


def test_masks_are_found_and_are_no_pictures(data: Path, never_stop: StopControl) -> None:
    masks = data / ".." / "data" / "masks"
    draw_picture_in(masks, "p2.jpg")
    draw_picture(masks / "p0.png", (96, 64))
    settings = {"folder_path": str(data), "mask_path": str(masks), "invert_mask": True, "mask_min_value": 0.1}
    reading = Reading(configured(settings), never_stop)
    assert reading.names() == ["p0.png", "p1.png", "p2.png", "p3.png"]
    first, none, other, _ = (picture.mask for picture in reading.pictures)
    assert first is not None
    assert (first.path, first.inverted, first.least) == (masks / "p0.png", True, 0.1)
    assert none is None
    assert other is not None
    gaps, stretched = reading.warnings
    assert "the masks of p2.png in" in stretched
    assert "2 pictures in" in gaps
    assert "without a mask" in gaps
    both = Reading(configured(settings | {"alpha_mask": True}), never_stop)
    assert [picture.mask.alpha for picture in both.pictures if picture.mask] == [False, True, False, True]


def test_a_missing_mask_folder(data: Path, never_stop: StopControl) -> None:
    with pytest.raises(TrainingError, match=r"mask folder .*nowhere does not exist"):
        Reading(configured({"folder_path": str(data), "mask_path": str(data / "nowhere")}), never_stop)


# -- texts -------------------------------------------------------------------------------------


def variants(process: ProcessConfig, stop: StopControl) -> list[Picture]:
    return with_variants(Reading(process, stop).pictures, process.train, seed=3)


def test_as_many_variants_as_the_run_uses(data: Path, never_stop: StopControl) -> None:
    def counts(steps: int, **settings: Any) -> set[int]:
        dataset = {"folder_path": str(data), "shuffle_tokens": True} | settings
        process = configured(dataset, train={"steps": steps, "batch_size": 2, "gradient_accumulation": 2})
        return {len(picture.texts) for picture in variants(process, never_stop)}

    assert counts(1) == {1}  # 4 pictures, 2 batches of 2: one epoch
    assert counts(2) == {2}
    assert counts(2, flip_x=True) == {2}  # one epoch, two copies
    assert counts(100) == {MOST_VARIANTS}
    assert counts(100, shuffle_tokens=False) == {1}


def test_longer_runs_begin_with_the_same_variants(data: Path, never_stop: StopControl) -> None:
    short, long = (
        variants(
            configured({"folder_path": str(data), "shuffle_tokens": True}, train={"steps": n}), never_stop
        )
        for n in (8, 60)
    )
    for few, many in zip(short, long, strict=True):
        assert len(few.texts) == 2
        assert many.texts[:2] == few.texts


def test_the_trigger_alone_when_the_text_encoder_is_unloaded(data: Path, never_stop: StopControl) -> None:
    settings = {"folder_path": str(data), "caption_dropout_rate": 0.5, "shuffle_tokens": True}
    pictures = variants(configured(settings, train={"unload_text_encoder": True}), never_stop)
    assert {picture.texts for picture in pictures} == {(Texts("zork"),)}
    assert {picture.dropped for picture in pictures} == {None}


def test_with_cached_embeddings_captions_are_used_though_the_encoder_is_unloaded(
    data: Path, never_stop: StopControl
) -> None:
    unload = {"unload_text_encoder": True}
    dataset = {"folder_path": str(data)}
    for process in (
        configured(dataset, train=unload | {"cache_text_embeddings": True}),
        configured(dataset | {"cache_text_embeddings": True}, train=unload),
    ):
        assert variants(process, never_stop)[0].text.startswith("zork a cat")


@pytest.mark.parametrize(
    ("train", "preserved", "dropped", "of_reg"),
    [
        (
            {"diff_output_preservation": True, "diff_output_preservation_class": "pet"},
            "pet a cat,  number 0,  outdoors",
            "pet ",
            "a cat,  number 3,  outdoors",
        ),
        ({"blank_prompt_preservation": True}, "", "", ""),
    ],
)
def test_preserved_texts_are_known_for_encoding(
    data: Path, never_stop: StopControl, train: dict[str, Any], preserved: str, dropped: str, of_reg: str
) -> None:
    dataset = {"folder_path": str(data), "caption_dropout_rate": 0.5}
    pictures = variants(configured(dataset, dataset | {"is_reg": True}, train=train), never_stop)
    first, reg = pictures[0], pictures[-1]
    assert first.texts == (Texts("zork a cat,  number 0,  outdoors", preserved),)
    assert first.dropped == Texts("zork ", dropped)
    assert {preserved, dropped, "zork ", first.text} == set(first.all_texts())
    assert (reg.texts[0].preserved, reg.dropped) == (of_reg, Texts("", ""))


# -- held out ----------------------------------------------------------------------------------


def held(process: ProcessConfig, stop: StopControl, seed: int = 3) -> tuple[list[Picture], list[Picture]]:
    reading = Reading(process, stop)
    return hold_out(reading.pictures, process, seed, Reporter(None, reading.out))


@pytest.mark.parametrize(("split", "count"), [(0, 0), (0.01, 1), (0.5, 2), (3, 3)])
def test_a_split_holds_out_a_share_or_a_number(
    data: Path, never_stop: StopControl, split: float, count: int
) -> None:
    dataset = {"folder_path": str(data), "shuffle_tokens": True, "resolution": [32, 64], "flip_x": True}
    process = configured(dataset, dataset, train={"validation_split": split})
    training, validating = held(process, never_stop)
    assert len(validating) == count
    assert len(training) == 2 * (4 - count)  # both datasets name the same files
    assert not {p.path for p in training} & {p.path for p in validating}
    for picture in validating:
        assert picture.texts == (Texts(f"zork a cat,  number {picture.path.stem[1]},  outdoors"),)
        assert len(picture.buckets) == 1
        assert picture.all_texts() == [picture.texts[0].trained]


def test_the_split_depends_on_seed_and_names_alone(data: Path, never_stop: StopControl) -> None:
    for index in range(4, 30):
        draw_picture(data / f"p{index}.png", (64, 64))
    process = configured({"folder_path": str(data)}, train={"validation_split": 5})
    chosen = [{p.path for p in held(process, never_stop, seed)[1]} for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    outsider = next(p for p in sorted(data.glob("*.png")) if p not in chosen[0])
    outsider.unlink()
    assert {p.path for p in held(process, never_stop, 1)[1]} == chosen[0]


def test_named_pictures_are_held_out(data: Path, tmp_path: Path, never_stop: StopControl) -> None:
    draw_picture(tmp_path / "other.png", (960, 240))
    items = [
        {"image_path": str(tmp_path / "other.png"), "prompt": "[trigger], wide"},
        {"image_path": str(data / ".." / "data" / "p1.png"), "prompt": "a cat"},
        {"image_path": str(tmp_path / "gone.png")},
    ]
    train = {"validation_config": {"validation_items": items, "resolution": 64}, "validation_split": 1}
    training, validating = held(configured({"folder_path": str(data)}, train=train), never_stop)
    assert [picture.texts[0].trained for picture in validating[:2]] == ["zork, wide", "a cat"]
    assert validating[0].buckets == ((128, 32),)
    assert len(validating) == 3
    assert len(training) == 2
    assert "p1.png" not in [picture.path.name for picture in training]


def test_something_must_be_left_to_train_on(data: Path, never_stop: StopControl) -> None:
    with pytest.raises(TrainingError, match="holds out all 4") as caught:
        held(configured({"folder_path": str(data)}, train={"validation_split": 4}), never_stop)
    assert caught.value.bad_input
