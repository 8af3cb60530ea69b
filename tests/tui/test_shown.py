"""What is shown already costs neither a layout nor a painting."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui.widgets.shown import put_text, put_titles


class Shown(App[None]):
    CSS = "#facts { height: auto; max-height: 3; width: 20; } Vertical { border: round white; }"

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(id="facts", markup=False)
            yield Static("below")


async def layouts_and_heights(*texts: str) -> list[tuple[int, int]]:
    """For each text, how many layouts it cost and how high it is then."""
    app, found = Shown(), []
    async with app.run_test(size=(40, 12)) as pilot:
        count = 0

        def laid_out(screen: object) -> None:
            nonlocal count
            count += 1

        app.screen.screen_layout_refresh_signal.subscribe(app.screen, laid_out)
        facts = app.query_one("#facts", Static)
        for text in texts:
            count = 0
            put_text(facts, Content(text))
            await pilot.pause()
            await pilot.wait_for_scheduled_animations()
            assert str(facts.render()) == text
            found.append((count, facts.size.height))
    return found


async def test_a_text_is_laid_out_only_if_it_needs_another_height() -> None:
    wrapped = "a word and another word"
    found = await layouts_and_heights(
        "one\ntwo", "one\ntwo", "uno\ndue", wrapped, "one", "1\n2\n3\n4\n5", "a\nb\nc\nd"
    )
    assert [height for _, height in found] == [2, 2, 2, 2, 1, 3, 3]
    assert [bool(count) for count, _ in found] == [True, False, False, False, True, True, False]


async def test_another_style_of_the_same_words_is_shown() -> None:
    app = Shown()
    async with app.run_test():
        facts = app.query_one("#facts", Static)
        put_text(facts, Content("word"))
        put_text(facts, Content.styled("word", "bold"))
        assert isinstance(facts.content, Content)
        assert facts.content.spans


async def test_titles_are_painted_only_if_they_are_others() -> None:
    app = Shown()
    async with app.run_test():
        box, painted = app.query_one(Vertical), []
        box.refresh = lambda *args, **named: painted.append(args)  # type: ignore[assignment, return-value]
        for title in ("Pictures [1]", "Pictures [1]", "Pictures [2]"):
            put_titles(box, Content(title), Content("[b]sub"))
        assert len(painted) == 3  # two titles and one subtitle
        assert box._border_title is not None
        assert box._border_title.plain == "Pictures [2]"
        put_titles(box, subtitle=Content(""))
        assert box.border_subtitle == ""
        assert len(painted) == 4
