"""The browser of one dataset: every key it advertises, live changes, and what goes wrong."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from textual.widgets import Checkbox, Input, RadioButton

from backend.datasets.phash import Fingerprint, fingerprint
from backend.datasets.sidecar import Box, marks_of
from tests.tui.dataset_folders import browser, library_app, make_dataset, open_browser, said
from tests.tui.fakes import HOSTILE, escapes, screen_text, until, write_picture
from tui.keymap import CHAINS, bindings_of, owners
from tui.screens.confirm import ConfirmScreen
from tui.screens.dataset_browser import DatasetBrowserScreen
from tui.screens.dataset_bulk import BulkScreen
from tui.screens.dataset_crop import CropScreen
from tui.screens.dataset_prepare import PrepareScreen
from tui.screens.datasets import DatasetsScreen
from tui.screens.help import help_sections
from tui.settings import Settings
from tui.widgets.caption_editor import CaptionEditor
from tui.widgets.dataset_problems import DatasetProblems
from tui.widgets.picture_grid import PictureGrid
from tui.widgets.picture_list import PictureList
from tui.widgets.picture_preview import PicturePreview
from tui.widgets.tag_pane import TagPane


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "animals")


async def press_and_see(pilot, keys: str) -> list[int]:
    places = []
    for key in keys.split():
        await pilot.press(key)
        places.append(browser(pilot).shelf.cursor)
    return places


async def test_cursor_keys_of_the_list(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_browser(pilot)
        places = await press_and_see(pilot, "down j up k right l left h end home G g pagedown pageup")
        assert places == [1, 2, 1, 0, 1, 2, 1, 0, 4, 0, 4, 0, 4, 0]


async def test_a_large_size_is_shown_whole(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    Image.new("1", (13000, 13000)).save(folder / "map.png")
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_browser(pilot)
        await until(lambda: " 13000x13000 (no ca" in screen_text(app))


async def test_the_grid_its_keys_and_its_thumbnails(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("v")
        grid = screen.query_one(PictureGrid)
        assert screen.focused is grid
        assert grid.tiles.columns == 2
        await until(lambda: grid.complete and "▀" in screen_text(app))
        assert await press_and_see(pilot, "down j up k right l left h") == [2, 4, 2, 0, 1, 2, 1, 0]
        assert await press_and_see(pilot, "end home G g pagedown pageup") == [4, 0, 4, 0, 4, 0]
        await pilot.press("minus")
        assert grid.tiles.columns == 3
        await pilot.press("plus", "equals_sign")
        assert grid.tiles.columns == 1
        await until(lambda: grid.complete)
        await pilot.press("v")
        assert screen.focused is screen.query_one(PictureList)


async def test_choosing(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        shelf = screen.shelf
        await pilot.press("space", "down", "V")
        assert shelf.chosen == ("ape.png", "bear.png", "cat.png")
        assert "3 chosen" in screen_text(app)
        await pilot.press("asterisk")
        assert shelf.chosen == ("dog.png", "emu.png")
        await pilot.press("a")
        assert len(shelf.chosen) == 5
        await pilot.press("escape")
        assert not shelf.chosen
        assert isinstance(app.screen, DatasetBrowserScreen)  # escape chose nothing first
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, DatasetsScreen))


async def test_the_mouse_goes_to_a_picture(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await pilot.click(PictureList, offset=(5, 3))
        assert screen.shelf.current == "dog.png"
        await pilot.click(PictureList, offset=(5, 1), control=True)
        assert screen.shelf.chosen == ("bear.png",)
        await pilot.click(PictureList, offset=(5, 2), times=2)
        await until(lambda: screen.focused is screen.query_one(CaptionEditor))


async def test_filter_sort_and_reverse(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("slash", *"snow", "enter")
        assert screen.shelf.names == ("bear.png", "dog.png")
        assert "2 of 5 pictures" in screen_text(app)
        await pilot.press("escape")
        assert len(screen.shelf) == 5
        await pilot.press("slash", *"missing", "space", *"caption")
        await until(lambda: screen.shelf.names == ("cat.png",))
        await pilot.press("escape")
        assert len(screen.shelf) == 5
        assert screen.focused is screen.query_one(PictureList)
        await pilot.press("slash", *"width<many", "enter")
        await until(lambda: "needs a number" in said(app))
        await pilot.press("escape", "S")
        assert screen.shelf.names[0] == "emu.png"
        await pilot.press("S", "s")
        assert "by size" in screen_text(app)
        assert screen.shelf.names[0] == "ape.png"


async def test_tags_filter_rename_and_remove(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("w")
        pane = screen.query_one(TagPane)
        assert screen.focused is pane
        assert pane._tags[0] == ("snow", 2)
        moves = []
        for key in ("down", "j", "up", "k", "end", "home", "G", "g", "pagedown", "pageup"):
            await pilot.press(key)
            moves.append(pane.highlighted)
        last = pane.option_count - 1
        assert moves == [1, 2, 1, 0, last, 0, last, 0, last, 0]
        await pilot.press("enter")
        assert screen.shelf.names == ("bear.png", "dog.png")
        await pilot.press("escape")
        await pilot.click(TagPane, offset=(5, 1))
        assert screen.shelf.names == ("bear.png", "dog.png")  # a click filters as enter does
        await pilot.press("escape")
        assert len(screen.shelf) == 5
        pane.focus()
        for key in ("n", "backspace"):
            await pilot.press(key)
            await until(lambda: isinstance(app.screen, BulkScreen))
            await pilot.press("escape")
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, BulkScreen))
        await pilot.press(*"ice")
        await until(lambda: "2 captions would change" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: (folder / "dog.txt").read_text() == "sks, a dog, ice")
        await until(
            lambda: app.screen is screen and pane._tags[0] != ("snow", 2) and ("ice", 2) in pane._tags
        )
        pane.highlighted = pane._tags.index(("ice", 2))
        await pilot.press("delete")
        await until(lambda: isinstance(app.screen, BulkScreen) and "2 captions would" in screen_text(app))
        await pilot.press("ctrl+s")
        await until(lambda: (folder / "dog.txt").read_text() == "sks, a dog")
        await pilot.press("w")
        assert screen.focused is screen.query_one(PictureList)


async def test_the_preview_names_its_picture_whole_after_another_pane_lay_over_it(
    tmp_path: Path, folder: Path
) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("w", "enter", "w")  # a filter, which shows another picture meanwhile
        await until(lambda: screen.shelf.current == "bear.png")
        assert str(screen.query_one(PicturePreview).border_title) == "bear.png"


async def test_problems_lead_to_their_pictures_and_are_mended(tmp_path: Path, folder: Path) -> None:
    (folder / "lost.txt").write_text("no picture", encoding="utf-8")
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("p")
        pane = screen.query_one(DatasetProblems)
        assert screen.focused is pane
        rules = [problem.rule for problem in pane._problems]
        pane.highlighted = rules.index("caption-missing")
        await pilot.press("enter")
        assert screen.shelf.current == "cat.png"
        await pilot.press("f")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until((folder / "cat.txt").is_file)
        await until(lambda: "caption-missing" not in [problem.rule for problem in pane._problems])
        pane.highlighted = [problem.rule for problem in pane._problems].index("caption-orphan")
        await pilot.press("F")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: not (folder / "lost.txt").exists())
        await pilot.press("escape")
        assert screen.focused is screen.query_one(PictureList)
        await until(lambda: len(screen.session.undos) == 2)
        await pilot.press("u")
        await until((folder / "lost.txt").exists)
        await until(lambda: len(screen.session.undos) == 1)
        await pilot.press("u")
        await until(lambda: not (folder / "cat.txt").exists())


async def test_pictures_are_compared_by_a_key_and_that_can_be_stopped(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.datasets.feed._COMPARED", 0)  # as in a folder of thousands
    (folder / "ape2.png").write_bytes((folder / "ape.png").read_bytes())
    held, looked = threading.Event(), threading.Event()

    def slow(path: Path) -> Fingerprint:
        looked.set()
        held.wait(30)
        return fingerprint(path)

    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        assert "duplicate-exact" not in [problem.rule for problem in screen.session.problems]
        with monkeypatch.context() as patch:
            patch.setattr("backend.datasets.phash.fingerprint", slow)
            await pilot.press("d")
            await until(looked.is_set)
            await until(lambda: "comparing" in screen_text(app))
            await pilot.press("d")
            held.set()
            await until(lambda: "Stopped" in said(app))
        assert "comparing" not in screen_text(app)
        await pilot.press("d")
        await until(lambda: "1 group of equal files" in said(app))
        assert "duplicate-exact" in [problem.rule for problem in screen.session.problems]


async def test_excluding_deleting_and_undo(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("x")
        await until(lambda: marks_of(folder / "ape.png").excluded)
        await until(lambda: "kept out of training" in screen_text(app))
        await pilot.press("x")
        await until(lambda: not marks_of(folder / "ape.png").excluded)
        await until(lambda: screen.item is not None and not screen.item.excluded)
        await pilot.press("D", "n")
        assert (folder / "ape.png").is_file()
        await pilot.press("D", "y")
        await until(lambda: not (folder / "ape.png").exists() and not (folder / "ape.txt").exists())
        await until(lambda: screen.shelf.current == "bear.png" and len(screen.session.undos) == 3)
        await pilot.press("u")
        await until((folder / "ape.txt").is_file)
        await until(lambda: len(screen.shelf) == 5 and len(screen.session.undos) == 2)
        await pilot.press("u")
        await until(lambda: marks_of(folder / "ape.png").excluded)


async def test_pictures_prepared_in_place_come_back_with_one_key(tmp_path: Path, folder: Path) -> None:
    write_picture(folder / "ape.png", (800, 600))
    original = (folder / "ape.png").read_bytes()
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("space")
        screen.action_prepare()
        await until(lambda: isinstance(app.screen, PrepareScreen) and bool(app.screen.query("#jpeg")))
        app.screen.query_one("#jpeg", RadioButton).value = True
        app.screen.query_one("#in-place", Checkbox).value = True
        await pilot.press("ctrl+s")
        await until(lambda: (folder / "ape.jpg").is_file() and not (folder / "ape.png").exists())
        await until(lambda: "u brings the originals back" in said(app))
        await until(lambda: len(screen.session.undos) == 1)
        await pilot.press("u")
        await until(lambda: (folder / "ape.png").is_file() and not (folder / "ape.jpg").exists())
        assert (folder / "ape.png").read_bytes() == original


async def test_a_crop_is_chosen_by_keys(tmp_path: Path, folder: Path) -> None:
    write_picture(folder / "ape.png", (800, 600))
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_browser(pilot)
        await pilot.press("c")
        screen = app.screen
        assert isinstance(screen, CropScreen)
        await pilot.press("a")
        assert "600x600 at 100,0" in screen_text(app)
        await pilot.press("right", "l", "left", "h", "minus", "down", "j", "up", "k", "plus", "equals_sign")
        assert (screen.box.width, screen.box.height) == (600, 600)
        await pilot.press("c", "A", "f")
        assert "held to free · fine steps" in screen_text(app)
        await pilot.press("shift+left", "H", "shift+up", "K", "shift+right", "shift+down")
        assert (screen.box.width, screen.box.height) == (599, 599)
        await pilot.press("L", "J", "H")
        assert (screen.box.width, screen.box.height) == (599, 600)
        box = screen.box
        await pilot.press("enter")
        crop = Box(box.left, box.top, box.width, box.height)
        await until(lambda: marks_of(folder / "ape.png").crop == crop)
        await until(lambda: "cropped to 599x600" in screen_text(app))
        await pilot.press("c")
        assert app.screen.box.width == 599
        await pilot.press("r", "enter")
        await until(lambda: marks_of(folder / "ape.png").crop is None)
        for key in ("escape", "q"):
            await until(lambda: isinstance(app.screen, DatasetBrowserScreen))
            await pilot.press("c", key)
        assert isinstance(app.screen, DatasetBrowserScreen)


async def test_pictures_are_prepared_into_another_folder(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_browser(pilot)
        await pilot.press("P")
        dialog = app.screen
        assert isinstance(dialog, PrepareScreen)
        dialog.query_one("#target", Input).value = str(folder / "inside")
        await pilot.press("ctrl+s")
        assert "inside this dataset" in screen_text(app)
        dialog.query_one("#target", Input).value = str(tmp_path / "ready")
        await pilot.press("tab", "shift+tab", "enter")
        await until(lambda: "5 pictures prepared" in said(app))
        assert (tmp_path / "ready" / "ape.txt").is_file()
        await pilot.press("P", "escape")
        assert isinstance(app.screen, DatasetBrowserScreen)


async def test_changes_from_outside_appear(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        write_picture(folder / "yak.png")
        await until(lambda: "yak.png" in screen_text(app))
        (folder / "yak.txt").write_text("a yak in the snow", encoding="utf-8")
        await until(lambda: "a yak in the snow" in screen_text(app))
        (folder / "yak.png").unlink()
        await until(lambda: "yak.png" not in screen.shelf.names)
        await pilot.press("f5")
        await until(lambda: screen.feed is not None and screen.feed.calm)


async def test_changes_from_outside_appear_within_a_second(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_browser(pilot)
        took = []
        for word in ("first", "second", "third"):  # the quickest counts: the machine may be busy
            began = time.monotonic()
            (folder / "ape.txt").write_text(f"the {word} ape", encoding="utf-8")
            await until(lambda word=word: f"the {word} ape" in screen_text(app))
            took.append(time.monotonic() - began)
        assert min(took) < 1


async def test_a_folder_that_is_deleted_while_open_loses_nothing(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("enter", *"mine ")
        away = folder.with_name("away")
        folder.rename(away)  # noqa: ASYNC240
        await until(lambda: "is gone" in said(app))
        await pilot.press("ctrl+s")
        await until(lambda: "not saved" in said(app))
        assert not folder.exists()  # noqa: ASYNC240
        assert screen.query_one(CaptionEditor).text.startswith("mine")
        await pilot.press("escape")
        for keys in (("x",), ("D", "y"), ("P", "ctrl+s")):
            app.clear_notifications()
            await pilot.press(*keys)
            await until(lambda: f"{folder} is gone; nothing was changed" in said(app))
        assert not folder.with_name("animals-prepared").exists()
        await pilot.press("enter")
        away.rename(folder)
        await until(lambda: screen.feed is not None and not screen.feed.gone)
        await until(lambda: "animals · 5 pictures" in screen_text(app))
        await pilot.press("ctrl+s")
        await until(lambda: (folder / "ape.txt").read_text().startswith("mine"))


async def test_hostile_pictures_and_captions(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "wild", {})
    folder.mkdir(exist_ok=True)
    names = ["[b]x[/b].png", "two\nlines.png", "🦊 猫.png", "x" * 150 + ".png"]
    for name, caption in zip(names, HOSTILE, strict=False):
        write_picture(folder / name, (32, 32))
        (folder / name).with_suffix(".txt").write_text(caption, encoding="utf-8")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    write_picture(folder / "long.png", (32, 32))
    (folder / "long.txt").write_text("\n".join(f"line {n} of many" for n in range(4000)), encoding="utf-8")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    write_picture(folder / "latin.png", (32, 32))
    (folder / "loop").symlink_to(folder)
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await open_browser(pilot)
        assert len(screen.shelf) == 8
        for view in range(2):
            for _ in range(len(screen.shelf)):
                await pilot.press("down" if view == 0 else "right")
                assert not escapes(screen_text(app))
            await pilot.press("p", "p", "w", "w", "v", "home")
        screen.shelf.go(screen.shelf.index("latin.png") or 0)
        screen.query_one(PictureList).post_message(PictureList.Moved())
        await until(lambda: screen.query_one(CaptionEditor).read_only)
        await pilot.press("enter", *"xyz", "ctrl+s")
        assert (folder / "latin.txt").read_bytes() == b"caf\xe9"


async def test_without_pictures_there_are_words(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder, settings=Settings(images="off"))
    async with app.run_test(size=(80, 24)) as pilot:
        await open_browser(pilot)
        await pilot.press("v", "down", "c")
        assert "▀" not in screen_text(app)
        await pilot.press("escape")
        assert "144x108" in screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (40, 12)])
async def test_every_size_is_drawn(tmp_path: Path, folder: Path, size: tuple[int, int]) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_browser(pilot)
        await pilot.resize_terminal(*size)
        await pilot.press("v", "down", "v", "down")
        await pilot.pause()
        assert "╭─ ani" in screen_text(app)


async def test_every_binding_is_in_help(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    shown: set[str] = set()

    def look() -> None:
        shown.update(key.id for section in help_sections(app.screen, {}) for key in section.keys)

    async with app.run_test(size=(120, 36)) as pilot:
        await open_browser(pilot)
        await pilot.press("space")
        look()
        for keys in (("v",), ("w",), ("p",)):
            await pilot.press(*keys)
            await pilot.pause()
            look()
        await pilot.press("p", "escape", "escape")
        await until(lambda: isinstance(app.screen, DatasetsScreen))
        await pilot.pause()
        look()
    chains = [chain for chain in CHAINS if len(chain) > 1 and "dataset" in chain[1]]
    assert len(chains) == 6
    wanted = {binding.id for chain in chains for owner in owners(chain) for binding in bindings_of(owner)}
    assert wanted - shown == set()


async def test_leaving_while_it_reads_is_quiet(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_browser(pilot)
        await pilot.press("f5", "escape")
        await until(lambda: isinstance(app.screen, DatasetsScreen))
        shutil.rmtree(folder)
        await asyncio.sleep(0)
        assert app._exception is None
