"""What the dataset screen draws over a picture is what the trainer sees."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend.datasets.bucketing import frames
from backend.datasets.headers import read_header
from backend.datasets.sidecar import SIDECAR, Box, Marks, marks_of, set_marks
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.control import StopControl
from backend.trainer.dataset import Picture, read_datasets
from backend.trainer.errors import TrainingError
from backend.trainer.held_out import hold_out
from backend.trainer.latents import OpenedPicture, PictureEncoder
from backend.trainer.report import Reporter
from backend.trainer.texts import Texts
from tests.trainer.conftest import MakeRun
from tests.trainer.test_dataset import configured

RESOLUTIONS = [64, 128]


def gradient(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    """A picture whose colours say where in the upright picture they are: red across, green down."""
    width, height = size
    across = np.broadcast_to((np.arange(width) + 0.5) / width * 255, (height, width))
    down = np.broadcast_to(((np.arange(height) + 0.5) / height * 255)[:, None], (height, width))
    upright = Image.fromarray(
        np.stack([across, down, np.zeros((height, width))], -1).round().astype(np.uint8)
    )
    back = {
        1: None,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = back[orientation]
    (upright if turn is None else upright.transpose(turn)).save(path, exif=exif)


class Seen:
    """Keeps the pixels that would be encoded."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pixels: list[torch.Tensor] = []
        self.encoder = PictureEncoder.__new__(PictureEncoder)
        self.encoder.vae = lambda: None  # type: ignore[assignment,return-value]
        self.encoder.cache = TensorCache(tmp_path / "cache", RamBudget(1 << 30))
        self.encoder.stop = StopControl(tmp_path / "no", lambda: None)
        self.encoder.identity = ("vae", torch.float32)  # type: ignore[assignment]

        def encode(vae: object, pixels: torch.Tensor, *, seed: int) -> torch.Tensor:
            self.pixels.append(pixels)
            return torch.zeros(1, 2, 2)

        monkeypatch.setattr("backend.trainer.latents.encode_picture", encode)

    def of(self, picture: Picture) -> tuple[OpenedPicture, list[torch.Tensor], list[str]]:
        from backend.trainer.pictures import Framing

        before = len(self.pixels)
        opened = self.encoder.open(picture)
        keys = [opened.latent(Framing(bucket)) for bucket in picture.buckets]
        return opened, self.pixels[before:], keys


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(tmp_path, monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def read(data: Path, stop: StopControl, **dataset: Any) -> tuple[list[Picture], str]:
    out = io.StringIO()
    process = configured({"folder_path": str(data), "resolution": RESOLUTIONS} | dataset)
    return read_datasets(process, Reporter(None, out), stop), out.getvalue()


@pytest.mark.parametrize("kind", ["new", "sdxl", "square"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    ("size", "crop"),
    [((400, 400), None), ((500, 250), None), ((240, 512), None), ((400, 400), Box(50, 20, 300, 150)),
     ((500, 250), Box(250, 0, 250, 250)), ((240, 512), Box(7, 201, 190, 311))],
)  # fmt: skip
def test_the_crop_that_is_drawn_is_the_tensor_that_is_trained(
    data: Path,
    seen: Seen,
    never_stop: StopControl,
    size: tuple[int, int],
    crop: Box | None,
    orientation: int,
    kind: str,
) -> None:
    path = data / "a.png"
    gradient(path, size, orientation)
    set_marks(path, Marks(crop=crop))
    options = {"buckets": False} if kind == "square" else {"bucket_algorithm": kind}
    (picture,) = read(data, never_stop, **options)[0]
    header = read_header(path)
    assert (header.width, header.height) == size
    drawn = frames(header.width, header.height, RESOLUTIONS, kind, marks_of(path).crop)  # type: ignore[arg-type]
    assert tuple(frame.bucket for frame in drawn) == picture.buckets
    for frame, pixels in zip(drawn, seen.of(picture)[1], strict=True):
        assert pixels.shape == (3, frame.bucket.height, frame.bucket.width)
        # Where in the picture the tensor's edges are, read off its colours.
        where = (pixels + 1) / 2
        half_x = (frame.box[2] - frame.box[0]) / frame.bucket.width / 2
        half_y = (frame.box[3] - frame.box[1]) / frame.bucket.height / 2
        column, row = where[0].median(0).values * size[0], where[1].median(1).values * size[1]
        # A colour is one of 256 levels, and bicubic scaling bends the outermost pixels.
        near_x, near_y = size[0] / 100 + half_x, size[1] / 100 + half_y
        assert abs(float(column[0]) - (frame.box[0] + half_x)) < near_x
        assert abs(float(column[-1]) - (frame.box[2] - half_x)) < near_x
        assert abs(float(row[0]) - (frame.box[1] + half_y)) < near_y
        assert abs(float(row[-1]) - (frame.box[3] - half_y)) < near_y
        # And to the pixel: the cut, scaled by itself, is what is trained.
        left, top, width, height = crop or Box(0, 0, *size)
        scaled = Image.open(path)
        turns = {3: "ROTATE_180", 6: "ROTATE_270", 8: "ROTATE_90"}
        turn = turns.get(orientation)
        upright = scaled.transpose(Image.Transpose[turn]) if turn else scaled
        cut = upright.crop((left, top, left + width, top + height))
        covering = (round(width * frame.scale), round(height * frame.scale))
        covering = (max(covering[0], frame.bucket.width), max(covering[1], frame.bucket.height))
        x, y = (covering[0] - frame.bucket.width) // 2, (covering[1] - frame.bucket.height) // 2
        shown = cut.resize(covering, Image.Resampling.BICUBIC).crop(
            (x, y, x + frame.bucket.width, y + frame.bucket.height)
        )
        values = torch.from_numpy(np.array(shown)).permute(2, 0, 1).float() / 127.5 - 1
        assert torch.allclose(values, pixels, atol=1e-5)


def test_a_crop_has_a_cache_entry_of_its_own(data: Path, seen: Seen, never_stop: StopControl) -> None:
    path = data / "a.png"
    gradient(path, (256, 256))
    keys = {}
    for name, crop in [("whole", None), ("left", Box(0, 0, 128, 256)), ("right", Box(128, 0, 128, 256))]:
        set_marks(path, Marks(crop=crop))
        (picture,) = read(data, never_stop)[0]
        keys[name] = seen.of(picture)[2]
    encoded = len(seen.pixels)
    set_marks(path, Marks())
    (picture,) = read(data, never_stop)[0]
    assert seen.of(picture)[2] == keys["whole"]
    assert len(seen.pixels) == encoded  # found again
    assert not set(keys["left"]) & set(keys["right"])


@pytest.mark.parametrize("mask_size", [(256, 128), (128, 64)])
def test_a_mask_is_cropped_with_its_picture(
    data: Path, tmp_path: Path, seen: Seen, never_stop: StopControl, mask_size: tuple[int, int]
) -> None:
    from backend.trainer.pictures import Framing

    path = data / "a.png"
    gradient(path, (256, 128))
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = Image.new("L", mask_size, 0)
    mask.paste(255, (mask_size[0] * 3 // 4, 0, *mask_size))  # the right quarter counts
    mask.save(masks / "a.png")
    set_marks(path, Marks(crop=Box(128, 0, 128, 128)))
    (picture,) = read(data, never_stop, mask_path=str(masks), resolution=64)[0]
    opened, _, _ = seen.of(picture)
    key = opened.mask(Framing(picture.buckets[0]))
    assert key is not None
    entry = seen.encoder.cache.find(key)
    assert entry is not None
    row = entry["mask"][0, 4].tolist()
    assert row[:3] == [0, 0, 0]
    assert row[5:] == [1, 1, 1]


def test_excluded_pictures_are_not_trained(data: Path, never_stop: StopControl) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        (data / name).parent.mkdir(exist_ok=True)
        gradient(data / name, (128, 128))
    set_marks(data / "a.png", Marks(excluded=True))
    set_marks(data / "sub" / "c.png", Marks(excluded=True))
    pictures, said = read(data, never_stop)
    assert [picture.path.name for picture in pictures] == ["b.png"]
    assert "2 pictures" in said
    manifest = data / "list.json"
    manifest.write_text(json.dumps({"a.png": "x", "b.png": "y"}), encoding="utf-8")
    assert [picture.path.name for picture in read(manifest, never_stop)[0]] == ["b.png"]
    set_marks(data / "b.png", Marks(excluded=True))
    with pytest.raises(TrainingError, match="all 3 pictures") as raised:
        read(data, never_stop)
    assert raised.value.bad_input


def test_a_crop_that_does_not_fit_is_not_used_and_said(data: Path, never_stop: StopControl) -> None:
    gradient(data / "a.png", (128, 128))
    set_marks(data / "a.png", Marks(crop=Box(100, 0, 64, 64)))
    pictures, said = read(data, never_stop)
    assert pictures[0].crop is None
    assert pictures[0].buckets[-1] == (128, 128)
    assert "does not fit" in said


def test_a_damaged_sidecar_stops_the_run_before_it_costs(data: Path, never_stop: StopControl) -> None:
    gradient(data / "a.png", (128, 128))
    (data / SIDECAR).write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match="damaged") as raised:
        read(data, never_stop)
    assert (raised.value.code, raised.value.bad_input) == ("bad_sidecar", True)
    (data / SIDECAR).write_text('{"version": 1, "pictures": {"a.png": 3}}', encoding="utf-8")
    assert "nothing sensible" in read(data, never_stop)[1]


def test_a_held_out_picture_keeps_its_crop(data: Path, never_stop: StopControl) -> None:
    for name in ("a.png", "b.png"):
        gradient(data / name, (256, 128))
        set_marks(data / name, Marks(crop=Box(0, 0, 64, 128)))
    process = configured(
        {"folder_path": str(data)},
        train={"validation_split": 1, "validation_config": {"resolution": 128}},
    )
    report = Reporter(None, io.StringIO())
    _, (held,) = hold_out(read_datasets(process, report, never_stop), process, 1, report)
    assert held.crop == Box(0, 0, 64, 128)
    assert held.buckets[0].height > held.buckets[0].width
    assert isinstance(held.texts[0], Texts)


def test_a_run_trains_with_the_sidecar(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        gradient(folder / name, (160, 96))
        (folder / name).with_suffix(".txt").write_text("a slope", encoding="utf-8")
    set_marks(folder / "a.png", Marks(crop=Box(64, 0, 96, 96)))
    set_marks(folder / "b.png", Marks(excluded=True))
    run = make_run(datasets=[{"folder_path": str(folder), "resolution": [64]}], train={"steps": 1})
    assert run.train() == 0
