"""The text view of the editor: every key of it, and of the panes around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual.events import Paste

from backend.configs.drafts import Drafts
from tests.tui.config_pilot import TEXT, checked, editing, project
from tests.tui.fakes import HOSTILE, escapes, screen_text, until
from tui.configs.yaml_lines import closing, indent_after, is_block_text, shift_lines, toggle_comments, tokens
from tui.screens.choose import ChooseScreen
from tui.screens.config_diff import ConfigDiffScreen
from tui.screens.config_help import KeyHelpScreen
from tui.screens.configs import ConfigsScreen
from tui.widgets.exact_document import ExactDocument
from tui.widgets.find_bar import FindBar, find_all
from tui.widgets.yaml_area import YamlArea

if TYPE_CHECKING:
    from rich.segment import Segment


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)


def row_of(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.split("\n")) if part in line)


# -- lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "indent"),
    [("a:", 2), ("  b: 1", 2), ("  - x: 1", 4), ("  - x:", 6), ("- plain", 0), ("k: |", 2), ("# note:", 0)],
)
def test_the_next_line_is_indented(before: str, indent: int) -> None:
    assert indent_after(before) == " " * indent


def test_comments_come_and_go() -> None:
    lines = ["  a: 1", "", "    b: 2"]
    assert toggle_comments(lines) == ["  # a: 1", "", "  #   b: 2"]
    assert toggle_comments(toggle_comments(lines)) == lines


def test_lines_are_shifted_but_never_cut() -> None:
    assert shift_lines([" a", "  b", ""], -1) == ["a", "b", ""]
    assert shift_lines(["a", ""], 1) == ["  a", ""]


def test_quotes_close_only_where_a_value_begins() -> None:
    assert closing('"', "a: ", "") == '"'
    assert closing("'", "it", "") == ""
    assert closing("[", "a: ", "x") == ""
    assert closing('"', "# say ", "") == ""


def test_tokens_know_keys_from_values() -> None:
    kinds = {(TOKEN_LINE[t.start : t.end], t.kind) for t in tokens(TOKEN_LINE)}
    assert {("lr", "key"), ("1e-4", "number"), ("# note", "comment")} <= kinds


TOKEN_LINE = "    lr: 1e-4  # note"


def test_a_block_of_text_has_no_keys() -> None:
    lines = ["a: |", "  b: 1", "c: 2"]
    assert is_block_text(lines, 1)
    assert not is_block_text(lines, 2)


@pytest.mark.parametrize("text", ["", "a\n", "a\r\nb\r\n", "a\nb\r\n", "a\u2028b\x0cc\n", "a\rb", *HOSTILE])
def test_a_document_gives_back_what_it_was_given(text: str) -> None:
    assert ExactDocument(text).text == text


def test_capitals_count_only_if_typed() -> None:
    assert find_all("Fox fox", "fox") == [0, 4]
    assert find_all("Fox fox", "Fox") == [0]


# -- keys -----------------------------------------------------------------------------------------


async def test_typing_undo_and_redo(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        area = screen.area
        await pilot.press("ctrl+end", "x")
        assert area.text == TEXT + "x"
        await pilot.press("ctrl+z")
        assert area.text == TEXT
        await pilot.press("ctrl+y")
        assert area.text == TEXT + "x"
        await pilot.press("ctrl+home")
        assert area.cursor_location == (0, 0)


async def test_every_printable_key_types_itself(tmp_path: Path) -> None:
    async with editing(tmp_path, "") as (pilot, screen):
        chars = [chr(code) for code in range(33, 127) if chr(code) not in "\"'[]{}"]
        for start in range(0, len(chars), 10):
            await pilot.press(*chars[start : start + 10])
        assert screen.area.text == "".join(chars)
        assert pilot.app.screen is screen


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("pasted", ["\n", "\r\n", "\r"])
async def test_a_paste_has_lines_whatever_the_terminal_sends(
    tmp_path: Path, newline: str, pasted: str
) -> None:
    async with editing(tmp_path, f"a: 1{newline}") as (pilot, screen):
        await pilot.press("down")
        pilot.app.post_message(Paste(pasted.join(["b: 2", "c:", "  d: 3", ""])))
        await until(lambda: "d: 3" in screen.area.text)
        await pilot.pause()
        assert screen.area.text == newline.join(["a: 1", "b: 2", "c:", "  d: 3", ""])


async def test_pairs_close_and_go_together(tmp_path: Path) -> None:
    async with editing(tmp_path, "") as (pilot, screen):
        await pilot.press("a", ":", "space", "[")
        assert screen.area.text == "a: []"
        await pilot.press("1", "]")
        assert screen.area.text == "a: [1]"
        await pilot.press("left", "left", "delete", "backspace", "backspace")
        assert "[" not in screen.area.text


async def test_enter_indents_and_tab_goes_deeper(tmp_path: Path) -> None:
    async with editing(tmp_path, "a:") as (pilot, screen):
        await pilot.press("end", "enter", "b")
        assert screen.area.text == "a:\n  b"
        screen._close_popup()
        await pilot.press("home", "tab")
        assert screen.area.text == "a:\n    b"
        await pilot.press("shift+tab")
        assert screen.area.text == "a:\n  b"


async def test_comment_move_and_duplicate(tmp_path: Path) -> None:
    async with editing(tmp_path, "a: 1\nb: 2\n") as (pilot, screen):
        area = screen.area
        await pilot.press("ctrl+underscore")
        assert area.text == "# a: 1\nb: 2\n"
        await pilot.press("ctrl+underscore", "alt+down")
        assert area.text == "b: 2\na: 1\n"
        await pilot.press("alt+up")
        assert area.text == "a: 1\nb: 2\n"
        await pilot.press("ctrl+d")
        assert area.text == "a: 1\na: 1\nb: 2\n"
        await pilot.press("ctrl+z", "ctrl+shift+k")
        assert area.text == "b: 2\n"


async def test_crlf_and_bom_stay(tmp_path: Path) -> None:
    text = "\ufeff" + TEXT.replace("\n", "\r\n")
    async with editing(tmp_path, text) as (pilot, screen):
        await pilot.press("ctrl+end", "#", "ctrl+s")
        await until(lambda: not screen.dirty)
        saved = (tmp_path / "edited.yaml").read_bytes().decode()
        assert saved == text + "#"


async def test_completion_with_arrows_enter_and_escape(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        screen.area.go_to(row_of(TEXT, "batch_size"))
        await pilot.press("end", "enter", *"opti")
        await until(lambda: screen.popup.is_open)
        first = screen.popup.chosen
        await pilot.press("down")
        assert screen.popup.chosen != first
        await pilot.press("up")
        assert screen.popup.chosen == first
        await pilot.press("escape")
        assert not screen.popup.is_open
        assert pilot.app.screen is screen
        await pilot.press("ctrl+@")
        await until(lambda: screen.popup.is_open)
        await pilot.press("enter")
        await until(lambda: not screen.popup.is_open)
        line = screen.area.document[screen.area.cursor_location[0]]
        assert first is not None
        assert first.insert.strip() in line


async def test_help_for_the_key_under_the_cursor(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        screen.area.go_to(row_of(TEXT, "lr: 1e-4"), 9)
        await pilot.press("ctrl+k")
        await until(lambda: isinstance(pilot.app.screen, KeyHelpScreen))
        await pilot.pause()
        assert "train.lr" in screen_text(pilot.app)
        await pilot.press("escape")
        assert pilot.app.screen is screen


async def test_problems_are_marked_walked_and_mended(tmp_path: Path) -> None:
    wrong = TEXT.replace("batch_size: 1", "batch_sizes: 1").replace("rank", "rank")
    async with editing(tmp_path, wrong) as (pilot, screen):
        row = row_of(wrong, "batch_sizes")
        assert row in screen.area._marks
        assert "Problems" in screen_text(pilot.app)
        await pilot.press("f8")
        assert screen.area.cursor_location[0] == row
        await pilot.press("ctrl+home", "f7")
        assert screen.area.cursor_location[0] == row
        await pilot.press("f4")
        await until(lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("enter")
        await until(lambda: screen.area.text != wrong)
        await checked(screen)
        assert screen.area.text == TEXT
        assert "no problems" in screen_text(pilot.app)


async def test_the_problems_pane(tmp_path: Path) -> None:
    wrong = TEXT.replace("batch_size: 1", "batch_sizes: 1").replace("steps: 2000", "steps: many")
    async with editing(tmp_path, wrong) as (pilot, screen):
        await pilot.press("f6")
        while pilot.app.focused is not screen.query_one("ConfigProblems"):
            await pilot.press("f6")
        await pilot.press("end", "home", "down", "up", "enter")
        await until(lambda: pilot.app.focused is screen.area)
        await pilot.press("shift+f6")
        screen.query_one("ConfigProblems").focus()
        await pilot.press("f")
        await until(lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("escape")


async def test_stale_findings_are_dropped(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        version = screen.area.version
        await pilot.press("ctrl+end", "x")
        await checked(screen)
        assert screen._looked_at == screen.area.version > version
        assert screen._findings.problems


async def test_find_next_previous_and_replace(tmp_path: Path) -> None:
    async with editing(tmp_path, "fox\nfox\ncat\n") as (pilot, screen):
        area = screen.area
        await pilot.press("ctrl+f", *"fox")
        await pilot.pause()
        assert area.selected_text == "fox"
        await pilot.press("enter")
        await pilot.pause()
        assert area.selection.end == (1, 3)
        await pilot.press("f3")
        assert area.selection.end == (0, 3)
        await pilot.press("shift+f3")
        assert area.selection.end == (1, 3)
        await pilot.press("up", "down", "ctrl+r", *"dog")
        await pilot.press("enter")
        await pilot.pause()
        assert area.text == "fox\ndog\ncat\n"
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert area.text == "dog\ndog\ncat\n"
        await pilot.press("tab", "escape")
        assert not screen.query_one(FindBar).has_class("-open")
        assert pilot.app.focused is area


async def test_go_to_a_key(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await pilot.press("ctrl+g")
        await until(lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press(*"train.lr", "enter")
        await until(lambda: pilot.app.screen is screen)
        await until(lambda: screen.area.cursor_location[0] == row_of(TEXT, "lr: 1e-4"))


async def test_diff_with_the_saved_file(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        screen.area.replace_all_text(TEXT.replace("steps: 2000", "steps: 3000"))
        await pilot.press("f10")
        await until(lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("down", "up", "enter")
        await until(lambda: isinstance(pilot.app.screen, ConfigDiffScreen))
        await pilot.pause()
        assert "train.steps" in screen_text(pilot.app)
        await pilot.press("s", "down", "up", "pagedown", "pageup")
        await pilot.pause()
        assert "steps: 3000" in screen_text(pilot.app)
        await pilot.press("escape")
        assert pilot.app.screen is screen


async def test_leaving_asks_and_keeps_a_draft(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, _screen):
        await pilot.press("ctrl+end", "#", "escape")
        await until(lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press(*"draft", "enter")
        await until(lambda: isinstance(pilot.app.screen, ConfigsScreen))
        assert (tmp_path / "edited.yaml").read_text() == TEXT
        pilot.app.screen.edit(tmp_path / "edited.yaml")
        await until(lambda: getattr(pilot.app.screen, "_loaded", False))
        again = pilot.app.screen
        assert again.area.text == TEXT + "#"
        await pilot.press("ctrl+z")
        assert again.area.text == TEXT


async def test_ctrl_c_copies_and_never_ends_the_app(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await pilot.press("a", "ctrl+c", "b", "shift+left", "ctrl+c")
        assert pilot.app.clipboard == "b"
        assert pilot.app.screen is screen
        assert screen.area.text.startswith("ab")


async def test_what_was_typed_a_moment_before_the_app_ends_is_kept(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await pilot.press("#", "1")
        pilot.app.exit()
    draft = Drafts(tmp_path / "home" / "drafts").load(tmp_path / "edited.yaml")
    assert draft is not None
    assert draft.text == f"#1{TEXT}"
    assert screen.file.saved == TEXT


async def test_a_draft_is_written_while_typing(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, _screen):
        await pilot.press("ctrl+end", "#")
        await until(lambda: list((tmp_path / "home" / "drafts").glob("*.json")))
        await pilot.press("ctrl+s")
        await until(lambda: not list((tmp_path / "home" / "drafts").glob("*.json")))


async def test_a_change_on_disk_is_merged(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        screen.area.replace_all_text(TEXT.replace("steps: 2000", "steps: 3000"))
        (tmp_path / "edited.yaml").write_text(
            TEXT.replace("seed: 42\n      network", "seed: 7\n      network")
        )
        await pilot.press("ctrl+s")
        await until(lambda: "somebody else" in screen_text(pilot.app))
        await pilot.press("m")
        await until(lambda: pilot.app.screen is screen)
        await until(lambda: "training_seed: 7" in screen.area.text)
        assert "steps: 3000" in screen.area.text
        await pilot.press("ctrl+s")
        await until(lambda: not screen.dirty)


@pytest.mark.parametrize(("key", "seed"), [("t", "7"), ("k", "42"), ("escape", "42")])
async def test_a_change_on_disk_taken_or_not(tmp_path: Path, key: str, seed: str) -> None:
    async with editing(tmp_path) as (pilot, screen):
        (tmp_path / "edited.yaml").write_text(TEXT.replace("training_seed: 42", "training_seed: 7"))
        await until(lambda: "somebody else" in screen_text(pilot.app))
        await pilot.press("down", "up", key)
        await until(lambda: pilot.app.screen is screen)
        await until(lambda: f"training_seed: {seed}" in screen.area.text)


async def test_the_external_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    script = tmp_path / "editor.py"
    script.write_text("import sys; p = sys.argv[1]; t = open(p).read(); open(p, 'w').write(t + '# mine\\n')")
    import sys

    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    async with editing(tmp_path) as (pilot, screen):
        monkeypatch.setattr(pilot.app, "suspend", contextlib.nullcontext)
        await pilot.press("f9")
        await until(lambda: screen.area.text == TEXT + "# mine\n")
        assert not screen.dirty


async def test_the_estimate_comes_and_goes(tmp_path: Path) -> None:
    async with editing(tmp_path, size=(80, 24)) as (pilot, _screen):
        await pilot.press("f12")
        await until(lambda: "epochs" in screen_text(pilot.app))
        await pilot.press("f12")
        await pilot.pause()
        assert "epochs" not in screen_text(pilot.app)


async def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    prompts = "".join(f"# {text}\n" for text in HOSTILE)
    async with editing(tmp_path, prompts) as (pilot, screen):
        assert screen.area.text == prompts
        assert not escapes(screen_text(pilot.app))


async def test_the_palette_has_the_editors_actions(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):

        async def choose(words: str, shown: str) -> None:
            await pilot.press("ctrl+p", *words)
            await until(lambda: shown in screen_text(pilot.app))
            await pilot.press("down", "enter")
            await until(lambda: pilot.app.screen is screen)

        screen.area.go_to(0, 0)
        await choose("editor duplicate", "Editor: Duplicate")
        first = TEXT.split("\n")[0]
        await until(lambda: screen.area.text.startswith(f"{first}\n{first}\n"))
        await choose("editor save", "Editor: Save")
        await until(lambda: not screen.dirty)
        await choose("editor text or form", "Editor: Text or form")
        await until(lambda: screen.in_form)
        await pilot.press("ctrl+p", *"editor dup")
        await until(lambda: "No matches found" in screen_text(pilot.app))


@pytest.mark.parametrize("line", ["key: >", "key: |", "  - [1, 2]", "x: y"])
async def test_what_is_painted_of_a_change_is_what_a_new_paint_would_be(tmp_path: Path, line: str) -> None:
    async with editing(tmp_path) as (pilot, screen):
        area = screen.area
        area.cursor_blink = False
        screen._show = lambda *_: None  # a check would paint in between
        wide = "w" * (area.content_size.width - 8)  # scrolls while it is typed on
        area.replace_all_text("key:\n  text: 1\n  more\n" * 3 + wide)

        async def typed(keys: str | list[str]) -> None:
            for key in keys:
                await pilot.press(_NAMES.get(key, key))
                screen._close_popup()
                await pilot.pause()
                shown = painted(area)
                area._repaint()
                await pilot.pause()
                assert painted(area) == shown

        area.go_to(3, 4)
        await typed([*line, "backspace", "left", "]", "backspace", "space", "a"])
        area.go_to(9, len(wide))
        await typed("a: b")


def painted(area: YamlArea) -> list[list[Segment]]:
    """The rows with their colours, as they were painted last."""
    return [list(strip) for strip in area.render_lines(area.size.region)]


_NAMES = {" ": "space", ":": "colon", ">": "greater_than_sign", "|": "vertical_line", "-": "minus",
          "[": "left_square_bracket", "]": "right_square_bracket", ",": "comma"}  # fmt: skip
