"""Masks take the way of their pictures, and end on the latent grid."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from backend.trainer.buckets import Bucket
from backend.trainer.masks import Mask, MaskFolder, is_stretched, mask_weights
from backend.trainer.pictures import Flip, Framing, PictureError, open_picture
from backend.trainer.pixels import framed_pixels


def blocks(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Random black and white, one value a latent cell."""
    return torch.randint(0, 2, (rows, columns), generator=torch.Generator().manual_seed(seed))


def save_cells(path: Path, cells: torch.Tensor) -> Image.Image:
    pixels = cells.repeat_interleave(8, 0).repeat_interleave(8, 1).mul(255).to(torch.uint8)
    image = Image.fromarray(pixels.numpy())
    image.save(path)
    return image


def weights_of(mask: Mask, framing: Framing, size: tuple[int, int]) -> torch.Tensor:
    image = mask.open()
    assert image is not None
    return mask_weights(image, size, framing, mask.least)


def test_cells_arrive_on_the_latent_grid(tmp_path: Path) -> None:
    cells = blocks(8, 12)
    save_cells(tmp_path / "m.png", cells)
    framing = Framing(Bucket(96, 64))
    found = weights_of(Mask(tmp_path / "m.png"), framing, (96, 64))
    assert found.dtype is torch.float32
    assert torch.equal(found, cells[None].float())
    inverted = weights_of(Mask(tmp_path / "m.png", inverted=True), framing, (96, 64))
    assert torch.equal(inverted, 1 - cells[None].float())
    least = weights_of(Mask(tmp_path / "m.png", least=0.2), framing, (96, 64))
    assert torch.allclose(least, 0.2 + 0.8 * cells[None].float())


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("flip", ["", "x", "y", "xy"])
def test_a_mask_is_flipped_scaled_and_cropped_with_its_picture(
    tmp_path: Path, flip: Flip, whole: bool
) -> None:
    # The picture is its own mask: wherever they part ways, the two differ.
    noise = torch.randint(0, 256, (150, 230), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(tmp_path / "p.png")
    framing = Framing(Bucket(96, 64), flip, whole)
    pixels = framed_pixels(open_picture(tmp_path / "p.png"), framing)[0]
    expected = ((pixels + 1) / 2)[::8, ::8][None]
    assert torch.allclose(weights_of(Mask(tmp_path / "p.png"), framing, (230, 150)), expected, atol=1e-6)
    assert expected.shape == (1, 8, 12)


def test_a_mask_of_another_size_is_stretched_over_its_picture(tmp_path: Path) -> None:
    half = Image.new("L", (40, 20), 0)
    half.paste(255, (0, 0, 20, 20))
    half.save(tmp_path / "m.png")
    found = weights_of(Mask(tmp_path / "m.png"), Framing(Bucket(64, 64)), (128, 128))
    assert found[0, :, :3].min() > 0.99
    assert found[0, :, 5:].max() < 0.01
    assert is_stretched(tmp_path / "m.png", (128, 128))
    assert not is_stretched(tmp_path / "m.png", (1999, 1000))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_a_mask(tmp_path: Path, mode: str) -> None:
    cells = blocks(8, 8, seed=3)
    alpha = save_cells(tmp_path / "alpha.png", cells)
    if mode == "P":
        image = Image.new("P", (64, 64), 0)
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.paste(1, mask=alpha)
        image.save(tmp_path / "p.png", transparency=0)
    else:
        image = Image.new("RGB", (64, 64), (9, 9, 9)).convert(mode)
        image.putalpha(alpha)
        image.save(tmp_path / "p.png")
    found = weights_of(Mask(tmp_path / "p.png", alpha=True), Framing(Bucket(64, 64)), (64, 64))
    assert torch.equal(found, cells[None].float())
    assert Mask(tmp_path / "alpha.png", alpha=True).open() is None  # it has no transparency


def test_a_black_mask_is_refused_and_a_damaged_one_named(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 0).save(tmp_path / "black.png")
    with pytest.raises(PictureError, match="black all over"):
        weights_of(Mask(tmp_path / "black.png"), Framing(Bucket(64, 64)), (64, 64))
    (tmp_path / "bad.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(PictureError, match=r"has a mask, .*bad\.png, that is not a picture"):
        Mask(tmp_path / "bad.png").open()


def test_masks_are_found_by_place_then_by_name(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "sub/a.webp", "b.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    masks = MaskFolder(tmp_path)
    assert masks.find(Path("a.png")) == tmp_path / "a.jpg"
    assert masks.find(Path("sub/a.png")) == tmp_path / "sub" / "a.webp"
    assert masks.find(Path("sub/b.jpeg")) == tmp_path / "b.png"
    assert masks.find(Path("notes.png")) is None


def test_what_changes_a_mask_changes_its_content_key(tmp_path: Path) -> None:
    save_cells(tmp_path / "m.png", blocks(8, 8))
    path = tmp_path / "m.png"
    masks = [Mask(path), Mask(path, alpha=True), Mask(path, inverted=True), Mask(path, least=0.1)]
    assert len({mask.content() for mask in masks}) == 4
