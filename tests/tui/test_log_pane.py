from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Button, Input, Static

from tui.logs.store import LogStore
from tui.widgets.log_pane import LogPane
from tui.widgets.log_search import LogSearch
from tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from textual.pilot import Pilot


class PaneApp(App[None]):
    def __init__(self, pane: LogPane) -> None:
        super().__init__()
        self.pane = pane
        self.follows: list[bool] = []

    def compose(self) -> ComposeResult:
        yield self.pane
        yield Button("other")

    def on_mount(self) -> None:
        self.pane.focus()

    @on(LogPane.FollowChanged)
    def _note(self, event: LogPane.FollowChanged) -> None:
        assert event.control is self.pane
        self.follows.append(event.follow)


def _numbered(count: int, start: int = 0) -> bytes:
    return b"".join(b"line %d\n" % n for n in range(start, start + count))


async def _until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await pilot.pause()


def _rows(pane: LogPane) -> list[str]:
    view = pane.query_one(LogView)
    return [view.render_line(y).text.rstrip() for y in range(view.size.height)]


def _top(pane: LogPane) -> str:
    return _rows(pane)[0]


async def _settle(pilot: Pilot[None], pane: LogPane) -> None:
    """Wait until the pane has painted what its store holds."""
    await _until(pilot, lambda: pane._painted == pane.store.version)
    await pilot.pause()


async def test_it_follows_what_is_fed_and_says_when_there_is_nothing() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        assert _top(pane) == "no log lines yet"
        pane.feed(_numbered(100))
        await _until(pilot, lambda: "line 99" in _rows(pane))
        pane.feed(b"half a li")
        await _until(pilot, lambda: _rows(pane)[-1] == "half a li")
        pane.feed(b"ne\r\n")
        await _until(pilot, lambda: _rows(pane)[-1] == "half a line")
        pane.clear()
        assert _top(pane) == "no log lines yet"


async def test_every_moving_key() -> None:
    pane = LogPane()
    app = PaneApp(pane)
    async with app.run_test(size=(60, 20)) as pilot:
        pane.feed(_numbered(500))
        await _until(pilot, lambda: "line 499" in _rows(pane))
        height = pane.viewport.height
        last_top = 500 - height
        expected = last_top

        async def press(key: str, top: int, follow: bool) -> None:
            await pilot.press(key)
            await pilot.pause()
            assert (_top(pane), pane.follow) == (f"line {top}", follow), key

        await press("up", last_top - 1, False)
        await press("k", last_top - 2, False)
        await press("down", last_top - 1, False)
        await press("j", last_top, False)
        await press("j", last_top, True)  # past the end: follow again
        for key in ("pageup", "ctrl+u"):
            expected -= height - 1
            await press(key, expected, False)
        for key in ("pagedown", "ctrl+d"):
            expected += height - 1
            await press(key, expected, False)
        await press("home", 0, False)
        await press("end", last_top, True)
        await press("g", 0, False)
        await press("G", last_top, True)
        await press("f", last_top, False)
        await press("f", last_top, True)
        assert app.follows[:3] == [False, True, False]
        assert app.follows[-1] is True


async def test_new_lines_are_counted_while_paused() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(_numbered(100))
        await _until(pilot, lambda: "line 99" in _rows(pane))
        await pilot.press("up")
        assert _rows(pane)[-1].endswith("paused")
        pane.feed(_numbered(1234, 100))
        await _until(pilot, lambda: _rows(pane)[-1].endswith("1,234 new ↓"))
        assert pane.has_class("-paused")
        await pilot.press("end")
        await _until(pilot, lambda: _rows(pane)[-1] == "line 1333")


async def test_the_mouse_wheel_scrolls_and_lets_go() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(_numbered(100))
        await _until(pilot, lambda: "line 99" in _rows(pane))
        view = pane.query_one(LogView)
        top = 100 - pane.viewport.height
        await pilot._post_mouse_events([_wheel("up")], view, offset=(3, 3))
        await _until(pilot, lambda: _top(pane) == f"line {top - 3}")
        assert not pane.follow
        await pilot._post_mouse_events([_wheel("down")], view, offset=(3, 3))
        await _until(pilot, lambda: _top(pane) == f"line {top}")


def _wheel(direction: str) -> type:
    from textual import events

    return {"up": events.MouseScrollUp, "down": events.MouseScrollDown}[direction]


async def test_the_scroll_bar_reaches_every_part() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(_numbered(1000))
        await _until(pilot, lambda: "line 999" in _rows(pane))
        view = pane.query_one(LogView)
        bar = view.vertical_scrollbar
        assert bar.window_virtual_size == 1000
        assert view.scroll_y == view.max_scroll_y
        from textual.scrollbar import ScrollDown, ScrollTo, ScrollUp

        view.post_message(ScrollTo(y=500))
        await _until(pilot, lambda: _top(pane) == "line 500")
        assert not pane.follow
        view.post_message(ScrollUp())
        await _until(pilot, lambda: _top(pane) == f"line {500 - pane.viewport.height}")
        view.post_message(ScrollDown())
        await _until(pilot, lambda: _top(pane) == "line 500")
        view.post_message(ScrollTo(y=view.max_scroll_y))
        await _until(pilot, lambda: pane.follow)


async def test_search_from_the_first_key_to_esc() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(
            b"".join(b"line %d %s\n" % (n, b"Needle" if n % 100 == 50 else b"hay") for n in range(1000))
        )
        await _until(pilot, lambda: "line 999 hay" in _rows(pane))
        bar = pane.query_one(LogSearch)
        count = bar.query_one("LogSearch .log-prompt--words", Static)
        assert not bar.display
        await pilot.press("slash")
        assert bar.display
        assert isinstance(pilot.app.focused, Input)
        await pilot.press(*"needle")
        await _until(pilot, lambda: str(count.content) == "10 matches")
        assert pane.follow  # typing moves nothing
        await pilot.press("enter")
        await _until(pilot, lambda: str(count.content) == "10/10")
        assert pilot.app.focused is pane
        assert not pane.follow
        assert any("line 950 Needle" in row for row in _rows(pane))
        await pilot.press("n")
        await _until(pilot, lambda: str(count.content) == "1/10 wrapped")
        assert any("line 50 Needle" in row for row in _rows(pane))
        await pilot.press("n")
        await _until(pilot, lambda: str(count.content) == "2/10")
        await pilot.press("N")
        await _until(pilot, lambda: str(count.content) == "1/10")
        styles = _styles_of(pane, "Needle")
        assert styles
        assert all(style.reverse and style.bold for style in styles)
        pane.feed(b"one more needle\n")
        await _until(pilot, lambda: str(count.content) == "1/11")
        await pilot.press("escape")
        await pilot.pause()
        assert not bar.display
        assert not any(style.reverse for style in _styles_of(pane, "Needle"))


def _styles_of(pane: LogPane, word: str) -> list:  # type: ignore[type-arg]
    view = pane.query_one(LogView)
    return [
        segment.style
        for y in range(view.size.height)
        for segment in view.render_line(y)
        if word in segment.text and segment.style is not None
    ]


async def test_capitals_make_the_search_exact_and_nothing_found_is_said() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(b"error\nERROR\nError\n")
        await _settle(pilot, pane)
        count = pane.query_one("LogSearch .log-prompt--words", Static)
        await pilot.press("slash", *"Err")
        await _until(pilot, lambda: str(count.content) == "1 match")
        await pilot.press("x")
        await _until(pilot, lambda: str(count.content) == "no match")
        await pilot.press("enter")
        await pilot.pause()
        assert pane.follow
        assert str(count.content) == "no match"
        await pilot.press("slash", "backspace", "backspace", *"[/b]")
        await _until(pilot, lambda: str(count.content) == "no match")


async def test_arrows_in_the_search_line_walk_through_matches() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(b"x 1\nx 2\nx 3\n")
        await _settle(pilot, pane)
        count = pane.query_one("LogSearch .log-prompt--words", Static)
        await pilot.press("slash", "x")
        await _until(pilot, lambda: str(count.content) == "3 matches")
        await pilot.press("down")
        await _until(pilot, lambda: str(count.content) == "1/3")
        await pilot.press("down", "down")
        await _until(pilot, lambda: str(count.content) == "3/3")
        await pilot.press("up")
        await _until(pilot, lambda: str(count.content) == "2/3")
        assert isinstance(pilot.app.focused, Input)
        await pilot.press("escape")
        await _until(pilot, lambda: pilot.app.focused is pane)
        assert not pane.query_one(LogSearch).active


async def test_an_empty_search_closes_and_search_keys_are_free_otherwise() -> None:
    class WithOwnKeys(PaneApp):
        BINDINGS = [Binding("escape", "note('escape')"), Binding("n", "note('n')")]  # noqa: RUF012

        def __init__(self, pane: LogPane) -> None:
            super().__init__(pane)
            self.noted: list[str] = []

        def action_note(self, key: str) -> None:
            self.noted.append(key)

    pane = LogPane()
    app = WithOwnKeys(pane)
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.press("n", "escape")
        assert app.noted == ["n", "escape"]
        await pilot.press("slash", "enter")
        await pilot.pause()
        assert not pane.query_one(LogSearch).active
        assert app.focused is pane


async def test_the_unfinished_last_line_is_a_match_too() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(b"a needle\nno newline: needle")
        await _settle(pilot, pane)
        count = pane.query_one("LogSearch .log-prompt--words", Static)
        await pilot.press("slash", *"needle")
        await _until(pilot, lambda: str(count.content) == "2 matches")
        pane.feed(b"\r overwritten")
        await _until(pilot, lambda: str(count.content) == "1 match")


async def test_searching_a_large_log_does_not_block_the_loop() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(
            b"\x1b[32m12:00:00\x1b[0m INFO step 1 loss 0.1234 \x1b[1mlr\x1b[0m 1e-4 and more words\n"
            * 150_000
        )
        await _settle(pilot, pane)
        count = pane.query_one("LogSearch .log-prompt--words", Static)
        await pilot.press("slash")
        lags = []
        pane.query_one(Input).value = "loss 0.1234 lr"
        deadline = time.monotonic() + 60
        while str(count.content) != "150,000 matches":
            assert time.monotonic() < deadline
            before = time.monotonic()
            await asyncio.sleep(0)
            lags.append(time.monotonic() - before)
        # Whatever the machine, the loop came round many times during the search.
        assert len(lags) > 20
        assert sorted(lags)[len(lags) // 2] < 0.1


async def test_wrap_and_pan() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(40, 20)) as pilot:
        pane.feed(b"0123456789" * 10 + b"\n")
        await _settle(pilot, pane)
        width = pane.viewport.width
        assert _top(pane).endswith("\u203a")
        await pilot.press("right")
        assert _top(pane).startswith("\u203a"[:0] + "\u2039901234")
        await pilot.press("left")
        assert _top(pane).startswith("0123")
        await pilot.press("w")
        await pilot.pause()
        assert "".join(_rows(pane)) == "0123456789" * 10
        assert len(_rows(pane)[0]) == width
        await pilot.press("right")
        assert _top(pane).startswith("0123")
        await pilot.press("w")
        await pilot.pause()
        assert _top(pane).endswith("\u203a")


HOSTILE = b"".join(
    [
        b"\x1b]52;c;c2VjcmV0\x07clip\x1b[2J\x1b[H home \x1b]0;title\x1b\\ ",
        b"[/b] [bold red]x[/] [@click=app.bell]y\n",
        b"\x00nul \x08back \x7fdel \xff\xfe bytes\n",
        "漢字かな e\u0301 שלום \u202erev\u202c 👩\u200d🚀\n".encode(),
        b"x" * 1_000_000 + b"\n",
        "漢".encode() * 300_000 + b"\n",
        "\u0301".encode() * 5000 + b"\n\r 1%\r 2%\r",
    ]
)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (20, 8), (9, 4)])
@pytest.mark.parametrize("wrap", [False, True])
async def test_hostile_bytes_are_harmless(size: tuple[int, int], wrap: bool) -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=size) as pilot:
        for start in range(0, len(HOSTILE), 70_001):
            pane.feed(HOSTILE[start : start + 70_001])
        await _settle(pilot, pane)
        if wrap:
            await pilot.press("w")
        await pilot.press("home", "right", "right", "down", "pagedown", "slash", "x", "enter", "n", "end")
        await pilot.pause()
        view = pane.query_one(LogView)
        for key in ("home", "end"):
            await pilot.press(key)
            for y in range(view.size.height):
                strip = view.render_line(y)
                assert strip.cell_length == view.size.width
                assert all(c.isprintable() for c in strip.text)
        if not wrap and size[0] >= 80:
            await pilot.press("home")
            rows = _rows(pane)
            assert rows[0] == "clip home  [/b] [bold red]x[/] [@click=app.bell]y"
            assert rows[1] == "nul back del \ufffd\ufffd bytes"
            assert rows[-1].endswith("paused") or " 2%" in rows


async def test_colours_and_levels_are_seen() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        pane.feed(b"\x1b[32mgreen\x1b[0m plain\nERROR bad\nWARNING odd\n")
        await _settle(pilot, pane)
        (green,) = _styles_of(pane, "green")
        assert green.color is not None
        assert green.color.number == 2
        (error,) = _styles_of(pane, "ERROR")
        (warning,) = _styles_of(pane, "WARNING")
        # Also told apart without colour.
        assert error.bold
        assert error.underline
        assert warning.bold
        assert not warning.underline


async def test_a_growing_file_is_shown_in_place(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    pane = LogPane(LogStore.open(path))
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        assert _top(pane) == "no log lines yet"
        with path.open("ab", buffering=0) as file:
            file.write(_numbered(50))
            await _until(pilot, lambda: "line 49" in _rows(pane))
            file.write(b"\r 10%")
            await _until(pilot, lambda: " 10%" in _rows(pane))
            file.write(b"\r 20%")
            await _until(pilot, lambda: " 20%" in _rows(pane))
        with pytest.raises(ValueError, match="reads a file"):
            pane.feed(b"x")


async def test_another_store_is_shown_and_the_first_one_left_alone(tmp_path: Path) -> None:
    first, second = LogStore(), LogStore()
    first.feed(_numbered(100))
    second.feed(b"second needle\n")
    pane = LogPane(first)
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        await _until(pilot, lambda: "line 99" in _rows(pane))
        await pilot.press("home", "slash", *"needle")
        pane.use_store(second)
        await _until(pilot, lambda: _top(pane) == "second needle")
        await _until(
            pilot, lambda: str(pane.query_one("LogSearch .log-prompt--words", Static).content) == "1 match"
        )
        assert pane.follow
        assert first.line(0).text == "line 0"


async def test_a_store_with_a_problem_says_so(tmp_path: Path) -> None:
    store = LogStore()
    pane = LogPane(store)
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        store.problem = "the log cannot be read: [/b] denied"
        await _until(pilot, lambda: "denied" in str(pane._border_subtitle))


async def test_resizing_keeps_the_place() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(80, 24)) as pilot:
        pane.feed(_numbered(1000))
        await _until(pilot, lambda: "line 999" in _rows(pane))
        await pilot.press("home", "pagedown", "pagedown")
        top = _top(pane)
        for size in ((40, 12), (10, 5), (120, 40), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert _top(pane) == top[: pane.viewport.width] or size[0] <= 10
        await pilot.press("end")
        await pilot.resize_terminal(60, 10)
        await _until(pilot, lambda: _rows(pane)[-1] == "line 999")


async def test_tab_passes_through_and_focus_is_visible() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        focused_border = pane.styles.border_top
        await pilot.press("tab")
        assert isinstance(pilot.app.focused, Button)
        assert pane.styles.border_top != focused_border
        await pilot.press("tab")
        assert pilot.app.focused is pane


async def test_keys_can_be_remapped() -> None:
    pane = LogPane()
    app = PaneApp(pane)
    async with app.run_test(size=(60, 20)) as pilot:
        app.set_keymap({"log.follow": "x"})
        pane.feed(_numbered(100))
        await _settle(pilot, pane)
        await pilot.press("x")
        assert not pane.follow
        await pilot.press("f")
        assert not pane.follow


def test_every_binding_is_named_explained_and_unique() -> None:
    bindings = [b for b in LogPane.BINDINGS if isinstance(b, Binding)]
    assert len({b.id for b in bindings}) == len(bindings)
    assert all(b.id and b.id.startswith("log.") and b.tooltip for b in bindings)
    assert 3 <= sum(b.show for b in bindings) <= 5
    assert "##" in LogPane.HELP


async def test_painting_waits_for_keys_but_lines_still_appear() -> None:
    pane = LogPane()
    async with PaneApp(pane).run_test(size=(60, 20)) as pilot:
        deadline = time.monotonic() + 10
        pane.feed(_numbered(1000))
        while "line 999" not in _rows(pane):  # keys all the time, more than one per quiet spell
            pane.note_input()
            assert time.monotonic() < deadline
            await pilot.pause()
