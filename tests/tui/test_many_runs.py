"""The table of hundreds of runs: searched, sorted, grouped, put away, stopped and deleted together."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.events import Status
from backend.runs.notes import read_notes
from tests.tui.fakes import FakeRuns, make_app, screen_text, settled, summary, until
from tui.runs.query import ORDERS, RunQuery, leads
from tui.screens.compare import CompareScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.jobs import JobsScreen
from tui.widgets.run_search import RunSearch
from tui.widgets.run_table import RunTable

RUNS = [
    summary("aaaa2345", name="cat-2", status=Status.TRAINING, loss=0.3, tags=("good",)),
    summary("bbbb2345", name="dog", status=Status.FAILED, loss=None, backend="modal", dollars=2.0),
    summary("cccc2345", name="cat-1", status=Status.FINISHED, loss=0.1, step=1000),
    summary("dddd2345", name="old", status=Status.FINISHED, loss=float("nan"), archived=True),
]


def names(query: RunQuery) -> list[str]:
    return [run.name for run in query.apply(RUNS)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ["cat-2", "dog", "cat-1"]),
        ("CAT", ["cat-2", "cat-1"]),
        ("cat -finished", ["cat-2"]),
        ("#good", ["cat-2"]),
        ("#", ["cat-2"]),
        ("status:fail", ["dog"]),
        ("where:modal", ["dog"]),
        ("id:cccc", ["cat-1"]),
        ("name:finished", []),
        ("http://x [/", []),
    ],
)
def test_words_that_must_fit(text: str, wanted: list[str]) -> None:
    assert names(RunQuery(text)) == wanted


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("newest", ["cat-2", "dog", "cat-1"]),
        ("name", ["cat-1", "cat-2", "dog"]),
        ("status", ["cat-2", "dog", "cat-1"]),
        ("loss", ["cat-1", "cat-2", "dog"]),
        ("progress", ["cat-1", "cat-2", "dog"]),
        ("cost", ["dog", "cat-2", "cat-1"]),
        ("sweep", ["cat-2", "cat-1", "dog"]),
    ],
)
def test_orders(order, wanted: list[str]) -> None:
    assert names(RunQuery(order=order)) == wanted


def test_groups_are_drawn_as_branches_and_the_archive_is_a_list_of_its_own() -> None:
    assert leads(RunQuery(order="sweep").apply(RUNS)) == ["▾ ", "└ ", ""]
    assert names(RunQuery(archived=True)) == ["old"]


def make_runs(root: Path) -> FakeRuns:
    made = []
    for run in RUNS:
        path = root / "runs" / run.name
        (path / "state").mkdir(parents=True)
        made.append(summary(run.id, **{f: getattr(run, f) for f in _FIELDS}, path=path))
    return FakeRuns(*made)


_FIELDS = ("name", "status", "loss", "backend", "dollars", "tags", "archived", "step")


def shown(app) -> list[str]:
    table = app.screen.query_one(RunTable)
    return [str(table.get_option_at_index(n).id)[:4] for n in range(table.option_count)]


async def test_search_sort_and_archive_keys(tmp_path: Path) -> None:
    app = make_app(make_runs(tmp_path), root=tmp_path)
    async with app.run_test(size=(120, 30)) as pilot:
        await settled(pilot)
        assert shown(app) == ["aaaa", "bbbb", "cccc"]
        assert "3 of 4 runs" in screen_text(app)
        assert "cat-2 #good" in screen_text(app)
        await pilot.press("slash", *"cat")
        await until(lambda: shown(app) == ["aaaa", "cccc"])
        await pilot.press("enter")
        assert app.screen.query_one(RunTable).has_focus
        assert app.screen.query_one(RunSearch).display
        await pilot.press("escape")
        await until(lambda: shown(app) == ["aaaa", "bbbb", "cccc"])
        await pilot.press("slash", *"dog", "escape")
        await until(lambda: shown(app) == ["aaaa", "bbbb", "cccc"])
        assert not app.screen.query_one(RunSearch).display
        for order in [*ORDERS[1:], ORDERS[0]]:
            await pilot.press("u")
            assert order == "newest" or f"by {order}" in screen_text(app)
        await pilot.press("A")
        await until(lambda: shown(app) == ["dddd"])
        await pilot.press("a")
        await until(lambda: shown(app) == [])
        assert not read_notes(tmp_path / "runs" / "old").archived
        await pilot.press("escape")
        await until(lambda: len(shown(app)) == 4)
        await pilot.press("a")
        await until(lambda: len(shown(app)) == 3)


async def test_several_runs_are_compared_stopped_deleted_together(tmp_path: Path) -> None:
    runs = make_runs(tmp_path)
    app = make_app(runs, root=tmp_path)
    asked = runs.local.asked
    async with app.run_test(size=(120, 30)) as pilot:
        await settled(pilot)
        await pilot.press("home", "space", "space")
        assert "✱ cat-2" in screen_text(app)
        assert "2 marked" in screen_text(app)
        await pilot.press("c")
        await until(lambda: isinstance(app.screen, CompareScreen))
        await until(lambda: "cannot be read" in screen_text(app))  # these have no configs
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, JobsScreen))
        await pilot.press("s")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.pause()
        assert "Stop 1 run?" in screen_text(app)
        await pilot.press("y")
        await until(lambda: asked == [("stop", "aaaa2345")])
        await until(lambda: "marked" not in screen_text(app))
        await pilot.press("asterisk")
        assert "3 marked" in screen_text(app)
        await pilot.press("D")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.pause()
        assert "Delete 2 runs?" in screen_text(app)
        await pilot.press("y")
        await until(lambda: [one for one in asked if one[0] == "delete"] != [] and shown(app) == ["aaaa"])
        await pilot.press("asterisk")
        assert "1 marked" in screen_text(app)
        await pilot.press("asterisk")
        assert "marked" not in screen_text(app)
        await pilot.press("space", "escape")
        assert "marked" not in screen_text(app)


async def test_hundreds_of_runs_are_searched_while_one_types(tmp_path: Path) -> None:
    many = FakeRuns(*(summary(f"run{n:05}", name=f"sweep-{n}") for n in range(600)))
    app = make_app(many, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("slash", *"sweep-59")
        await until(lambda: len(shown(app)) == 11)
        assert "11 of 600 runs" in screen_text(app)
