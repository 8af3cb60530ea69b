"""The library, pasted paths, drafts, preparation, watching."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from backend.datasets.drafts import Drafts
from backend.datasets.importing import import_pictures, parse_paths
from backend.datasets.index import Index
from backend.datasets.library import Library, LibraryError, summary
from backend.datasets.prepare import Prepared, PrepareOptions, prepare, unprepare
from backend.datasets.scan import scan_all
from backend.datasets.sidecar import Box, Marks, marks_of, set_marks
from backend.datasets.trash import Trash
from backend.datasets.uses import last_configs, last_used, named_folders
from backend.datasets.watch import watch
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.registry import Registry
from tests.backend.datasets.conftest import captioned, draw


def test_datasets_are_added_renamed_and_removed(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "data"
    other.mkdir(parents=True)
    library = Library()
    assert library.entries() == []
    assert library.add(folder).name == "data"
    assert library.add(folder, "again").name == "data"
    assert library.add(other).name == "data 2"
    library.rename(other, "  cats \n")
    assert [entry.name for entry in Library().entries()] == ["cats", "data"]
    with pytest.raises(LibraryError, match="already"):
        library.rename(other, "data")
    with pytest.raises(LibraryError, match="needs a name"):
        library.rename(other, " ")
    library.remove(other)
    assert [entry.path for entry in library.entries()] == [folder]
    assert other.is_dir()
    with pytest.raises(LibraryError, match="does not exist"):
        library.add(tmp_path / "missing")


def test_a_damaged_list_is_empty(home: Path) -> None:
    home.mkdir()
    (home / "datasets.json").write_text('{"datasets": [3, {"name": 1}]}', encoding="utf-8")
    assert Library().entries() == []


def test_counts_come_from_the_last_scan(folder: Path) -> None:
    captioned(folder / "a.png", "text")
    draw(folder / "b.png")
    assert not summary(folder).scanned
    scan_all(folder, index=Index(folder))
    found = summary(folder)
    assert (found.pictures, found.captions, found.scanned) == (2, 1, True)
    assert found.bytes == sum(path.stat().st_size for path in folder.glob("*.png"))
    assert not summary(folder / "missing").exists


def test_the_newest_run_that_used_a_dataset(folder: Path, home: Path) -> None:
    registry = Registry()
    for n, run in enumerate(["old", "new"]):
        place = registry.place(run, run, None)
        record = RunRecord(
            id=run, name=f"name {run}", backend="local", created=100.0 + n, steps=1, path=place
        )
        RunFolder(place).create()
        RunFolder(place).write_record(record)
        RunFolder(place).config.write_text(
            f"config: {{process: [{{trigger_word: {run}, datasets: [{{folder_path: '{folder}', "
            "resolution: [1024, 512]}]}]}",
            encoding="utf-8",
        )
        registry.add(record)
    found = last_used([folder, folder.parent])
    assert {path: (use.id, use.name) for path, use in found.items()} == {folder: ("new", "name new")}
    assert (found[folder].resolutions, found[folder].trigger) == ((512, 1024), "new")


def test_what_configs_and_runs_name_is_learnt_and_what_was_removed_stays_away(
    folder: Path, tmp_path: Path, home: Path
) -> None:
    beside = tmp_path / "project" / "pictures"
    beside.mkdir(parents=True)
    config = tmp_path / "project" / "train.yaml"
    config.write_text(
        "config: {process: [{trigger_word: sks, datasets: [{folder_path: pictures, resolution: 512}, "
        f"{{folder_path: '{folder}'}}, {{folder_path: nowhere}}, {{folder_path: 3}}]}}]}}",
        encoding="utf-8",
    )
    named = named_folders([config, tmp_path / "gone.yaml"])
    assert named == [beside, folder, config.parent / "nowhere"]
    library = Library()
    assert [entry.path for entry in library.learn(named)] == [beside, folder]
    assert library.learn([*named, beside / ".." / "pictures"]) == []
    use = last_configs([beside, tmp_path], [config])
    assert (use[beside].id, use[beside].name, use[beside].resolutions) == ("", "train", (512,))
    assert set(use) == {beside}
    library.remove(beside)
    library.rename(folder, "mine")
    assert library.learn(named) == []
    assert [entry.name for entry in library.entries()] == ["mine"]
    library.add(beside)  # by hand it comes back, and is known again
    library.remove(beside)
    assert library.learn([beside]) == []
    library.add(beside)
    assert [entry.path for entry in library.entries()] == [folder, beside]


@pytest.mark.parametrize(
    ("entry", "trigger"),
    [
        ("", "sks"),
        (", trigger_word: zork", "zork"),  # the dataset's own wins
        (", is_reg: true", ""),
        (", is_reg: true, trigger_word: zork", "zork"),
        (", trigger_word: 7", "sks"),
    ],
)
def test_the_trigger_word_is_the_one_that_training_would_choose(
    folder: Path, tmp_path: Path, entry: str, trigger: str
) -> None:
    config = tmp_path / "of it.yaml"
    dataset = f"{{folder_path: {folder}{entry}}}"
    config.write_text(
        f"config: {{name: x, process: [{{trigger_word: sks, datasets: [{dataset}]}}]}}", encoding="utf-8"
    )
    assert last_configs([folder], [config])[folder].trigger == trigger


def test_pasted_and_dropped_paths(tmp_path: Path) -> None:
    one, two = tmp_path / "my pictures", tmp_path / "it's"
    one.mkdir()
    two.mkdir()
    escaped = str(one).replace(" ", "\\ ")
    cases = [
        str(one), f"  {one}\n", f"'{one}'", f'"{one}"', escaped, one.as_uri(), f"file://localhost{one.as_uri()[7:]}",
    ]  # fmt: skip
    for text in cases:
        assert parse_paths(text) == [one], text
    both = f"{escaped} {two.as_posix()}".replace("'", "\\'")
    assert parse_paths(both) == [one, two]
    assert parse_paths(f"{one}\r\n{two}\n{one}\n") == [one, two]
    assert parse_paths(f"'{one}' \"{two}\"") == [one, two]
    assert parse_paths("# comment\n\n \0") == []
    assert parse_paths("no such folder/x y") == [Path("no such folder/x y")]
    assert parse_paths("~/x")[0].is_absolute()


def test_pictures_are_imported_under_free_names(folder: Path, tmp_path: Path) -> None:
    captioned(folder / "a.png", "old")
    source = captioned(tmp_path / "from" / "a.jpg", "new")
    (tmp_path / "from" / "notes.md").write_text("x", encoding="utf-8")
    assert import_pictures([source.parent, source], folder) == [folder / "a-2.jpg", folder / "a-3.jpg"]
    assert (folder / "a-2.txt").read_text(encoding="utf-8") == "new"
    assert (folder / "a.txt").read_text(encoding="utf-8") == "old"
    assert source.exists()


def test_drafts_live_outside_the_dataset(folder: Path) -> None:
    path = folder / "a\n[b].txt"
    drafts = Drafts()
    drafts.save(path, "text\n" * 4000, base="old", source="florence")
    draft = Drafts().load(path)
    assert draft is not None
    assert (draft.path, draft.text, draft.base, draft.source) == (path, "text\n" * 4000, "old", "florence")
    assert Drafts().all(folder) == [draft]
    assert Drafts().all(folder / "below") == []
    assert list(folder.iterdir()) == []
    drafts.discard(path)
    assert drafts.load(path) is None


# -- preparation -----------------------------------------------------------------------------------


def test_prepared_pictures_are_upright_rgb_and_originals_are_untouched(folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(folder / "a.jpg", (64, 32), exif=exif)
    (folder / "a.txt").write_text("text", encoding="utf-8")
    draw(folder / "b" / "c.png", (40, 40), mode="RGBA")
    set_marks(folder / "a.jpg", Marks(crop=Box(2, 3, 20, 30)))
    (folder / "bad.png").write_bytes(b"")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    target = tmp_path / "out"
    results = list(prepare(scan_all(folder).items, PrepareOptions(target, crop=True)))
    assert [(result.target, bool(result.problem)) for result in results] == [
        (target / "a.png", False), (None, True), (target / "b" / "c.png", False),
    ]  # fmt: skip
    with Image.open(target / "a.png") as image:
        assert (image.size, image.mode, image.getexif().get(0x0112)) == ((20, 30), "RGB", None)
    assert (target / "a.txt").read_text(encoding="utf-8") == "text"
    assert marks_of(target / "a.png") == Marks()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    again = list(prepare(scan_all(folder).items, PrepareOptions(target)))
    assert all(result.target is None for result in again)


@pytest.mark.parametrize(("name", "form"), [("a.png", "png"), ("a.png", "jpeg")])
def test_in_place_the_original_is_in_the_trash_and_the_crop_stays(folder: Path, name: str, form: str) -> None:
    path = draw(folder / name, (40, 40), mode="RGBA")
    original = path.read_bytes()
    set_marks(path, Marks(crop=Box(0, 0, 20, 20)))
    options = PrepareOptions(None, format=form)  # type: ignore[arg-type]
    (result,) = prepare(scan_all(folder).items, options)
    assert result.target is not None
    with Image.open(result.target) as image:
        assert (image.mode, image.size) == ("RGB", (40, 40))
    assert marks_of(result.target).crop == Box(0, 0, 20, 20)
    ticket = Trash().last()
    assert ticket is not None
    result.target.unlink()
    Trash().undo(ticket.id)
    assert path.read_bytes() == original


@pytest.mark.parametrize(("name", "form"), [("a.png", "png"), ("a.png", "jpeg"), ("a.webp", "png")])
def test_prepared_in_place_can_be_taken_back(folder: Path, name: str, form: str) -> None:
    path, other = draw(folder / name, (40, 40), mode="RGBA"), draw(folder / "b.png", (30, 30))
    originals = path.read_bytes(), other.read_bytes()
    noted = Marks(excluded=True, crop=Box(0, 0, 20, 20))
    set_marks(path, noted)
    options = PrepareOptions(None, format=form, crop=True)  # type: ignore[arg-type]
    results = list(prepare(scan_all(folder).items, options))
    made = [result.target for result in results]
    assert marks_of(made[0] or path) == Marks(excluded=True)
    assert set(unprepare(results)) == {path, other}
    assert (path.read_bytes(), other.read_bytes()) == originals
    assert marks_of(path) == noted
    assert {found.name for found in folder.iterdir() if found.suffix != ".json"} == {name, "b.png"}
    assert unprepare([Prepared(path, None, "is damaged"), Prepared(path, folder / "elsewhere.png")]) == []
    assert path.exists()


# -- watching --------------------------------------------------------------------------------------


async def test_changes_from_outside_arrive_and_a_deleted_folder_ends_it(folder: Path) -> None:
    draw(folder / "a.png")
    seen: list[Path] = []
    gone = asyncio.Event()

    async def follow() -> None:
        async for changes in watch(folder):
            seen.extend(changes.paths)
            if changes.gone:
                gone.set()

    task = asyncio.create_task(follow())
    deadline = asyncio.get_running_loop().time() + 30
    number = 0
    while folder / "b.txt" not in seen:  # written again until the watch has begun
        number += 1
        (folder / "b.txt").write_text(str(number), encoding="utf-8")
        (folder / ".b.txt.tmp").write_text("x", encoding="utf-8")
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.1)
    assert folder / ".b.txt.tmp" not in seen
    os.unlink(folder / "a.png")
    while folder / "a.png" not in seen:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    shutil.rmtree(folder)
    await asyncio.wait_for(gone.wait(), 30)
    await asyncio.wait_for(task, 30)


async def test_a_stopped_watch_ends(folder: Path) -> None:
    stop = asyncio.Event()
    stop.set()

    async def follow() -> list[object]:
        return [changes async for changes in watch(folder, stop)]

    assert await asyncio.wait_for(follow(), 30) == []
