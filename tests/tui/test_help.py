from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.config_pilot import TEXT, editor_ready, project
from tests.tui.fake_setup import ALL_GOOD, FakeSetup
from tests.tui.fakes import (
    LOG,
    FakeCloud,
    FakeDemo,
    FakeRun,
    FakeRuns,
    make_app,
    sample,
    screen_text,
    settled,
    story,
    summary,
    until,
)
from tui.cloud import CloudRun
from tui.keymap import CHAINS, bindings_of, owners
from tui.screens.help import HelpKey, HelpScreen, _lines, help_sections
from tui.screens.jobs import JobsScreen
from tui.widgets.chart import Chart
from tui.widgets.log_pane import LogPane
from tui.widgets.samples import Samples

# Bindings that exist only at times: while searching, with a crosshair, while a GPU is waited for. The panes'
# texts and the header name them.
_AT_TIMES = {
    "log.next-match",
    "log.previous-match",
    "log.end-search",
    "chart.hide-crosshair",
    "monitor.add-gpus",
    "jobs.unmark",
    "jobs.clear-search",
    "jobs.keep-search",
    "setup.stop-waiting",
}


@pytest.mark.parametrize("width", [30, 49, 60, 120])
def test_nothing_of_what_a_key_does_is_cut(width: int) -> None:
    key = HelpKey("ctrl+shift+pagedown", "Show only lines from a level on: info, warning, error", "log.level")
    lines = [line.plain for line in _lines(key, width)]
    assert " ".join(" ".join(lines).split()) == f"{key.keys} {key.text}"
    assert max(len(line) for line in lines) <= width
    short = [line.plain for line in _lines(HelpKey("q", "Leave", "app.quit"), width)]
    assert len(short) == 1
    assert short[0].startswith("q ")
    assert short[0].endswith("app.quit")


async def test_every_binding_of_the_main_screens_is_in_help(tmp_path: Path, monkeypatch) -> None:
    project(
        tmp_path,
        monkeypatch,
        wrong=TEXT.replace("my_character", "wrong").replace("batch_size", "batch_sizes"),
    )
    runs = FakeRuns(FakeRun(summary(backend="modal"), story(250, samples=[sample(100)]), LOG))
    cloud = FakeCloud(CloudRun("abcd2345", "my-lora", "my-lora", "training"))
    app = make_app(
        runs, root=tmp_path, demo=FakeDemo(), cloud=lambda: cloud, setup=lambda root: FakeSetup(ALL_GOOD)
    )
    shown: set[str] = set()
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        shown |= {key.id for section in help_sections(app.screen, {}) for key in section.keys}
        await pilot.press("2")
        await until(lambda: "Samples of step" in screen_text(app))
        shown |= {key.id for section in help_sections(app.screen, {}) for key in section.keys}
        await pilot.press("3")
        await until(lambda: "my-workspace" in screen_text(app))
        await pilot.pause()
        shown |= {key.id for section in help_sections(app.screen, {}) for key in section.keys}
        await pilot.press("9")
        await until(lambda: "ready to train" in screen_text(app))
        shown |= {key.id for section in help_sections(app.screen, {}) for key in section.keys}
        await pilot.press("5")
        await until(lambda: "wrong" in screen_text(app))
        shown |= {key.id for section in help_sections(app.screen, {}) for key in section.keys}
        app.screen.edit(tmp_path / "wrong.yaml")
        editor = await editor_ready(pilot)
        shown |= {key.id for section in help_sections(app.screen, {}) for key in section.keys}
        await pilot.press("ctrl+f")
        await pilot.pause()
        shown |= {key.id for section in help_sections(app.screen, {}) for key in section.keys}
        await pilot.press("escape", "f2")
        await until(lambda: editor.form.fields.field is not None)
        shown |= {key.id for section in help_sections(app.screen, {}) for key in section.keys}
    wanted = {
        binding.id
        for chain in CHAINS
        if len(chain) > 1
        and chain[0] == CHAINS[0][0]  # what lies over the app is piloted elsewhere
        and "dataset" not in chain[1]  # tests/tui/test_dataset_browser.py looks at those
        for owner in owners(chain)
        for binding in bindings_of(owner)
    }
    assert wanted - shown - _AT_TIMES == set()


@pytest.mark.parametrize("chain", [chain for chain in CHAINS if len(chain) == 1])
def test_dialogs_say_how_to_leave_them(chain: tuple[str, ...]) -> None:
    (owner,) = owners(chain)
    assert any("escape" in binding.key for binding in bindings_of(owner))


async def test_bindings_that_exist_at_times_come_and_go(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(250), LOG)), root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("2", "slash", *"step", "enter")

        def ids() -> set[str]:
            return {key.id for section in help_sections(app.screen, {}) for key in section.keys}

        assert {"log.next-match", "log.end-search"} <= ids()
        await pilot.press("escape")
        assert not {"log.next-match", "log.end-search"} & ids()


async def test_the_focused_pane_comes_first_with_its_own_text(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(250), LOG)), root=tmp_path)
    async with app.run_test(size=(100, 40)) as pilot:
        await settled(pilot)
        await pilot.press("2", "i")
        for pane, title in ((LogPane, "Log"), (Chart, "Loss"), (Samples, "Samples")):
            app.screen.query_one(pane).focus()
            await pilot.pause()
            sections = help_sections(app.screen, {})
            assert sections[0].title == f"{title} (focused)"
            assert sections[0].about
            assert not sections[0].about.startswith("#")
            assert sections[-1].title == "Everywhere"


@pytest.mark.parametrize("opener", ["question_mark", "f1"])
@pytest.mark.parametrize("closer", ["escape", "q", "question_mark", "f1", "ctrl+c"])
async def test_help_opens_and_closes(tmp_path: Path, opener: str, closer: str) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press(opener)
        assert isinstance(app.screen, HelpScreen)
        await until(
            lambda: "All runs of this machine" in screen_text(app) or "Jobs screen" in screen_text(app)
        )
        await pilot.press(closer)
        assert isinstance(app.screen, JobsScreen)


async def test_help_scrolls_with_every_key_it_names(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(9), LOG)), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("2", "f1")
        body = app.screen.query_one("VerticalScroll")
        await until(lambda: body.max_scroll_y > 30)
        for key, way in (
            ("down", 1), ("j", 1), ("up", -1), ("k", -1), ("pagedown", 1), ("space", 1), ("pageup", -1)
        ):  # fmt: skip
            before = body.scroll_y
            await pilot.press(key)
            await until(lambda: (body.scroll_y - before) * way > 0)  # noqa: B023
