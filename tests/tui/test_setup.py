"""The setup screen over accounts in memory: what it shows when, and what its keys do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.doctor.run import check_titles
from tests.tui.fake_setup import ALL_GOOD, FAILURES, NOTHING, PAGE, UNREACHABLE, FakeSetup, check
from tests.tui.fakes import (
    HOSTILE,
    FakeDemo,
    FakeRuns,
    escapes,
    make_app,
    screen_text,
    settled,
    summary,
    until,
)
from tui.screens.confirm import ConfirmScreen
from tui.screens.enter_hf_token import HfTokenScreen
from tui.screens.enter_modal_token import ModalTokenScreen
from tui.screens.modal_profiles import ModalProfilesScreen
from tui.screens.new_run import NewRunScreen
from tui.screens.setup import SetupScreen
from tui.screens.web_page import WebPageScreen
from tui.setup import SetupCheck, SetupError, from_record
from tui.setup import summary as summed_up
from tui.setup_about import ABOUT, remedy
from tui.widgets.setup_list import CheckLine, SetupList

IDS = list(check_titles())


def make(fake: FakeSetup, tmp_path: Path, *, runs: FakeRuns | None = None, **options: Any) -> Any:
    runs = runs or FakeRuns(summary())
    app = make_app(runs, root=tmp_path, setup=lambda root: fake, **options)
    app.runs_of_test = runs
    return app


async def opened(pilot: Any) -> SetupScreen:
    await settled(pilot)
    await pilot.press("9")
    await until(lambda: isinstance(pilot.app.screen, SetupScreen) and pilot.app.screen.query(SetupList))
    await pilot.pause()
    screen = pilot.app.screen
    assert isinstance(screen, SetupScreen)
    return screen


async def go(pilot: Any, check_id: str) -> None:
    pilot.app.screen.query_one(SetupList).highlighted = IDS.index(check_id)
    await pilot.pause()


def states(screen: SetupScreen) -> dict[str, str]:
    return {name: one.state for name, one in screen._checks.items()}


async def known(screen: SetupScreen) -> None:
    await until(lambda: "pending" not in states(screen).values())


def said(app: Any) -> str:
    return "\n".join(f"{note.title} {note.message}" for note in app._notifications)


# What is shown


def test_every_check_is_explained() -> None:
    assert set(ABOUT) == set(IDS)


async def test_all_rows_are_there_at_once_and_answers_come_one_by_one(tmp_path: Path) -> None:
    fake = FakeSetup(ALL_GOOD)
    gates = {answer.id: asyncio.Event() for answer in ALL_GOOD}

    async def one_by_one(backend: str, config: object, told: Any, only: Any = None) -> None:
        for answer in ALL_GOOD:
            await gates[answer.id].wait()
            told(answer)

    fake.check = one_by_one  # type: ignore[method-assign]
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        assert all(title in screen_text(app) for title in check_titles().values())
        assert states(screen)["terminal"] == "ok"  # the app knows its own terminal
        waiting = IDS.copy()
        waiting.remove("terminal")
        for answer in ALL_GOOD:
            assert [name for name, state in states(screen).items() if state == "pending"] == waiting
            assert f"checking, {12 - len(waiting)} of 12" in screen_text(app)
            gates[answer.id].set()
            waiting.remove(answer.id)
            await until(lambda done=answer: states(screen)[done.id] == done.state)
            await pilot.press("j", "k")  # the screen answers meanwhile
        await until(lambda: "ready to train on Modal" in screen_text(app))


async def test_a_process_that_ends_early_leaves_no_row_waiting(tmp_path: Path) -> None:
    fake = FakeSetup(ALL_GOOD[:3])
    fake.failure = SetupError("the doctor job ended without an answer (exit code 1)")
    app = make(fake, tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        assert states(screen)["hf-token"] == "unknown"
        assert "ended without an answer" in screen_text(app)
        fake.failure = RuntimeError("as-geheimesgeheimes1234 [/]")
        await pilot.press("R")
        await known(screen)
        assert "as-geheimes" not in screen_text(app)
        assert "the checks themselves failed: RuntimeError" in screen_text(app)


async def test_one_row_is_asked_again_and_late_answers_of_before_do_not_count(tmp_path: Path) -> None:
    fake = FakeSetup(NOTHING)
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        rounds: list[Any] = []

        async def late(backend: str, config: object, told: Any, only: Any = None) -> None:
            rounds.append((told, only, asyncio.Event()))
            await rounds[-1][2].wait()

        fake.check = late  # type: ignore[method-assign]
        await go(pilot, "modal-token")
        await pilot.press("r")
        await pilot.press("r")
        await until(lambda: len(rounds) == 2)
        assert [only for _, only, _ in rounds] == [["modal-token"]] * 2
        rounds[0][0](check("modal-token", "failed", "old"))
        assert states(screen)["modal-token"] == "pending"
        rounds[1][0](check("modal-token", "ok", "new"))
        rounds[0][2].set()
        rounds[1][2].set()
        await until(lambda: states(screen)["modal-token"] == "ok")
        await pilot.pause()
        assert "new" in screen_text(app)


async def test_old_answers_are_asked_for_again_when_the_screen_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSetup(ALL_GOOD)
    app = make(fake, tmp_path)
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        await known(screen)
        await pilot.press("1", "9")
        assert len(fake.asked) == 1
        monkeypatch.setattr("tui.screens.setup._FRESH", -1.0)
        await pilot.press("1", "9")
        await until(lambda: len(fake.asked) == 2)


async def test_what_is_needed_depends_on_where(tmp_path: Path) -> None:
    fake = FakeSetup(ALL_GOOD)
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        await pilot.press("b")
        await known(screen)
        assert "ready to train on this machine" in screen_text(app)
        assert [asked[1] for asked in fake.asked] == ["modal", "local"]


async def test_the_terminal_s_row_follows_the_window(tmp_path: Path) -> None:
    app = make(FakeSetup(ALL_GOOD), tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        assert "100x30" in screen_text(app)
        await pilot.resize_terminal(70, 20)
        await until(lambda: "70x20" in screen_text(app))
        assert states(screen)["terminal"] == "warning"


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_stays_text(tmp_path: Path, text: str) -> None:
    answers = [
        replace(one, state="failed", detail=text, fix=text, page=f"https://x/{text}") for one in NOTHING
    ]
    app = make(FakeSetup(answers), tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        await go(pilot, "licence")
        assert not escapes(screen_text(app))
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, WebPageScreen)
        assert not escapes(screen_text(app))
        await pilot.press("escape")


async def test_secrets_in_answers_do_not_show(tmp_path: Path) -> None:
    secret = "as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e"
    answers = [replace(one, state="failed", detail=f"it said {secret}", fix=secret) for one in NOTHING]
    app = make(FakeSetup(answers), tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        assert secret not in screen_text(app)
        await pilot.press("y")
        assert secret not in app.clipboard
        app.notify(f"oops {secret}")
        assert secret not in said(app)
        assert secret not in app.export_screenshot()


@pytest.mark.parametrize("width", range(0, 200, 13))
def test_rows_have_one_width(width: int) -> None:
    lines = [CheckLine(one, one.detail, one.needed).content(width) for one in (*NOTHING, *FAILURES)]
    assert len({line.cell_length for line in lines}) == 1
    assert lines[0].cell_length <= max(width, 47)


def test_the_line_about_all() -> None:
    assert summed_up([SetupCheck("a", "A")], "modal") == ("checking, 0 of 1 known", None)
    assert summed_up(ALL_GOOD, "modal") == ("ready to train on Modal", True)
    words, ready = summed_up(NOTHING, "modal")
    assert not ready
    assert words == "not ready on Modal: Modal token, Modal workspace, Licence of the base model"


def test_records_of_the_job() -> None:
    record = {
        "id": "licence", "title": "Licence", "status": "missing", "detail": "d", "fix": None,
        "needed": True, "page": None, "repairable": False,
    }  # fmt: skip
    assert from_record(record) == SetupCheck("licence", "Licence", "missing", "d", "", True, "", False)


# What Enter does


@pytest.mark.parametrize(
    ("check_id", "screen"),
    [
        ("modal-token", ModalTokenScreen),
        ("modal-workspace", ModalTokenScreen),
        ("hf-token", HfTokenScreen),
        ("licence", WebPageScreen),
        ("config", NewRunScreen),
        ("datasets", NewRunScreen),
    ],
)
async def test_enter_leads_to_what_mends_a_row(tmp_path: Path, check_id: str, screen: type) -> None:
    fake = FakeSetup(NOTHING)
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        main = await opened(pilot)
        await known(main)
        await go(pilot, check_id)
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, screen))
        asked = len(fake.asked)
        await pilot.press("escape")
        await until(lambda: app.screen is main)
        assert len(fake.asked) == asked  # nothing was changed, nothing is asked again


async def test_enter_where_there_is_nothing_to_do_says_so(tmp_path: Path) -> None:
    app = make(FakeSetup(ALL_GOOD), tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await known(await opened(pilot))
        await go(pilot, "python")
        await pilot.press("enter")
        await until(lambda: "Python and packages: there is nothing to do" in said(app))
        await go(pilot, "local-training")
        await pilot.press("enter")  # all that can be done from here
        await until(lambda: app.clipboard == "the demo trains here; train FLUX.1 on Modal")


def test_remedies_are_offered_only_where_they_help() -> None:
    kinds = {one.id: action.kind for one in FAILURES if (action := remedy(one)) is not None}
    assert kinds == {
        "modal-token": "modal", "modal-workspace": "profiles", "hf-token": "hf", "licence": "copy",
        "base-model": "download", "config": "new-run", "datasets": "new-run", "local-training": "copy",
        "secret-files": "repair",
    }  # fmt: skip


async def test_files_are_repaired_and_looked_at_again(tmp_path: Path) -> None:
    fake = FakeSetup(FAILURES)
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        await go(pilot, "secret-files")
        fake.answers["secret-files"] = ALL_GOOD[-1]
        await pilot.press("enter")
        await until(lambda: states(screen)["secret-files"] == "ok")
        assert fake.asked[-2:] == [("repair",), ("check", "modal", "secret-files")]


async def test_a_repair_that_fails_is_told(tmp_path: Path) -> None:
    fake = FakeSetup(FAILURES)
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await known(await opened(pilot))
        fake.failure = SetupError("/work/.env: read-only file system")
        await go(pilot, "secret-files")
        await pilot.press("enter")
        await until(lambda: "read-only file system" in said(app))


async def test_the_licence_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSetup(NOTHING)
    pages: list[str] = []

    async def open_page(url: str) -> bool:
        pages.append(url)
        return len(pages) == 1

    monkeypatch.setattr("tui.screens.web_page.open_page", open_page)
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        await go(pilot, "licence")
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, WebPageScreen))
        assert pages == []  # a page is opened by a key, not by itself
        assert PAGE in screen_text(app)
        await pilot.press("enter")
        await until(lambda: "Opening it" in screen_text(app))
        await pilot.press("w")
        await until(lambda: "There is no browser" in screen_text(app))
        await pilot.press("y")
        assert app.clipboard == PAGE
        fake.answers["licence"] = check("licence", "ok", "can be downloaded", needed=True)
        await pilot.press("r")
        await until(lambda: states(screen)["licence"] == "ok")
        assert pages == [PAGE, PAGE]


# The base model


async def test_a_download_is_asked_for_watched_and_left(tmp_path: Path) -> None:
    fake = FakeSetup(FAILURES)
    app = make(fake, tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        fake.hold = asyncio.Event()
        await go(pilot, "base-model")
        await pilot.press("x")  # there is nothing to stop
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("n")
        assert fake.progress is None
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: fake.progress is not None)
        await pilot.press("enter")  # once is enough
        fake.progress(0, 0)
        await until(lambda: "asking what is missing" in screen_text(app))
        fake.progress(5 << 30, 10 << 30)
        await until(lambda: "5.0 GiB of 10.0 GiB (50 %)" in screen_text(app))
        assert "at work" in screen_text(app)
        await pilot.press("1")
        fake.progress(6 << 30, 10 << 30)  # it goes on when the screen is left
        await pilot.press("9")
        await until(lambda: "60 %" in screen_text(app))
        fake.answers["base-model"] = check("base-model", "missing", "5.0 GB of it are there", "wait")
        fake.hold = None
        await pilot.press("x")
        await until(lambda: fake.cancelled == ["download"])
        await until(lambda: "5.0 GB of it are there" in screen_text(app))
        assert "goes on in the cloud" in said(app)
        assert fake.asked.count(("download",)) == 1


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (None, "is on Modal now"),
        (SetupError("the token may not read it"), "may not read it"),
        (KeyError("a"), "a"),
    ],
)
async def test_how_a_download_ends(tmp_path: Path, failure: Exception | None, words: str) -> None:
    fake = FakeSetup(FAILURES)
    app = make(fake, tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        await go(pilot, "base-model")
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        download = fake.download_model

        async def fails(config: object, progress: Any) -> str:
            fake.failure = failure
            try:
                return await download(None, progress)
            finally:
                fake.failure = None

        fake.download_model = fails  # type: ignore[method-assign]
        fake.answers["base-model"] = ALL_GOOD[6]
        await pilot.press("y")
        await until(lambda: words in said(app))
        await until(lambda: states(screen)["base-model"] == "ok")


# Profiles


async def test_profiles_are_switched_and_removed(tmp_path: Path) -> None:
    fake = FakeSetup(ALL_GOOD)
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        await pilot.press("p")
        await until(lambda: isinstance(app.screen, ModalProfilesScreen) and "ak-…9876" in screen_text(app))
        await pilot.press("enter")  # the active one: nothing happens
        await pilot.press("down", "enter")
        await until(lambda: ("activate", "work") in fake.asked)
        await pilot.press("x")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        assert "Remove the profile work?" in screen_text(app)
        await pilot.press("enter")  # the harmless answer has the focus
        await until(lambda: isinstance(app.screen, ModalProfilesScreen))
        await pilot.press("x")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: ("remove", "work") in fake.asked)
        assert ("activate", "fox") not in fake.asked
        checks = len([asked for asked in fake.asked if asked[0] == "check"])
        await pilot.press("escape")
        await until(lambda: len([asked for asked in fake.asked if asked[0] == "check"]) == checks + 1)
        assert "modal-token" in fake.asked[-1]


async def test_profiles_that_cannot_be_changed(tmp_path: Path) -> None:
    fake = FakeSetup(ALL_GOOD)
    app = make(fake, tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await known(await opened(pilot))
        await pilot.press("p")
        await until(lambda: isinstance(app.screen, ModalProfilesScreen) and "ak-…9876" in screen_text(app))
        fake.failure = SetupError("/home/me/.modal.toml cannot be written: read-only file system")
        await pilot.press("down", "enter")
        await until(lambda: "Nothing was changed" in screen_text(app))
        fake.failure = None
        fake.found = replace(fake.found, profiles=(), problem="/home/me/.modal.toml is not valid TOML")
        await pilot.press("escape")
        await pilot.press("p")
        await until(lambda: "is not valid TOML" in screen_text(app))
        await pilot.press("x", "enter", "escape")


# Runs, demo, first start


async def test_the_demo_is_one_key_away(tmp_path: Path) -> None:
    prepared: list[Path] = []

    def make_demo(root: Path) -> FakeDemo:
        prepared.append(root)
        return FakeDemo()

    runs = FakeRuns()
    app = make(FakeSetup(NOTHING), tmp_path, runs=runs, make_demo=make_demo)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot)
        assert "tries everything with the demo" in screen_text(app)
        await pilot.press("d", "d")
        await until(lambda: runs.launched)
        assert prepared == [tmp_path]
        assert [str(request.config_path) for request in runs.launched] == [str(FakeDemo().config)]
        await until(lambda: getattr(app.screen, "MODE", "") == "monitor")
        await pilot.press("9")
        await pilot.pause()
        assert "tries everything" not in screen_text(app)  # whoever has a run needs no welcome
        await pilot.press("d")
        await pilot.pause()
        assert len(runs.launched) == 1


async def test_a_demo_that_cannot_be_prepared(tmp_path: Path) -> None:
    def make_demo(root: Path) -> FakeDemo:
        raise RuntimeError("torch is not installed")

    app = make(FakeSetup(NOTHING), tmp_path, runs=FakeRuns(), make_demo=make_demo)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot)
        await pilot.press("d")
        await until(lambda: "torch is not installed" in said(app))
        assert "tries everything with the demo" in screen_text(app)


async def test_a_config_that_is_trained_is_what_is_checked_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tui.screens.new_run import NewRun

    fake = FakeSetup(NOTHING)
    runs = FakeRuns()
    app = make(fake, tmp_path, runs=runs)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, NewRunScreen))
        configs: list[object] = []

        async def noted(backend: str, config: object, told: Any, only: Any = None) -> None:
            configs.append(config)

        fake.check = noted  # type: ignore[method-assign]
        app.screen.dismiss(NewRun(Path("/work/fox.yaml"), "modal"))
        await until(lambda: configs and runs.launched)
        assert configs == [Path("/work/fox.yaml")]


@pytest.fixture
def no_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("MODAL_", "HF_", "HUGGING_FACE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def mode(app: Any) -> str:
    return getattr(app.screen, "MODE", "")


async def looked_round(pilot: Any) -> None:
    await settled(pilot)
    await until(lambda: not any(worker.group == "first-start" for worker in pilot.app.workers))
    await pilot.pause()


@pytest.mark.usefixtures("no_tokens")
async def test_a_first_start_lands_here_and_never_again(tmp_path: Path) -> None:
    root = tmp_path / "home"
    app = make(FakeSetup(NOTHING), root, runs=FakeRuns(), greet=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await looked_round(pilot)
        assert mode(app) == "setup"
        await until(lambda: "Welcome." in screen_text(app))
    again = make(FakeSetup(NOTHING), root, runs=FakeRuns(), greet=True)
    async with again.run_test(size=(100, 30)) as pilot:
        await looked_round(pilot)
        assert mode(again) == "jobs"


@pytest.mark.usefixtures("no_tokens")
@pytest.mark.parametrize(
    "has", ["a run", "a Modal token", "a token in .env", "a demo", "a folder nobody can write"]
)
async def test_whoever_has_something_does_not_land_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: str
) -> None:
    runs, greet, root = FakeRuns(), True, tmp_path / "home"
    match has:
        case "a run":
            runs = FakeRuns(summary())
        case "a Modal token":
            text = '[me]\ntoken_id = "ak-1234567890"\ntoken_secret = "as-1234567890"\nactive = true\n'
            (tmp_path / "modal.toml").write_text(text, encoding="utf-8")
        case "a token in .env":
            (tmp_path / "work" / ".env").write_text("HF_TOKEN=hf_abcdefghij\n", encoding="utf-8")
        case "a demo":
            greet = False
        case _:
            root.write_text("a file", encoding="utf-8")
    app = make(FakeSetup(NOTHING), root, runs=runs, greet=greet)
    async with app.run_test() as pilot:
        await looked_round(pilot)
        assert mode(app) == "jobs"


@pytest.mark.usefixtures("no_tokens")
async def test_whoever_went_elsewhere_at_once_is_not_called_back(tmp_path: Path) -> None:
    runs = FakeRuns()
    gate = asyncio.Event()
    listing = runs.list

    async def slow() -> Any:
        await gate.wait()
        return await listing()

    runs.list = slow  # type: ignore[method-assign]
    app = make(FakeSetup(NOTHING), tmp_path / "home", runs=runs, greet=True)
    async with app.run_test() as pilot:
        await pilot.press("2")
        gate.set()
        await looked_round(pilot)
        assert mode(app) == "monitor"


async def test_offline_leaves_the_screen_alive(tmp_path: Path) -> None:
    fake = FakeSetup(())
    fake.failure = UNREACHABLE
    app = make(fake, tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot)
        await known(screen)
        assert "seems to be offline" in screen_text(app)
        assert states(screen)["terminal"] == "ok"
