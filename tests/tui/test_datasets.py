"""The library of datasets: every key, pasted paths, hostile names."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest
from textual import events

from backend.datasets.library import Library
from tests.tui.dataset_folders import library_app, make_dataset, open_browser, open_library, said
from tests.tui.fakes import escapes, screen_text, settled, until, write_picture
from tui.datasets.session import Training
from tui.datasets.training import last_training, store_training
from tui.screens.ask_text import TextScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.dataset_browser import DatasetBrowserScreen
from tui.screens.datasets import DatasetsScreen
from tui.widgets.caption_editor import CaptionEditor
from tui.widgets.dataset_list import DatasetList
from tui.widgets.picture_preview import PicturePreview


async def test_an_empty_library_says_what_to_do(tmp_path: Path) -> None:
    app = library_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("4")
        await until(lambda: "No datasets yet" in screen_text(app))
        await pilot.press("D", "n", "i")  # nothing to do these with
        assert isinstance(app.screen, DatasetsScreen)


async def test_a_folder_is_added_by_its_path_and_counted(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "animals")
    app = library_app(tmp_path)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library_empty(pilot)
        await pilot.press("a")
        assert isinstance(app.screen, TextScreen)
        await pilot.press("enter")
        await until(lambda: "Type something first" in screen_text(app))
        app.screen.query_one("Input").value = str(folder)
        await pilot.press("enter")
        await until(lambda: "5 pictures · 4 captions · 1 without" in screen_text(app))
        assert "not used by any run yet" in screen_text(app)
    assert [entry.path for entry in Library(tmp_path / "home").entries()] == [folder]


async def open_library_empty(pilot) -> None:
    await settled(pilot)
    await pilot.press("4")
    await until(lambda: "No datasets yet" in screen_text(pilot.app))


async def test_datasets_of_configs_are_listed_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_dataset(tmp_path / "project" / "animals")
    demo = make_dataset(tmp_path / "home" / "demo" / "shapes")
    for place, name in ((folder.parent, "animals"), (demo.parent, "shapes")):
        text = f"config: {{process: [{{trigger_word: zebra, datasets: [{{folder_path: {name}}}]}}]}}"
        (place / "first.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder.parent)
    app = library_app(tmp_path)
    async with app.run_test(size=(120, 24)) as pilot:
        await settled(pilot)
        await pilot.press("4")
        await until(lambda: screen_text(app).count("5 pictures") == 2)
        assert "in the config first" in screen_text(app)
        await pilot.press("D", "y")
        await until(lambda: "shapes" in screen_text(app) and "animals" not in screen_text(app))
        await pilot.press("f5")
        await until(lambda: "counting" not in screen_text(app))
        assert "animals" not in screen_text(app)


async def test_a_folder_that_is_not_there_is_refused_in_a_sentence(tmp_path: Path) -> None:
    app = library_app(tmp_path)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library_empty(pilot)
        app.screen.post_message(events.Paste(str(tmp_path / "nowhere")))
        await until(lambda: "no such folder or file" in said(app))
        app.screen.post_message(events.Paste("   "))
        await until(lambda: "There is no path in what was pasted" in said(app))


async def test_dropped_folders_are_added_and_dropped_pictures_copied(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "my animals")
    picture = write_picture(tmp_path / "elsewhere" / "zebra.png")
    app = library_app(tmp_path)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library_empty(pilot)
        app.screen.post_message(events.Paste(str(picture)))
        await until(lambda: "Add a folder first" in said(app))
        app.screen.post_message(events.Paste(f"'{folder}'"))
        await until(lambda: "5 pictures" in screen_text(app))
        await pilot.pause()
        app.screen.post_message(events.Paste(str(picture)))
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until((folder / "zebra.png").is_file)
        assert picture.is_file()


async def test_rename_import_count_again_and_remove(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "animals")
    more = make_dataset(tmp_path / "more", {"yak.png": "a yak"})
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library(pilot)
        await until(lambda: "5 pictures" in screen_text(app))
        await pilot.press("n")
        app.screen.query_one("Input").value = "zoo"
        await pilot.press("enter")
        await until(lambda: "│ zoo" in screen_text(app))
        await pilot.press("i")
        app.screen.query_one("Input").value = str(more)
        await pilot.press("enter")
        await until((folder / "yak.txt").is_file)
        await until(lambda: isinstance(app.screen, DatasetsScreen) and "1 picture copied" in said(app))
        await pilot.press("f5")
        await until(lambda: "6 pictures · 5 captions" in screen_text(app))
        await pilot.press("D", "n")
        assert "zoo" in screen_text(app)
        await pilot.press("D", "y")
        await until(lambda: "No datasets yet" in screen_text(app))
    assert (folder / "ape.png").is_file()


async def test_cursor_keys_and_opening(tmp_path: Path) -> None:
    folders = [make_dataset(tmp_path / f"set{n}", {"ape.png": "x"}) for n in range(4)]
    app = library_app(tmp_path, *folders)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library(pilot)
        known = app.screen.query_one(DatasetList)
        await until(lambda: known.option_count == 4 and app.screen.focused is known)
        places = []
        for key in ("down", "j", "up", "k", "end", "home", "G", "g", "pagedown", "pageup"):
            await pilot.press(key)
            places.append(known.highlighted)
        assert places == [1, 2, 1, 0, 3, 0, 3, 0, 3, 0]
        await pilot.press("down", "enter")
        await until(lambda: isinstance(app.screen, DatasetBrowserScreen))
        assert app.screen.folder == folders[1]
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, DatasetsScreen))


async def test_a_dataset_whose_folder_is_gone_says_so(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "animals")
    app = library_app(tmp_path, folder)
    shutil.rmtree(folder)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library(pilot)
        await until(lambda: "the folder is not there" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: "is gone" in said(app))
        assert isinstance(app.screen, DatasetBrowserScreen)


@pytest.mark.parametrize("name", ["[b]bold[/b] [", "猫 🦊 fox", "two\nlines", "x" * 120])
async def test_hostile_folder_names(tmp_path: Path, name: str) -> None:
    folder = make_dataset(tmp_path / name, {"ape.png": "[/"})
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_library(pilot)
        await until(lambda: "1 picture" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, DatasetBrowserScreen) and "ape.png" in screen_text(app))
        assert not escapes(screen_text(app))


async def test_counts_follow_what_happens_outside(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "animals")
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 24)) as pilot:
        screen = await open_library(pilot)
        await until(lambda: "5 pictures" in screen_text(app) and screen._stop is not None)

        def five_then_six() -> bool:
            # Again and again: the watch may just be about to begin.
            (folder / "yak.txt").write_text("a yak", encoding="utf-8")
            write_picture(folder / "yak.png", (96, 96))
            return "6 pictures" in screen_text(app)

        await until(five_then_six)
        shutil.rmtree(folder)
        await until(lambda: "the folder is not there" in screen_text(app))
        await pilot.press("1")
        await pilot.pause()
        assert screen._stop is not None
        await until(screen._stop.is_set)


async def test_a_dataset_is_checked_for_what_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_dataset(tmp_path / "animals")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    root = tmp_path / "home"
    assert last_training(root, folder, project) == Training()
    (project / "mine.yaml").write_text(
        "job: extension\nconfig:\n  name: mine\n  process:\n  - trigger_word: ohwx\n    datasets:\n"
        f"    - folder_path: {folder}\n      resolution: 768\n",
        encoding="utf-8",
    )
    assert last_training(root, folder, project) == Training((768,), "ohwx")
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 24)) as pilot:
        screen = await open_browser(pilot)
        await until(lambda: screen.session.training == Training((768,), "ohwx"))
        await until(lambda: "trigger-missing" in [problem.rule for problem in screen.session.problems])
    store_training(root, folder, Training((256,), "other"))
    assert last_training(root, folder, project) == Training((256,), "other")


@pytest.mark.parametrize(
    ("setting", "bucket"), [("bucket_algorithm: sdxl", "768x1152"), ("buckets: false", "1024x1024")]
)
async def test_a_dataset_is_shown_in_the_shapes_and_with_the_captions_that_its_config_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, bucket: str
) -> None:
    folder = tmp_path / "animals"
    write_picture(folder / "ape.png", (800, 1200))
    (folder / "ape.txt").write_text("not this", encoding="utf-8")
    (folder / "ape.caption").write_text("an ape in a tree", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        f"job: extension\nconfig:\n  name: mine\n  process:\n  - datasets:\n    - folder_path: {folder}\n"
        f"      resolution: 1024\n      caption_ext: caption\n      {setting}\n",
        encoding="utf-8",
    )
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await until(lambda: "an ape in a tree" in screen.query_one(CaptionEditor).text)
        preview = screen.query_one(PicturePreview)
        await until(lambda: str(preview.border_subtitle) == f"trains as {bucket}")
        await pilot.press("enter", "end", *" now")
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:  # what was left to be saved is of that file
        screen = await open_browser(pilot)
        await until(lambda: screen.query_one(CaptionEditor).text == "an ape in a tree now")
    assert (folder / "ape.txt").read_text(encoding="utf-8") == "not this"


async def test_the_cursor_stays_on_a_renamed_dataset(tmp_path: Path) -> None:
    folders = [make_dataset(tmp_path / name, {"ape.png": "x"}) for name in ("alpha", "beta", "gamma")]
    app = library_app(tmp_path, *folders)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library(pilot)
        known = app.screen.query_one(DatasetList)
        await until(lambda: known.option_count == 3 and app.screen.focused is known)
        await pilot.press("n")
        app.screen.query_one("Input").value = "zeta"
        await pilot.press("enter")
        await until(lambda: "│ zeta" in screen_text(app))
        await until(lambda: known.current is not None and known.current.name == "zeta")


async def test_folders_dropped_one_after_the_other_are_all_added(tmp_path: Path) -> None:
    folders = [make_dataset(tmp_path / f"set{n}", {"ape.png": "x"}) for n in range(4)]
    app = library_app(tmp_path)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library_empty(pilot)
        for folder in folders:
            app.screen.post_message(events.Paste(str(folder)))
        await until(lambda: screen_text(app).count("1 picture ·") == 4)
    assert [entry.path for entry in Library(tmp_path / "home").entries()] == folders


async def test_pictures_are_imported_with_the_captions_that_the_dataset_is_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, more = make_dataset(tmp_path / "animals"), tmp_path / "more"
    write_picture(more / "yak.png")
    (more / "yak.caption").write_text("a yak", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        f"config:\n  process:\n  - datasets:\n    - folder_path: {folder}\n      caption_ext: caption\n",
        encoding="utf-8",
    )
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library(pilot)
        await until(lambda: "in the config mine" in screen_text(app))
        await pilot.press("i")
        app.screen.query_one("Input").value = str(more)
        await pilot.press("enter")
        await until(lambda: "1 picture copied" in said(app))
        assert (folder / "yak.caption").read_text(encoding="utf-8") == "a yak"


async def test_an_import_of_what_is_not_there_or_no_picture_says_so(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "animals")
    (tmp_path / "text.md").write_text("no picture", encoding="utf-8")
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 24)) as pilot:
        await open_library(pilot)
        await until(lambda: "5 pictures" in screen_text(app))
        for name, words in (("nowhere", "no such folder or file"), ("text.md", "There is no picture among")):
            await pilot.press("i")
            app.screen.query_one("Input").value = str(tmp_path / name)
            await pilot.press("enter")
            await until(lambda words=words: words in said(app))
        assert "copied." not in said(app)


async def test_what_changes_while_datasets_are_counted_is_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tui.datasets import counts
    from tui.screens import datasets

    folders = [make_dataset(tmp_path / f"set{n}", {"ape.png": "x"}) for n in range(2)]
    counted, held = threading.Event(), threading.Event()

    def slow(root: Path, folder: Path, *values, **options):  # type: ignore[no-untyped-def]
        if folder == folders[1]:
            counted.set()
            held.wait(30)
        return counts.count(root, folder, *values, **options)

    monkeypatch.setattr(datasets, "count", slow)
    app = library_app(tmp_path, *folders)
    async with app.run_test(size=(100, 24)) as pilot:
        await settled(pilot)
        await pilot.press("4")
        await until(counted.is_set)  # the first is counted, the second is not yet
        await until(lambda: getattr(app.screen, "_stop", None) is not None)
        await asyncio.sleep(1)  # the watch has begun
        write_picture(folders[0] / "yak.png", (96, 96))
        await asyncio.sleep(1)
        held.set()
        await until(lambda: "2 pictures" in screen_text(app))
