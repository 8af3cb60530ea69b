"""Thumbnails, duplicates, tokens, what a caption is trained as."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from backend.datasets import thumbnails as thumbnails_module
from backend.datasets.captions import placeholders, read, tag_counts, tags, trained
from backend.datasets.errors import DatasetError
from backend.datasets.index import Index
from backend.datasets.phash import NEAR, Fingerprint, find_duplicates, fingerprint, near_groups
from backend.datasets.scan import scan_all
from backend.datasets.sidecar import Box
from backend.datasets.thumbnails import ThumbnailError, Thumbnails
from backend.datasets.tokens import TokenCounter
from tests.backend.datasets.conftest import draw


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_thumbnails_are_upright_and_fit(folder: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = draw(folder / "a.jpg", (800, 400), exif=exif)
    image = Thumbnails().get(path, 100, 80)
    assert image.mode == "RGB"
    assert image.size == ((100, 50) if orientation in (1, 3) else (40, 80))


def test_thumbnails_are_kept_and_follow_the_file(folder: Path, tmp_path: Path) -> None:
    path = draw(folder / "a.png", (400, 400), 1)
    thumbnails = Thumbnails()
    assert thumbnails.cached(path, 50, 50) is None
    first = thumbnails.get(path, 50, 50)
    assert thumbnails.cached(path, 50, 50) is first
    thumbnails.clear()
    assert Thumbnails().get(path, 50, 50).size == (50, 50)  # from disk
    (stored,) = (tmp_path / "home" / "cache" / "thumbnails").glob("*/*.jpg")
    stored.write_bytes(b"damaged")
    assert Thumbnails().get(path, 50, 50).size == (50, 50)
    draw(path, (400, 200), 2)
    assert thumbnails.get(path, 50, 50).size == (50, 25)


def test_pictures_too_large_to_decode_say_so_and_jpegs_of_that_size_are_shown(folder: Path) -> None:
    white = Image.new("1", (9_000, 8_000), 1)  # 72 megapixels in a few kilobytes
    white.save(folder / "a.png")
    with pytest.raises(ThumbnailError, match="72 megapixels"):
        Thumbnails().get(folder / "a.png", 50, 50)
    white.convert("L").save(folder / "a.jpg", quality=20)
    assert Thumbnails().get(folder / "a.jpg", 50, 50).size == (50, 44)


def test_large_pictures_are_decoded_one_at_a_time(folder: Path) -> None:
    Image.new("1", (4_000, 3_000), 1).save(folder / "a.png")
    found: list[tuple[int, int]] = []
    thread = threading.Thread(target=lambda: found.append(Thumbnails().get(folder / "a.png", 50, 50).size))
    with thumbnails_module._large:
        thread.start()
        thread.join(0.5)
        assert found == []
    thread.join(30)
    assert found == [(50, 38)]


def test_a_crop_is_shown_alone_and_memory_is_bounded(folder: Path) -> None:
    path = folder / "a.png"
    image = Image.new("RGB", (100, 100), "red")
    image.paste("blue", (50, 0, 100, 100))
    image.save(path)
    thumbnails = Thumbnails(memory=20 * 20 * 3)
    blue = thumbnails.get(path, 20, 20, Box(60, 10, 40, 40))
    red, _, much = blue.getpixel((10, 10))  # type: ignore[misc]
    assert red < 20 < 200 < much
    thumbnails.get(path, 20, 20)
    assert thumbnails.cached(path, 20, 20, Box(60, 10, 40, 40)) is None
    assert thumbnails.cached(path, 20, 20) is not None


def test_what_cannot_be_shown_says_why(folder: Path) -> None:
    data = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + data
        + struct.pack(">I", zlib.crc32(data))
        + struct.pack(">I", 99)
        + b"IDAT"
    )
    whole = draw(folder / "whole.jpg", (300, 300)).read_bytes()
    for name, content, why in [
        ("bomb.png", bomb, "can be trusted"),
        ("empty.png", b"", "not a picture"),
        ("cut.jpg", whole[: len(whole) // 2], "truncated"),
    ]:
        (folder / name).write_bytes(content)
        with pytest.raises(ThumbnailError, match=why):
            Thumbnails().get(folder / name, 50, 50)
    with pytest.raises(ThumbnailError, match="no such file"):
        Thumbnails().get(folder / "missing.png", 50, 50)


def test_pictures_that_are_the_same(folder: Path) -> None:
    for n in range(6):
        draw(folder / f"{n}.png", (200, 150), n)
    shutil.copy(folder / "0.png", folder / "0 copy.png")
    with Image.open(folder / "1.png") as image:
        image.resize((120, 90)).save(folder / "1 small.jpg", quality=70)
    Image.new("RGB", (64, 64), "red").save(folder / "flat red.png")
    Image.new("RGB", (64, 60), "red").save(folder / "flat too.png")
    items = scan_all(folder).items
    found = find_duplicates(items, index=Index(folder))
    assert found.exact == (("0 copy.png", "0.png"),)
    assert found.near == (("1 small.jpg", "1.png"),)
    assert len(Index(folder).hashes(items, "perceptual")) == len(items)
    assert find_duplicates(items, index=Index(folder)) == found
    assert find_duplicates(items, cancelled=lambda: True).exact == ()


def test_pictures_too_large_to_decode_are_not_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (9_000, 8_000), 1).save(folder / "a.png")  # 72 megapixels in a few kilobytes
    draw(folder / "b.png", (200, 150))
    decoded: list[str] = []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image: decoded.append(str(image)) or load(image))
    with pytest.raises(DatasetError, match="too many pixels"):
        fingerprint(folder / "a.png")
    assert decoded == []
    assert find_duplicates(scan_all(folder).items).near == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_looks_as_it_is_shown(folder: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = draw(folder / "a.png", (400, 300), exif=exif)
    with Image.open(turned) as image:
        ImageOps.exif_transpose(image).save(folder / "b.png")
    assert fingerprint(turned).near(fingerprint(folder / "b.png"))


def test_bands_find_every_pair_that_is_near() -> None:
    chance = random.Random(3)
    prints: dict[str, Fingerprint] = {}
    expected: set[frozenset[str]] = set()
    for n in range(200):
        base = chance.getrandbits(64)
        flipped = base
        for bit in chance.sample(range(64), NEAR):
            flipped ^= 1 << bit
        prints[f"{n}a"], prints[f"{n}b"] = Fingerprint(base, 9, 9, 9), Fingerprint(flipped, 9, 9, 9)
        expected.add(frozenset({f"{n}a", f"{n}b"}))
    assert {frozenset(group) for group in near_groups(prints)} == expected
    assert all(Fingerprint.parse(str(value)) == value for value in prints.values())


# -- words -----------------------------------------------------------------------------------------


def test_a_caption_is_shown_as_it_is_trained() -> None:
    assert trained("a [trigger],b", "zork") == "a zork, b"
    assert trained("a cat", "zork") == "zork a cat"
    assert trained("a [name] cat", None) == "a  cat"
    assert trained("a cat", "zork", is_reg=True) == "a cat"
    assert placeholders("[trigger] x [name]") == [(0, 9), (12, 18)]


def test_tags_are_counted_once_a_caption() -> None:
    assert tags(" a,, b ,a\n") == ["a", "b", "a"]
    assert tag_counts(["a, b, a", "b", None, ""]) == {"a": 1, "b": 2}


def test_captions_say_why_they_cannot_be_read(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"caf\xe9")
    assert read(folder / "a.txt").problem == "is not UTF-8 text (byte 4); save it as UTF-8"
    assert read(folder / "missing.txt") == (None, "", None)
    (folder / "d.txt").mkdir()
    assert "cannot be read" in (read(folder / "d.txt").problem or "")


def test_estimates_are_marked_and_near_the_mark() -> None:
    counter = TokenCounter()
    tokens = counter.count("a photo of a cat, sitting on a table")
    assert not tokens.exact
    assert tokens.clip == 12  # as CLIP's tokenizer counts: nine words, a comma, start and end
    assert tokens.clip <= tokens.t5 <= 1.5 * tokens.clip
    assert counter.count("word " * 600).over_t5
    assert not counter.count("word " * 100).over_t5
    assert counter.count("word " * 100).over_clip


def test_the_models_own_tokenizers_count_if_they_are_there(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    model = tmp_path / "model"
    (model / "tokenizer").mkdir(parents=True)
    (model / "tokenizer_2").mkdir()
    vocabulary = {letter: n for n, letter in enumerate("act")} | {
        "t</w>": 3,
        "a</w>": 4,
        "ca": 5,
        "cat</w>": 6,
    }
    (model / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (model / "tokenizer" / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n", encoding="utf-8")
    words = Tokenizer(models.WordLevel({"a": 0, "CAT": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(model / "tokenizer_2" / "tokenizer.json"))
    tokens = TokenCounter.find(str(model)).count("a CAT  a")
    assert tokens.exact
    assert (tokens.clip, tokens.t5) == (5, 3)
    assert not TokenCounter.find(str(tmp_path / "none")).exact


def test_nothing_here_loads_torch_or_textual() -> None:
    code = (
        "import sys, pkgutil, importlib, backend.datasets as d\n"
        "for m in pkgutil.walk_packages(d.__path__, 'backend.datasets.'): importlib.import_module(m.name)\n"
        "print([n for n in ('torch', 'textual', 'PIL', 'numpy', 'tokenizers', 'yaml') if n in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        env=os.environ,
    )
    assert answer.stdout.strip() == "[]"
