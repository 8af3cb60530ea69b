from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.trainer.buckets import Bucket
from backend.trainer.pictures import (
    Framing,
    PictureError,
    open_grey,
    open_picture,
    picture_header,
    picture_size,
)
from backend.trainer.pixels import framed_pixels, pixels_of


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


def test_modes_keep_their_colours(tmp_path: Path) -> None:
    for mode in ("RGBA", "P", "CMYK"):
        path = tmp_path / ("a.jpg" if mode == "CMYK" else f"{mode}.png")
        halves(64, 64).convert(mode).save(path, quality=95)
        pixels = pixels_of(open_picture(path), Bucket(64, 64))
        assert (pixels[:, 32, 10] - torch.tensor([1.0, -1.0, -1.0])).abs().max() < 0.1, mode
        assert (pixels[:, 32, 50] - torch.tensor([-1.0, -1.0, 1.0])).abs().max() < 0.1, mode


def test_transparent_places_keep_the_colour_under_them(tmp_path: Path) -> None:
    image = halves(64, 64).convert("RGBA")
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    assert pixels_of(open_picture(tmp_path / "a.png"), Bucket(64, 64))[:, 0, 0].tolist() == [1.0, -1.0, -1.0]


def test_sixteen_bits_come_down_to_eight(tmp_path: Path) -> None:
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(ramp).save(tmp_path / "a.png")
    for image in (open_picture(tmp_path / "a.png").getchannel(0), open_grey(tmp_path / "a.png")):
        assert np.array_equal(np.asarray(image), (ramp >> 8).astype(np.uint8))


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_of_an_animation_the_first_frame_is_used(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"a.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert picture_header(path) == (64, 64, 3)
    assert open_picture(path).getpixel((5, 5)) == (255, 0, 0)
    halves(32, 32).save(path)
    assert picture_header(path).frames == 1


def test_a_cameras_double_picture_is_no_animation(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    halves(64, 64).save(path, format="MPO", save_all=True, append_images=[halves(32, 32)])
    with Image.open(path) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 2)
    assert picture_header(path) == (64, 64, 1)


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_truncated_pictures_are_refused(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = tmp_path / f"whole.{kind}"
    Image.fromarray(noise).save(whole)
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(PictureError):
        open_picture(cut)


def test_copies_are_mirrored(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    bucket = Bucket(96, 64)
    plain = framed_pixels(image, Framing(bucket))
    assert torch.equal(framed_pixels(image, Framing(bucket, "x")), plain.flip(-1))
    assert torch.equal(framed_pixels(image, Framing(bucket, "y")), plain.flip(-2))
    assert torch.equal(framed_pixels(image, Framing(bucket, "xy")), plain.flip(-1, -2))


def test_the_whole_of_a_picture_is_kept_in_latent_cells() -> None:
    framing = Framing(Bucket(64, 64), whole=True)
    assert framing.kept(256, 101) == (160, 64)  # 162 x 64 covers the bucket
    pixels = framed_pixels(halves(256, 101), framing)
    assert pixels.shape == (3, 64, 160)
    middle = framed_pixels(halves(256, 101), Framing(Bucket(64, 64)))
    assert torch.equal(pixels[:, :, 48:112], middle)
    assert Framing(Bucket(64, 64)).kept(256, 101) == (64, 64)


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
