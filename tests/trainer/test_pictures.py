from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from backend.trainer.buckets import Bucket
from backend.trainer.pictures import PictureError, open_picture, picture_size, pixels_of


def halves(width: int, height: int) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


def test_pixels_are_scaled_to_minus_one_to_one(tmp_path: Path) -> None:
    halves(64, 64).save(tmp_path / "a.png")
    pixels = pixels_of(open_picture(tmp_path / "a.png"), Bucket(64, 64))
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype is torch.float32
    assert pixels[:, 10, 5].tolist() == [1.0, -1.0, -1.0]
    assert pixels[:, 10, 60].tolist() == [-1.0, -1.0, 1.0]


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    halves(128, 64).save(path, exif=exif, quality=95)
    assert picture_size(path) == (64, 128)
    pixels = pixels_of(open_picture(path), Bucket(64, 128))
    assert pixels.shape == (3, 128, 64)
    assert pixels[0, :32].mean() > 0.8  # red is on top now
    assert pixels[2, -32:].mean() > 0.8


def test_a_wide_picture_is_cropped_in_the_centre(tmp_path: Path) -> None:
    halves(256, 64).save(tmp_path / "a.png")
    pixels = pixels_of(open_picture(tmp_path / "a.png"), Bucket(64, 64))
    assert pixels.shape == (3, 64, 64)
    assert pixels[0, 0, 31] == 1.0
    assert pixels[0, 0, 32] == -1.0


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "LA", "1"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    halves(64, 64).convert(mode).save(path)
    assert pixels_of(open_picture(path), Bucket(64, 64)).shape == (3, 64, 64)


def test_damaged_pictures_say_why(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    torch.manual_seed(0)
    noise = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:2000])
    assert picture_size(cut) == (64, 64)  # the header is all there
    with pytest.raises(PictureError, match="truncated"):
        open_picture(cut)
    text = tmp_path / "text.png"
    text.write_text("no picture", encoding="utf-8")
    with pytest.raises(PictureError, match="not a picture"):
        picture_size(text)
