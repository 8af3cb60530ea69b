"""What is read of a folder, hostile ones included."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from backend.datasets.captions import Caption
from backend.datasets.errors import DatasetError
from backend.datasets.headers import HeaderError, read_header
from backend.datasets.index import Index
from backend.datasets.scan import FIRST_BATCH, Item, scan, scan_all, scan_one
from backend.datasets.sidecar import SIDECAR, Box, Marks, set_marks
from backend.trainer.dataset import find_pictures
from backend.trainer.pictures import open_picture
from tests.backend.datasets.conftest import captioned, draw

NAMES = ["new\nline.png", "[bold]markup[/].png", "🦊 fox.png", "b/c.png", "spaces  .png"]


def names(items: tuple[Item, ...]) -> list[str]:
    return [item.name for item in items]


def test_the_same_pictures_as_the_trainer(folder: Path) -> None:
    for name in [*NAMES, ".hidden.png", ".dir/x.png"]:
        captioned(folder / name, "a [trigger], cat")
    (folder / "notes.md").write_text("x", encoding="utf-8")
    (folder / "orphan.txt").write_text("x", encoding="utf-8")
    batch = scan_all(folder)
    assert sorted(item.path for item in batch.items) == find_pictures(folder)
    assert {item.caption for item in batch.items} == {"a [trigger], cat"}
    assert batch.orphans == (folder / "orphan.txt",)
    assert all(item.header and (item.header.width, item.header.height) == (64, 48) for item in batch.items)


def test_the_first_batch_is_a_screenful_and_a_scan_can_be_cancelled(folder: Path) -> None:
    source = draw(folder / "0000.png")
    for n in range(1, 2 * FIRST_BATCH):
        shutil.copy(source, folder / f"{n:04}.png")
    batches = list(scan(folder))
    assert [len(batch.items) for batch in batches] == [FIRST_BATCH, FIRST_BATCH]
    assert [batch.done for batch in batches] == [False, True]
    asked = iter([False] * 70 + [True] * 1000)
    cut = list(scan(folder, cancelled=lambda: next(asked)))
    assert [batch.done for batch in cut] == [False]


def test_the_index_spares_reading_and_notices_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        captioned(folder / f"{n}.png", f"text {n}", seed=n)
    set_marks(folder / "3.png", Marks(crop=Box(0, 0, 8, 8)))
    first = scan_all(folder, index=Index(folder))
    assert tuple(Index(folder).load()) == first.items
    read: list[Path] = []

    def counting(path: Path) -> object:
        read.append(path)
        return read_header(path)

    monkeypatch.setattr("backend.datasets.scan.read_header", counting)
    assert scan_all(folder, index=Index(folder)).items == first.items
    assert read == []
    (folder / "1.txt").write_text("changed text", encoding="utf-8")
    draw(folder / "2.png", (80, 80), 9)
    (folder / "4.png").unlink()
    set_marks(folder / "0.png", Marks(excluded=True))
    again = scan_all(folder, index=Index(folder))
    assert read == [folder / "2.png"]
    assert names(again.items) == ["0.png", "1.png", "2.png", "3.png"]
    assert again.items[1].caption == "changed text"
    assert again.items[2].size == (80, 80)
    assert again.items[0].excluded
    assert again.items[3].size == (8, 8)
    assert tuple(Index(folder).load()) == again.items


def test_what_could_not_be_read_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioned(folder / "a.png", "x")
    captioned(folder / "b.png", "y", seed=1)

    def refused(*_: object) -> object:
        raise HeaderError("cannot be read (permission denied)")

    unread = Caption(None, "", "cannot be read (permission denied)")
    with monkeypatch.context() as patched:
        patched.setattr("backend.datasets.scan.read_header", refused)
        patched.setattr("backend.datasets.scan.read_caption", lambda path: unread)
        assert [item.problem is None for item in scan_all(folder, index=Index(folder)).items] == [
            False,
            False,
        ]
    again = scan_all(folder, index=Index(folder)).items  # rights were given: the files' times are as before
    assert [(item.problem, item.caption_problem) for item in again] == [(None, None), (None, None)]


def test_a_damaged_index_is_made_anew(folder: Path) -> None:
    captioned(folder / "a.png", "x")
    index = Index(folder)
    scan_all(folder, index=index)
    index.forget()
    index.path.write_bytes(b"no database" * 1000)
    assert index.load() == []
    assert names(scan_all(folder, index=index).items) == ["a.png"]
    assert len(index.load()) == 1


def test_a_folder_that_is_missing_or_deleted_meanwhile_is_said(folder: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        list(scan(folder / "no"))
    source = draw(folder / "a.png")
    with pytest.raises(DatasetError, match="is not a folder"):
        list(scan(source))
    for n in range(FIRST_BATCH):
        shutil.copy(source, folder / f"b{n}.png")
    batches = scan(folder)
    assert len(next(batches).items) == FIRST_BATCH
    shutil.rmtree(folder)
    with pytest.raises(DatasetError, match="is gone"):
        list(batches)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_that_go_round_or_nowhere(folder: Path) -> None:
    draw(folder / "below" / "a.png")
    (folder / "below" / "loop").symlink_to(folder)
    (folder / "broken.png").symlink_to(folder / "missing.png")
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "good.png").symlink_to(folder / "below" / "a.png")
    batch = scan_all(folder)
    found = {item.name: item for item in batch.items}
    assert set(found) == {"below/a.png", "broken.png", "self.png", "good.png"}
    assert found["good.png"].header is not None
    assert found["broken.png"].problem == "is a link to a file that does not exist"
    assert found["self.png"].problem is not None


def test_a_folder_that_cannot_be_read_is_one_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(folder / "a.png")
    draw(folder / "locked" / "b.png")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("backend.datasets.scan.os.scandir", scandir)
    batch = scan_all(folder)
    assert names(batch.items) == ["a.png"]
    assert [(p.file, p.rule) for p in batch.problems] == [("locked", "folder-unreadable")]
    monkeypatch.setattr("backend.datasets.scan.os.scandir", lambda path: scandir(f"{path}/locked"))
    with pytest.raises(DatasetError, match="cannot be read: permission denied"):
        scan_all(folder)


def test_a_damaged_sidecar_is_a_problem_and_hides_nothing(folder: Path) -> None:
    draw(folder / "a.png")
    (folder / SIDECAR).write_text("{", encoding="utf-8")
    batch = scan_all(folder)
    assert names(batch.items) == ["a.png"]
    assert [p.rule for p in batch.problems] == ["sidecar-damaged"]


def test_one_picture_is_read_anew(folder: Path) -> None:
    path = captioned(folder / "sub" / "a.png", "x")
    assert scan_one(folder, path) == scan_all(folder).items[0]
    path.unlink()
    assert scan_one(folder, path) is None
    assert scan_one(folder, folder / "sub" / "a.txt") is None
    assert scan_one(folder, folder.parent / "b.png") is None


# -- headers ---------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + data
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 99)
        + b"IDAT"
    )


def test_bombs_and_rubbish_are_refused_without_decoding(folder: Path) -> None:
    (folder / "bomb.png").write_bytes(png_header(60000, 60000) + b"\0" * 100)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no picture", encoding="utf-8")
    found = {item.name: item.problem or "" for item in scan_all(folder).items}
    assert found["bomb.png"] == "has more pixels than can be trusted (179 million)"
    assert "0 bytes" in found["empty.png"]
    assert "not a picture" in found["text.png"]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_missing_end_is_seen(folder: Path, suffix: str) -> None:
    whole = draw(folder / f"whole.{suffix}", (400, 300))
    assert not read_header(whole).truncated
    cut = folder / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert read_header(cut).truncated


@pytest.mark.parametrize("progressive", [False, True])
def test_a_film_behind_a_picture_is_no_missing_end(folder: Path, progressive: bool) -> None:
    exif = Image.Exif()
    exif[0x9286] = b"ASCII\0\0\0 with an end mark \xff\xd9 as a thumbnail has"
    whole = draw(folder / "whole.jpg", (400, 300), exif=exif, progressive=progressive).read_bytes()
    film = folder / "film.jpg"
    film.write_bytes(whole + b"ftypmp42" + bytes(range(200)) * 500)
    assert not read_header(film).truncated
    assert open_picture(film).size == (400, 300)
    film.write_bytes(whole[: len(whole) * 2 // 3] + b"\0" * 100_000)
    assert read_header(film).truncated


def test_a_cut_webp_is_refused(folder: Path) -> None:
    path = draw(folder / "a.webp", (400, 300))
    assert not read_header(path).truncated
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(HeaderError, match="truncated"):
        read_header(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_upright(folder: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    header = read_header(draw(folder / "a.jpg", (64, 32), exif=exif))
    assert header.orientation == orientation
    assert (header.width, header.height) == ((64, 32) if orientation < 5 else (32, 64))


def test_mode_transparency_and_frames(folder: Path) -> None:
    assert read_header(draw(folder / "a.png", mode="RGBA")).alpha
    assert read_header(draw(folder / "a.jpg", mode="CMYK")).mode == "CMYK"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "a.webp", save_all=True, append_images=frames[1:], duration=50)
    assert read_header(folder / "a.webp").frames == 2
    with pytest.raises(HeaderError, match="no such file"):
        read_header(folder / "missing.png")


def test_a_caption_of_thousands_of_lines_is_read(folder: Path) -> None:
    captioned(folder / "a.png", "line of text\n" * 4000)
    assert scan_all(folder).items[0].caption == "line of text\n" * 4000
