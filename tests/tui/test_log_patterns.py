"""Regular expressions that would run for ever: told by their form, run elsewhere, ended in time."""

from __future__ import annotations

import re

import pytest

from tests.tui.fakes import until
from tests.tui.test_log_keys import PaneApp
from tui.logs import pattern_process
from tui.logs.pattern_cost import growth, is_cheap
from tui.logs.pattern_process import PatternProcess, TooSlow
from tui.logs.search import Query
from tui.widgets.log_filter import LogFilter
from tui.widgets.log_search import LogSearch

ENDLESS = r"(a+)+$"
TRAP = "a" * 60 + "!"


@pytest.mark.parametrize(
    "pattern",
    [r"loss", r"foo|bar", r"step \d+", r"\d+\.\d+", r"step \d+.*loss \d+", r"^.*CUDA.*$", r"[A-Z]+:"],
)
def test_what_people_search_for_is_cheap_on_a_line_of_usual_length(pattern: str) -> None:
    assert is_cheap(pattern, 160)


@pytest.mark.parametrize(
    "pattern", [ENDLESS, r"(a|aa)+$", r"(?:a*)*b", r"(a?){40}a{40}", r"(?=(a+)+$)x", r"(x)?(?(1)(a+)+|b)$"]
)
def test_repetitions_in_repetitions_never_are(pattern: str) -> None:
    assert growth(pattern)[1] == float("inf")
    assert not is_cheap(pattern, 10)


def test_long_lines_make_a_pattern_dear() -> None:
    assert is_cheap(r".*a.*b", 100)
    assert not is_cheap(r".*a.*b", 10_000)
    assert not is_cheap("a?" * 40 + "b", 100)


def test_a_process_finds_what_re_finds_and_can_be_used_again() -> None:
    process = PatternProcess(re.compile("(a|b)+ é", re.IGNORECASE))
    assert process.search(["xx", "AB é", "a\u2028b é", ""]) == [1, 2]
    assert process.search([]) == []
    process.close()
    assert process.search(["b É"]) == [0]
    process.close()


def test_what_takes_too_long_is_ended() -> None:
    process = PatternProcess(re.compile(ENDLESS), seconds=0.3)
    with pytest.raises(TooSlow):
        process.search([TRAP])
    assert process._process is None


def test_nothing_is_matched_where_somebody_waits() -> None:
    query = Query(ENDLESS, regex=True)
    assert query.spans(TRAP) == []
    assert not query.matches(TRAP)
    assert query.found_in(["caa", "b"]) == [0]
    assert Query(r"b+", regex=True).spans("abba") == [(1, 3)]


async def test_the_pane_says_that_a_pattern_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern_process.PatternProcess.__init__, "__defaults__", (0.5,))
    app = PaneApp()
    async with app.run_test(size=(80, 24)) as pilot:
        pane = app.pane
        pane.feed(f"first\n{TRAP}\nlast\n{TRAP}".encode())
        await pilot.press("/")
        pane.query_one(LogSearch).toggle_regex()
        pane.query_one(LogSearch)._input.value = ENDLESS
        search = pane.query_one(LogSearch)
        await until(lambda: bool(search.results and search.results.query.problem))
        await until(lambda: "takes too long" in str(search.query_one("LogSearch .log-prompt--words").content))
        await pilot.press("escape", "F")
        shown = pane.query_one(LogFilter)
        shown.toggle_regex()
        shown._input.value = ENDLESS
        await until(lambda: "takes too long" in str(shown.query_one("LogFilter .log-prompt--words").content))
        await pilot.press("escape")
        await until(lambda: len(pane.viewport.store) == 4)
